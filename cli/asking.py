"""Asking a running service over HTTP: connections that are kept alive, answers that are timed."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np

from engine.errors import KairosError

TRIES = 10  # of an answer that came degraded since the machine, not the release, was at fault
PASSING = ("store", "deadline")
MOST_EVENTS = 1000  # of one request
TIMEOUT_S = 60.0
READY_S = 30.0

Answer = dict[str, Any]


class Busy(KairosError):
    """A 503, or a 408 of the edge: ask again in a second."""


class Service:
    """One running service; every thread has a connection of its own."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._mine = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self.asked_again: list[str] = []  # reasons of degraded answers that were asked for again

    def post(self, path: str, body: Any) -> Any:
        """The answer's JSON; raises KairosError for any status but success, Busy for 408, 503."""
        connection = self._connection()
        raw = msgspec.json.encode(body)
        try:
            connection.request("POST", path, raw, {"content-type": "application/json"})
            answer = connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # it opens again with the next request
            raise
        if answer.status in (408, 503):
            raise Busy(f"POST {path}: {told.decode(errors='replace')}")
        if answer.status >= 300:
            raise KairosError(f"POST {path}: {answer.status}: {told.decode(errors='replace')}")
        return msgspec.json.decode(told)

    def recommend(self, user_id: str, size: int, **more: Any) -> Answer:
        """What the release would show, without exploration, logging nothing.

        Raises KairosError where the answer is not the release's own.
        """
        body = {"user_id": user_id, "size": size, "explore": False, "dry_run": True} | more
        attempts = 0
        while True:
            attempts += 1
            try:
                answer: Answer = self.post("/v1/recommend", body)
            except Busy:
                if attempts == TRIES:
                    raise
                self.asked_again.append("busy")
                time.sleep(1)
                continue
            degraded = answer.get("degraded")
            if degraded is None:
                return answer
            if degraded not in PASSING or attempts == TRIES:
                raise KairosError(f"expected the release's answer, got {degraded!r}: {body}")
            self.asked_again.append(degraded)
            time.sleep(0.02 * attempts)

    def send(self, events: Sequence[Mapping[str, Any]], wait: bool = True) -> None:
        """Send live events, by default until they count; raises KairosError if one is rejected."""
        path = "/v1/events?wait=folded" if wait else "/v1/events"
        for start in range(0, len(events), MOST_EVENTS):
            told = self._sent(path, events[start : start + MOST_EVENTS])
            if told["rejected"]:
                raise KairosError(f"an event was rejected: {told['rejected'][0]}")
            if wait and not told["folded"]:
                raise KairosError("events were not folded in time")

    def _sent(self, path: str, events: Sequence[Mapping[str, Any]]) -> Any:
        """Sent again while the service is busy, as its 503 asks: an event counts once."""
        for _ in range(TRIES - 1):
            try:
                return self.post(path, events)
            except Busy:
                time.sleep(1)
        return self.post(path, events)

    def close(self) -> None:
        """Close the connections of every thread."""
        for connection in self._all:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if found is None:
            found = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
            self._mine.connection = found
            self._all.append(found)
        return found


def answering(url: str) -> Service:
    """The service, once it answers with a release: its edge learns of its routes after it is up."""
    service = Service(url)
    deadline = time.monotonic() + READY_S
    while True:
        try:
            service.recommend("nobody", 1)
            return service
        except (KairosError, OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def item_ids(answer: Answer) -> list[str]:
    """What an answer shows, in slot order."""
    return [item["item_id"] for item in answer["items"]]


def ask_all(
    ask: Callable[[int], Any], numbers: Iterable[int], threads: int
) -> tuple[list[Any], dict[str, float]]:
    """`ask` of every number, side by side; the answers in order, and how fast they came."""
    took: list[float] = []

    def timed(number: int) -> Any:
        started = time.perf_counter()
        answer = ask(number)
        took.append(time.perf_counter() - started)
        return answer

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(timed, numbers))
    seconds = time.perf_counter() - started
    return answers, {"requests_per_s": round(len(took) / seconds, 1)} | percentiles_ms(took)


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest of some durations, in milliseconds."""
    found = np.percentile(np.array(seconds) * 1000, (50, 99, 100)).round(2).tolist()
    return dict(zip(("p50_ms", "p99_ms", "max_ms"), found, strict=True))
