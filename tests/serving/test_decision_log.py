"""Decisions on their way to the log: all arrive, or their loss is counted and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.actions import load_actions
from engine.catalog import Catalog
from engine.decisions import new_decision_id, record_of
from engine.ids import partition_of
from engine.pipeline import Slate
from engine.records import DecisionRecord, decode_user_record
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.rows import RowFiles
from engine.settings import Settings
from serving import decision_log
from serving.decision_log import DecisionLog
from serving.follow import Follower
from serving.metrics import METRICS_KEY, Metrics

PARTITIONS = 4
FOREVER = 4_000_000_000_000

Decide = Callable[..., Slate]


class Bench:
    """A decision log on a server that may be made to fail, and what arrived."""

    def __init__(self, url: str, home: Path, catalog: Catalog, **told: Any) -> None:
        self.settings = Settings(redis_url=url, home=str(home), partitions=PARTITIONS, **told)
        self.store = RedisStore.connect(self.settings)
        self.client: Any = self.store._state
        self.client.flushall()
        self.metrics = Metrics()
        self.follower = Follower(self.store, self.metrics, False, load_actions())
        self.follower.catalog = catalog
        self.files = RowFiles(self.settings.rows_path)

    @contextlib.asynccontextmanager
    async def log(self, **told: Any) -> AsyncIterator[DecisionLog]:
        store = AsyncRedisStore(self.settings, self.store.clustered())
        log = DecisionLog(store, self.files, self.follower, 3, self.metrics)
        await log.start()
        try:
            yield log
        finally:
            await log.stop()
            await store.close()

    def id_for(self, user_id: str) -> str:
        return new_decision_id(partition_of(user_id, PARTITIONS), int(time.time() * 1000))

    def logged(self) -> Counter[str]:
        """How often each decision stands in the streams."""
        found: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            for entry in self.store.read_log(partition, 0, 100_000):
                for raw in entry.records:
                    record = decode_user_record(raw)
                    assert isinstance(record, DecisionRecord)
                    assert partition_of(record.user_id, PARTITIONS) == partition
                    found[record.decision_id] += 1
        return found

    def rows(self) -> Counter[str]:
        """How many training rows each decision has."""
        return Counter(self.files.read(0, FOREVER).collect()["decision_id"].to_list())

    def count(self, name: str) -> int:
        self.metrics.flush(self.store)
        return int(self.store.hash_all(METRICS_KEY).get(name, 0))


@pytest.fixture
def bench(valkey_url: str, tmp_path: Path, item_catalog: Catalog) -> Iterator[Bench]:
    made = Bench(valkey_url, tmp_path, item_catalog)
    yield made
    made.store.close()


@pytest.fixture
def small(small_valkey_url: str, tmp_path: Path, item_catalog: Catalog) -> Iterator[Bench]:
    made = Bench(small_valkey_url, tmp_path, item_catalog, store_timeout_ms=100)
    yield made
    made.client.config_set("maxmemory", 0)
    made.client.execute_command("CLIENT", "UNPAUSE")
    made.store.close()


def offer(bench: Bench, log: DecisionLog, slates: list[Slate]) -> list[str]:
    ids = [bench.id_for(slate.request.user_id) for slate in slates]
    for decision_id, slate in zip(ids, slates, strict=True):
        log.offer(decision_id, slate)
    return ids


async def until(done: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 - another process changes
            await asyncio.sleep(0.01)


def test_what_is_offered_is_logged_without_waiting_for_the_end(
    bench: Bench, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "ROWS_EVERY_S", 0.05)

    async def run() -> None:
        async with bench.log() as log:
            slates = [decide(f"u{n}", seed=n) for n in range(50)]
            ids = offer(bench, log, slates)
            await until(lambda: bench.logged() == dict.fromkeys(ids, 1))
            await until(lambda: bench.rows() == dict.fromkeys(ids, 8))
            more = offer(bench, log, slates[:3])
            await until(lambda: bench.logged() == dict.fromkeys(ids + more, 1))

    asyncio.run(run())
    assert (bench.count("decisions_lost"), bench.count("rows_lost")) == (0, 0)


def test_the_record_and_the_rows_are_the_slates(bench: Bench, decide: Decide) -> None:
    slate = decide("u", surface="home")

    async def run() -> str:
        async with bench.log() as log:
            return offer(bench, log, [slate])[0]

    decision_id = asyncio.run(run())
    partition = partition_of("u", PARTITIONS)
    ((raw,),) = [entry.records for entry in bench.store.read_log(partition, 0, 10)]
    record = decode_user_record(raw)
    assert isinstance(record, DecisionRecord)
    assert record == record_of(slate, decision_id, record.arrived)
    rows = bench.files.read(0, FOREVER).collect()
    assert rows["item"].to_list()[:5] == slate.items()
    assert rows["arrived"].unique().to_list() == [record.arrived]


def test_stop_writes_all_that_was_offered(bench: Bench, decide: Decide) -> None:
    """Nothing had a chance to run in between."""
    slates = [decide(f"u{n}", seed=n) for n in range(300)]

    async def run() -> list[str]:
        async with bench.log() as log:
            return offer(bench, log, slates)

    ids = asyncio.run(run())
    assert bench.logged() == dict.fromkeys(ids, 1)
    assert bench.rows() == dict.fromkeys(ids, 8)


def test_one_users_decisions_keep_their_order(bench: Bench, decide: Decide) -> None:
    async def run() -> list[str]:
        async with bench.log() as log:
            return offer(bench, log, [decide("u", seed=n) for n in range(600)])

    ids = asyncio.run(run())
    entries = bench.store.read_log(partition_of("u", PARTITIONS), 0, 1000)
    records = [decode_user_record(raw) for entry in entries for raw in entry.records]
    assert [record.decision_id for record in records] == ids  # type: ignore[union-attr]


@pytest.mark.parametrize(("limit", "value"), [("OFFERED", 3), ("OFFERED_BYTES", 120_000)])
def test_a_full_queue_loses_and_counts(
    bench: Bench, decide: Decide, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(decision_log, limit, value)
    slate = decide("u")

    async def run() -> list[str]:
        async with bench.log() as log:
            return offer(bench, log, [slate] * 50)

    ids = asyncio.run(run())
    kept = len(bench.logged())
    assert bench.logged() == dict.fromkeys(ids[:kept], 1)
    assert 3 <= kept <= 4
    assert bench.count("decisions_lost") == 50 - kept


def test_rows_that_pile_up_are_lost_and_counted(
    bench: Bench, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "ROWS_HELD", 20)
    slate = decide("u")

    async def run() -> list[str]:
        async with bench.log() as log:
            return offer(bench, log, [slate] * 5)

    ids = asyncio.run(run())
    assert bench.logged() == dict.fromkeys(ids, 1)
    assert bench.rows() == dict.fromkeys(ids[:2], 8)
    assert bench.count("rows_lost") == 24


def test_a_store_that_is_nearly_full_is_left_alone(bench: Bench, decide: Decide) -> None:
    bench.follower.pressure = "the store's memory is nearly full"

    async def run() -> None:
        async with bench.log() as log:
            offer(bench, log, [decide("u")] * 5)

    asyncio.run(run())
    assert bench.logged() == {}
    assert bench.count("decisions_lost") == 5


def test_a_store_that_hangs_for_a_while_loses_nothing(small: Bench, decide: Decide) -> None:
    """What timed out may have arrived and stand there twice: its hash lets it count once."""

    async def run() -> list[str]:
        async with small.log() as log:
            small.client.execute_command("CLIENT", "PAUSE", 700, "ALL")
            ids = []
            for n in range(20):
                ids += offer(small, log, [decide(f"u{n}", seed=n)])
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            return ids

    ids = asyncio.run(run())
    assert set(small.logged()) == set(ids)
    assert small.count("decisions_lost") == 0
    assert set(small.rows()) == set(ids)


def test_a_store_that_takes_no_writes_for_a_while(small: Bench, decide: Decide) -> None:
    async def run() -> list[str]:
        async with small.log() as log:
            small.client.config_set("maxmemory", 1)
            ids = offer(small, log, [decide(f"u{n}") for n in range(10)])
            await asyncio.sleep(0.3)
            small.client.config_set("maxmemory", 0)
            return ids

    ids = asyncio.run(run())
    assert small.logged() == dict.fromkeys(ids, 1)


def test_a_store_that_is_gone_too_long(
    small: Bench, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old records give way; the rows, which need no store, are written."""
    monkeypatch.setattr(decision_log, "HOLD_S", 0.2)
    monkeypatch.setattr(decision_log, "STOP_S", 0.2)

    async def run() -> list[str]:
        async with small.log() as log:
            small.client.config_set("maxmemory", 1)
            ids = offer(small, log, [decide(f"u{n}") for n in range(10)])
            await asyncio.sleep(1)
            small.client.config_set("maxmemory", 0)
            return ids + offer(small, log, [decide("last")])

    ids = asyncio.run(run())
    assert small.logged() == {ids[-1]: 1}
    assert small.count("decisions_lost") == 10
    assert small.rows() == dict.fromkeys(ids, 8)


