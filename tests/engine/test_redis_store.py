"""What only Redis has: generations, expiry, trimming, memory, and the trips of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from engine.errors import Fenced, Overloaded, StoreUnavailable
from engine.fold import Changes, DeadLetter, FoldRules
from engine.folder import Folder
from engine.ids import ITEMS, partition_of
from engine.records import ItemRecord, TermRecord, decode_item_record, encode
from engine.redis_keys import keys_of
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from engine.state import UserState
from engine.store import Claim
from engine.times import DAY_MS

NOW = 1_770_000_000_000


def claimed(bench: Any, name: str = "one", partition: int = 0, generation: Any = None) -> Claim:
    found = bench.store.claim(name, partition, generation)
    assert found is not None
    return found


def state(**told: Any) -> UserState:
    return UserState(arrived_s=NOW // 1000, **told)


# -- generations


def test_a_swap_fences_the_old_generation(redis_bench: Any) -> None:
    store = redis_bench.store
    old = claimed(redis_bench, "live")
    store.commit(old, Changes(1, states={"u": state(impressions=1)}, counters={(1, 0): 1}))
    new = claimed(redis_bench, "rebuild", generation=2)
    store.commit(new, Changes(1, states={"u": state(impressions=2)}, counters={(1, 0): 2}))
    assert (store.generation(0), store.user("u", 0).impressions) == (1, 1)

    assert store.swap(0, 1, 2)

    with pytest.raises(Fenced):
        store.commit(old, Changes(2, counters={(1, 0): 1}))
    assert (store.generation(0), store.generations([0, 1])) == (2, [2, 1])
    assert store.user("u", 0).impressions == 2
    assert store.counters(0) == {(1, 0): 2}
    assert not store.swap(0, 1, 3)  # no longer the one that serves
    store.release(new)
    assert claimed(redis_bench, "live").generation == 2


def test_dropping_a_generation_leaves_the_others(redis_bench: Any) -> None:
    store = redis_bench.store
    for partition in (0, 1, 10):
        for generation in (1, 2, 21):
            claim = claimed(redis_bench, "one", partition, generation)
            states = {f"u{n}": state() for n in range(5)}
            store.commit(claim, Changes(1, states=states, hashes={20_000: [1]}))
    store.append({0: [b"x"]})

    dropped = store.drop_generation(0, 2)

    assert dropped == 5 + 1 + 1  # states, a shard of hashes, meta
    assert redis_bench.client.exists(keys_of(0, 2).meta) == 0
    for partition, generation in [(0, 1), (0, 21), (1, 2), (10, 2)]:
        assert redis_bench.client.exists(keys_of(partition, generation).users + "u0")
    assert store.last_position(0) > 0


# -- expiry


def test_idle_users_expire_a_day_after_the_fold_forgets_them(
    redis_bench: Any, valkey_url: str, valkey_cluster_url: str
) -> None:
    url = valkey_cluster_url if redis_bench.is_cluster else valkey_url
    settings = Settings(redis_url=url, idle_days=30, store_timeout_ms=30_000)
    store = RedisStore.connect(settings)
    now = 4_000_000_000_000
    states = {
        "idle": UserState(arrived_s=now // 1000),
        "aliased": UserState(arrived_s=now // 1000, alias_to="idle"),
        "erased": UserState(arrived_s=now // 1000, erased_ms=now),
    }
    claim = store.claim("one", 0)
    store.commit(claim, Changes(1, states=states))

    users = keys_of(0).users
    assert redis_bench.client.pexpiretime(users + "idle") == now + 31 * DAY_MS
    assert redis_bench.client.pttl(users + "aliased") == -1  # its events still have to find it
    assert redis_bench.client.pttl(users + "erased") == -1
    store.close()


def test_nobody_expires_unless_so_set(redis_bench: Any) -> None:
    redis_bench.store.commit(claimed(redis_bench), Changes(1, states={"u": state()}))

    assert redis_bench.client.pttl(keys_of(0).users + "u") == -1


# -- the log's other end


def test_trimming_removes_exactly_up_to_the_position(redis_bench: Any) -> None:
    store = redis_bench.store
    positions = [store.append({0: [b"%d" % n]})[0] for n in range(300)]

    store.trim(0, positions[149])

    left = store.read_log(0, 0, 1000)
    assert [entry.position for entry in left] == positions[150:]
    assert store.last_position(0) == positions[-1]
    store.trim(0, positions[-1])
    assert store.read_log(0, 0, 1000) == []
    assert store.last_position(0) == positions[-1]
    assert store.last_position(1) == 0


def test_reading_the_log_between_two_positions(redis_bench: Any) -> None:
    store = redis_bench.store
    positions = [store.append({0: [b"%d" % n]})[0] for n in range(5)]

    entries = store.read_log(0, positions[0], 10, positions[3])

    assert [entry.position for entry in entries] == positions[1:4]
    assert len(store.read_log(0, 0, 2)) == 2


def test_progress_says_how_far_each_stage_is(redis_bench: Any, make: Any) -> None:
    store = redis_bench.store
    acts = [make.act("u") for _ in range(3)]
    partition = partition_of("u", redis_bench.partitions)
    raws = [encode(act) for act in [*acts, acts[0]]]
    first = store.append({partition: raws})[partition]
    store.append({partition: [b"broken", encode(make.act("u"))]})
    (before,) = store.progress([partition])
    assert (before.appended, before.folded, before.offset) == (6, 0, 0)
    assert before.oldest_ms == first >> 22

    claim = claimed(redis_bench, "one", partition)
    folder = Folder(store, redis_bench.partitions, FoldRules())
    folder.fold(claim, store.read_log(partition, 0, 1))
    store.set_archived(partition, first, 4)
    (half,) = store.progress([partition])
    assert (half.folded, half.duplicates, half.dead, half.offset) == (4, 1, 0, first)
    assert (half.archived, half.archived_position, store.archived(partition)) == (4, first, first)
    assert (half.owner, half.epoch) == ("one", claim.epoch)

    folder.fold(claim, store.read_log(partition, first, 1))
    after, other = store.progress([partition, (partition + 1) % 4])
    assert (after.appended, after.folded, after.dead, after.oldest_ms) == (6, 6, 1, None)
    assert (other.appended, other.folded, other.owner, other.oldest_ms) == (0, 0, "", None)
    assert store.archived(other.partition) == 0


# -- items


def test_names_get_numbers_in_the_order_of_their_first_appearance(redis_bench: Any) -> None:
    store = redis_bench.store
    assert store.intern("item", ["a", 'quo"te\\', "ü ✓"], NOW) == [0, 1, 2]
    assert store.intern("item", ["ü ✓", "b", "a"], NOW + 1) == [2, 3, 0]
    assert store.intern("category", ["soup"], NOW) == [0]

    assert store.names("item") == {"a": 0, 'quo"te\\': 1, "ü ✓": 2, "b": 3}
    records = [
        decode_item_record(raw) for entry in store.read_log(ITEMS, 0, 10) for raw in entry.records
    ]
    told = [
        (r.item_id, r.item, r.arrived) if isinstance(r, ItemRecord) else (r.space, r.name, r.term)
        for r in records
    ]
    assert told == [
        ("a", 0, NOW),
        ('quo"te\\', 1, NOW),
        ("ü ✓", 2, NOW),
        ("b", 3, NOW + 1),
        ("category", "soup", 0),
    ]
    assert isinstance(records[-1], TermRecord)
    (progress,) = store.progress([ITEMS])
    assert progress.appended == 5


def test_items_are_committed_with_the_offset_or_not_at_all(redis_bench: Any) -> None:
    store = redis_bench.store
    claim = claimed(redis_bench, "one", ITEMS)
    stale = claimed(redis_bench, "one", ITEMS)
    store.commit_items(claim, 5, {"a": b"A", "b": b"B"})

    with pytest.raises(Fenced):
        store.commit_items(stale, 6, {"a": b"other"})

    offset, items = store.all_items()
    assert (offset, sorted(items)) == (5, [b"A", b"B"])
    assert store.load_items(["b", "c"]) == [b"B", None]
    assert store.load_items([]) == []


# -- beside the partitions


def test_changed_counters_can_be_followed(redis_bench: Any) -> None:
    store = redis_bench.store
    claim = claimed(redis_bench)
    assert store.last_change(0).position == 0
    store.commit(claim, Changes(1, counters={(1, 0): 2}))
    seen = store.last_change(0)
    store.commit(claim, Changes(2, counters={(1, 0): 1, (2, -1): 5}))

    (change,) = store.counter_changes({0: seen.position, 1: 0})[0]
    assert change == store.last_change(0)
    assert (seen.number, change.number) == (1, 2)
    assert change.totals == {(1, 0): 3, (2, -1): 5}


def test_a_huge_commit_tells_all_of_its_changes(redis_bench: Any) -> None:
    store = redis_bench.store
    counters = {(n, 0): 1 for n in range(2500)}
    store.commit(claimed(redis_bench), Changes(1, counters=counters))

    told: dict[tuple[int, int], int] = {}
    for change in store.counter_changes({0: 0})[0]:
        told |= change.totals
    assert told == counters


def test_dead_letters_are_kept_until_dropped(redis_bench: Any) -> None:
    store = redis_bench.store
    letters = [DeadLetter(1, n, "why", b"raw %d" % n) for n in range(3)]
    store.commit(claimed(redis_bench), Changes(1, dead=letters[:2]))
    store.set_aside(0, letters[2])

    raws = store.dead(0)
    assert [msgspec.json.decode(raw, type=DeadLetter) for raw in raws] == letters
    (progress,) = store.progress([0])
    assert progress.dead == 3
    store.drop_dead(0, raws[:1])
    assert store.dead(0) == raws[1:]


def test_erasures_are_remembered_by_user(redis_bench: Any) -> None:
    store = redis_bench.store
    store.commit(claimed(redis_bench), Changes(1, erased={"u": 5, "v": 6}))

    assert store.erased(0, ["v", "w", "u"]) == {"v": 6, "u": 5}
    assert store.erased(0, []) == {}


def test_hashes_beside_the_partitions(redis_bench: Any) -> None:
    store = redis_bench.store
    key = "{kairos}:test"
    assert store.hash_set(key, "a", b"1", new=True)
    assert not store.hash_set(key, "a", b"2", new=True)
    store.hash_set(key, "b", "x")
    store.hash_increase(key, {"a": 4, "c": 1})

    assert store.hash_get(key, "a") == b"5"
    assert store.hash_get(key, "none") is None
    assert store.hash_all(key) == {"a": b"5", "b": b"x", "c": b"1"}
    assert store.hash_delete(key, "a")
    assert not store.hash_delete(key, "a")


def test_an_unreachable_server_is_named_without_its_password() -> None:
    settings = Settings(redis_url="redis://:secret@127.0.0.1:1/0", store_timeout_ms=500)

    with pytest.raises(StoreUnavailable) as caught:
        RedisStore.connect(settings)

    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


# -- a full server


def test_a_full_server_pushes_back_and_loses_nothing(small_bench: Any, make: Any) -> None:
    store, partition = small_bench.store, partition_of("u", small_bench.partitions)
    small_bench.append(make.act("u", item=1))
    claim = claimed(small_bench, "one", partition)
    folder = Folder(store, small_bench.partitions, FoldRules())
    entries = store.read_log(partition, 0, 10)
    small_bench.fill()

    with pytest.raises(Overloaded):
        store.append({partition: [encode(make.act("u"))]})
    with pytest.raises(Overloaded):
        store.intern("item", ["new"], NOW)
    with pytest.raises(Overloaded):
        folder.fold(claim, entries)
    assert store.memory() > 1
    assert (claim.offset, len(store.read_log(partition, 0, 10))) == (0, 1)
    assert store.user("u", partition) is None
    assert store.counters(partition) == {}
    assert store.names("item") == {}

    small_bench.make_room()
    folder.fold(claimed(small_bench, "one", partition), entries)
    assert store.append({partition: [encode(make.act("u"))]})[partition] > entries[-1].position
    small_bench.fold_all(name="one")
    assert small_bench.totals("u") == {0: 2}
    assert store.counters(partition) == {(1, 0): 2}
    assert store.intern("item", ["new"], NOW) == [0]
    (progress,) = store.progress([partition])
    assert (progress.appended, progress.folded) == (2, 2)


def test_a_full_server_still_answers_reads_and_takes_the_asynchronous_way_too(
    small_bench: Any,
) -> None:
    small_bench.store.commit(claimed(small_bench), Changes(1, states={"u": state(impressions=3)}))
    small_bench.fill()

    async def ask(store: AsyncRedisStore) -> int:
        with pytest.raises(Overloaded):
            await store.append({0: [b"x"]})
        with pytest.raises(Overloaded):
            await store.intern("item", ["new"], NOW)
        found = await store.read_user("u", 0)
        assert found is not None
        return found.impressions

    assert with_async(small_bench, ask) == 3


# -- the trips that stand in a request's way


def with_async(bench: Any, use: Callable[[AsyncRedisStore], Awaitable[Any]]) -> Any:
    """Run `use` with an asynchronous store on the bench's server."""
    settings = msgspec.structs.replace(bench.settings, read_timeout_ms=30_000)

    async def run() -> Any:
        store = AsyncRedisStore(settings, bench.store.clustered())
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_asynchronous_appends_and_numbers_are_the_same_log(redis_bench: Any) -> None:
    async def use(store: AsyncRedisStore) -> tuple[dict[int, int], list[int]]:
        first = await store.append({p: [b"a", b"b"] for p in range(4)})
        again = await store.append({p: [b"c"] for p in range(4)})
        assert all(again[p] > first[p] for p in range(4))
        return again, await store.intern("item", ["x", "y", "x"], NOW)

    last, numbers = with_async(redis_bench, use)

    assert numbers == [0, 1, 0]
    for partition in range(4):
        entries = redis_bench.store.read_log(partition, 0, 10)
        assert [entry.records for entry in entries] == [[b"a", b"b"], [b"c"]]
        assert redis_bench.store.last_position(partition) == last[partition]


