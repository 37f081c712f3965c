"""Held messages as one part of a deciding process: handlers, who looks, who delivers."""

from __future__ import annotations

from collections.abc import Callable

from engine.actions import Actions
from engine.push_outbox import Outbox
from engine.redis_store import AsyncRedisStore
from serving.http import Route
from serving.metrics import Metrics
from serving.outbox import OutboxHandler, outbox_routes
from serving.outbox_acks import Acknowledgements
from serving.outbox_delivering import Deliverer
from serving.outbox_looking import Looker
from serving.push import Pusher
from serving.webhook import webhook_of


class HeldMessages:
    """`start` and `stop` run on the loop; raises SettingsError for a webhook that cannot be."""

    def __init__(
        self,
        store: AsyncRedisStore,
        pusher: Pusher,
        actions: Actions,
        pressure: Callable[[], str | None],
        metrics: Metrics,
    ) -> None:
        outbox = Outbox(store)
        acks = Acknowledgements(outbox, pusher)
        webhook = webhook_of(store.settings)
        self._looker = Looker(outbox, pusher)
        self._deliverer = None if webhook is None else Deliverer(outbox, acks, webhook, metrics)
        self._handler = OutboxHandler(outbox, acks, actions, self._looker.wake, pressure)

    def routes(self) -> list[Route]:
        """`/v1/push/outbox` and below."""
        return outbox_routes(self._handler)

    async def start(self) -> None:
        await self._looker.start()
        if self._deliverer is not None:
            await self._deliverer.start()

    async def stop(self) -> None:
        await self._looker.stop()
        if self._deliverer is not None:
            await self._deliverer.stop()
