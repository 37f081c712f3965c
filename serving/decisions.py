"""`GET /v1/decisions/{decision_id}` and `GET /v1/users/{user_id}/decisions`: what, why, what else.

Both read the log itself. An id says in which partition and when its record was appended. What is
archived by now comes from the archive, the rest from the stream, which is read first: an entry
leaves it only for the archive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from engine.archive import Archive, Found
from engine.catalog import Catalog
from engine.decisions import place_of
from engine.errors import InvalidInput, NotFound
from engine.ids import SEQUENCE_BITS, partition_of
from engine.records import (
    PushDecisionRecord,
    PushRecord,
    UserLogRecord,
    decode_user_record,
)
from engine.redis_store import RedisStore
from engine.times import DAY_MS
from serving.decision_log import HOLD_S
from serving.decision_views import (
    Decision,
    DecisionList,
    DecisionView,
    Outcome,
    decision_view,
    id_of,
    outcome_view,
)
from serving.erasure import same_person
from serving.http import Request, Response, Role, Route, json_response

SKEW_MS = 10_000  # between a replica's clock and the store's
LATE_MS = int(HOLD_S * 1000) + SKEW_MS  # so late a record may be appended
OUTCOMES_MS = DAY_MS  # so long after a decision its outcomes are looked for
FRESH_S = 1.0  # a decision so young may be on its way to the log
PAUSE_S = 0.02
STREAM_ENTRIES = 1000  # a trip
DEFAULT_LIMIT, MOST = 20, 100
KINDS = ["decision", "push_decision"]
OUTCOMES = ["interaction", "impression", "push"]
END = (1 << 63) - 1

Place = tuple[int, int, int]  # position, partition, index: the order of the log
Placed = tuple[Place, UserLogRecord]


class Decisions:
    """The handlers; `store` is used off the event loop only."""

    def __init__(self, store: RedisStore, archive: Archive, catalog: Catalog) -> None:
        self._store = store
        self._archive = archive
        self._catalog = catalog
        self._partitions = store.settings.partitions

    async def get_decision(self, request: Request) -> Response:
        """One decision with its outcomes; one just answered is waited for."""
        decision_id = request.params["decision_id"]
        place, now = place_of(decision_id), time.time()
        if place is None or place[0] >= self._partitions or place[1] > now * 1000 + SKEW_MS:
            raise NotFound("no decision has this id")
        deadline = min(place[1] / 1000, now) + FRESH_S
        while (view := await asyncio.to_thread(self._view, decision_id, *place)) is None:
            if time.time() >= deadline:
                raise NotFound("no decision has this id")
            await asyncio.sleep(PAUSE_S)
        return json_response(200, view)

    async def get_user_decisions(self, request: Request) -> Response:
        """A person's decisions under all their ids, newest first, a page at a time."""
        limit = _limit(request.query.get("limit"))
        before = _before(request.query.get("before"))
        user_id = request.params["user_id"]
        page = await asyncio.to_thread(self._of_person, user_id, before, limit + 1)
        if not page and "before" not in request.query:
            raise NotFound("no decision about this user is known")
        views = [decision_view(record, self._catalog) for _, record in page[:limit]]
        more = _cursor(page[limit - 1][0]) if len(page) > limit else None
        return json_response(200, DecisionList(views, more))

    def _view(self, decision_id: str, partition: int, at_ms: int) -> DecisionView | None:
        since = max(at_ms - SKEW_MS, 0) << SEQUENCE_BITS
        decision = self._find(decision_id, partition, since, at_ms + LATE_MS)
        if decision is None:
            return None
        user_id = decision.user_id
        if decision.arrived < self._store.erased_upto(partition, user_id):
            return None
        view = decision_view(decision, self._catalog)
        outcomes = self._outcomes(decision, partition, since, at_ms + OUTCOMES_MS)
        view.outcomes = [outcome_view(record, self._catalog) for record in outcomes]
        return view

    def _find(self, decision_id: str, partition: int, since: int, upto_ms: int) -> Decision | None:
        upto, text = upto_ms << SEQUENCE_BITS, decision_id.encode()
        placed: Iterator[Placed] = self._streamed(partition, since, upto, [text])
        if self._store.archived(partition) >= since:
            archived = self._archive.find(KINDS, since, upto, partition=partition)
            placed = chain(placed, _archived(archived, [text]))
        records = (record for _, record in placed if isinstance(record, Decision))
        return next((found for found in records if id_of(found) == decision_id), None)

    def _outcomes(
        self, decision: Decision, partition: int, since: int, upto_ms: int
    ) -> list[Outcome]:
        """What the user sent with the decision's id, or of its message, in log order, each once."""
        upto, user_id, texts = upto_ms << SEQUENCE_BITS, decision.user_id, [id_of(decision)]
        if isinstance(decision, PushDecisionRecord):
            texts.append(decision.message.message_id)
        named = [msgspec.json.encode(text)[1:-1] for text in texts]
        placed = dict(self._streamed(partition, since, upto, named))
        if self._store.archived(partition) >= since:
            archived = self._archive.find(OUTCOMES, since, upto, user_ids=[user_id])
            placed |= dict(_archived(archived, named))
        found: dict[int | None, Outcome] = {}
        for _, record in sorted(placed.items(), key=lambda pair: pair[0]):
            if not isinstance(record, Outcome) or record.user_id != user_id:
                continue
            of_message = isinstance(record, PushRecord) and record.message_id in texts
            if of_message or record.decision_id == texts[0]:
                found.setdefault(record.hash, record)
        return list(found.values())

    def _of_person(self, user_id: str, before: Place, most: int) -> list[tuple[Place, Decision]]:
        """Up to `most` decisions before a place, newest first."""
        user_ids = same_person(self._store, user_id)
        partitions = {name: partition_of(name, self._partitions) for name in user_ids}
        erased = {name: self._store.erased_upto(p, name) for name, p in partitions.items()}
        page: dict[str, tuple[Place, Decision]] = {}
        for place, record in self._newest(user_ids, set(partitions.values()), before[0]):
            # What the fold sent on after an alias stands in the log under its first id too.
            if not isinstance(record, Decision) or record.hops or place >= before:
                continue
            if record.user_id in erased and record.arrived >= erased[record.user_id]:
                page.setdefault(id_of(record), (place, record))
            if len(page) >= most:
                break
        return list(page.values())

    def _newest(self, user_ids: list[str], partitions: set[int], upto: int) -> Iterator[Placed]:
        texts = [msgspec.json.encode(user_id) for user_id in user_ids]
        waiting: dict[Place, UserLogRecord] = {}
        for partition in partitions:
            since = self._store.archived(partition) + 1
            waiting |= dict(self._streamed(partition, since, upto, texts))
        yield from sorted(waiting.items(), key=lambda pair: pair[0], reverse=True)
        found = self._archive.find(KINDS, 0, upto, user_ids=user_ids)
        yield from (pair for pair in _archived(found, texts) if pair[0] not in waiting)

    def _streamed(
        self, partition: int, since: int, upto: int, texts: Sequence[bytes]
    ) -> Iterator[Placed]:
        """The stream's records between two positions that hold one of the texts."""
        while entries := self._store.read_log(partition, max(since - 1, 0), STREAM_ENTRIES, upto):
            for entry in entries:
                for index, raw in enumerate(entry.records):
                    if record := _read(raw, texts):
                        yield (entry.position, partition, index), record
            since = entries[-1].position + 1


