"""What clients do: hang up in the middle of everything."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from loadtests.faults.bench import Bench, Outcome
from loadtests.faults.store import Fault

CALLERS = 32
CALLS_PER_S = 300  # about: seconds × this many calls are made
HANG_UP_S = 0.02
PATIENT = 0.3  # of the calls wait for their answer


@dataclass(slots=True)
class Calls:
    """What became of calls."""

    left: int
    statuses: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    others: int = 0  # answers about somebody who was not asked about


def cancelled(bench: Bench, seconds: float) -> Outcome:
    """Calls of which most are cancelled at a random moment: no answer carries another's data."""
    outcome, calls = Outcome(), Calls(round(seconds * CALLS_PER_S))
    outcome.figures["calls"] = calls.left
    asyncio.run(_all(bench, calls))
    outcome.figures |= {"cancelled": calls.cancelled, "statuses": dict(calls.statuses)}
    outcome.checks["no answer is about somebody else"] = calls.others == 0
    outcome.checks["answers came"] = calls.statuses["200"] > 0
    outcome.checks["none failed by itself"] = not any(
        status.startswith("5") and status != "503" for status in calls.statuses
    )
    return outcome


async def _all(bench: Bench, calls: Calls) -> None:
    limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=CALLERS)
    async with httpx.AsyncClient(base_url=bench.service.url, timeout=30, limits=limits) as client:
        await asyncio.gather(*(_caller(bench, client, calls, seed) for seed in range(CALLERS)))


async def _caller(bench: Bench, client: httpx.AsyncClient, calls: Calls, seed: int) -> None:
    rng = random.Random(seed)
    while calls.left > 0:
        calls.left -= 1
        user = rng.choice(bench.users)
        wait_s = None if rng.random() < PATIENT else rng.random() * HANG_UP_S
        try:
            async with asyncio.timeout(wait_s):
                answer = await client.request(**_about(user, rng))
        except TimeoutError:
            calls.cancelled += 1
            continue
        except httpx.HTTPError as error:
            calls.statuses[type(error).__name__] += 1
            continue
        calls.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200 and _whom(answer.json()) != user:
            calls.others += 1


def _about(user: str, rng: random.Random) -> dict[str, Any]:
    """A request whose answer names the person that it is about."""
    if rng.random() < 0.5:
        return {"method": "GET", "url": f"/v1/users/{user}"}
    message = {"message_id": f"m{rng.random()}", "category": "news", "expires_at": 4_000_000_000}
    body = {"requests": [{"user_id": user, "message": message}], "dry_run": True}
    return {"method": "POST", "url": "/v1/push/score", "json": body}


def _whom(answer: dict[str, Any]) -> str:
    told = answer["decisions"][0] if "decisions" in answer else answer
    return str(told["user_id"])


# name -> what is done, for how many seconds
FAULTS: dict[str, tuple[Fault, float]] = {"cancelled": (cancelled, 334)}
