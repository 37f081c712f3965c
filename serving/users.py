"""Reading a user's state on the request path: one round trip, one more per alias."""

from __future__ import annotations

from engine.ids import partition_of
from engine.redis_store import AsyncRedisStore
from engine.state import UserState

ALIAS_HOPS = 8


class Users:
    """Where requests read users; see engine.pipeline.Users."""

    def __init__(self, reads: AsyncRedisStore) -> None:
        self._reads = reads
        self._partitions = reads.settings.partitions

    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        """The id that aliases lead to, and its state; raises StoreUnavailable."""
        state = await self._reads.read_user(user_id, partition_of(user_id, self._partitions))
        for _ in range(ALIAS_HOPS):
            if state is None or state.alias_to is None:
                break
            user_id = state.alias_to
            state = await self._reads.read_user(user_id, partition_of(user_id, self._partitions))
        return user_id, state
