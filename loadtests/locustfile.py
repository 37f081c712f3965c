"""Locust with an open loop: one of its users sends everybody's requests, each when it is due.

    locust -f loadtests/locustfile.py --headless --host URL --people FILE --plan PLAN --record DIR

Without --headless locust's page at :8089 starts it and shows it as it runs. `loadtests.load` does
the former and writes a report of it. Locust's own users wait for an answer before they ask again;
here a request that is due is sent whatever became of the others (loadtests.schedule). One process:
several would each run the whole plan.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.pool import Group
from geventhttpclient import HTTPClient
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner

from loadtests.people import read_town
from loadtests.record import NO_ANSWER, Record
from loadtests.schedule import arrivals, read_plan, seconds_of
from loadtests.traffic import KINDS, MIX, Call, Traffic

CONNECTIONS = 500
PATIENCE_S = 10.0  # with an answer; longer nobody waits
EVERY = 50  # calls sent in a row before answers are looked at
PROBLEM = re.compile(rb'"type":"urn:kairos:problem:([a-z-]+)"')
DEGRADED = re.compile(rb'"degraded":"([a-z_]+)"')


def add_options(parser: LocustArgumentParser) -> None:
    """Ours, beside locust's own."""
    add = parser.add_argument
    add("--people", required=True, help="JSON Lines of `kairos simulate`")
    add("--plan", default="ramp:30@1-20,steady:60@20", help="name:seconds@rate-rate,…")
    add("--record", default="", help="folder for what became of each request")
    add("--mix", default="", help="page=30,recommend=40,events=29,push=1")
    add("--seed", type=int, default=1)
    add("--key", default="", help="API key", is_secret=True)


events.init_command_line_parser.add_listener(add_options)


def check(environment: Environment, **_: Any) -> None:
    """Refuse what would run the plan more than once."""
    if not isinstance(environment.runner, LocalRunner):
        raise SystemExit("expected a single process: each would send the whole plan")


events.init.add_listener(check)


class Whole(LoadTestShape):
    """The one user, until its plan is over."""

    over = False

    def reset_time(self) -> None:
        """The page may start it again."""
        super().reset_time()  # type: ignore[no-untyped-call]
        Whole.over = False

    def tick(self) -> tuple[int, float] | None:
        return None if Whole.over else (1, 1)


class Everybody(User):
    """Sends what is due."""

    fixed_count = 1

    @task
    def day(self) -> None:
        """The whole plan, from its first arrival to its last answer."""
        options = self.environment.parsed_options
        assert options is not None
        plan = read_plan(options.plan)
        seconds = seconds_of(plan)
        traffic = Traffic(read_town(Path(options.people)), seconds, options.seed, mix(options.mix))
        sender = Sender(self.environment, str(self.host), options.key, traffic)
        sender.record.told = {"plan": options.plan, "seed": options.seed, "mix": options.mix}
        gc.freeze()  # a collection that walks the town holds up what is due
        sender.begin()
        for number, (due_s, stage) in enumerate(arrivals(plan, options.seed)):
            if (pause_s := due_s - sender.now()) > 0 or number % EVERY == 0:
                gevent.sleep(max(pause_s, 0))
            sender.send(due_s, stage)
        gevent.sleep(max(seconds - sender.now(), 0))
        sender.finish()
        if options.record:
            sender.record.save(Path(options.record))
        self.environment.process_exit_code = 0  # failed requests are the report's to judge
        Whole.over = True
        raise StopUser


class Sender:
    """Connections, requests on their way, and the record of those that came back."""

    def __init__(self, environment: Environment, url: str, key: str, traffic: Traffic) -> None:
        parts = urlsplit(url)
        self._client = HTTPClient(
            parts.hostname or "127.0.0.1",
            parts.port or 80,
            concurrency=CONNECTIONS,
            connection_timeout=PATIENCE_S,
            network_timeout=PATIENCE_S,
        )
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._fire: Callable[..., None] = environment.events.request.fire
        self._traffic = traffic
        self._group = Group()
        self._started = 0.0
        self.record = Record()

    def begin(self) -> None:
        """The schedule's zero is now."""
        self._started = time.perf_counter()
        self.record.told["started"] = time.time()

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    def send(self, due_s: float, stage: int) -> None:
        """Begin a request and do not wait for it."""
        self._group.spawn(self._run, self._traffic.next(due_s), due_s, stage)

    def finish(self) -> None:
        """Wait for the last answers."""
        self._group.join(2 * PATIENCE_S)
        self._client.close()

    def _run(self, call: Call, due_s: float, stage: int) -> None:
        late_ms = (self.now() - due_s) * 1000
        status, why, raw = self._post(call)
        took_ms = (self.now() - due_s) * 1000
        kind = KINDS.index(call.kind)
        self.record.add(due_s, late_ms, took_ms, stage, kind, status, why)
        if status == 200 and call.kind in ("page", "recommend"):
            self._traffic.learn(call, raw)
        self._fire(
            request_type="POST",
            name=call.path,
            response_time=took_ms,
            response_length=len(raw),
            exception=None if 200 <= status < 300 else RuntimeError(why),
            context={},
        )

    def _post(self, call: Call) -> tuple[int, str, bytes]:
        """Status, why it failed or is degraded, and the body."""
        try:
            with gevent.Timeout(PATIENCE_S):
                answer = self._client.request("POST", call.path, call.body, self._headers)
                raw = bytes(answer.read())
        except (Exception, gevent.Timeout) as error:
            return NO_ANSWER, f"no answer: {type(error).__name__}", b""
        status = int(answer.status_code)
        if 200 <= status < 300:
            found = DEGRADED.search(raw)
            return status, f"degraded: {found[1].decode()}" if found else "", raw
        problem = PROBLEM.search(raw)
        why = f"{status} {problem[1].decode() if problem else 'of the proxy'}"
        if status in (429, 503) and answer.get("retry-after") is None:
            why += ", without Retry-After"
        return status, why, raw


def mix(text: str) -> dict[str, float]:
    """`page=30,recommend=40`; the usual one where nothing is said."""
    if not text:
        return MIX
    parts = (part.partition("=") for part in text.split(","))
    return {name: float(share) for name, _, share in parts}
