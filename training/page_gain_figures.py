"""Figures of training.page_gain: worlds of every law, their means with intervals, and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import msgspec
import numpy as np

from engine.actions import load_actions
from engine.choosing import ChoiceSettings
from engine.objective import load_objective
from engine.situation_rules import load_situations
from models.shipped import shipped_situations
from training.over_worlds import interval
from training.page_gain import ORACLE, RECIPES, STATIC, WARM, WITH, WITHOUT, act_worths, run
from training.report import plot
from training.world import World

LEARNED = (WITH, WITHOUT)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which worlds are lived through."""

    laws: tuple[str, ...]
    seeds: int
    users: int
    sessions: int


class OneWorld(msgspec.Struct, frozen=True):
    """What one world comes to."""

    law: str
    seed: int
    visits: int
    mean: dict[str, float]  # policy -> worth a visit after WARM
    gain: dict[str, float]
    regret: dict[str, list[float]]  # by stretch of visits
    by_situation: dict[str, dict[str, float]]


def evaluate(plan: Plan, jobs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every law and seed; raises nothing of its own."""
    tasks = [(law, seed) for law in plan.laws for seed in range(1, plan.seeds + 1)]
    worlds: list[OneWorld] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(live, *task, plan.users, plan.sessions) for task in tasks]
        for number, future in enumerate(as_completed(waiting), 1):
            worlds.append(future.result())
            say(f"{number} of {len(tasks)} worlds")
    of_law = {law: [one for one in worlds if one.law == law] for law in plan.laws}
    return {
        "protocol": (
            f"expected worth of the pages of every fifth visit after the first {WARM}; "
            "[mean, low, high] with Student's 95% interval over worlds"
        ),
        **asdict(plan),
        "visits": int(np.mean([one.visits for one in worlds])),
        "laws": {law: _law(found) for law, found in of_law.items()},
        "regret_by_stretch": {
            law: {name: _mean([one.regret[name] for one in found]) for name in found[0].regret}
            for law, found in of_law.items()
        },
    }


def live(law: str, seed: int, users: int, sessions: int) -> OneWorld:
    """One world under the shipped settings."""
    actions = load_actions()
    situations = shipped_situations(load_situations())
    worth = act_worths(load_objective(actions), actions)
    world = World(law, users, RECIPES, seed=seed)
    course = run(world, sessions, situations, ChoiceSettings(), worth, seed)
    told = [name for name in course.worth if name != ORACLE]
    return OneWorld(
        law,
        seed,
        len(course.situation),
        {name: course.mean(name) for name in course.worth},
        {name: course.gain(name) for name in LEARNED},
        {name: course.regret(name).tolist() for name in told},
        {
            name: {situations.names[s]: lost for s, lost in course.by_situation(name).items()}
            for name in told
        },
    )


def draw(figures: Mapping[str, Any], law: str) -> str:
    """An SVG of what each policy loses against the oracle, by visits."""

    def curves(axes: Any) -> None:
        for name, lost in figures["regret_by_stretch"][law].items():
            at = (np.arange(len(lost)) + 0.5) * figures["visits"] / len(lost)
            axes.plot(at, lost, label=name)
        axes.set_xlabel("visits")
        axes.set_ylabel("worth lost a visit, against the oracle")
        axes.set_title(law)
        axes.legend(fontsize=7)

    return plot(curves)


def _law(worlds: Sequence[OneWorld]) -> dict[str, Any]:
    def over_worlds(values: Callable[[OneWorld], float]) -> list[float]:
        return interval(np.array([values(one) for one in worlds]))

    still = {one.seed: max(one.mean[name] for name in STATIC) for one in worlds}
    return {
        "worth": {
            name: over_worlds(lambda one, name=name: one.mean[name])  # type: ignore[misc]
            for name in worlds[0].mean
        },
        "gain": {
            name: over_worlds(lambda one, name=name: one.gain[name])  # type: ignore[misc]
            for name in LEARNED
        },
        "over best static": over_worlds(lambda one: one.mean[WITH] - still[one.seed]),
        "with over without situation": over_worlds(lambda one: one.mean[WITH] - one.mean[WITHOUT]),
        "lost by situation": _by_situation(worlds),
    }


def _by_situation(worlds: Sequence[OneWorld]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in worlds[0].by_situation:
        situations = sorted({s for one in worlds for s in one.by_situation[name]})
        found[name] = {
            s: float(np.mean([one.by_situation[name].get(s, np.nan) for one in worlds]))
            for s in situations
        }
    return found


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    means: list[float] = np.mean(rows, axis=0).tolist()
    return means
