"""The best that can be known at a decision: the law and everyone's tastes, but no hidden moment.

Who of an account it is, the situation behind the reported signals, the purpose, the mood and the
guests are weighed by how likely they are given what the request carries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.world.arrays import Floats, Ints
from training.world.laws import Law
from training.world.lives import Lives
from training.world.moments import ON_TABLET, Moments, place_likelihood, situation_odds
from training.world.people import MOODS, PURPOSES, WEB, People
from training.world.reaction import PLEASED, Chances, chances
from training.world.recipes import Recipes
from training.world.sensors import Sensors

NEGLIGIBLE = 0.004  # combinations less likely than this are left out


def situation_given_signals(
    people: People, sensors: Sensors, moment: Moments, persons: Ints
) -> Floats:
    """Chance of each (person of the account, situation): float [persons, situations], sums to 1."""
    weekend, hour = (np.full(len(persons), int(of[0])) for of in (moment.weekend, moment.hour))
    odds = situation_odds(people, persons, weekend, hour)
    odds = odds * (people.habit[persons] * people.visiting[persons, weekend, hour])[:, None]
    odds = odds * _signal_likelihood(people, sensors, moment)
    return np.asarray(odds / odds.sum())


def _signal_likelihood(people: People, sensors: Sensors, moment: Moments) -> Floats:
    account = int(people.account[moment.person[0]])
    platform, tablet = int(people.platform[account]), bool(moment.on_tablet[0])
    likely = ON_TABLET if tablet else 1.0 - ON_TABLET * people.tablet[account]
    if platform == WEB:
        return likely
    signals = moment.signals
    rest = int(signals.charging[0]) * 3 + int(signals.network[0])
    activity = None if tablet else int(signals.activity[0])
    likely = likely * sensors.likelihood(platform, int(moment.block[0]), activity, rest)
    return likely * place_likelihood(int(people.permission[account]), int(moment.place[0]))


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
    weights, imagined = _possible(people, sensors, moment)
    given = chances(law, recipes, lives.need(imagined), items[None, :])
    return weights @ given.value, weights @ _goodwill(law, given)


def _goodwill(law: Law, given: Chances) -> Floats:
    return np.asarray(given.click * (PLEASED * given.cook - law.hurt * given.disappoint))


def _possible(people: People, sensors: Sensors, moment: Moments) -> tuple[Floats, Moments]:
    """The moments it may be, and how likely each is: float [n], sums to 1."""
    persons = people.of_account(int(people.account[moment.person[0]]))
    situations = situation_given_signals(people, sensors, moment, persons)
    weekend, block = int(moment.weekend[0]), int(moment.block[0])
    purposes = np.einsum("ps,psq->pq", situations, people.purposes[persons])
    moods = people.moods[persons, weekend, block]
    guests = people.guests[persons, weekend, block]
    company = np.stack([1.0 - guests, guests], axis=1)
    odds = np.einsum("pq,pm,pg->pqmg", purposes, moods, company)
    assert odds.shape[1:] == (len(PURPOSES), len(MOODS), 2)
    likely = np.argwhere(odds >= NEGLIGIBLE)
    weights = odds[tuple(likely.T)]
    imagined = moment.rows(np.zeros(len(likely), dtype=np.int64))
    who, purpose, mood, company_of = likely.T
    imagined = replace(
        imagined, person=persons[who], purpose=purpose, mood=mood, guests=company_of == 1
    )
    return np.asarray(weights / weights.sum()), imagined
