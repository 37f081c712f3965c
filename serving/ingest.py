"""`POST /v1/events`: decode → check → number new names → stamp → append → 202.

Nothing is acknowledged before the append. Concurrent requests share appends: whatever comes in
while one is on its way goes with the next, one entry per partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import get_args

import msgspec
from msgspec import UNSET, UnsetType

from engine.errors import InvalidInput, Overloaded, StoreUnavailable
from engine.events import Alias, Event, Item, Rejection, decode_batch
from engine.ids import ITEMS, partition_of
from engine.records import Record, encode
from engine.redis_store import AsyncRedisStore
from engine.spans import span
from engine.stamp import Stamper
from engine.times import to_ms
from serving.admission import WAITING, Lane
from serving.follow import Follower
from serving.http import Request, Response, json_response, problem
from serving.metrics import Metrics

RECENT_HASHES = 200_000  # acknowledged events whose copies are recognised without a trip
PENDING_BYTES = 64 << 20
ENTRY_RECORDS = 256
INTERN_NAMES = 500
WAIT_FOLDED_S = 10.0


class Accepted(msgspec.Struct):
    """What became of a batch; `folded` is there only with ?wait=folded."""

    accepted: int
    duplicates: int
    rejected: list[Rejection] = msgspec.field(default_factory=list)
    folded: bool | UnsetType = UNSET


class _Batch(msgspec.Struct, eq=False):
    """One request's records on their way; `done` gets the positions of their entries."""

    records: Mapping[int, Sequence[bytes]]
    size: int
    done: asyncio.Future[dict[int, int]]


