"""When requests are due: stages of a rate, and arrivals drawn from it before anything is sent.

Open loop: an arrival's time hangs on the schedule alone, never on how fast the service answers, so
that a queue grows as it would with people who know nothing of each other. A latency is counted from
here. (A closed loop waits for the slow answer before it sends the next request, and so leaves out
just those that would have been slow: "coordinated omission", G. Tene.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time whose rate goes from `start_per_s` to `end_per_s` in a straight line."""

    name: str
    seconds: float
    start_per_s: float
    end_per_s: float

    @property
    def expected(self) -> float:
        """Arrivals on the average."""
        return self.seconds * (self.start_per_s + self.end_per_s) / 2


Plan = Sequence[Stage]


def read_plan(text: str) -> list[Stage]:
    """`ramp:30@10-100,steady:60@100`: name, seconds, requests/s; raises ValueError."""
    stages = []
    for part in text.split(","):
        name, _, rest = part.partition(":")
        seconds, _, rate = rest.partition("@")
        first, _, last = rate.partition("-")
        try:
            stage = Stage(name, float(seconds), float(first), float(last or first))
        except ValueError:
            raise ValueError(f"expected name:seconds@rate or @rate-rate, got {part!r}") from None
        if not name or stage.seconds <= 0 or min(stage.start_per_s, stage.end_per_s) < 0:
            raise ValueError(f"expected a name, seconds above 0 and rates from 0 up, got {part!r}")
        stages.append(stage)
    return stages


def write_plan(plan: Plan) -> str:
    """As `read_plan` reads it."""
    return ",".join(f"{s.name}:{s.seconds:g}@{s.start_per_s:g}-{s.end_per_s:g}" for s in plan)


def seconds_of(plan: Plan) -> float:
    """How long a plan is."""
    return sum(stage.seconds for stage in plan)


def arrivals(plan: Plan, seed: int) -> Iterator[tuple[float, int]]:
    """(seconds since the start, number of the stage) of each arrival, in order of time.

    A Poisson process of the plan's rate, by inversion: unit exponential gaps in the expected count
    Λ(t) = ∫ rate, mapped back through Λ⁻¹ (Çinlar 1975).
    """
    rng = random.Random(seed)
    due = rng.expovariate(1.0)  # in expected arrivals since the stage began
    began = 0.0
    for number, stage in enumerate(plan):
        while due < stage.expected:
            yield began + _when(stage, due), number
            due += rng.expovariate(1.0)
        due -= stage.expected
        began += stage.seconds


def _when(stage: Stage, count: float) -> float:
    """Seconds into a stage at which `count` arrivals are expected: a t² / 2 + b t = count."""
    b = stage.start_per_s
    a = (stage.end_per_s - b) / stage.seconds
    # The form that stays exact as a goes to 0.
    return 2 * count / (b + math.sqrt(max(b * b + 2 * a * count, 0.0)))
