"""What push policies are worth over simulated weeks, beside still ones and an oracle.

Every policy meets the same people, organic visits, messages and luck (training.world.push_weeks). A
learner explores first; then all policies take over from where its exploration left people, for the
judged weeks, so that nothing but their decisions tells them apart. Worth is

    net = visits that pushes bring − visits that they cost − OPT_OUT_COST × opt-outs

as it is to be expected of each send (training.world.push_course). "Send nothing" is 0 by
definition, and mostly hard to beat, so the figure is

    share = (V − V_best static) / (V_oracle − V_best static)

once at free volume, where the best static policy is thinned to the volume that suits it best in
hindsight, and once at matched volume: static policies are thinned to the learner's number of sends,
and the oracle may not send more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.push_policies import PerPerson, Still, best_fixed_hour, own_hours
from training.world import World
from training.world.calendar import reachable
from training.world.push_course import Outcome, live
from training.world.push_oracle import Openness, PushOracle
from training.world.push_policy import Policy
from training.world.push_weeks import WEEK, PushWeeks, State, push_weeks

Doubles = NDArray[np.float64]
# Visits. Over eight weeks an oracle's pushes are worth 1.7 (birch) to 2.5 (amber) a person that can
# be reached, and who has switched them off is lost to them for about as long.
OPT_OUT_COST = 2.0
THINNED = (1.0, 0.6, 0.4, 0.25, 0.15, 0.08, 0.03)
Tuned: TypeAlias = tuple[tuple[float, float], ...]  # (tiring, price)
# The oracle is tuned in hindsight; at a price it sends less.
FREE: Tuned = ((0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (1.0, 0.0))
TUNED: Tuned = (*FREE, (0.75, 0.05), (0.75, 0.12), (0.75, 0.2), (0.75, 0.3), (0.75, 0.45))
RECIPES = 20  # nothing here turns on them
NEGLIGIBLE = 1e-3  # visits a person: less between static and oracle is no room to be measured
STATIC = ("send all", "fixed hour", "own hour")
NOTHING, ORACLE, HOUR_ORACLE = "send nothing", "oracle", "oracle by hour"


class Learner(Policy, Protocol):
    """A policy that explores, and then says what is judged."""

    def retrain(self, lived: Outcome, at_s: float) -> Mapping[str, Policy]:
        """Exploring is over: the policies to be judged, by name; each reads its own weeks on."""
        ...


MakeLearner = Callable[[World, PushWeeks, int], Learner]  # of a seed


def per_person(world: World, weeks: PushWeeks, seed: int) -> Learner:
    """The reference: an effect for each person, without an engine."""
    return PerPerson(weeks, OPT_OUT_COST, np.random.default_rng((seed, 7)))


@dataclass(frozen=True, slots=True)
class Point:
    """What a policy's judged weeks came to, per person that pushes could reach at their start."""

    sends: float
    brought: float
    lost: float
    opt_outs: float
    net: float
    visits: float
    goals: float  # share of messages


@dataclass(frozen=True, slots=True)
class Judged:
    """One world."""

    people: int  # whom pushes could reach when the judged weeks began
    exploring: Point
    nothing: Point
    learned: Mapping[str, Point]
    static: Mapping[str, Sequence[Point]]  # by THINNED
    oracle: Sequence[Point]  # by TUNED
    hour_oracle: Sequence[Point]  # one that reads no signals, but the hour

    def best(self, name: str) -> Point:
        """A static policy, or the oracle, at the volume that suits it best."""
        of = {ORACLE: self.oracle, HOUR_ORACLE: self.hour_oracle} | dict(self.static)
        points = of[name]
        return max(points, key=lambda point: (point.net, -point.sends))

    def share_free(self, name: str) -> float | None:
        """Of the way from the best static policy to the oracle; None where there is none."""
        still = max(0.0, *(self.best(static).net for static in self.static))
        return _share(self.learned[name].net, still, self.best(ORACLE).net)

    def share_matched(self, name: str) -> float | None:
        """The same at the learner's number of sends."""
        sends = self.learned[name].sends
        still = max(self.thinned(static, sends) for static in self.static)
        return _share(self.learned[name].net, still, _at_most(self.oracle, sends))

    def thinned(self, static: str, sends: float) -> float:
        """Net worth of a static policy that sends no more (nor less, if it can) than so much."""
        points = sorted((point.sends, point.net) for point in self.static[static])
        volume, net = np.array([(0.0, 0.0), *points]).T
        return float(np.interp(sends, volume, net))


def _share(net: float, still: float, most: float) -> float | None:
    room = most - still
    return (net - still) / room if room > NEGLIGIBLE else None


def _at_most(points: Sequence[Point], sends: float) -> float:
    """The best mixture of policies that sends no more than so much."""
    volume, net = upper_hull([(point.sends, point.net) for point in points])
    grid = np.append(volume[volume <= sends], min(sends, float(volume[-1])))
    return float(np.interp(grid, volume, net).max())


def upper_hull(points: Sequence[tuple[float, float]]) -> tuple[Doubles, Doubles]:
    """The concave frontier over points and nothing at all, by volume (Andrew 1979)."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted([(0.0, 0.0), *points]):
        while len(hull) > 1 and _turns_left(hull[-2], hull[-1], (x, y)):
            hull.pop()
        if hull and hull[-1][0] == x:
            hull.pop()  # the points are sorted: this one is higher
        hull.append((x, y))
    volume, net = np.array(hull).T
    return volume, net


def _turns_left(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])


def judge(world: World, make: MakeLearner, seed: int, explored: int, judged: int) -> Judged:
    """Explore for so many weeks, then judge for so many."""
    weeks = push_weeks(world, explored + judged)
    turn, end = explored * WEEK, weeks.ticks
    learner, state = make(world, weeks, seed), weeks.begin()
    people = int(reachable(world.core.people, state.lives).sum())
    lived = live(weeks, learner, state, range(turn))
    learned = learner.retrain(lived, weeks.at_s(turn))
    left = int(reachable(world.core.people, state.lives).sum())

    def of(policy: Policy, mine: State) -> Point:
        return _point(live(weeks, policy, mine, range(turn, end)), left)

    hours = (None, best_fixed_hour(weeks), own_hours(weeks, lived))
    return Judged(
        people=left,
        exploring=_point(lived, people),
        nothing=of(Still(None, 0.0), state.copy()),
        learned={name: of(policy, state.copy()) for name, policy in learned.items()},
        static={
            name: [of(Still(hour, part), state.copy()) for part in THINNED]
            for name, hour in zip(STATIC, hours, strict=True)
        },
        oracle=[of(*one) for one in _oracles(weeks, state, TUNED)],
        hour_oracle=[of(*one) for one in _oracles(weeks, state, FREE, signals=False)],
    )


def _oracles(
    weeks: PushWeeks, state: State, tuned: Tuned, signals: bool = True
) -> Iterator[tuple[Policy, State]]:
    openness = Openness.of(weeks, signals)
    for tiring, price in tuned:
        mine = state.copy()
        yield PushOracle(weeks, openness, mine.lives, OPT_OUT_COST, tiring, price), mine


def _point(outcome: Outcome, people: int) -> Point:
    return Point(
        sends=outcome.sends / people,
        brought=outcome.brought / people,
        lost=outcome.lost / people,
        opt_outs=outcome.opt_outs / people,
        net=outcome.net(OPT_OUT_COST) / people,
        visits=outcome.visits / people,
        goals=outcome.goals / max(outcome.messages, 1),
    )
