"""A service under fire: bytes that are almost HTTP, a store that hangs, keys that ask too often."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from loadtests import raw_bytes
from serving.http import Role
from serving.keys import create_key, revoke_keys

Make = Callable[..., dict[str, Any]]
Eventually = Callable[..., Any]
IN_FLIGHT = 3


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, running: Any) -> Iterator[Any]:
    limits = {"KAIROS_IN_FLIGHT": str(IN_FLIGHT), "KAIROS_BATCH_DEADLINE_MS": "2000"}
    with running(tmp_path_factory.mktemp("limits") / "home", limits) as started:
        yield started
        log = started.log.read_text(errors="replace")
        assert "Traceback" not in log, log[-6000:]


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


@contextlib.contextmanager
def frozen(service: Any) -> Iterator[None]:
    """Its store is there and answers nothing."""
    pid = service.store_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_bytes_that_are_almost_http(service: Any) -> None:
    found = raw_bytes.run(service.url, 400, seed=7)
    assert found.wrong == []
    assert len(found.routes) == 22
    assert found.outcomes["200"] > 20
    assert found.outcomes["400"] > 100


def test_more_decisions_than_fit_are_turned_away_at_once(
    service: Any, client: httpx.Client, metric: Callable[[str], float], eventually: Eventually
) -> None:
    told = threading.Event()
    answers: list[httpx.Response] = []

    def ask(number: int) -> httpx.Response:
        answer = client.post("/v1/recommend", json={"user_id": f"u{number}"})
        answers.append(answer)
        if len(answers) >= 5:
            told.set()
        return answer

    with ThreadPoolExecutor(5 + IN_FLIGHT) as threads:
        with frozen(service):  # those that got in wait for it, and are answered nothing before
            calls = [threads.submit(ask, number) for number in range(5 + IN_FLIGHT)]
            assert told.wait(9), "less than the store's timeout"
            turned = list(answers)
        done = [call.result() for call in calls]
    assert Counter(answer.status_code for answer in done) == {200: IN_FLIGHT, 503: 5}
    for answer in turned:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"] == "urn:kairos:problem:overloaded"
    assert client.post("/v1/recommend", json={"user_id": "u"}).status_code == 200
    eventually(lambda: metric('kairos_overloaded_total{reason="decide"}') >= 5)


def test_events_that_miss_their_deadline_are_not_acknowledged(
    service: Any, client: httpx.Client, act: Make, eventually: Eventually
) -> None:
    events = [act("late-events") for _ in range(3)]
    with frozen(service):
        answer = client.post("/v1/events", json=events)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:kairos:problem:timeout"
    assert client.post("/v1/events?wait=folded", json=events).json()["folded"]
    eventually(
        lambda: client.get("/v1/users/late-events").json().get("counters"),
        lambda counters: counters == {"view": 3},
    )


def test_a_key_of_so_many_requests_a_second(
    service: Any, client: httpx.Client, eventually: Eventually
) -> None:
    store = service.store()
    slow = create_key(store, "slow", Role.SERVE, rate=0.001, burst=3)
    free = create_key(store, "free", Role.SERVE)

    def ask(key: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return client.post("/v1/recommend", json={"user_id": "u"}, headers=headers)

    try:
        eventually(lambda: ask("wrong").status_code == 401)
        eventually(lambda: ask(free).status_code == 200)
        answers = [ask(slow) for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 7
        left = [answer.headers["ratelimit"].partition(";t=") for answer in answers[:4]]
        assert [policy for policy, _, _ in left] == [f'"key";r={r}' for r in (2, 1, 0, 0)]
        waits = [int(reset_s) for _, _, reset_s in left]
        assert waits == pytest.approx([1000, 2000, 3000, 1000], abs=60)  # however slow we are
        assert answers[3].headers["retry-after"] == str(waits[3])
        others = [ask(free) for _ in range(10)]
        assert {answer.status_code for answer in others} == {200}
        assert "ratelimit" not in others[0].headers
    finally:
        for name in ("slow", "free"):
            revoke_keys(store, name)
        store.close()