class Appender:
    """Gathers records of concurrent requests into one pipelined append at a time."""

    def __init__(self, store: AsyncRedisStore) -> None:
        self._store = store
        self._pending: list[_Batch] = []
        self._bytes = 0  # of what waits and what is being appended
        self._task: asyncio.Task[None] | None = None

    @span("append")
    async def append(self, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Append; returns the position of each partition's last entry. Raises as the store does.

        Who leaves takes along what waited; an append under way goes on, for the others in it.
        """
        if not records:
            return {}
        size = sum(len(raw) for batch in records.values() for raw in batch)
        if self._bytes + size > PENDING_BYTES:
            raise Overloaded("too much is waiting to be appended")
        batch = _Batch(records, size, asyncio.get_running_loop().create_future())
        self._pending.append(batch)
        self._bytes += size
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())
        try:
            return await asyncio.shield(batch.done)
        except asyncio.CancelledError:
            if batch in self._pending:
                self._pending.remove(batch)
                self._bytes -= size
            raise

    async def _flush(self) -> None:
        while self._pending:
            taken, self._pending = self._pending, []
            merged: dict[int, list[bytes]] = {}
            for one in taken:
                for partition, batch in one.records.items():
                    merged.setdefault(partition, []).extend(batch)
            try:
                positions = await self._append(merged)
            except Exception as error:  # every waiter has to hear of it, whatever it is
                for one in taken:
                    one.done.set_exception(error)
                    one.done.exception()  # retrieved: a waiter may have left
            else:
                for one in taken:
                    one.done.set_result({p: positions[p] for p in one.records})
            self._bytes -= sum(one.size for one in taken)

    async def _append(self, merged: dict[int, list[bytes]]) -> dict[int, int]:
        positions: dict[int, int] = {}
        start = 0
        while part := {p: b[start : start + ENTRY_RECORDS] for p, b in merged.items() if b[start:]}:
            positions |= await self._store.append(part)
            start += ENTRY_RECORDS
        return positions


class Ingest:
    """The handler of `POST /v1/events` and what it needs."""

    def __init__(
        self,
        stamper: Stamper,
        store: AsyncRedisStore,
        follower: Follower,
        metrics: Metrics,
        lane: Lane,
    ) -> None:
        self._lane = lane
        self._deadline_s = store.settings.batch_deadline_ms / 1000
        self._waiting = 0
        self._stamper = stamper
        self._store = store
        self._follower = follower
        self._metrics = metrics
        self._appender = Appender(store)
        self._recent: OrderedDict[int, None] = OrderedDict()

    async def post_events(self, request: Request) -> Response:
        """Take a batch: 202 once all that is acceptable is in the log, 422 where nothing is."""
        if self._follower.pressure is not None:
            self._metrics.count("overloaded", "store")
            raise Overloaded(self._follower.pressure, retry_after_s=2)
        wait = request.query.get("wait")
        if wait not in (None, "folded"):
            raise InvalidInput("wait", "expected folded")
        with self._lane.entered():  # which whoever waits for the fold has left
            async with asyncio.timeout(self._deadline_s):
                answer, positions, joined = await self._take(request.body)
        if isinstance(answer, Response):
            return answer
        if wait is not None:
            answer.folded = await self._counted(positions, joined)
        return json_response(202, answer)

    async def _take(self, body: bytes) -> tuple[Accepted | Response, dict[int, int], list[Alias]]:
        """What became of a batch, where its entries stand in the log, and aliases in it."""
        now = int(time.time() * 1000)
        batch = decode_batch(body)
        shift = 0 if batch.sent_at is None else now - to_ms(batch.sent_at, "sent_at")
        if not batch.events and not batch.rejected:
            raise InvalidInput("events", "expected at least one event")
        rejected = list(batch.rejected)
        checked = self._check(batch.events, now, shift, rejected)
        await self._number([event for _, event, _ in checked], now)
        accepted, positions = await self._append(checked, now)
        self._count_rejected(rejected)
        answer = Accepted(accepted, len(checked) - accepted, sorted(rejected, key=_index))
        if rejected and not checked:
            return _nothing_accepted(answer), {}, []
        return answer, positions, [event for _, event, _ in checked if isinstance(event, Alias)]

    @span("check")
    def _check(
        self,
        events: Sequence[tuple[int, Event]],
        now: int,
        shift: int,
        rejected: list[Rejection],
    ) -> list[tuple[int, Event, int]]:
        checked = []
        for index, event in events:
            try:
                checked.append((index, event, self._stamper.check(event, now, shift)))
            except InvalidInput as error:
                event_id = getattr(event, "event_id", None)
                kind = str(event.__struct_config__.tag)
                rejected.append(Rejection(index, event_id, kind, error.field, error.detail))
        return checked

    @span("number")
    async def _number(self, events: Sequence[Event], now: int) -> None:
        for space, missing in self._stamper.missing(events).items():
            # Bit by bit: nobody else is answered while the store numbers one lot.
            for start in range(0, len(missing), INTERN_NAMES):
                names = missing[start : start + INTERN_NAMES]
                numbers = await self._store.intern(space, names, now)
                self._stamper.learn(space, names, numbers)

    @span("stamp")
    async def _append(
        self, checked: Sequence[tuple[int, Event, int]], now: int
    ) -> tuple[int, dict[int, int]]:
        """Items first, so that what follows in the batch is stamped with their categories."""
        items = [entry for entry in checked if isinstance(entry[1], Item)]
        positions = {}
        if items:
            stamped = [self._stamper.stamp(event, ts, now)[1] for _, event, ts in items]
            positions = await self._appender.append({ITEMS: [encode(r) for r in stamped]})
            self._stamper.catalog.apply([r for r in stamped if not hasattr(r, "user_id")])
        records: dict[int, list[bytes]] = {}
        hashes: dict[int, None] = {}
        accepted = len(items)
        for _, event, ts in checked:
            if isinstance(event, Item):
                continue
            partition, record = self._stamper.stamp(event, ts, now)
            if self._is_copy(record, hashes):
                continue
            records.setdefault(partition, []).append(encode(record))
            accepted += 1
        positions |= await self._appender.append(records)
        self._remember(hashes)
        for name, count in self._stamper.ignored_device_fields.items():
            self._metrics.count("ignored_device_fields", name, by=count)
        self._stamper.ignored_device_fields.clear()
        return accepted, positions

    def _is_copy(self, record: Record, hashes: dict[int, None]) -> bool:
        """Whether this event was acknowledged before, or stands in this batch twice."""
        found: int | None = getattr(record, "hash", None)
        if found is None:
            return False
        if found in self._recent or found in hashes:
            self._metrics.count("duplicates_at_edge")
            return True
        hashes[found] = None
        return False

    def _remember(self, hashes: dict[int, None]) -> None:
        self._recent.update(hashes)
        while len(self._recent) > RECENT_HASHES:
            self._recent.popitem(last=False)

    async def _counted(self, positions: Mapping[int, int], joined: Sequence[Alias]) -> bool:
        """Wait until the events count; False where that takes too long, or too many wait.

        An alias counts once the state it carries over is folded in the other's partition.
        """
        if self._waiting >= WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_FOLDED_S):
                await self._folded(positions)
                if joined:
                    total = self._stamper.partitions
                    origins = {partition_of(alias.previous_id, total) for alias in joined}
                    targets = {partition_of(alias.user_id, total) for alias in joined}
                    await self._until(lambda: self._store.handed_over(list(origins)))
                    await self._folded(await self._store.last_positions(list(targets)))
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def _folded(self, positions: Mapping[int, int]) -> None:
        async def reached() -> bool:
            offsets = await self._store.offsets(list(positions))
            return all(offsets[p] >= at for p, at in positions.items())

        await self._until(reached)

    async def _until(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Ask again and again; a store that does not answer is asked again too."""
        pause_s = 0.002
        while True:
            with contextlib.suppress(StoreUnavailable):
                if await done():
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)

    def _count_rejected(self, rejected: Sequence[Rejection]) -> None:
        for refusal in rejected:
            kind = refusal.type if refusal.type in KINDS else "unknown"
            self._metrics.count("rejected", kind, _label(refusal.field))


KINDS = {str(kind.__struct_config__.tag) for kind in get_args(Event)}
FIELDS = {field.name for kind in get_args(Event) for field in msgspec.structs.fields(kind)}
FIELDS.add("type")


def _nothing_accepted(answer: Accepted) -> Response:
    first = answer.rejected[0]
    detail = f"{len(answer.rejected)} events were refused; the first: {first.detail}"
    told = msgspec.to_builtins(answer)
    title = "No event was accepted"
    return problem(422, "nothing-accepted", title, detail, field=first.field, **told)


def _index(refusal: Rejection) -> int:
    return refusal.index


def _label(field: str) -> str:
    """A metric's label must not grow with what people send."""
    name = field.partition("[")[0].partition(".")[0]
    return name if name in FIELDS else "other"
