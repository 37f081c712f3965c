"""Stores under one face, and builders of log records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.fold import Changes, FoldRules
from engine.folder import Folder
from engine.ids import event_hash, partition_of
from engine.records import (
    AliasRecord,
    DecidedSlot,
    DecisionRecord,
    DeviceRecord,
    EraseRecord,
    ImpressionRecord,
    InteractionRecord,
    PushRecord,
    Record,
    ShownItems,
    UserRecord,
    encode,
)
from engine.redis_keys import keys_of
from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.situation import Situations
from engine.state import UserState
from engine.store import Claim, FeatureStore, MemoryStore

NOW = 1_770_000_000_000  # 2026-02-02T02:40:00Z
PARTITIONS = 4


@dataclass
class Make:
    """Records as the stamper writes them; every event has an id of its own unless told."""

    numbers: Iterator[int] = field(default_factory=itertools.count)

    def _common(self, user: str, told: dict[str, Any]) -> dict[str, Any]:
        event_id = told.pop("event_id", None) or f"e{next(self.numbers)}"
        ts = told.pop("ts", NOW)
        arrived = told.pop("arrived", max(ts, NOW))
        common = {"user_id": user, "event_id": event_id, "ts": ts, "arrived": arrived}
        return common | {"hash": event_hash(user, event_id)} | told

    def act(
        self, user: str, item: int | None = 1, term: int = 0, weight: float = 1.0, **told: Any
    ) -> InteractionRecord:
        names = {"action": f"act{term}", "item_id": None if item is None else f"i{item}"}
        return InteractionRecord(
            item=item, term=term, weight=weight, **self._common(user, names | told)
        )

    def impression(
        self, user: str, decision: str, *shown: Sequence[int], **told: Any
    ) -> ImpressionRecord:
        rows = [ShownItems(position, list(items)) for position, items in enumerate(shown)]
        return ImpressionRecord(decision_id=decision, shown=rows, **self._common(user, told))

    def decision(self, user: str, decision: str, items: Sequence[int], **told: Any) -> Record:
        common = self._common(user, told)
        del common["event_id"]
        slots = [DecidedSlot(item, position) for position, item in enumerate(items)]
        return DecisionRecord(decision_id=decision, slots=slots, **common)

    def device(self, user: str, device: Any, **told: Any) -> DeviceRecord:
        return DeviceRecord(device=device, **self._common(user, told))

    def push(self, user: str, status: str, message: str = "m", **told: Any) -> PushRecord:
        return PushRecord(message_id=message, status=status, **self._common(user, told))

    def user(self, user: str, ts: int = NOW, **attributes: Any) -> UserRecord:
        return UserRecord(user_id=user, ts=ts, arrived=max(ts, NOW), attributes=attributes)

    def alias(self, previous: str, into: str, **told: Any) -> AliasRecord:
        return AliasRecord(into=into, **self._common(previous, told))

    def erase(self, user: str, ts: int = NOW) -> EraseRecord:
        once = event_hash("", f"erase {next(self.numbers)}")
        return EraseRecord(user_id=user, ts=ts, arrived=max(ts, NOW), hash=once)


@pytest.fixture
def make() -> Make:
    return Make()


class Bench:
    """A store with what tests need beside the protocol."""

    partitions = PARTITIONS
    store: FeatureStore

    def expire(self, partition: int) -> None:
        """End the lease of whoever holds it, as time would."""
        raise NotImplementedError

    def states(self, partition: int) -> dict[str, UserState]:
        raise NotImplementedError

    def dead(self, partition: int) -> int:
        raise NotImplementedError

    def day_buckets(self, partition: int) -> set[int]:
        raise NotImplementedError

    def clear(self) -> None:
        """As new."""
        raise NotImplementedError

    def know_items(self, count: int) -> None:
        """Give so many items their numbers, where the store keeps them."""

    # -- the same for every store

    def state(self, user: str) -> UserState:
        return self.states(partition_of(user, self.partitions)).get(user, UserState())

    def append(self, *records: Record) -> None:
        """Each to its owner's partition, all of a partition in one entry."""
        batches: dict[int, list[bytes]] = {}
        for record in records:
            partition = partition_of(record.user_id, self.partitions)
            batches.setdefault(partition, []).append(encode(record))
        self.store.append(batches)

    def fold_all(
        self,
        rules: FoldRules | None = None,
        name: str = "bench",
        count: int = 100,
        situations: Situations | None = None,
    ) -> list[Changes]:
        """Fold until nothing is left, what the folds append included; leases are given up."""
        told = None if situations is None else lambda: situations
        folder = Folder(self.store, self.partitions, rules or FoldRules(), situations=told)
        changes: list[Changes] = []
        for _ in range(100):
            before = len(changes)
            for partition in range(self.partitions):
                claim = self.store.claim(name, partition)
                assert claim is not None
                folder.drain(claim)
                while entries := self.store.read([claim], count).get(partition):
                    changes.append(folder.fold(claim, entries))
                self.store.release(claim)
            if len(changes) == before:
                return changes
        raise AssertionError("the fold does not come to an end")

    def totals(self, user: str) -> dict[int, int]:
        return {term: counter.total for term, counter in self.state(user).actions.items()}


