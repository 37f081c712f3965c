"""Steady traffic, open loop: requests leave when they are due, whether or not others came back.

A request's time counts from when it was due, so a service that stands still shows as late answers,
not as fewer of them (Tene, "How NOT to Measure Latency"). One thread, a few hundred a second.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

TIMEOUT_S = 30.0
NO_ANSWER = 0  # instead of a status


class Answer(NamedTuple):
    """One request's fate; times are seconds of the monotonic clock."""

    kind: str
    due: float
    took: float
    status: int  # NO_ANSWER: the connection broke, or nothing came
    degraded: str | None


@dataclass(slots=True)
class Steady:
    """Asks a service at fixed rates by kind until it is stopped; a context manager."""

    url: str
    users: Sequence[str]
    rates: dict[str, float]  # kind -> requests a second
    seed: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    acknowledged: Counter[str] = field(default_factory=Counter)  # events by user
    run: str = field(default_factory=lambda: f"{time.time_ns():x}")
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Steady:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        assert self._thread is not None
        self._thread.join()

    def since(self, begin: float, end: float = float("inf"), kind: str = "") -> list[Answer]:
        """Answers to requests that were due in a stretch."""
        return [
            one
            for one in list(self.answers)
            if begin <= one.due < end and (not kind or one.kind == kind)
        ]

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        async with (
            httpx.AsyncClient(
                base_url=self.url, timeout=TIMEOUT_S, limits=limits, headers=self.headers
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for number, (kind, rate) in enumerate(self.rates.items()):
                group.create_task(self._one_kind(client, group, kind, rate, number))

    async def _one_kind(
        self,
        client: httpx.AsyncClient,
        group: asyncio.TaskGroup,
        kind: str,
        rate: float,
        number: int,
    ) -> None:
        rng, begin = random.Random(self.seed * 1000 + number), time.monotonic()
        for count in itertools.count():
            due = begin + count / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if self._stopping.is_set():
                return
            body = BODIES[kind](rng.choice(self.users), f"{self.run}-{number}-{count}")
            group.create_task(self._ask(client, kind, due, body))

    async def _ask(
        self, client: httpx.AsyncClient, kind: str, due: float, body: dict[str, Any]
    ) -> None:
        status, degraded = NO_ANSWER, None
        try:
            answer = await client.post(PATHS[kind], json=body)
            status = answer.status_code
            if status == 200:
                degraded = json.loads(answer.content).get("degraded")
            if kind == "events" and status == 202:
                self.acknowledged[body["events"][0]["user_id"]] += 1
        except (httpx.HTTPError, ValueError):
            pass
        took = time.monotonic() - due
        self.answers.append(Answer(kind, due, took, status, degraded))


def _recommend(user_id: str, name: str) -> dict[str, Any]:
    return {"user_id": user_id, "size": 10}


def _page(user_id: str, name: str) -> dict[str, Any]:
    return {"user_id": user_id, "surface": "home", "modules": 5, "items_per_module": 5}


def _events(user_id: str, name: str) -> dict[str, Any]:
    event = {"type": "interaction", "event_id": name, "user_id": user_id, "action": "click"}
    return {"events": [event | {"item_id": ITEM, "ts": time.time()}]}


ITEM = "steady-item"  # whose total every acknowledged event raises by one
PATHS = {"recommend": "/v1/recommend", "page": "/v1/page", "events": "/v1/events"}
BODIES: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "recommend": _recommend,
    "page": _page,
    "events": _events,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What answers were like; times in ms."""

    count: int
    statuses: dict[str, int]
    degraded: dict[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Seen:
        """Of some; no answers take no time."""
        took = sorted(one.took * 1000 for one in answers)
        statuses = Counter(str(one.status or "none") for one in answers)
        degraded = Counter(one.degraded for one in answers if one.degraded)
        at = [took[min(int(len(took) * q), len(took) - 1)] if took else 0.0 for q in (0.5, 0.99, 1)]
        told = dict(sorted(statuses.items())), dict(sorted(degraded.items()))
        return cls(len(took), *told, *(round(ms, 1) for ms in at))
