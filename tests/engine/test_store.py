"""One suite for every FeatureStore: in memory, on one server, on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.errors import Fenced
from engine.fold import Changes, DeadLetter, FoldRules
from engine.folder import Folder
from engine.records import EraseRecord, decode_user_record, encode
from engine.state import UserState, encode_state
from engine.store import Claim
from engine.times import DAY_MS

NOW = 1_770_000_000_000
TODAY = NOW // DAY_MS

ClaimOf = Callable[..., Claim]


def some_state(arrived_ms: int = NOW) -> UserState:
    state = UserState(arrived_s=arrived_ms // 1000, attributes={"name": (arrived_ms, "ünïcode ✓")})
    return state


def changes_to(offset: int, **more: Any) -> Changes:
    return Changes(offset, states={"u": some_state()}, hashes={TODAY: [7, -8]}, folded=2, **more)


# -- the log


def test_entries_are_read_in_the_order_of_their_positions(bench: Any, claim_of: ClaimOf) -> None:
    positions = [bench.store.append({0: [b"%d-a" % n, b"%d-b" % n]})[0] for n in range(5)]
    assert positions == sorted(set(positions))

    entries = bench.store.read([claim_of()], 100)[0]

    assert [entry.position for entry in entries] == positions
    assert [entry.records for entry in entries] == [[b"%d-a" % n, b"%d-b" % n] for n in range(5)]


def test_reading_starts_after_the_offset_and_stops_at_the_count(
    bench: Any, claim_of: ClaimOf
) -> None:
    positions = [bench.store.append({0: [b"%d" % n]})[0] for n in range(5)]
    claim = claim_of()
    bench.store.commit(claim, Changes(positions[1]))

    entries = bench.store.read([claim], 2)[0]

    assert [entry.position for entry in entries] == positions[2:4]


def test_one_append_reaches_several_partitions(bench: Any, claim_of: ClaimOf) -> None:
    positions = bench.store.append({p: [b"for %d" % p] for p in range(4)})
    claims = [claim_of("one", p) for p in range(4)]

    found = bench.store.read(claims, 10)

    assert set(positions) == {0, 1, 2, 3}
    assert {p: [e.records for e in entries] for p, entries in found.items()} == {
        p: [[b"for %d" % p]] for p in range(4)
    }
    assert {p: entries[0].position for p, entries in found.items()} == positions


def test_partitions_without_news_are_not_in_the_answer(bench: Any, claim_of: ClaimOf) -> None:
    bench.store.append({1: [b"x"]})

    assert set(bench.store.read([claim_of("one", p) for p in range(3)], 10)) == {1}


# -- leases


def test_a_rival_is_refused_while_the_lease_lives(bench: Any, claim_of: ClaimOf) -> None:
    claim_of("one")

    assert bench.store.claim("two", 0) is None
    assert bench.store.claim("two", 1) is not None  # each partition has a lease of its own


def test_renewing_keeps_epoch_and_offset(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of("one")
    bench.store.commit(claim, changes_to(5))

    again = claim_of("one")

    assert (again.epoch, again.offset, again.tries, again.days) == (claim.epoch, 5, 0, {TODAY})


def test_an_expired_lease_goes_to_a_rival_with_a_new_epoch(bench: Any, claim_of: ClaimOf) -> None:
    first = claim_of("one")
    bench.expire(0)

    second = claim_of("two")

    assert second.epoch > first.epoch
    assert bench.store.claim("one", 0) is None


def test_a_released_lease_is_free_at_once(bench: Any, claim_of: ClaimOf) -> None:
    first = claim_of("one")
    bench.store.release(first)

    assert claim_of("two").epoch > first.epoch


def test_a_zombie_cannot_release_its_successor(bench: Any, claim_of: ClaimOf) -> None:
    zombie = claim_of("one")
    bench.expire(0)
    claim_of("two")

    bench.store.release(zombie)

    assert bench.store.claim("three", 0) is None


# -- commits


def test_a_commit_writes_everything(bench: Any, claim_of: ClaimOf, make: Any) -> None:
    claim = claim_of()
    follow = make.erase("somebody")
    letter = DeadLetter(3, 1, "why", b'{"broken')
    bench.store.commit(
        claim, changes_to(5, counters={(1, 2): 3, (1, -1): 1}, outbox=[follow], dead=[letter])
    )

    loaded = bench.store.load(claim, ["u", "nobody"], [7, -8, 9])

    assert claim.offset == 5
    assert encode_state(loaded.states["u"]) == encode_state(some_state())
    assert set(loaded.states) == {"u"}
    assert loaded.known == {7, -8}
    assert bench.store.counters(0) == {(1, 2): 3, (1, -1): 1}
    assert bench.store.outbox(claim) == [encode(follow)]
    assert bench.dead(0) == 1
    assert claim_of().offset == 5


def nothing_was_written(bench: Any, claim: Claim) -> None:
    loaded = bench.store.load(claim, ["u"], [7, -8])
    assert (loaded.states, loaded.known) == ({}, set())
    assert bench.store.counters(0) == {}
    assert bench.store.outbox(claim) == []
    assert bench.dead(0) == 0


def everything(offset: int, make: Any) -> Changes:
    letter = DeadLetter(3, 1, "why", b"raw")
    return changes_to(offset, counters={(1, 2): 3}, outbox=[make.erase("x")], dead=[letter])


def test_a_zombie_commits_nothing(bench: Any, claim_of: ClaimOf, make: Any) -> None:
    zombie = claim_of("one")
    bench.expire(0)
    owner = claim_of("two")

    with pytest.raises(Fenced):
        bench.store.commit(zombie, everything(5, make))

    nothing_was_written(bench, owner)
    assert (claim_of("two").offset, zombie.offset) == (0, 0)


def test_a_commit_from_another_offset_writes_nothing(
    bench: Any, claim_of: ClaimOf, make: Any
) -> None:
    claim = claim_of("one")
    stale = claim_of("one")  # the same epoch: what a folder cached before a commit timed out
    bench.store.commit(claim, Changes(4))

    with pytest.raises(Fenced):
        bench.store.commit(stale, everything(5, make))

    nothing_was_written(bench, claim)
    assert claim_of("one").offset == 4


def test_a_state_that_cannot_be_encoded_writes_nothing(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of()
    changes = changes_to(5)
    changes.states["v"] = UserState(arrived_s=1, attributes={"huge": (1, 10**30)})

    with pytest.raises(OverflowError):
        bench.store.commit(claim, changes)

    nothing_was_written(bench, claim)
    assert claim_of().offset == 0


def test_counters_add_up_over_commits(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of()
    bench.store.commit(claim, Changes(1, counters={(1, 0): 2, (2, 0): 1}))
    bench.store.commit(claim, Changes(2, counters={(1, 0): 3}))

    assert bench.store.counters(0) == {(1, 0): 5, (2, 0): 1}
    assert bench.store.counters(1) == {}


def test_a_large_commit_is_one_commit(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of()
    states = {f"user {n}": some_state() for n in range(3000)}
    counters = {(n, 0): 1 for n in range(5000)}
    bench.know_items(5000)
    bench.store.commit(
        claim, Changes(1, states=states, counters=counters, hashes={TODAY: list(range(4000))})
    )

    assert bench.store.counters(0) == counters
    assert set(bench.states(0)) == set(states)
    assert bench.store.load(claim, [], [0, 3999, 4000]).known == {0, 3999}


@pytest.mark.parametrize("user", ["*", "a[b]c", "{k3}", "ü ✓", 'quo"te', "x" * 128, "a:b", "%00"])
def test_any_user_id_is_a_key(bench: Any, claim_of: ClaimOf, user: str) -> None:
    claim = claim_of()
    bench.store.commit(claim, Changes(1, states={user: some_state()}))

    assert set(bench.store.load(claim, [user, "u"], []).states) == {user}
    assert set(bench.states(0)) == {user}


# -- duplicates


def test_hashes_are_known_across_days(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of()
    bench.store.commit(claim, Changes(1, hashes={TODAY - 7: [1], TODAY - 3: [2]}))
    bench.store.commit(claim, Changes(2, hashes={TODAY: [3, 2**63 - 1, -(2**63)]}))

    for found in (claim, claim_of()):
        known = bench.store.load(found, [], [1, 2, 3, 4, 2**63 - 1, -(2**63)]).known
        assert known == {1, 2, 3, 2**63 - 1, -(2**63)}


def test_buckets_go_when_their_event_ids_cannot_come_again(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of()
    bench.store.commit(claim, Changes(1, hashes={TODAY: [1001], TODAY + 1: [2001]}))
    bench.store.commit(claim, Changes(2, hashes={TODAY + 8: [3001]}))
    assert bench.day_buckets(0) == {TODAY, TODAY + 1, TODAY + 8}

    bench.store.commit(claim, Changes(3, hashes={TODAY + 9: [4001]}))

    assert bench.day_buckets(0) == {TODAY + 1, TODAY + 8, TODAY + 9}
    assert claim.days == claim_of().days == {TODAY + 1, TODAY + 8, TODAY + 9}
    assert bench.store.load(claim, [], [1001, 2001, 3001]).known == {2001, 3001}


def test_event_ids_count_once_however_often_they_come(bench: Any, make: Any) -> None:
    first = make.act("u")
    bench.append(first, first)
    bench.append(first)
    late = msgspec.structs.replace(first, arrived=NOW + 7 * DAY_MS)
    later = [make.act("u", arrived=NOW + day * DAY_MS) for day in range(1, 7)]
    bench.fold_all()
    bench.append(*later, late)

    changes = bench.fold_all()

    assert bench.totals("u") == {0: 7}
    assert sum(change.duplicates for change in changes) == 1


def test_two_users_may_share_an_event_id(bench: Any, make: Any) -> None:
    bench.append(make.act("u", event_id="same"), make.act("v", event_id="same"))
    bench.fold_all()

    assert (bench.totals("u"), bench.totals("v")) == ({0: 1}, {0: 1})


# -- the outbox


def test_the_outbox_is_settled_from_the_front(bench: Any, claim_of: ClaimOf, make: Any) -> None:
    claim = claim_of()
    follow = [make.erase(f"u{n}") for n in range(3)]
    bench.store.commit(claim, Changes(1, outbox=follow[:2]))
    bench.store.commit(claim, Changes(2, outbox=follow[2:]))

    bench.store.settle(claim, 2)

    assert bench.store.outbox(claim) == [encode(follow[2])]


def test_a_zombie_settles_nothing(bench: Any, claim_of: ClaimOf, make: Any) -> None:
    zombie = claim_of("one")
    bench.store.commit(zombie, Changes(1, outbox=[make.erase("x")]))
    bench.expire(0)
    owner = claim_of("two")

    bench.store.settle(zombie, 1)

    assert len(bench.store.outbox(owner)) == 1


def test_what_a_dead_folder_left_in_the_outbox_is_delivered(
    bench: Any, claim_of: ClaimOf, make: Any
) -> None:
    bench.store.commit(claim_of("dead"), Changes(1, outbox=[make.act("u"), make.erase("v")]))
    bench.expire(0)

    claim = claim_of("heir")
    delivered = Folder(bench.store, bench.partitions, FoldRules()).drain(claim)
    bench.store.release(claim)

    assert delivered == 2
    claims = [claim_of("heir", p) for p in range(bench.partitions)]
    found = [e for entries in bench.store.read(claims, 10).values() for e in entries]
    owners = {decode_user_record(raw).user_id for entry in found for raw in entry.records}
    assert owners == {"u", "v"}
    assert bench.store.outbox(claim_of("heir")) == []


# -- tries and marks: how often folders were lost here, and on which record


def test_only_a_folder_lost_while_folding_counts_as_a_try(bench: Any, claim_of: ClaimOf) -> None:
    claim_of("one")
    bench.expire(0)
    idle = claim_of("two")
    assert idle.tries == 0

    bench.store.load(idle, ["u"], [])
    bench.expire(0)
    assert claim_of("three").tries == 1

    bench.store.load(claim_of("three"), ["u"], [])
    assert claim_of("three").tries == 1  # renewed, not lost
    bench.expire(0)
    assert claim_of("four").tries == 2


def test_a_released_partition_was_not_lost(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of("one")
    bench.store.load(claim, ["u"], [])
    bench.store.release(claim)

    assert claim_of("two").tries == 0


def test_the_mark_outlives_its_folder_and_a_commit_clears_it(bench: Any, claim_of: ClaimOf) -> None:
    claim = claim_of("one")
    unmarked = claim.mark
    bench.store.load(claim, ["u"], [])
    bench.store.mark(claim, 3)
    bench.expire(0)

    heir = claim_of("two")
    assert (heir.tries, heir.mark) == (1, 3)

    bench.store.commit(heir, Changes(1))
    assert (heir.tries, heir.mark) == (0, unmarked)
    renewed = claim_of("two")
    assert (renewed.tries, renewed.mark) == (0, unmarked)


def test_an_erased_user_starts_anew(bench: Any, make: Any) -> None:
    bench.append(make.act("u", ts=NOW - 5000))
    bench.fold_all()
    bench.append(make.erase("u", ts=NOW), make.act("u", ts=NOW - 1), make.act("u", ts=NOW))

    (change,) = bench.fold_all()

    assert (change.forgotten, change.erased) == (1, {"u": NOW})
    assert bench.totals("u") == {0: 1}
    assert bench.state("u").erased_ms == NOW
    assert isinstance(make.erase("u"), EraseRecord)
