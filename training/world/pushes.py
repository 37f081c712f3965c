"""What a push does: brings some, changes nothing for most, drives sleeping dogs away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.arrays import Bools, Floats, Ints
from training.world.laws import Law
from training.world.lives import Lives
from training.world.moments import Moments, situation_odds
from training.world.people import SLEEPING_DOG, People

CATEGORIES = ("dinner_ideas", "new_recipes", "weekly_plan")
TAKES = np.array([1.0, 0.12, 0.03, 0.0])  # by kind of person: how much of the lift
# How open people are to a push in each situation, and for each purpose they may have in it.
OPEN_IN = np.array([0.25, 1.0, 0.7, 0.35, 0.9, 1.0, 0.1, 0.3])
OPEN_FOR = np.array([1.0, 1.0, 0.7, 0.4, 0.25])
NIGHT = (0, 6)  # local hours in which nobody is reached
DRIVEN_AWAY = 0.6  # of a sleeping dog's later visits of the day, at no fatigue
DOGS_OPT_OUT = 3.0  # times as readily as others
FAILS = 0.01


@dataclass(frozen=True)
class Effect:
    """What became of each push, [n]."""

    failed: Bools
    comes: Bools  # a visit that would not have been
    delay_s: Floats  # until it
    stays_away: Bools  # the later visits of the day are not made
    opts_out: Bools
    swipes: Bools  # dismissed, if it is not opened


@dataclass(frozen=True)
class Luck:
    """What chance has in store for pushes, [n]."""

    draws: Floats  # [5, n]: fails, opts out, comes, stays away, swipes
    delay_s: Floats  # until the visit that it brings

    def rows(self, rows: Ints) -> Luck:
        """These only."""
        return Luck(self.draws[:, rows], self.delay_s[rows])


@dataclass(frozen=True)
class Prospect:
    """Chances of a push to whoever knows all that is hidden, float [n]."""

    comes: Floats
    stays_away: Floats
    opts_out: Floats


def openness(people: People, person: Ints, weekend: Ints, hour: Ints) -> Floats:
    """Expected openness to a push, knowing only who and when: float [n]."""
    by_situation = (people.purposes[person] * OPEN_FOR).sum(axis=2) * OPEN_IN
    odds = situation_odds(people, person, weekend, hour)
    return np.asarray((odds * by_situation).sum(axis=1) * awake(hour))


def awake(hour: Ints) -> Floats:
    """How far people can be reached at all at a local hour."""
    return np.where((hour >= NIGHT[0]) & (hour < NIGHT[1]), 0.05, 1.0)


def visit_chance(law: Law, kind: Ints, fatigue: Floats, open_to: Floats) -> Floats:
    """Chance that a push brings a visit of its own: float [n]."""
    return np.asarray(law.push_lift * TAKES[kind] * (1.0 - fatigue) * open_to * law.push_matters)


def away_chance(law: Law, kind: Ints, fatigue: Floats) -> Floats:
    """Chance that a push costs the later visits of the day: float [n]."""
    driven = DRIVEN_AWAY + (1.0 - DRIVEN_AWAY) * fatigue
    return np.where(kind == SLEEPING_DOG, driven, 0.0) * law.push_matters


def opt_out_chance(law: Law, kind: Ints, fatigue: Floats) -> Floats:
    """Chance that pushes are switched off after this one: float [n]."""
    hazard = law.opt_out * (0.1 + fatigue**2) * np.where(kind == SLEEPING_DOG, DOGS_OPT_OUT, 1.0)
    return np.asarray(np.minimum(hazard, 1.0) * law.push_matters)


def luck_of(rng: np.random.Generator, pushes: int) -> Luck:
    """Drawn for so many."""
    draws = rng.random((5, pushes))
    return Luck(draws, rng.exponential(480.0, pushes) + 5.0)


def prospect(law: Law, people: People, lives: Lives, moments: Moments) -> Prospect:
    """Of pushes that arrive at the owners of accounts (person = account)."""
    account, kind = moments.person, people.push_kind[moments.person]
    fatigue = lives.fatigue(account, moments.at_s)
    open_to = OPEN_IN[moments.situation] * OPEN_FOR[moments.purpose] * awake(moments.hour)
    return Prospect(
        comes=visit_chance(law, kind, fatigue, open_to),
        stays_away=away_chance(law, kind, fatigue),
        opts_out=opt_out_chance(law, kind, fatigue),
    )


def receive(
    law: Law, people: People, lives: Lives, moments: Moments, luck: Luck | np.random.Generator
) -> Effect:
    """Push to the owners of accounts (person = account), each once; they remember it."""
    account, chance = moments.person, prospect(law, people, lives, moments)
    luck = luck if isinstance(luck, Luck) else luck_of(luck, len(account))
    fails, out, comes, away, swipes = luck.draws
    failed = fails < FAILS
    arrived = ~failed
    reached = account[arrived]
    lives.pushed_s[reached] = np.roll(lives.pushed_s[reached], 1, axis=1)
    lives.pushed_s[reached, 0] = moments.at_s[arrived]
    opts_out = arrived & (out < chance.opts_out)
    lives.push_off[account] |= opts_out
    return Effect(
        failed=failed,
        comes=arrived & (comes < chance.comes),
        delay_s=luck.delay_s,
        stays_away=arrived & (away < chance.stays_away),
        opts_out=opts_out,
        swipes=arrived & (swipes < 0.45),
    )