def decision_routes(decisions: Decisions) -> list[Route]:
    """The routes that look at decisions."""
    query = {
        "limit": f"how many, 1–{MOST}; {DEFAULT_LIMIT} without it",
        "before": "`next` of the page before",
    }
    return [
        Route("GET", "/v1/decisions/{decision_id}", decisions.get_decision,
              frozenset({Role.SERVE}), response_type=DecisionView,
              summary="A decision: what, why, what else was considered, what came of it"),
        Route("GET", "/v1/users/{user_id}/decisions", decisions.get_user_decisions,
              frozenset(), query=query, response_type=DecisionList,
              summary="A person's decisions, newest first"),
    ]  # fmt: skip


def _archived(days: Iterable[Found], texts: Sequence[bytes]) -> Iterator[Placed]:
    for day in days:
        for *place, raw in day:
            if record := _read(raw, texts):
                yield (place[0], place[1], place[2]), record


def _read(raw: bytes, texts: Sequence[bytes]) -> UserLogRecord | None:
    """The record, where it holds one of the texts and can be read."""
    if not any(text in raw for text in texts):
        return None
    try:
        record: UserLogRecord = decode_user_record(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not _is_number(text) or not 1 <= int(text) <= MOST:
        raise InvalidInput("limit", f"expected a number from 1 to {MOST}")
    return int(text)


def _cursor(place: Place) -> str:
    return "-".join(map(str, place))


def _before(text: str | None) -> Place:
    if text is None:
        return END, 0, 0
    parts = text.split("-")
    if len(parts) != 3 or not all(_is_number(part) for part in parts):
        raise InvalidInput("before", "expected `next` of an earlier page")
    position, partition, index = map(int, parts)
    return min(position, END), partition, index


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20
