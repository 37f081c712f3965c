"""Reading users on the request path: while the store is gone, few requests wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from engine.errors import StoreUnavailable
from engine.redis_store import AsyncRedisStore
from engine.settings import Settings
from engine.state import UserState
from loadtests.relay import Relay
from loadtests.store import Store
from serving.users import ENOUGH, RETRY_S, Users


class Counted(Users):
    """Counts how often the store is asked."""

    asked = 0

    async def _read(self, user_id: str) -> tuple[str, UserState | None]:
        self.asked += 1
        return await super()._read(user_id)


def test_a_store_that_says_nothing_is_asked_by_few(tmp_path: Path) -> None:
    async def run(relay: Relay) -> None:
        url = f"redis://127.0.0.1:{relay.port}/0"
        patient = Settings(redis_url=url, read_timeout_ms=5000)
        store = AsyncRedisStore(patient, (False, False))
        users = Counted(store, 0.1)

        async def refused() -> None:
            with pytest.raises(StoreUnavailable):
                await users.read_user("u")

        await answered(users)  # the first has to connect
        relay.swallow()
        began, before = time.monotonic(), users.asked
        for _ in range(40):
            await refused()
        most = ENOUGH + 1 + (time.monotonic() - began) / RETRY_S
        assert ENOUGH <= users.asked - before <= most < 40
        relay.pass_on()
        await answered(users)
        await store.close()

    with Store(tmp_path / "store") as server, Relay("127.0.0.1", server.port) as relay:
        asyncio.run(asyncio.wait_for(run(relay), 60))


async def answered(users: Users) -> None:
    for _ in range(500):
        with contextlib.suppress(StoreUnavailable):
            assert await users.read_user("u") == ("u", None)
            return
        await asyncio.sleep(RETRY_S / 5)
    raise AssertionError("the store does not answer")
