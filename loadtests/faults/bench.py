"""A service to break: a store of its own behind a relay, people and items in it, steady traffic."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loadtests.relay import Relay
from loadtests.service import Service
from loadtests.steady import ITEM, Answer, Seen, Steady
from loadtests.store import Store

ITEMS, USERS = 200, 100
DEADLINE_MS = {"recommend": 200.0, "page": 200.0, "events": 500.0}  # of DESIGN.md, section 5
READS = ("recommend", "page")
SETTLE_S = 60.0
NORMAL_S = 5.0  # after a fault is over, all is to be as before within it
REFUSED = {429, 503}


@dataclass(slots=True)
class Bench:
    """What a fault is done to."""

    service: Service
    relay: Relay
    store: Store
    rates: dict[str, float]
    users: list[str] = field(default_factory=lambda: [f"steady-{n}" for n in range(USERS)])

    @contextmanager
    def traffic(self) -> Iterator[Steady]:
        """Steady requests of all kinds, well under way."""
        with Steady(self.service.url, self.users, self.rates) as steady:
            until(lambda: len(steady.answers) > 20, "traffic begins")
            yield steady

    def totals(self) -> dict[str, int]:
        """Clicks of each person, as the service tells them."""
        with httpx.Client(base_url=self.service.url, timeout=30, trust_env=False) as client:
            found = {}
            for user in self.users:
                answer = client.get(f"/v1/users/{user}")
                while answer.status_code == 503:  # a busy store answers late
                    time.sleep(0.1)
                    answer = client.get(f"/v1/users/{user}")
                answer.raise_for_status()
                found[user] = int(answer.json()["counters"].get("click", 0))
        return found

    def lost(self, steady: Steady, before: dict[str, int]) -> int:
        """Acknowledged events that no state knows of, once the fold has had time."""

        def missing() -> int:
            now = self.totals()
            told = steady.acknowledged.items()
            return sum(max(count - (now[user] - before[user]), 0) for user, count in told)

        with contextlib.suppress(TimeoutError):
            until(lambda: missing() == 0, "all that was acknowledged is folded", SETTLE_S)
        return missing()


@contextmanager
def bench(
    home: Path, rates: dict[str, float], dev: bool, proxy: str = "haproxy", replicas: int = 2
) -> Iterator[Bench]:
    """A service that is up, with people and items; gone afterwards."""
    with Store(home / "store") as store, Relay("127.0.0.1", store.port) as relay:
        url = f"redis://127.0.0.1:{relay.port}/0"
        with Service(home / "kairos", {"REDIS_URL": url, "PROXY": proxy}, dev) as service:
            service.home.mkdir()
            service.settings_file.write_text(f"replicas = {replicas}\n")
            service.start()
            made = Bench(service, relay, store, rates)
            _fill(made)
            yield made
            service.stop()


def _fill(made: Bench) -> None:
    items = [ITEM, *(f"item-{n}" for n in range(ITEMS))]
    attributes = {"title": "One", "categories": ["things"]}
    events: list[dict[str, Any]] = [
        {"type": "item", "item_id": item, "attributes": attributes, "ts": time.time()}
        for item in items
    ]
    events += [
        {"type": "interaction", "event_id": f"first-{user}", "user_id": user, "action": "click"}
        | {"item_id": items[number % ITEMS + 1], "ts": time.time()}
        for number, user in enumerate(made.users)
    ]
    with httpx.Client(base_url=made.service.url, timeout=60, trust_env=False) as client:
        answer = client.post("/v1/events?wait=folded", json={"events": events})
        assert answer.status_code == 202, answer.text
        assert not answer.json()["rejected"], answer.text

        def recommends() -> bool:
            told = client.post("/v1/recommend", json={"user_id": made.users[0], "size": 10})
            return told.status_code == 200 and len(told.json()["items"]) == 10

        until(recommends, "items can be recommended")


def until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for it; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


@dataclass(slots=True)
class Outcome:
    """What was seen, and which of the things that must hold did.

    `checks` are true whatever the machine; `timing` holds on a machine that does nothing else.
    """

    checks: dict[str, bool] = field(default_factory=dict)
    timing: dict[str, bool] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        return all(self.checks.values()) and all(self.timing.values())


def plainer(answer: Answer) -> bool:
    """Whether an answer says that something is missing, but for models: there were none."""
    return answer.degraded not in (None, "no_release")


def reads_stood(
    outcome: Outcome, answers: list[Answer], least: float = 0.999, degraded: bool = True
) -> None:
    """Reads during a fault: answered, in time, and saying that they are plainer ones."""
    for kind in READS:
        of = [one for one in answers if one.kind == kind]
        good = sum(one.status == 200 for one in of)
        outcome.figures[f"{kind}_during"] = told = Seen.of(of)
        outcome.checks[f"{kind}: {least:.1%} answered with 200"] = good >= least * len(of) > 0
        outcome.timing[f"{kind}: p99 within {DEADLINE_MS[kind]:g} ms"] = (
            told.p99_ms <= DEADLINE_MS[kind]
        )
        if degraded:
            share = sum(plainer(one) for one in of) / max(len(of), 1)
            outcome.figures[f"{kind}_degraded"] = round(share, 3)
            outcome.checks[f"{kind}: says that it is degraded"] = share > 0.5


def ingest_refused(outcome: Outcome, answers: list[Answer]) -> None:
    """Ingest during a fault: told to come back, in time."""
    of = [one for one in answers if one.kind == "events"]
    outcome.figures["events_during"] = told = Seen.of(of)
    refused = sum(one.status in REFUSED for one in of)
    outcome.checks["events: refused with 429 or 503"] = refused == len(of) > 0
    outcome.timing[f"events: p99 within {DEADLINE_MS['events']:g} ms"] = (
        told.p99_ms <= DEADLINE_MS["events"]
    )


def back_to_normal(outcome: Outcome, steady: Steady, over: float) -> None:
    """How long after a fault the last answer came that was refused, degraded or missing."""
    good = {"recommend": 200, "page": 200, "events": 202}
    late = [
        one.due - over for one in steady.since(over) if one.status != good[one.kind] or plainer(one)
    ]
    outcome.figures["normal_after_s"] = round(max(late, default=0.0), 1)
    outcome.timing[f"normal within {NORMAL_S:g} s"] = max(late, default=0.0) <= NORMAL_S