class MemoryBench(Bench):
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.store: MemoryStore = MemoryStore()

    def expire(self, partition: int) -> None:
        self.store.expire(partition)

    def states(self, partition: int) -> dict[str, UserState]:
        return self.store.states(partition)

    def dead(self, partition: int) -> int:
        return len(self.store._at(partition).dead)

    def day_buckets(self, partition: int) -> set[int]:
        return set(self.store._at(partition).days)


class RedisBench(Bench):
    def __init__(self, url: str, **settings: Any) -> None:
        # A long lease: only `expire` ends it, however slow the machine.
        told = {"redis_url": url, "lease_ms": 600_000, "store_timeout_ms": 30_000} | settings
        self.settings = Settings(**told, partitions=self.partitions)
        self.store: RedisStore = RedisStore.connect(self.settings)
        self.client: Any = self.store._state
        self.clear()

    @property
    def is_cluster(self) -> bool:
        return self.store.clustered()[0]

    def clear(self) -> None:
        self.client.flushall(**({"target_nodes": "primaries"} if self.is_cluster else {}))

    def expire(self, partition: int) -> None:
        generation = self.store.generation(partition)
        self.client.hset(keys_of(partition, generation).meta, "lease", 0)

    def states(self, partition: int) -> dict[str, UserState]:
        return dict(self.store.states(partition))

    def dead(self, partition: int) -> int:
        return len(self.store.dead(partition))

    def know_items(self, count: int) -> None:
        self.store.intern("item", [f"i{n}" for n in range(count)], NOW)

    def day_buckets(self, partition: int) -> set[int]:
        prefix = keys_of(partition, self.store.generation(partition)).days
        pattern = prefix.replace("{", "[{]").replace("}", "[}]") + "*"
        keys = [key.decode() for key in self.client.scan_iter(match=pattern, count=1000)]
        return {int(key.removeprefix(prefix).partition(":")[0]) for key in keys}


class SmallBench(RedisBench):
    """On a server whose memory can be made too small."""

    def fill(self) -> None:
        self.client.config_set("maxmemory", 1)

    def make_room(self) -> None:
        self.client.config_set("maxmemory", 0)


@pytest.fixture
def small_bench(small_valkey_url: str) -> Iterator[SmallBench]:
    bench = SmallBench(small_valkey_url)
    yield bench
    bench.make_room()
    bench.store.close()


@pytest.fixture(scope="session")
def alone(valkey_url: str) -> Iterator[RedisBench]:
    bench = RedisBench(valkey_url)
    yield bench
    bench.store.close()


@pytest.fixture(scope="session")
def cluster(valkey_cluster_url: str) -> Iterator[RedisBench]:
    bench = RedisBench(valkey_cluster_url)
    assert bench.is_cluster
    yield bench
    bench.store.close()


@pytest.fixture(params=["memory", "redis", "cluster"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Every store passes one suite: a new one is a line here."""
    if request.param == "memory":
        return MemoryBench()
    found: Bench = request.getfixturevalue("alone" if request.param == "redis" else "cluster")
    found.clear()
    return found


@pytest.fixture(params=["redis", "cluster"])
def redis_bench(request: pytest.FixtureRequest) -> RedisBench:
    """Redis alone and as a cluster, for what only Redis has."""
    found: RedisBench = request.getfixturevalue("alone" if request.param == "redis" else "cluster")
    found.clear()
    return found


@pytest.fixture
def memory() -> MemoryBench:
    return MemoryBench()


@pytest.fixture
def claim_of(bench: Bench) -> Any:
    """Claim a partition and insist on getting it."""

    def claim(name: str = "one", partition: int = 0) -> Claim:
        found = bench.store.claim(name, partition)
        assert found is not None
        return found

    return claim
