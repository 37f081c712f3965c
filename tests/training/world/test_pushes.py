"""Pushes: who comes, who is driven away, who switches them off, and how people recover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from training.world import HELD_OUT, LAWS, TUNING, World, fatigue
from training.world.arrays import Floats, Ints
from training.world.calendar import reachable
from training.world.core import Core
from training.world.lines import Push
from training.world.people import LOST, PERSUADABLE, SLEEPING_DOG, WEB
from training.world.pushes import Effect, receive

FOUR = (*TUNING, *HELD_OUT)
LATE_MORNING_S = np.array([10.0, 16.0, 5.5, 2.0]) * 3600  # in UTC, by zone
RECOVERIES: list[Callable[[Floats], Floats]] = [
    fatigue.hyperbolic, fatigue.plateau, fatigue.power, fatigue.linear,
]  # fmt: skip


def pushed_daily(law: str, days: int) -> tuple[Core, Ints, list[Effect]]:
    """One push in everyone's late morning to those who can be reached: the last one's effects."""
    core = World(law, users=4000, items=5, seed=9).core
    rng = np.random.default_rng(1)
    account, effects = np.empty(0, dtype=np.int64), []
    for _ in range(days):
        day_s = core.begin_day()
        account = np.flatnonzero(reachable(core.people, core.lives))
        now = core.moments(account, day_s + LATE_MORNING_S[core.people.zone[account]], rng)
        effects.append(receive(core.law, core.people, core.lives, now, rng))
    return core, account, effects


@pytest.mark.parametrize("law", FOUR)
def test_some_come_and_sleeping_dogs_stay_away(law: str) -> None:
    core, account, [effect] = pushed_daily(law, days=1)
    kind = core.people.push_kind[account]
    assert effect.comes[kind == PERSUADABLE].mean() > 0.06
    assert effect.comes[kind == LOST].mean() < 0.02
    assert not effect.comes[kind == SLEEPING_DOG].any()
    assert effect.stays_away[kind == SLEEPING_DOG].mean() > 0.5
    assert not effect.stays_away[kind != SLEEPING_DOG].any()


@pytest.mark.parametrize("law", FOUR)
def test_the_tired_come_less_and_opt_out_more(law: str) -> None:
    core, account, effects = pushed_daily(law, days=8)
    kind, lives = core.people.push_kind, core.lives
    tired = lives.fatigue(account, np.full(len(account), core.start_s + 7.9 * 86_400))
    assert tired.mean() > 0.3
    assert (
        effects[7].comes[kind[account] == PERSUADABLE].mean()
        < 0.7
        * effects[0]
        .comes[kind[:4000][(core.people.platform != WEB) & ~core.people.visitor] == PERSUADABLE]
        .mean()
    )
    assert effects[7].opts_out.mean() > 2 * effects[0].opts_out.mean()
    could = (core.people.platform != WEB) & ~core.people.visitor
    dogs = kind[:4000] == SLEEPING_DOG
    assert 0.01 < lives.push_off[could].mean() < 0.6
    assert lives.push_off[could & dogs].mean() > 1.5 * lives.push_off[could & ~dogs].mean()


def answered(law: str, pushed: bool) -> tuple[Counter[int], Counter[str]]:
    """Visits by account of 300 people in three days, pushed each day or not; push statuses."""
    world = World(law, users=300, items=10, seed=9)
    people, lives = world.core.people, world.core.lives
    visits, statuses = Counter[int](), Counter[str]()
    for day in range(3):
        coming = world.sessions(day)
        for account in np.flatnonzero(reachable(people, lives) & pushed).tolist():
            at_s = world.core.start_s + day * 86_400 + LATE_MORNING_S[people.zone[account]]
            events = world.send(f"user-{account:05}", at_s, f"m{day}", "dinner_ideas")
            statuses.update(event.status for event in events if isinstance(event, Push))
        for visit in coming:
            visits[int(visit.user_id.split("-")[1])] += 1
            if day == 2:
                events = world.respond(visit, ["recipe-00000"])
                statuses.update(event.status for event in events if isinstance(event, Push))
    return visits, statuses


def test_in_the_null_world_a_push_changes_nothing() -> None:
    without, with_pushes = answered("null_push", False), answered("null_push", True)
    assert without[0] == with_pushes[0]
    assert with_pushes[1]["sent"] > 700
    assert with_pushes[1]["disabled"] == 0


def test_in_a_real_world_it_does_and_what_it_does_is_reported() -> None:
    without, with_pushes = answered("amber", False), answered("amber", True)
    assert without[0] != with_pushes[0]
    assert not without[1]
    assert with_pushes[1].keys() >= {"sent", "delivered", "dismissed", "opened"}


@pytest.mark.parametrize("load", RECOVERIES, ids=lambda load: load.__name__)
def test_recovery_is_complete_in_the_end_and_never_exponential(
    load: Callable[[Floats], Floats],
) -> None:
    ages = np.arange(0.0, 8.5, 0.5)
    left = load(ages)
    assert left[0] == 1.0
    assert (np.diff(left) <= 0).all()
    assert load(np.array([400.0]))[0] < 0.03
    # An exponential loses the same share every half day.
    alive = left[left > 0.01]
    rates = alive[1:] / alive[:-1]
    assert rates.max() - rates.min() > 0.15


@pytest.mark.parametrize("law", FOUR)
def test_the_oracle_knows_who_is_worth_a_push(law: str) -> None:
    world = World(law, users=4000, items=5, seed=9)
    day_s = world.core.start_s + LATE_MORNING_S[world.core.people.zone]
    core, account, [effect] = pushed_daily(law, days=1)
    some = account[:1500]
    worth = np.array([world.oracle_push(f"user-{n:05}", day_s[n]) for n in some.tolist()])
    comes, away = effect.comes[:1500], effect.stays_away[:1500]
    good, bad = worth > 0.05, worth < -0.05
    assert comes[good].mean() > 3 * comes[~good].mean()
    assert comes[good].mean() == pytest.approx(worth[good].mean(), abs=0.04)
    assert away[bad].mean() > 0.5
    assert not core.lives.push_off[some[good]].mean() > 0.1


def test_who_cannot_be_reached_is_told_apart() -> None:
    world = World("amber", users=400, items=10, seed=1)
    web = int(np.flatnonzero(world.core.people.platform == 2)[0])
    assert world.oracle_push(f"user-{web:05}", world.core.start_s) == 0.0
    with pytest.raises(ValueError, match="cannot be reached"):
        world.send(f"user-{web:05}", world.core.start_s, "m", "dinner_ideas")
    with pytest.raises(ValueError, match="no such user"):
        world.oracle_push("nobody", world.core.start_s)


def test_all_laws_have_all_kinds_of_people() -> None:
    assert all(min(law.push_kinds) > 0.1 for law in LAWS.values())
    assert all(sum(law.push_kinds) == pytest.approx(1) for law in LAWS.values())
