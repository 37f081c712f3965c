"""A process that looks at held messages and delivers them, and stops where it is told to be killed.

Its decider is scripted by message_id: `hold…` is held for a moment once, all others are sent.
Run as `python outbox_worker.py STORE WEBHOOK SECRET WHERE`; it says `here` when it is there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from engine.push import Asked, Decided
from engine.push_message import Chance, PushDecision, Reason
from engine.push_outbox import Outbox
from engine.redis_store import AsyncRedisStore
from engine.settings import Settings
from engine.situation import Moment
from serving.metrics import Metrics
from serving.outbox_acks import Acknowledgements
from serving.outbox_delivering import Deliverer
from serving.outbox_looking import Looker
from serving.webhook import Webhook, webhook_of

LOOK_MS = 400
POST_S = 0.4
HOLD_MS = 1000
RESERVED_MS = 60_000


async def here() -> None:
    """To be killed now."""
    print("here", flush=True)
    await asyncio.Event().wait()


class Scripted:
    """Decides the same again as long as a decision lasts, as the ledgers do."""

    def __init__(self) -> None:
        self._held: set[str] = set()

    async def confirm(self, went_out: Sequence[tuple[str, str]]) -> None:
        """No ledger is kept."""

    async def decide(self, asked: Sequence[Asked]) -> list[Decided]:
        return [self._one(one) for one in asked]

    def _one(self, asked: Asked) -> Decided:
        now, name = int(time.time() * 1000), asked.message.message_id
        hold = name.startswith("hold") and name not in self._held
        self._held.add(name)
        decision = PushDecision(
            decision_id=f"d-{asked.user_id}",
            message_id=name,
            action="hold" if hold else "send",
            reasons=[Reason("scripted", "as the test wants it")],
            at_ms=now,
            expires_ms=asked.message.expires_ms,
            chance=Chance(send=1.0),
            hold_until_ms=now + HOLD_MS if hold else None,
            reserved_until_ms=None if hold else now + RESERVED_MS,
        )
        moment: Moment = None  # type: ignore[assignment]
        return Decided(asked, asked.user_id, decision, moment, 0, [], None, "")


class Stopping(Outbox):
    """Stops after a step was written, or before."""

    where = ""

    async def settle(self, *told: Any) -> int:
        if self.where == "decided":
            await here()
        done = await super().settle(*told)
        if self.where == "settled":
            await here()
        return done

    async def ack(self, claim_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        if self.where == "delivered":
            await here()
        return await super().ack(claim_ids)


def hook(settings: Settings, to: Any) -> Webhook:
    """The webhook to whatever has an address and a secret."""
    told = {"push_webhook_url": to.url, "push_webhook_secret": to.secret}
    named = msgspec.structs.replace(settings, **told, push_webhook_timeout_s=POST_S)
    found = webhook_of(named)
    assert found is not None
    return found


async def work(url: str, webhook_url: str, secret: str, where: str) -> None:
    settings = Settings(redis_url=url, store_timeout_ms=20_000)
    store = AsyncRedisStore(settings, (False, False))
    outbox = Stopping(store)
    outbox.where = where
    webhook = hook(settings, SimpleNamespace(url=webhook_url, secret=secret))
    looker = Looker(outbox, Scripted(), lease_ms=LOOK_MS)
    deliverer = Deliverer(outbox, Acknowledgements(outbox, Scripted()), webhook, Metrics())
    await looker.start()
    if where != "settled":
        await deliverer.start()
    try:
        await asyncio.Event().wait()
    finally:
        await looker.stop()
        await deliverer.stop()
        await store.close()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
