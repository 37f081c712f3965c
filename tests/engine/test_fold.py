"""Folding batches: aliases, erasures, idleness and duplicates, over a whole log."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from engine.fold import MAX_HOPS, FoldRules
from engine.folder import Folder
from engine.ids import partition_of
from engine.records import CarryRecord, decode_user_record
from engine.state import attribute, seen_items
from engine.store import MemoryStore
from engine.times import DAY_MS

NOW = 1_770_000_000_000
PARTITIONS = 4


def named(partition: int, count: int) -> list[str]:
    """Users of one partition."""
    names = (f"user{n}" for n in itertools.count())
    return list(itertools.islice((n for n in names if partition_of(n, 4) == partition), count))


SAME = named(1, 3)
APART = [named(p, 1)[0] for p in (0, 1, 2)]
BOTH = pytest.mark.parametrize("users", [SAME, APART], ids=["one partition", "several partitions"])


def log_length(bench: Any) -> int:
    claims = [bench.store.claim("counter", p) for p in range(PARTITIONS)]
    for claim in claims:
        claim.offset = 0
        bench.store.release(claim)
    found = bench.store.read(claims, 10**6)
    return sum(len(entry.records) for entries in found.values() for entry in entries)


def person(bench: Any, users: list[str]) -> str:
    """Of these, the one id that holds everything."""
    (found,) = [user for user in users if bench.totals(user)]
    assert bench.state(found).alias_to is None
    for user in users:
        at = user
        for _ in users:
            at = bench.state(at).alias_to or at
        assert at == found
    return found


# -- aliases


@BOTH
def test_an_alias_joins_the_states_and_later_events_follow(
    bench: Any, make: Any, users: list[str]
) -> None:
    a, b, _ = users
    bench.append(make.act(a, 1), make.act(a, 2), make.user(a, city="Köln"), make.act(b, 3))
    bench.append(make.alias(a, b))
    bench.append(make.act(a, 4), make.act(b, 5))

    bench.fold_all()

    assert bench.totals(b) == {0: 5}
    assert set(seen_items(bench.state(b))) == {1, 2, 3, 4, 5}
    assert attribute(bench.state(b), "city") == "Köln"
    assert bench.state(b).aliases == [a]
    husk = bench.state(a)
    assert (husk.alias_to, husk.actions, husk.recent) == (b, {}, b"")
    assert husk.blank()
    counters = [bench.store.counters(p) for p in range(PARTITIONS)]
    assert sum(sum(counter.values()) for counter in counters) == 5
    assert all(count == 1 for counter in counters for count in counter.values())


@BOTH
def test_an_alias_told_twice_joins_once(bench: Any, make: Any, users: list[str]) -> None:
    a, b, _ = users
    bench.append(make.act(a), make.alias(a, b), make.alias(a, b))
    bench.fold_all()
    bench.append(make.alias(a, b), make.act(a), make.alias(a, a), make.alias(b, b))
    bench.fold_all()

    assert bench.totals(b) == {0: 2}
    assert bench.state(b).alias_to is None


@BOTH
@pytest.mark.parametrize("at_once", [True, False])
def test_a_chain_of_aliases(bench: Any, make: Any, users: list[str], at_once: bool) -> None:
    a, b, c = users
    steps = [make.alias(a, b), make.act(a), make.alias(b, c), make.act(b), make.act(a)]
    bench.append(*(make.act(user) for user in users))
    for step in steps:
        bench.append(step)
        if not at_once:
            bench.fold_all()
    bench.fold_all()

    assert person(bench, users) == c
    assert bench.totals(c) == {0: 6}
    assert set(bench.state(c).aliases) == {a, b}


@BOTH
def test_a_visitor_who_logs_in_elsewhere_later(bench: Any, make: Any, users: list[str]) -> None:
    a, b, c = users
    bench.append(make.act(a), make.alias(a, b))
    bench.fold_all()
    bench.append(make.alias(a, c), make.act(a))
    bench.fold_all()

    assert (bench.totals(b), bench.totals(c)) == ({0: 1}, {0: 1})
    assert bench.state(a).alias_to == c


@BOTH
@pytest.mark.parametrize("folds_between", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_a_circle_of_aliases_ends_in_exactly_one_of_them(
    bench: Any, make: Any, users: list[str], folds_between: int, size: int, turned: bool
) -> None:
    # With two carries under way in one circle, each once cut it elsewhere: the counts of a
    # stood in b, those of b in a.
    ring = users[:size][:: -1 if turned else 1]
    bench.append(*(make.act(user) for user in ring))
    for n, user in enumerate(ring):
        bench.append(make.alias(user, ring[(n + 1) % size]), make.act(user))
        if n < folds_between:
            bench.fold_all()
    bench.fold_all(count=1)

    assert bench.totals(person(bench, ring)) == {0: 2 * size}
    length = log_length(bench)
    bench.append(*(make.act(user) for user in ring))
    bench.fold_all()
    assert bench.totals(person(bench, ring)) == {0: 3 * size}
    assert log_length(bench) <= length + size * (size + 1)  # nothing goes round for ever
    found = person(bench, ring)
    assert found not in bench.state(found).aliases


@BOTH
def test_a_circle_whose_carry_was_lost_to_an_erasure_is_cut_too(
    bench: Any, make: Any, users: list[str]
) -> None:
    a, b = sorted(users[:2])
    bench.append(make.erase(a, ts=NOW), make.alias(a, b, ts=NOW + 1))
    bench.fold_all()
    bench.append(make.alias(b, a, ts=NOW - 1))  # late: dropped with all that is dated before
    bench.fold_all()
    bench.append(make.act(a, ts=NOW + 2), make.act(b, ts=NOW + 3))

    bench.fold_all()

    assert sum(bench.totals(user).get(0, 0) for user in (a, b)) == 2
    assert log_length(bench) < 4 * MAX_HOPS + 20
    bench.append(make.act(a, ts=NOW + 4))
    bench.fold_all()
    assert sum(bench.totals(user).get(0, 0) for user in (a, b)) == 3


@pytest.mark.parametrize("imported", [False, True])
def test_what_a_fold_sends_on_counts_once_though_it_is_appended_twice(
    bench: Any, make: Any, imported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Hashes of old imported events are not kept, which once held for what came of them too.
    a, b, _ = APART
    old = {"ts": NOW - 400 * DAY_MS, "arrived": NOW, "imported": imported} if imported else {}
    bench.append(make.act(a, **old), make.alias(a, b, **old), make.act(a, **old))
    partition = partition_of(a, PARTITIONS)
    claim = bench.store.claim("dies", partition)
    (entries,) = bench.store.read([claim], 10).values()
    folder = Folder(bench.store, PARTITIONS, FoldRules())
    with monkeypatch.context() as patched:
        patched.setattr(type(bench.store), "settle", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            folder.fold(claim, entries)
    bench.expire(partition)
    bench.fold_all(count=1)  # appends the outbox again

    assert bench.totals(b) == {0: 2}


def test_a_replay_delivers_nothing_itself(make: Any) -> None:
    a, b, _ = APART
    store = MemoryStore()
    partition = partition_of(a, PARTITIONS)
    records = [make.act(a), make.alias(a, b)]
    store.append({partition: [msgspec.json.encode(record) for record in records]})
    claim = store.claim("replay", partition)
    assert claim is not None
    changes = Folder(store, PARTITIONS, FoldRules(), deliver=False).fold(
        claim, store.read([claim], 10)[partition]
    )

    assert changes.folded == 2
    assert (changes.outbox, store.outbox(claim)) == ([], [])


def test_a_carry_survives_the_log(bench: Any, make: Any) -> None:
    a, b, _ = APART
    bench.append(make.act(a), make.alias(a, b))
    partition = partition_of(a, PARTITIONS)
    claim = bench.store.claim("one", partition)
    (entries,) = bench.store.read([claim], 10).values()
    changes = Folder(bench.store, PARTITIONS, FoldRules()).fold(claim, entries)

    (carry,) = changes.outbox
    assert isinstance(carry, CarryRecord)
    assert (carry.previous_id, carry.user_id, carry.via) == (a, b, [a])
    assert decode_user_record(msgspec.json.encode(carry)) == carry


# -- erasures


def test_an_erasure_drops_everything_dated_before(bench: Any, make: Any) -> None:
    bench.append(
        make.act("u", 1), make.user("u", city="Köln"), make.push("u", "sent"), make.act("v")
    )
    bench.append(make.erase("u", ts=NOW + 10))
    bench.append(make.act("u", 2, ts=NOW + 9), make.user("u", ts=NOW + 9, city="Bonn"))
    changes = bench.fold_all()

    state = bench.state("u")
    assert (state.erased_ms, state.actions, state.attributes, state.push) == (
        NOW + 10,
        {},
        {},
        None,
    )
    assert state.blank()
    assert bench.totals("v") == {0: 1}
    assert sum(change.forgotten for change in changes) == 2

    bench.append(make.act("u", 3, ts=NOW + 10), make.erase("u", ts=NOW + 5))
    bench.fold_all()
    assert bench.totals("u") == {0: 1}
    assert seen_items(bench.state("u")) == [3]
    assert bench.state("u").erased_ms == NOW + 10


@BOTH
def test_erasing_a_person_of_two_ids(bench: Any, make: Any, users: list[str]) -> None:
    a, b, _ = users
    bench.append(make.act(a), make.alias(a, b), make.act(a), make.act(b))
    bench.fold_all()
    bench.append(make.erase(b, ts=NOW + 5), make.erase(a, ts=NOW + 5))
    bench.append(make.act(a, ts=NOW + 4), make.act(b, ts=NOW + 4))  # late
    bench.append(make.act(a, ts=NOW + 6), make.act(b, ts=NOW + 6))
    bench.fold_all()

    assert (bench.totals(a), bench.totals(b)) == ({0: 1}, {0: 1})  # two strangers from now on
    assert bench.state(a).alias_to is None
    assert bench.state(b).aliases == []


@BOTH
def test_a_state_on_its_way_into_an_erased_user_is_dropped(
    bench: Any, make: Any, users: list[str]
) -> None:
    a, b, _ = users
    bench.append(make.act(a), make.alias(a, b))
    bench.append(make.erase(b, ts=NOW + 5))
    bench.fold_all()
    bench.append(make.act(a, ts=NOW + 6))
    bench.fold_all()

    assert bench.totals(b) == {0: 1}


# -- idleness


def test_an_idle_user_is_forgotten_and_starts_anew(bench: Any, make: Any) -> None:
    rules = FoldRules(idle_ms=30 * DAY_MS)
    days = [0, 29, 58, 88, 89]
    for day in days:
        at = NOW + day * DAY_MS
        bench.append(make.act("u", day, ts=at, arrived=at))
        bench.fold_all(rules)
        expected = {0: 1, 29: 2, 58: 3, 88: 1, 89: 2}
        assert bench.totals("u") == {0: expected[day]}
    assert seen_items(bench.state("u")) == [88, 89]


def test_forgetting_for_idleness_does_not_depend_on_batches(bench: Any, make: Any) -> None:
    rules = FoldRules(idle_ms=30 * DAY_MS)
    for day in (0, 29, 58, 88, 89):
        at = NOW + day * DAY_MS
        bench.append(make.act("u", day, ts=at, arrived=at))
    bench.fold_all(rules)

    assert bench.totals("u") == {0: 2}


def test_idleness_forgets_neither_an_erasure_nor_an_alias(bench: Any, make: Any) -> None:
    rules = FoldRules(idle_ms=30 * DAY_MS)
    later = NOW + 90 * DAY_MS
    bench.append(make.erase("u", ts=NOW), make.act("u", ts=NOW + 1, arrived=NOW + 1))
    bench.append(make.alias("a", "b"))
    bench.fold_all(rules)
    bench.append(
        make.act("u", ts=NOW - 1, arrived=later),
        make.act("u", ts=later, arrived=later),
        make.act("a", ts=later, arrived=later),
    )
    bench.fold_all(rules)

    assert bench.totals("u") == {0: 1}
    assert bench.state("u").erased_ms == NOW
    assert (bench.totals("a"), bench.totals("b")) == ({}, {0: 1})


def test_imported_history_makes_nobody_idle(bench: Any, make: Any) -> None:
    rules = FoldRules(idle_ms=30 * DAY_MS)
    for day in (0, 90, 180):
        at = NOW - day * DAY_MS
        arrived = NOW + day * DAY_MS
        bench.append(make.act("u", ts=at, arrived=arrived, imported=True))
    bench.fold_all(rules)

    assert bench.totals("u") == {0: 3}


# -- item counters and tallies


def test_item_counters_count_acts_and_impressions(bench: Any, make: Any) -> None:
    bench.append(make.act("u", 1, term=2), make.act("u", 1, term=2), make.act("u", None, term=3))
    bench.append(make.impression("u", "d", [1, 2], [1]))
    (change,) = bench.fold_all()

    partition = partition_of("u", PARTITIONS)
    assert bench.store.counters(partition) == {(1, 2): 2, (1, -1): 2, (2, -1): 1}
    assert (change.folded, change.duplicates, change.forgotten) == (4, 0, 0)
