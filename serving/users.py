"""Reading a user's state on the request path: one round trip, one more per alias."""

from __future__ import annotations

import asyncio

from engine.errors import StoreUnavailable
from engine.ids import partition_of
from engine.redis_store import AsyncRedisStore
from engine.state import UserState

ALIAS_HOPS = 8


class Users:
    """Where requests read users; see engine.pipeline.Users.

    `within_s` bounds all trips together, the wait for a connection and second tries among them.
    """

    def __init__(self, reads: AsyncRedisStore, within_s: float | None = None) -> None:
        self._reads = reads
        self._within_s = within_s
        self._partitions = reads.settings.partitions

    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        """The id that aliases lead to, and its state; raises StoreUnavailable."""
        try:
            async with asyncio.timeout(self._within_s):
                return await self._read(user_id)
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time") from None

    async def _read(self, user_id: str) -> tuple[str, UserState | None]:
        state = await self._reads.read_user(user_id, partition_of(user_id, self._partitions))
        for _ in range(ALIAS_HOPS):
            if state is None or state.alias_to is None:
                break
            user_id = state.alias_to
            state = await self._reads.read_user(user_id, partition_of(user_id, self._partitions))
        return user_id, state
