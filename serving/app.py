"""The HTTP applications, built from their parts: ingest, decisions, or both in one process."""

from __future__ import annotations

import asyncio
import sys

from threadpoolctl import threadpool_limits

from engine.archive import Archive
from engine.events import Event
from engine.profile import UserProfile
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.rows import RowFiles
from engine.settings import Settings
from engine.stamp import Stamper
from models.registry import open_registry
from serving.admission import APPENDS, BATCHES, HELD, LOOKS, Lane
from serving.answering import Decided
from serving.configuration import ConfigurationWatch, read_configuration
from serving.deciding import Deciding
from serving.decision_log import DecisionLog
from serving.decisions import Decisions, decision_routes
from serving.erasure import Receipt
from serving.follow import Follower
from serving.garbage import settle_memory
from serving.http import MIB, AsgiApp, Role, Route, in_lane
from serving.ingest import Accepted, Ingest
from serving.looking import ItemView, Looking, Readiness
from serving.metrics import Metrics
from serving.openapi import documentation
from serving.outbox_service import HeldMessages
from serving.page import PageAnswer, PageBody, PageHandler
from serving.people import StorePeople
from serving.push import DocumentedScoreBody, Pusher, PushHandler, Scored
from serving.rates import Rates
from serving.recommend import Recommend, RecommendBody, Recommended
from serving.situations import SituationHandler, SituationNow
from serving.timing import timed
from serving.users import Users

VERSION = "0.1.0"
SWITCH_S = 0.0005
INGEST = frozenset({Role.INGEST})
SERVE = frozenset({Role.SERVE})
ADMIN: frozenset[Role] = frozenset()


class Process:
    """What every serving process holds; `settings.redis_url` is set."""

    def __init__(self, settings: Settings, counters: bool) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.actions, self.configuration = read_configuration(settings)
        self.store = RedisStore.connect(settings)
        self.reads = AsyncRedisStore(settings, self.store.clustered())
        store = RedisStore.connect(settings)  # the follower's thread's own
        self.follower = Follower(store, self.metrics, counters, self.actions)

    def lane(self, name: str, width: int) -> Lane:
        """A lane whose refusals are counted."""
        return Lane(name, width, lambda name: self.metrics.count("overloaded", name))

    async def start(self) -> None:
        self.follower.start()

    async def stop(self) -> None:
        self.follower.stop()
        await self.reads.close()


class Deciders:
    """What a process holds that decides and looks."""

    def __init__(self, process: Process) -> None:
        settings, follower, metrics = process.settings, process.follower, process.metrics
        users = Users(process.reads, settings.deadline_ms / 2000)  # the other half is for deciding
        self.deciding = Deciding(
            process.actions,
            process.configuration,
            users,
            follower.catalog,
            open_registry(settings),
            metrics,
            follower.modules,
            ConfigurationWatch(settings, process.configuration),
        )
        self.log = DecisionLog(
            process.reads,
            RowFiles(settings.rows_path),
            follower,
            process.configuration.recommending.rows.not_shown,
            metrics,
        )
        self.decisions = Decisions(process.store, Archive(settings.archive_path), follower.catalog)
        decided = Decided(settings.partitions, self.log, metrics)
        self.recommend = Recommend(self.deciding.parts, decided)
        self.page = PageHandler(self.deciding.page_parts, decided)
        people = StorePeople(process.reads)
        pusher = Pusher(people, self.deciding.push_parts, self.log.offer_push)
        self.push = PushHandler(
            # The rest is for the way there, for lots that are late, and for the answer.
            pusher,
            process.actions,
            decided.device,
            0.8 * settings.batch_deadline_ms / 1000,
        )
        self.held = HeldMessages(
            process.reads, pusher, process.actions, lambda: follower.pressure, metrics
        )
        self.looking = Looking(process.store, people, follower, self.deciding)
        self.situations = SituationHandler(self.deciding.parts, users)

    async def start(self) -> None:
        # BLAS would share one request's 0.2 ms among all cores, which costs ten times as much.
        threadpool_limits(1)
        await asyncio.to_thread(self.deciding.start)
        settle_memory()
        # How long a request may wait for a background thread to give up Python's lock; 5 ms else.
        sys.setswitchinterval(SWITCH_S)
        await self.log.start()
        await self.held.start()

    async def stop(self) -> None:
        await self.held.stop()
        self.deciding.stop()
        await self.log.stop()


