"""The laws: four worlds that differ in structure and in numbers, and two in which nothing acts.

`amber` and `birch` are open to tuning. `cedar` and `delta` are held out: measure on them, never
tune on them. `null_situation` and `null_push` are amber without the one effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from training.world import appeal, attention, drift, fatigue, modules
from training.world.arrays import Floats


@dataclass(frozen=True)
class Law:
    """Rules (structure) and numbers of a world."""

    name: str
    held_out: bool
    combine: appeal.Combine  # aspects of a recipe -> appeal
    keep_looking: attention.KeepLooking  # down a phone's list
    grid: attention.Grid  # chance that each tile of a tablet is looked at
    enter: modules.Enter  # aspects of a module -> whether someone is drawn in
    change: drift.Change  # tastes from day to day
    load: Callable[[Floats], Floats]  # age of a push in days -> what it still weighs, 0–1
    gain: float  # clicks for appeal
    curiosity: float  # clicks for lure
    draw: float  # of a heading that suits in everything
    own_meanings: float  # share of (person, situation) with a meaning of their own
    off_routine: tuple[float, float]  # from, to; over persons
    visits_a_day: float
    shared_accounts: float
    permissions: tuple[float, float, float]  # place denied, wrong, allowed
    mood_tilt: tuple[float, float, float, float]
    satiation: float  # how much one cooked or opened recipe of a cuisine takes away
    satiation_days: float
    hurt: float  # goodwill lost by a disappointment
    leave: float  # chance that a disappointment keeps someone away
    away_days: float  # median of such an absence
    push_kinds: tuple[float, float, float, float]  # persuadable, sure thing, lost, sleeping dog
    push_lift: float
    push_load: float  # fatigue of one fresh push
    opt_out: float  # hazard of one push at full fatigue
    situation_matters: bool = True
    push_matters: bool = True


AMBER = Law(
    name="amber",
    held_out=False,
    combine=appeal.all_must_hold,
    keep_looking=attention.steady,
    grid=attention.top_rows,
    enter=modules.all_fit,
    change=drift.wander,
    load=fatigue.hyperbolic,
    gain=0.9,
    curiosity=0.24,
    draw=1.0,
    own_meanings=0.4,
    off_routine=(0.30, 0.45),
    visits_a_day=1.75,
    shared_accounts=0.06,
    permissions=(0.40, 0.15, 0.45),
    mood_tilt=(1.0, 1.0, 1.0, 1.0),
    satiation=0.25,
    satiation_days=3.0,
    hurt=0.08,
    leave=0.22,
    away_days=7.0,
    push_kinds=(0.35, 0.3, 0.2, 0.15),
    push_lift=0.55,
    push_load=0.22,
    opt_out=0.03,
)
BIRCH = replace(
    AMBER,
    name="birch",
    combine=appeal.weakest_link,
    keep_looking=attention.set_depth,
    grid=attention.left_column,
    enter=modules.weakest_fit,
    change=drift.leap,
    load=fatigue.plateau,
    gain=0.9,
    curiosity=0.24,
    draw=0.95,
    own_meanings=0.55,
    off_routine=(0.35, 0.5),
    permissions=(0.5, 0.2, 0.3),
    satiation=0.4,
    satiation_days=6.0,
    hurt=0.06,
    leave=0.3,
    away_days=5.0,
    push_kinds=(0.25, 0.25, 0.3, 0.2),
    push_load=0.3,
)
CEDAR = replace(
    AMBER,
    name="cedar",
    held_out=True,
    combine=appeal.elimination,
    keep_looking=attention.page_by_page,
    grid=attention.middle_column,
    enter=modules.shortlist,
    change=drift.seasons,
    load=fatigue.power,
    gain=0.55,
    curiosity=0.22,
    draw=0.8,
    own_meanings=0.45,
    off_routine=(0.32, 0.48),
    mood_tilt=(0.7, 1.4, 0.8, 1.3),
    satiation=0.3,
    satiation_days=2.0,
    hurt=0.11,
    leave=0.18,
    away_days=10.0,
    push_kinds=(0.3, 0.2, 0.25, 0.25),
    push_lift=0.45,
    opt_out=0.05,
)
DELTA = replace(
    AMBER,
    name="delta",
    held_out=True,
    combine=appeal.any_reason,
    keep_looking=attention.tiring,
    grid=attention.first_row_and_column,
    enter=modules.any_fit,
    change=drift.fashion,
    load=fatigue.linear,
    gain=0.6,
    curiosity=0.2,
    draw=0.75,
    own_meanings=0.35,
    off_routine=(0.38, 0.55),
    shared_accounts=0.1,
    permissions=(0.45, 0.25, 0.3),
    mood_tilt=(1.2, 0.8, 1.5, 0.8),
    satiation=0.15,
    satiation_days=5.0,
    leave=0.26,
    push_kinds=(0.45, 0.2, 0.15, 0.2),
    push_load=0.16,
    opt_out=0.02,
)
LAWS = {
    law.name: law
    for law in (
        AMBER,
        BIRCH,
        CEDAR,
        DELTA,
        replace(AMBER, name="null_situation", situation_matters=False),
        replace(AMBER, name="null_push", push_matters=False),
    )
}
TUNING = ("amber", "birch")
HELD_OUT = tuple(law.name for law in LAWS.values() if law.held_out)
