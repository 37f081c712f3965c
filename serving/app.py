"""The HTTP applications, built from their parts: ingest, decisions, or both in one process."""

from __future__ import annotations

from pathlib import Path

from engine.actions import load_actions
from engine.events import Event
from engine.profile import UserProfile
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from engine.stamp import Stamper
from serving.erasure import Receipt
from serving.follow import Follower
from serving.http import MIB, AsgiApp, Role, Route
from serving.ingest import Accepted, Ingest
from serving.looking import ItemView, Looking, Readiness
from serving.metrics import Metrics
from serving.openapi import documentation
from serving.users import Users

VERSION = "0.1.0"
INGEST = frozenset({Role.INGEST})
ADMIN: frozenset[Role] = frozenset()


class Parts:
    """What one serving process holds; `settings.redis_url` is set."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.store = RedisStore.connect(settings)
        self.reads = AsyncRedisStore(settings, self.store.clustered())
        actions = load_actions(Path(settings.actions) if settings.actions else None)
        self.follower = Follower(RedisStore.connect(settings), self.metrics, True, actions)
        stamper = Stamper(
            actions,
            self.follower.catalog,
            settings.partitions,
            settings.late_days,
        )
        self.ingest = Ingest(stamper, self.reads, self.follower, self.metrics)
        self.looking = Looking(self.store, Users(self.reads), self.follower)

    async def start(self) -> None:
        self.follower.start()

    async def stop(self) -> None:
        self.follower.stop()
        await self.reads.close()


def ingest_routes(parts: Parts) -> list[Route]:
    """The application that takes events."""
    return [
        Route(
            "POST",
            "/v1/events",
            parts.ingest.post_events,
            INGEST,
            max_body=8 * MIB,
            summary="Append events: one, a list of up to 1,000, or {sent_at, events}",
            query={"wait": "folded: answer when the events count"},
            request_type=list[Event],
            response_type=Accepted,
        )
    ]


def looking_routes(parts: Parts) -> list[Route]:
    """The application that decides and looks."""
    looking = parts.looking
    return [
        Route("GET", "/v1/users/{user_id}", looking.get_user, ADMIN,
              summary="A user's state", response_type=UserProfile),
        Route("DELETE", "/v1/users/{user_id}", looking.delete_user, ADMIN,
              summary="Erase a person", response_type=Receipt),
        Route("GET", "/v1/erasures/{receipt_id}", looking.get_erasure, ADMIN,
              summary="What became of an erasure", response_type=Receipt),
        Route("GET", "/v1/items/{item_id}", looking.get_item, ADMIN,
              summary="An item, and why it is not shown", response_type=ItemView),
        Route("GET", "/healthz", looking.healthz, None, summary="The process lives"),
        Route("GET", "/readyz", looking.readyz, None,
              summary="This replica can answer", response_type=Readiness),
        Route("GET", "/metrics", looking.get_metrics, None, summary="Prometheus text"),
    ]  # fmt: skip


def build(parts: Parts, ingest: bool = True, looking: bool = True) -> AsgiApp:
    """An application with one or both halves; /docs describes the whole."""
    taking, answering = ingest_routes(parts), looking_routes(parts)
    routes = taking if ingest else []
    if looking:
        routes = routes + answering
        routes = routes + documentation([*taking, *answering], "Kairos", VERSION)
    return AsgiApp(
        routes,
        parts.follower.keyring.authorize,
        on_start=[parts.start],
        on_stop=[parts.stop],
        observe=lambda route, status: parts.metrics.count("requests", route, str(status)),
    )
