"""Figures of training.push_gain: worlds of every law, and their means with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from training.over_worlds import interval
from training.push_engine import kairos, kairos_blind
from training.push_gain import (
    HOUR_ORACLE,
    NOTHING,
    OPT_OUT_COST,
    ORACLE,
    RECIPES,
    STATIC,
    Judged,
    MakeLearner,
    Point,
    judge,
    per_person,
)
from training.world import World

LEARNERS: dict[str, MakeLearner] = {
    "kairos": kairos,
    "kairos-blind": kairos_blind,
    "per-person": per_person,
}
FEWEST = 2  # worlds of which an interval is told


@dataclass(frozen=True, slots=True)
class Plan:
    """Which worlds are lived through, and by whom."""

    learner: str  # of LEARNERS
    laws: tuple[str, ...]
    seeds: int
    users: int
    explored_weeks: int
    judged_weeks: int


def evaluate(plan: Plan, jobs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every law and seed; raises KeyError for a learner that is not in LEARNERS."""
    _ = LEARNERS[plan.learner]
    tasks = [(law, seed) for law in plan.laws for seed in range(1, plan.seeds + 1)]
    worlds: dict[str, list[Judged]] = {law: [] for law in plan.laws}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(live_world, plan, *task): task for task in tasks}
        for number, future in enumerate(as_completed(waiting), 1):
            worlds[waiting[future][0]].append(future.result())
            say(f"{number} of {len(tasks)} worlds")
    return {
        "protocol": (
            f"per person that pushes could reach when the {plan.judged_weeks} judged weeks began; "
            f"net = brought − lost − {OPT_OUT_COST:g} × opt-outs, as expected of each send; "
            "[mean, low, high] with Student's 95% interval over worlds"
        ),
        **asdict(plan),
        "opt_out_cost_visits": OPT_OUT_COST,
        "laws": {law: law_figures(found) for law, found in worlds.items()},
    }


def live_world(plan: Plan, law: str, seed: int) -> Judged:
    """One of them."""
    world = World(law, plan.users, RECIPES, seed=seed)
    make = LEARNERS[plan.learner]
    return judge(world, make, seed, plan.explored_weeks, plan.judged_weeks)


def law_figures(worlds: Sequence[Judged]) -> dict[str, Any]:
    """Means over the worlds of a law."""
    learned = tuple(worlds[0].learned)
    told: dict[str, Callable[[Judged], Point]] = {NOTHING: lambda one: one.nothing}
    for name in STATIC:
        told[name] = lambda one, name=name: one.static[name][0]  # type: ignore[misc]
        told[f"{name}, thinned"] = lambda one, name=name: one.best(name)  # type: ignore[misc]
    for name in learned:
        told[name] = lambda one, name=name: one.learned[name]  # type: ignore[misc]
    told[HOUR_ORACLE] = lambda one: one.best(HOUR_ORACLE)
    told[ORACLE] = lambda one: one.best(ORACLE)
    return {
        "people": float(np.mean([one.people for one in worlds])),
        "policies": {name: _point([of(one) for one in worlds]) for name, of in told.items()},
        "exploring": _point([one.exploring for one in worlds]),
        "share": {name: _share(worlds, name) for name in learned},
        "net at the volume of": {
            name: {
                static: _over([one.thinned(static, one.learned[name].sends) for one in worlds])
                for static in STATIC
            }
            for name in learned
        },
        "opt-outs, of send all's": {
            name: _over([_of_send_all(one, name) for one in worlds]) for name in learned
        },
    }


def _share(worlds: Sequence[Judged], name: str) -> Mapping[str, list[float] | None]:
    """None where no push does anything."""
    return {
        "free volume": _over([one.share_free(name) for one in worlds]),
        "matched volume": _over([one.share_matched(name) for one in worlds]),
    }


def _of_send_all(world: Judged, name: str) -> float | None:
    all_ = world.static[STATIC[0]][0].opt_outs
    return world.learned[name].opt_outs / all_ if all_ else None


def _point(points: Sequence[Point]) -> dict[str, list[float] | float | None]:
    """Means over worlds, the net worth with its interval."""
    means: dict[str, list[float] | float | None] = {
        name: float(np.mean([getattr(point, name) for point in points]))
        for name in ("sends", "brought", "lost", "opt_outs", "goals")
    }
    return means | {"net": _over([point.net for point in points])}


def _over(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return interval(np.array(known)) if len(known) >= FEWEST else None