def test_a_user_is_read_as_folded(redis_bench: Any) -> None:
    claim = claimed(redis_bench)
    redis_bench.store.commit(claim, Changes(1, states={"u": state(impressions=3)}))

    async def use(store: AsyncRedisStore) -> None:
        found = await store.read_user("u", 0)
        assert found is not None
        assert found.impressions == 3
        assert await store.read_user("nobody", 0) is None
        assert await store.offsets([0, 1, 2]) == {0: 1, 1: 0, 2: 0}

    with_async(redis_bench, use)


def test_nobody_reads_a_user_whose_erasure_is_under_way(redis_bench: Any) -> None:
    store = redis_bench.store
    claim = claimed(redis_bench)
    store.commit(claim, Changes(1, states={"u": state(impressions=3), "v": state()}))
    store.set_forgotten(0, "u", NOW)

    async def read(asked: AsyncRedisStore) -> UserState | None:
        assert await asked.read_user("v", 0) is not None
        return await asked.read_user("u", 0)

    assert with_async(redis_bench, read) is None
    store.commit(claim, Changes(2, states={"u": state(erased_ms=NOW)}))
    assert with_async(redis_bench, read).erased_ms == NOW  # folded: what came later may be read
    store.clear_forgotten(0, "u")
    assert with_async(redis_bench, read) is not None


