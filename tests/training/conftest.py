"""Logs: one in memory, and one in a real store and archive."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.archive import Archive, rows_of
from engine.ids import event_hash, pack_position, partition_of
from engine.records import (
    AliasRecord,
    CarryRecord,
    Entry,
    EraseRecord,
    InteractionRecord,
    Record,
    encode,
)
from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.state import UserState, encode_state
from serving import embedded

PARTITIONS = 4


@dataclass
class Make:
    """Records as the stamper writes them; `at` is when they happened and arrived, unix ms."""

    numbers: Iterator[int] = field(default_factory=itertools.count)

    def _common(self, user: str, at: int, told: dict[str, Any]) -> dict[str, Any]:
        event_id = told.pop("event_id", None) or f"e{next(self.numbers)}"
        common = {"user_id": user, "event_id": event_id, "hash": event_hash(user, event_id)}
        return common | {"ts": at, "arrived": at} | told

    def act(self, user: str, at: int, item: int = 1, **told: Any) -> InteractionRecord:
        names = {"action": "view", "term": 0, "weight": 1.0, "item_id": f"i{item}", "item": item}
        return InteractionRecord(**names | self._common(user, at, told))

    def alias(self, previous: str, into: str, at: int, **told: Any) -> AliasRecord:
        return AliasRecord(into=into, **self._common(previous, at, told))

    def carry(self, previous: str, into: str, at: int, state: UserState | bytes) -> CarryRecord:
        packed = state if isinstance(state, bytes) else encode_state(state)
        once = event_hash("", f"carry {next(self.numbers)}")
        return CarryRecord(
            ts=at, arrived=at, user_id=into, hash=once, previous_id=previous, via=[previous],
            state=packed,
        )  # fmt: skip

    def erase(self, user: str, at: int) -> EraseRecord:
        once = event_hash("", f"erase {next(self.numbers)}")
        return EraseRecord(ts=at, arrived=at, user_id=user, hash=once)


@dataclass
class ListLog:
    """A log in memory; records are appended in order, each in an entry of its own."""

    entries: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def add(self, *records: Record | tuple[int, bytes]) -> None:
        """Records, or bytes with the partition they go to."""
        for record in records:
            if isinstance(record, tuple):
                partition, raw = record
            else:
                partition, raw = partition_of(record.user_id, PARTITIONS), encode(record)
            self.count += 1
            self.entries[partition].append(Entry(pack_position(f"{self.count}-0"), [raw]))

    def read(self, partitions: Sequence[int]) -> Iterator[tuple[int, list[Entry]]]:
        for partition in partitions:
            if self.entries[partition]:
                yield partition, self.entries[partition]

    def archive(self, archive: Archive) -> None:
        """Write all of it to an archive."""
        rows = [row for p, entries in self.entries.items() for row in rows_of(p, entries)]
        upto = {p: entries[-1].position for p, entries in self.entries.items() if entries}
        archive.append(rows, {}, upto)


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture(scope="session")
def new_log() -> type[ListLog]:
    """Makes one, for worlds that several tests look at."""
    return ListLog


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisStore]:
    """A store of the test's own."""
    settings = Settings(home=str(tmp_path / "home"), appendfsync="no", partitions=PARTITIONS)
    server = embedded.start(settings)
    opened = RedisStore.connect(
        Settings(home=settings.home, redis_url=server.url, partitions=PARTITIONS)
    )
    yield opened
    opened.close()
    server.stop()
