"""Situations in the simulated world against its truth, beside the best that can be known of them.

The oracle knows the law, every routine and how far each phone tells the truth; what it cannot tell
is in no signal. Kairos sees events alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.device import read_device
from engine.pipeline import NOBODY
from engine.situation import Moment
from training.closed_loop import Decider, SimulatedLog
from training.world import Visit, World

SURE = 0.8
RIGHT = 0.9


class Told(msgspec.Struct, frozen=True):
    """How good a reading of situations is."""

    right: float  # of all moments
    sure: float  # share of moments with confidence ≥ .8 …
    right_where_sure: float
    sure_at_90: float  # share of the surest moments of which 90 % are right
    named: float  # share of moments with any situation named
    right_where_named: float


class WorldSituations(msgspec.Struct, frozen=True):
    """One law's figures."""

    law: str
    moments: int
    kairos: Told
    oracle: Told


@dataclass(slots=True)
class Readings:
    """Moments as they were read, and as they were."""

    confidence: list[float]
    right: list[bool]

    def take(self, name: str, confidence: float, truth: str) -> None:
        self.confidence.append(confidence)
        self.right.append(name == truth)

    def told(self) -> Told:
        confidence, right = np.array(self.confidence), np.array(self.right)
        sure, named = confidence >= SURE, confidence > 0
        return Told(
            _mean(right),
            _mean(sure),
            _mean(right[sure]),
            _sure_at(confidence, right),
            _mean(named),
            _mean(right[named]),
        )


def judge(world: World, log: SimulatedLog, decider: Decider, days: int) -> WorldSituations:
    """Read every visit's moment as its request would, for so many days; then let it happen."""
    mine, best = Readings([], []), Readings([], [])
    answer = decider.answer()
    for visit in visits(world, days):
        log.advance(int(visit.at_s * 1000))
        truth = world.situation(visit)
        moment = read(log, visit)
        mine.take(moment.name, moment.confidence, truth)
        odds = world.oracle_situation(visit)
        likeliest = max(odds, key=lambda name: odds[name])
        best.take(likeliest, odds[likeliest], truth)
        decision_id, items = answer(visit)
        log.take(world.respond(visit, items, decision_id))
    log.settle()
    return WorldSituations(world.core.law.name, len(mine.right), mine.told(), best.told())


def visits(world: World, days: int) -> Iterator[Visit]:
    """The visits of the next days, by time; each is to be answered before the next."""
    for day in range(world.day, world.day + days):
        yield from world.sessions(day)


def read(log: SimulatedLog, visit: Visit) -> Moment:
    """The moment that a request of this visit is answered in."""
    device, _ = read_device(visit.device)
    state = log.states.get(visit.user_id, NOBODY)
    return log.situations.read(state, device, int(visit.at_s * 1000))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _sure_at(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The largest share of moments, the surest first, of which RIGHT are right."""
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= RIGHT)
    return float((enough[-1] + 1) / len(order)) if len(enough) else 0.0
