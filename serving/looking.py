"""Looking at what is known: users, items, erasures, health, metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from engine.errors import InvalidInput, KairosError, NotFound
from engine.profile import nameless, profile
from engine.redis_store import RedisStore
from engine.times import to_rfc3339
from serving import erasure, metrics
from serving.deciding import Deciding
from serving.follow import POLL_S, Follower
from serving.http import Request, Response, json_response
from serving.people import StorePeople
from serving.unbroken import Shared

ID_LENGTH = 128


class ItemView(msgspec.Struct):
    """`GET /v1/items/{item_id}`."""

    item_id: str
    known: bool
    available: bool
    why_not: str | None
    attributes: dict[str, Any]
    available_from: str | None
    available_until: str | None
    counters: dict[str, int]  # action, or impression -> total over all users
    deleted: bool


class Readiness(msgspec.Struct):
    """`GET /readyz`."""

    ready: bool
    store: str  # ok, or what is wrong
    release: str | None
    fold_lag_events: int | None
    fold_lag_s: float | None


class Looking:
    """The handlers; `store` is used off the event loop only."""

    def __init__(
        self, store: RedisStore, people: StorePeople, follower: Follower, deciding: Deciding
    ) -> None:
        self._store = store
        self._people = people
        self._follower = follower
        self._deciding = deciding
        partitions = range(store.settings.partitions)
        # Anybody may ask these, as often as they like.
        self._progress = Shared(lambda: asyncio.to_thread(store.progress, partitions))
        self._metrics = Shared(lambda: asyncio.to_thread(metrics.render, store, partitions))

    async def get_user(self, request: Request) -> Response:
        """A user's state, through aliases; 404 where nothing is known."""
        user_id = request.params["user_id"]
        now_ms, people = await self._people.read([user_id])
        person = people[user_id]
        if person.state.blank():
            raise NotFound("nothing is known of this user")
        if nameless(person.state, self._follower.catalog):
            await asyncio.sleep(2 * POLL_S)  # a name's first use: the follower is reading it
        caps = self._deciding.caps()
        return json_response(200, profile(person, self._follower.catalog, caps, now_ms))

    async def get_item(self, request: Request) -> Response:
        """An item, whether it can be shown now, and why not."""
        catalog = self._follower.catalog
        item = catalog.get(request.params["item_id"])
        if item is None:
            raise NotFound("no event named this item")
        why_not = item.why_not(int(time.time() * 1000))
        terms = {-1: "impression"} | catalog.names["action"]
        totals = catalog.totals(item.item, terms)
        start, end = item.available_from[1], item.available_until[1]
        view = ItemView(
            item_id=item.item_id,
            known=item.known,
            available=why_not is None,
            why_not=why_not,
            attributes={n: v for n, (_, v) in item.attributes.items() if v is not None},
            available_from=None if start is None else to_rfc3339(start),
            available_until=None if end is None else to_rfc3339(end),
            counters={terms[term]: total for term, total in totals.items()},
            deleted=item.deleted[1],
        )
        return json_response(200, view)

    async def delete_user(self, request: Request) -> Response:
        """Erase a person: forgotten at once, cleaned everywhere by a job."""
        user_id = request.params["user_id"]
        if len(user_id) > ID_LENGTH:  # it would be kept for ever
            raise InvalidInput("user_id", f"expected at most {ID_LENGTH} characters")
        receipt = await asyncio.to_thread(erasure.ask, self._store, user_id)
        return json_response(202, receipt)

    async def get_erasure(self, request: Request) -> Response:
        """The receipt of an erasure: pending, or done and what was removed."""
        receipt_id = request.params["receipt_id"]
        return json_response(200, await asyncio.to_thread(erasure.find, self._store, receipt_id))

    async def healthz(self, request: Request) -> Response:
        """This process lives."""
        return json_response(200, {"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """This replica can answer, degraded included; names store, release and fold lag."""
        release = self._deciding.parts().release
        try:
            progress = await self._progress.ask()
        except KairosError as error:
            return json_response(200, Readiness(True, str(error), release, None, None))
        events, seconds = metrics.lag_events(progress), metrics.lag_s(progress)
        return json_response(200, Readiness(True, "ok", release, events, round(seconds, 3)))

    async def get_metrics(self, request: Request) -> Response:
        """Prometheus text, summed over all processes."""
        text = await self._metrics.ask()
        return Response(200, text, "text/plain; version=0.0.4; charset=utf-8")
