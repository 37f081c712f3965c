"""The best that can be known at a decision: the law and everyone's tastes, but no hidden moment.

Who of an account it is, the situation behind the reported signals, the purpose, the mood and the
guests are weighed by how likely they are given what the request carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.world.arrays import Floats, Ints
from training.world.laws import Law
from training.world.lives import Lives
from training.world.moments import ON_TABLET, Moments, place_likelihood, situation_odds
from training.world.page import Offer, prospect
from training.world.people import MOODS, PURPOSES, WEB, People
from training.world.reaction import PLEASED, Chances, chances
from training.world.recipes import Recipes
from training.world.sensors import UNTOLD, Sensors

NEGLIGIBLE = 0.004  # combinations less likely than this are left out


@dataclass(frozen=True)
class Possible:
    """What moments may be, rows by moment, and how likely each is."""

    row: Ints  # [r] which moment it may be
    weight: Floats  # [r], sums to 1 over those of a moment
    moments: Moments  # [r]

    def mean(self, values: Floats) -> Floats:
        """Values [r, …] weighed up for each moment: float [n, …]."""
        weighed = self.weight.reshape(-1, *[1] * (values.ndim - 1)) * values
        starts = np.flatnonzero(np.append(True, np.diff(self.row) > 0))
        return np.asarray(np.add.reduceat(weighed, starts, axis=0))


def situation_given_signals(
    people: People, sensors: Sensors, moments: Moments, row: Ints, person: Ints
) -> Floats:
    """Chance that it is this person, in each situation: float [r, situations].

    `row` says whose moment each person may be behind; over all rows of a moment it sums to 1.
    """
    now = moments.rows(row)
    odds = situation_odds(people, person, now.weekend, now.hour)
    odds = odds * (people.habit[person] * people.visiting[person, now.weekend, now.hour])[:, None]
    odds = odds * signal_likelihood(people, sensors, now)
    return np.asarray(odds / np.bincount(row, odds.sum(axis=1))[row, None])


def candidates(people: People, moments: Moments) -> tuple[Ints, Ints]:
    """Everyone of the accounts that moments are seen under: row and person, by row."""
    other = np.full(people.accounts, -1)
    shared = np.arange(people.accounts, len(people))
    other[people.account[shared]] = shared
    owner = people.account[moments.person]
    both = np.stack([owner, other[owner]], axis=1)
    row, which = np.nonzero(both >= 0)
    return row, both[row, which]


def signal_likelihood(people: People, sensors: Sensors, now: Moments) -> Floats:
    """How likely what the device tells is in each situation: float [n, situations]."""
    account = people.account[now.person]
    platform, tablet = people.platform[account], now.on_tablet
    has_tablet = people.tablet[account][:, None]
    likely = np.where(tablet[:, None], ON_TABLET, 1.0 - ON_TABLET * has_tablet)
    signals = now.signals
    told = sensors.likelihood(
        np.minimum(platform, WEB - 1),
        now.block,
        np.where(tablet, UNTOLD, signals.activity),
        signals.charging * 3 + signals.network,
    ) * place_likelihood(people.permission[account], now.place)
    return np.asarray(likely * np.where((platform == WEB)[:, None], 1.0, told))


def expected(
    law: Law,
    recipes: Recipes,
    people: People,
    lives: Lives,
    sensors: Sensors,
    moment: Moments,
    items: Ints,
) -> tuple[Floats, Floats]:
    """Worth of each recipe (int [k]) to who looks at it, and its change of goodwill: float [k]."""
    may_be = possible(people, sensors, moment)
    given = chances(law, recipes, lives.need(may_be.moments), items[None, :])
    return may_be.mean(given.value)[0], may_be.mean(_goodwill(law, given))[0]


def _goodwill(law: Law, given: Chances) -> Floats:
    return np.asarray(given.click * (PLEASED * given.cook - law.hurt * given.disappoint))


def expected_of_modules(
    law: Law,
    recipes: Recipes,
    people: People,
    lives: Lives,
    sensors: Sensors,
    moments: Moments,
    offer: Offer,
    negligible: float = NEGLIGIBLE,
) -> tuple[Floats, Floats]:
    """Worth of each module that is come to, and the chance of something useful: float [n, m]."""
    may_be = possible(people, sensors, moments, negligible)
    then = may_be.moments
    due = prospect(law, people, recipes, then, lives.need(then), offer.rows(may_be.row))
    return may_be.mean(due.worth), may_be.mean(due.useful)


def possible(
    people: People, sensors: Sensors, moments: Moments, negligible: float = NEGLIGIBLE
) -> Possible:
    """What moments may be to whoever reads the request; the likeliest is always kept."""
    row, person = candidates(people, moments)
    situations = situation_given_signals(people, sensors, moments, row, person)
    purposes = np.einsum("rs,rsq->rq", situations, people.purposes[person])
    weekend, block = moments.weekend[row], moments.block[row]
    moods = people.moods[person, weekend, block]
    guests = people.guests[person, weekend, block]
    company = np.stack([1.0 - guests, guests], axis=1)
    odds = np.einsum("rq,rm,rg->rqmg", purposes, moods, company)
    assert odds.shape[1:] == (len(PURPOSES), len(MOODS), 2)
    best = np.zeros(len(moments))
    np.maximum.at(best, row, odds.max(axis=(1, 2, 3)))
    floor = np.minimum(best, negligible)[row]
    who, purpose, mood, company_of = np.nonzero(odds >= floor[:, None, None, None])
    weight, of = odds[who, purpose, mood, company_of], row[who]
    imagined = replace(
        moments.rows(of), person=person[who], purpose=purpose, mood=mood, guests=company_of == 1
    )
    return Possible(of, np.asarray(weight / np.bincount(of, weight)[of]), imagined)