def test_stopping_while_the_store_is_gone(
    small: Bench, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "STOP_S", 0.2)

    async def run() -> None:
        async with small.log() as log:
            small.client.config_set("maxmemory", 1)
            offer(small, log, [decide("u")] * 10)

    asyncio.run(run())
    small.client.config_set("maxmemory", 0)
    assert small.count("decisions_lost") == 10
    assert small.logged() == {}


def test_a_disk_that_takes_nothing(
    bench: Bench, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.files.path.write_text("a file where the folder belongs")

    async def run() -> list[str]:
        async with bench.log() as log:
            ids = offer(bench, log, [decide("u")] * 5)
            await until(lambda: len(bench.logged()) == 5)
            return ids

    ids = asyncio.run(run())
    assert bench.logged() == dict.fromkeys(ids, 1)
    assert bench.count("rows_lost") == 40
    bench.files.path.unlink()


def test_a_slate_that_cannot_be_logged_stops_nobody(bench: Bench, decide: Decide) -> None:
    async def run() -> list[str]:
        async with bench.log() as log:
            log.offer("an id of another system", decide("u"))
            return offer(bench, log, [decide("u")])

    ids = asyncio.run(run())
    assert bench.logged() == dict.fromkeys(ids, 1)
    assert bench.count("decisions_lost") == 1


def test_rows_of_someone_erased_meanwhile(bench: Bench, decide: Decide) -> None:
    """Offered before the erasure, written after it."""

    async def run() -> list[str]:
        async with bench.log() as log:
            ids = offer(bench, log, [decide("gone"), decide("stays")])
            await until(lambda: len(bench.logged()) == 2)
            bench.files.erase(["gone"], int(time.time() * 1000) + 1)
            return ids

    ids = asyncio.run(run())
    assert bench.rows() == {ids[1]: 8}