def test_a_reader_follows_a_change_of_generation(redis_bench: Any) -> None:
    store = redis_bench.store
    for generation in (1, 2):
        claim = claimed(redis_bench, "one", 0, generation)
        states = {"u": state(impressions=generation)}
        store.commit(claim, Changes(10 * generation, states=states))

    async def use(asked: AsyncRedisStore) -> None:
        seen = []
        for _ in range(2):
            found = await asked.read_user("u", 0)
            assert found is not None
            seen.append((found.impressions, (await asked.offsets([0]))[0]))
            store.swap(0, 1, 2)
            store.drop_generation(0, 1)
        assert seen == [(1, 10), (2, 20)]

    with_async(redis_bench, use)


def test_an_unreachable_server_is_an_error_of_ours() -> None:
    settings = Settings(redis_url="redis://127.0.0.1:1/0")

    async def use() -> None:
        store = AsyncRedisStore(settings, (False, False))
        with pytest.raises(StoreUnavailable):
            await store.read_user("u", 0)
        with pytest.raises(StoreUnavailable):
            await store.append({0: [b"x"]})
        await store.close()

    asyncio.run(use())


def test_an_append_that_too_few_replicas_hold_is_refused(redis_bench: Any) -> None:
    settings = msgspec.structs.replace(redis_bench.settings, wait_replicas=1, store_timeout_ms=500)

    async def use() -> None:
        store = AsyncRedisStore(settings, redis_bench.store.clustered())
        with pytest.raises(StoreUnavailable, match="replicas"):
            await store.append({p: [b"x"] for p in range(4)})
        await store.close()

    asyncio.run(use())
