"""How much a service can take: the highest rate at which 99 of 100 are answered in time.

Each step asks at one rate for some seconds, then waits until the service is itself again. The rate
grows by half until it is too much, then the gap is halved (in ratio) until it is narrow.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadtests.figures import in_time, percentiles
from loadtests.record import Rows
from loadtests.schedule import Plan, Stage

ENOUGH = 0.99
GROWTH = 1.5
LEAST_PER_S = 1.0
WARM_S = 2.0
SETTLE_S = 30.0
CALM_MS = 100.0


@dataclass(frozen=True, slots=True)
class Step:
    """One rate, and what came of it."""

    per_s: float
    in_time: float  # share
    p99_ms: float | None

    @property
    def held(self) -> bool:
        return self.in_time >= ENOUGH


@dataclass(frozen=True, slots=True)
class Searched:
    """The highest rate that held, and the steps in their order."""

    per_s: float
    steps: list[Step]

    def told(self) -> list[dict[str, Any]]:
        """The steps as figures."""
        return [
            {"per_s": round(s.per_s, 1), "in_time": round(s.in_time, 4), "p99_ms": s.p99_ms}
            for s in self.steps
        ]


def narrow(try_at: Callable[[float], Step], first: float, within: float) -> Searched:
    """Search from `first` requests/s, until highest and too much differ by a share of `within`."""
    steps: list[Step] = []
    held, over = 0.0, math.inf
    rate = first
    while rate >= LEAST_PER_S and over > held * (1 + within):
        step = try_at(rate)
        steps.append(step)
        if step.held:
            held = rate
        else:
            over = rate
        if math.isinf(over):
            rate = held * GROWTH
        else:
            rate = math.sqrt(held * over) if held else over / GROWTH
    if not held:
        raise SystemExit(f"the service does not hold {LEAST_PER_S:g} requests/s")
    return Searched(held, steps)


def search(
    run: Callable[[Plan], Rows], url: str, seconds: float, within: float, first: float
) -> Searched:
    """Narrow with real steps: `run` sends a plan and returns its record."""

    def try_at(rate: float) -> Step:
        settle(url)
        rows = run([Stage("warm", WARM_S, rate / 2, rate), Stage("step", seconds, rate, rate)])
        judged = rows.where(rows["stage"] == 1)
        share = float(in_time(judged).mean()) if len(judged) else 0.0
        p99_ms = percentiles(judged["latency_ms"])["p99"]
        return Step(rate, share, p99_ms)

    return narrow(try_at, first, within)


def settle(url: str) -> float:
    """Wait until nothing waits any more; seconds that took, at most SETTLE_S."""
    started = time.monotonic()
    while time.monotonic() - started < SETTLE_S:
        asked = time.monotonic()
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                lag = json.load(answer)["fold_lag_events"]
            if lag is not None and lag < 100 and (time.monotonic() - asked) * 1000 < CALM_MS:
                break
        except (OSError, ValueError, urllib.error.URLError):
            pass
        time.sleep(0.2)
    return time.monotonic() - started
