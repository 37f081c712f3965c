"""The decision log: what was decided goes to the log and to the training rows, after the answer.

`offer` only queues. Two tasks on the loop encode and append, a thread writes the rows; whatever
is lost on that way (a full queue, a store or disk that is gone) is counted and holds up no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from engine.decision_rows import DecisionRows, rows_of
from engine.decisions import place_of, record_of
from engine.errors import KairosError
from engine.ids import partition_of
from engine.pipeline import Slate
from engine.push import Decided
from engine.push_record import push_record
from engine.records import encode
from engine.redis_store import AsyncRedisStore
from engine.rows import RowFiles
from engine.spans import span
from serving.follow import Follower
from serving.metrics import Metrics

log = logging.getLogger("kairos.decisions")

OFFERED = 2_000  # slates that wait to be encoded …
OFFERED_BYTES = 64 << 20  # … and how much they may hold: each a mask over the catalogue
PENDING_BYTES = 32 << 20  # encoded records on their way to the store
HOLD_S = 60.0  # how long a record waits for a store that is gone
FLUSH_S = 0.02
FLUSH_RECORDS = 256
RETRY_S = (0.05, 1.0)  # first and longest pause after a failed append
ROWS_EVERY_S = 10.0
ROWS_A_FILE = 20_000
ROWS_HELD = 200_000  # gathered or being written
STOP_S = 5.0

Lost = Callable[[int], None]


class DecisionLog:
    """Takes slates; `start` and `stop` run on the loop that offers."""

    def __init__(
        self,
        store: AsyncRedisStore,
        rows: RowFiles,
        follower: Follower,
        sampled: int,
        metrics: Metrics,
    ) -> None:
        self._follower = follower
        self._partitions = store.settings.partitions
        self._sampled = sampled  # rows of what was not shown, per decision
        self._lost: Lost = lambda n: metrics.count("decisions_lost", by=n)
        self._records = _Records(store, self._lost)
        self._rows = _Rows(rows, lambda n: metrics.count("rows_lost", by=n))
        self._offered: deque[tuple[str, Slate, int]] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._records.start()

    @span("log")
    def offer(self, decision_id: str, slate: Slate) -> None:
        """Queue a slate that was just answered, under its id (engine.decisions.new_decision_id)."""
        size = slate.rows.nbytes + 2 * slate.eligible.allowed.nbytes
        full = len(self._offered) >= OFFERED or self._bytes + size > OFFERED_BYTES
        # Events are turned away then; what is left of the store is for the fold.
        if full or self._follower.pressure is not None:
            self._lost(1)
            return
        self._offered.append((decision_id, slate, size))
        self._bytes += size
        self._some.set()

    @span("log")
    def offer_push(self, decided: Decided) -> None:
        """Log a decision on a push that was just made."""
        if self._follower.pressure is not None:
            self._lost(1)
            return
        record = push_record(decided, decided.decision.at_ms, self._follower.catalog)
        self._records.add(partition_of(decided.user_id, self._partitions), encode(record))

    async def stop(self) -> None:
        """Write what was offered, as far as store and disk take it within STOP_S each."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._offered:
            self._take()
        await asyncio.gather(self._records.stop(), self._rows.stop())

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._offered:
                # Requests come in between; a share of what waits, so that it cannot fall behind.
                for _ in range(1 + len(self._offered) // 4):
                    self._take()
                await asyncio.sleep(0)

    def _take(self) -> None:
        decision_id, slate, size = self._offered.popleft()
        self._bytes -= size
        try:
            place = place_of(decision_id)
            assert place is not None
            partition, arrived_ms = place
            self._records.add(partition, encode(record_of(slate, decision_id, arrived_ms)))
            self._rows.add(
                rows_of(slate, decision_id, arrived_ms, self._sampled, self._follower.catalog)
            )
        except Exception:  # whatever it is, the next decisions are to be logged
            log.exception("a decision cannot be logged")
            self._lost(1)


class _Records:
    """Encoded records, appended one pipelined trip at a time, tried again while HOLD_S lasts.

    A trip that timed out may have arrived: each record's hash lets the fold count it once.
    """

    def __init__(self, store: AsyncRedisStore, lost: Lost) -> None:
        self._store = store
        self._lost = lost
        self._pending: deque[tuple[float, int, bytes]] = deque()  # since when, partition, record
        self._bytes = 0
        self._some = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def add(self, partition: int, raw: bytes) -> None:
        if self._bytes + len(raw) > PENDING_BYTES:
            self._lost(1)
            return
        self._pending.append((time.monotonic(), partition, raw))
        self._bytes += len(raw)
        self._some.set()

    async def stop(self) -> None:
        """Append what is left, for a while; the rest is lost."""
        self._stopping = True
        self._some.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_S)
            self._task.cancel()
            await asyncio.wait([self._task])
        self._drop(len(self._pending))

    async def _run(self) -> None:
        while not self._stopping:
            await self._some.wait()
            self._some.clear()
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        pause_s, longest_s = RETRY_S
        while self._pending:
            batch = list(itertools.islice(self._pending, FLUSH_RECORDS))
            by_partition: dict[int, list[bytes]] = {}
            for _, partition, raw in batch:
                by_partition.setdefault(partition, []).append(raw)
            try:
                await self._store.append(by_partition)
            except KairosError as error:
                log.warning("decisions wait for the store: %s", error)
                self._drop_old()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, longest_s)
            else:
                self._take(len(batch))
                pause_s = RETRY_S[0]

    def _drop_old(self) -> None:
        oldest = time.monotonic() - HOLD_S
        self._drop(sum(since < oldest for since, _, _ in self._pending))

    def _drop(self, count: int) -> None:
        if count:
            self._take(count)
            self._lost(count)

    def _take(self, count: int) -> None:
        for _ in range(count):
            self._bytes -= len(self._pending.popleft()[2])


class _Rows:
    """Rows, gathered on the loop and written by one thread."""

    def __init__(self, files: RowFiles, lost: Lost) -> None:
        self._files = files
        self._lost = lost
        self._batch: list[DecisionRows] = []
        self._gathered = 0  # rows in the batch …
        self._held = 0  # … and in it or with the thread
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "rows")

    def add(self, rows: DecisionRows) -> None:
        count = len(rows.slots)
        if self._held + count > ROWS_HELD:
            self._lost(count)
            return
        self._batch.append(rows)
        self._gathered += count
        self._held += count
        if self._gathered >= ROWS_A_FILE:
            self._hand_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ROWS_EVERY_S, self._hand_over)

    async def stop(self) -> None:
        """Write what is left, for a while; what the disk has not taken then is lost."""
        self._hand_over()
        if self._held:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._empty.wait()
        if self._held:
            self._lost(self._held)
        self._thread.shutdown(wait=False)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, count = self._batch, self._gathered
        self._batch, self._gathered = [], 0
        if batch:
            self._thread.submit(self._write, batch, count, asyncio.get_running_loop())

    def _write(
        self, batch: list[DecisionRows], count: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            self._files.write(batch)
        except Exception as error:  # a full disk is an OSError, or what Polars makes of it
            log.warning("%s training rows were not written: %s", count, error)
            self._lost(count)
        with contextlib.suppress(RuntimeError):  # the loop did not wait so long
            loop.call_soon_threadsafe(self._written, count)

    def _written(self, count: int) -> None:
        self._held -= count
        if not self._held:
            self._empty.set()
