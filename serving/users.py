"""Reading a user's state on the request path: one round trip, one more per alias."""

from __future__ import annotations

import asyncio
import time

from engine.errors import StoreUnavailable
from engine.ids import partition_of
from engine.redis_store import AsyncRedisStore
from engine.state import UserState

ALIAS_HOPS = 8
SLOW_S = 0.02  # what fails sooner keeps nobody waiting
ENOUGH = 3  # reads in a row that waited for nothing: the store is gone
RETRY_S = 0.25  # … and is asked by one request each, until it answers


class Users:
    """Where requests read users; see engine.pipeline.Users.

    `within_s` bounds all trips together, the wait for a connection and second tries among them.
    While the store is gone only some requests wait so long; the others go without at once, so that
    few places are enough for all of them (a circuit breaker; Nygard, Release It!, 2007).
    """

    def __init__(self, reads: AsyncRedisStore, within_s: float | None = None) -> None:
        self._reads = reads
        self._within_s = within_s
        self._partitions = reads.settings.partitions
        self._unanswered = 0  # in a row
        self._again = 0.0  # monotonic

    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        """The id that aliases lead to, and its state; raises StoreUnavailable."""
        if self._unanswered >= ENOUGH:
            now = time.monotonic()
            if now < self._again:
                raise StoreUnavailable("the store has not answered for a while")
            self._again = now + RETRY_S
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._within_s):
                found = await self._read(user_id)
        except (TimeoutError, StoreUnavailable) as error:
            if (now := time.monotonic()) - began >= SLOW_S:
                self._unanswered += 1
                self._again = now + RETRY_S
            if isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable("the store did not answer in time") from None
        self._unanswered = 0
        return found

    async def _read(self, user_id: str) -> tuple[str, UserState | None]:
        state = await self._reads.read_user(user_id, partition_of(user_id, self._partitions))
        for _ in range(ALIAS_HOPS):
            if state is None or state.alias_to is None:
                break
            user_id = state.alias_to
            state = await self._reads.read_user(user_id, partition_of(user_id, self._partitions))
        return user_id, state