def ingest_routes(process: Process) -> list[Route]:
    """The application that takes events."""
    settings = process.settings
    stamper = Stamper(
        process.actions, process.follower.catalog, settings.partitions, settings.late_days
    )
    lane = process.lane("ingest", APPENDS)
    ingest = Ingest(stamper, process.reads, process.follower, process.metrics, lane)
    return [
        Route(
            "POST",
            "/v1/events",
            timed(ingest.post_events),
            INGEST,
            max_body=8 * MIB,
            nests=True,
            summary="Append events: one, a list of up to 1,000, or {sent_at, events}",
            query={"wait": "folded: answer when the events count"},
            request_type=list[Event],
            response_type=Accepted,
        )
    ]


def decide_routes(process: Process, deciders: Deciders) -> list[Route]:
    """The application that decides and looks."""
    settings, looking = process.settings, deciders.looking
    single_s, batch_s = settings.deadline_ms / 1000, settings.batch_deadline_ms / 1000
    one_by_one = process.lane("decide", settings.in_flight)
    batches = process.lane("push", BATCHES)
    deciding = [
        Route("POST", "/v1/recommend", timed(deciders.recommend.post_recommend), SERVE,
              lane=one_by_one, deadline_s=single_s,
              summary="Decide which items to show",
              request_type=RecommendBody, response_type=Recommended),
        Route("POST", "/v1/page", timed(deciders.page.post_page), SERVE,
              lane=one_by_one, deadline_s=single_s,
              summary="Decide which modules a home screen carries, and with which items",
              request_type=PageBody, response_type=PageAnswer),
        Route("POST", "/v1/push/score", timed(deciders.push.post_score), SERVE, max_body=8 * MIB,
              lane=batches, deadline_s=batch_s,
              summary="Send now, hold until a better moment, or drop: up to 1,000 messages",
              request_type=DocumentedScoreBody, response_type=Scored),
        Route("GET", "/v1/situation/{user_id}", deciders.situations.get_situation, SERVE,
              lane=one_by_one, deadline_s=single_s,
              summary="What a person is in the middle of, and why it is thought so",
              response_type=SituationNow),
    ]  # fmt: skip
    held = in_lane(process.lane("outbox", HELD), deciders.held.routes())
    looks = in_lane(
        process.lane("look", LOOKS), [*decision_routes(deciders.decisions), *looks_at(looking)]
    )
    return [*deciding, *held, *looks, *probes(looking)]


def looks_at(looking: Looking) -> list[Route]:
    """What is known of people and items."""
    return [
        Route("GET", "/v1/users/{user_id}", looking.get_user, ADMIN,
              summary="A user's state", response_type=UserProfile),
        Route("DELETE", "/v1/users/{user_id}", looking.delete_user, ADMIN,
              summary="Erase a person", response_type=Receipt),
        Route("GET", "/v1/erasures/{receipt_id}", looking.get_erasure, ADMIN,
              summary="What became of an erasure", response_type=Receipt),
        Route("GET", "/v1/items/{item_id}", looking.get_item, ADMIN,
              summary="An item, and why it is not shown", response_type=ItemView),
    ]  # fmt: skip


def probes(looking: Looking) -> list[Route]:
    """What machines ask about this one, however much there is to do."""
    return [
        Route("GET", "/healthz", looking.healthz, None, summary="The process lives"),
        Route("GET", "/readyz", looking.readyz, None,
              summary="This replica can answer", response_type=Readiness),
        Route("GET", "/metrics", looking.get_metrics, None, summary="Prometheus text"),
    ]  # fmt: skip


def build(settings: Settings, ingest: bool = True, decide: bool = True) -> AsgiApp:
    """An application with one or both halves; /docs of the deciding one describes the whole."""
    process = Process(settings, counters=decide)  # to number and stamp events takes none
    routes, on_start, on_stop = ingest_routes(process), [process.start], [process.stop]
    if decide:
        deciders = Deciders(process)
        on_start.append(deciders.start)
        on_stop.append(deciders.stop)
        answering = decide_routes(process, deciders)
        described = documentation([*routes, *answering], "Kairos", VERSION)
        routes = [*(routes if ingest else []), *answering, *described]
    return AsgiApp(
        routes,
        process.follower.keyring.authorize,
        on_start=on_start,
        on_stop=on_stop,
        observe=lambda route, status: process.metrics.count("requests", route, str(status)),
        rate=Rates(process.follower.keyring, settings.replicas if decide else 1).take,
    )
