"""People: tastes, households, routines, what a situation means to each, what their phone admits.

Columns run over persons. The first `accounts` persons own an account each; those after them share
the account of someone before them, so that one user_id is two people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.arrays import BLOCKS, Bools, Floats, Ints, shares
from training.world.laws import Law
from training.world.recipes import CUISINES, INGREDIENTS, OMNIVORE, VEGAN, VEGETARIAN

SITUATIONS = ("bed", "sofa", "kitchen", "desk", "shop", "transit", "gym", "out")
# As an app's situations.yaml calls them; being out is none that it knows.
CALLED = ("in_bed", "relaxing", "cooking", "at_work", "shopping", "commuting", "exercising",
          "unknown")  # fmt: skip
BED, SOFA, KITCHEN, DESK, SHOP, TRANSIT, GYM, OUT = range(8)
PURPOSES = ("cook", "shop", "plan", "browse", "pass")  # pass: only passing the time
MEANING = (3, 3, 0, 2, 1, 4, 2, 3)  # the usual purpose of each situation
MOODS = ("calm", "tired", "adventurous", "comfort")
CALM, TIRED, ADVENTUROUS, COMFORT = range(4)
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Tokyo")
LOCALES = ("de-DE", "en-US", "en-IN", "ja-JP")
PLATFORMS = ("android", "ios", "web")
ANDROID, IOS, WEB = range(3)
DENIED, WRONG, ALLOWED = range(3)  # what the account's phone tells of places
PERSUADABLE, SURE, LOST, SLEEPING_DOG = range(4)  # how someone takes a push
DISLIKED, NEUTRAL, FAVOURITE = 0.12, 0.6, 1.0
# How readily people open the app in a situation, and at which hours.
PULL = np.array([0.9, 1.0, 1.3, 0.35, 1.2, 0.6, 0.25, 0.3])
APPETITE = np.array([0.05, 0.02, 0.02, 0.02, 0.03, 0.1, 0.4, 0.8, 0.6, 0.4, 0.5, 0.9,
                     1.0, 0.5, 0.4, 0.6, 1.0, 1.6, 1.8, 1.5, 1.2, 1.1, 0.8, 0.3])  # fmt: skip
# Moods by block of the day, on working days and at weekends.
MOOD_ODDS = np.array([
    [[2, 5, 1, 2], [3, 4, 1, 2], [5, 2, 2, 1], [5, 2, 2, 1], [2, 6, 1, 3], [2, 4, 1, 5]],
    [[2, 4, 2, 2], [4, 3, 2, 2], [4, 1, 4, 2], [4, 1, 4, 2], [3, 1, 5, 3], [3, 2, 3, 4]],
], dtype=np.float64)  # fmt: skip
GUEST_ODDS = np.array([[0.02, 0.02, 0.04, 0.08, 0.18, 0.10], [0.05, 0.03, 0.15, 0.25, 0.45, 0.3]])


@dataclass(frozen=True)
class People:
    """Columns over persons, and over accounts where said. Nothing here changes with time."""

    accounts: int
    account: Ints  # [persons]
    liking: Floats  # [persons, cuisines] 0–1, as the world begins
    ingredients: Floats  # [persons, ingredients + 1], the last is neutral
    diet: Ints  # [persons]
    household: Ints  # [persons]
    budget: Floats  # [persons, 2] minutes on working days and weekends
    novelty: Floats  # [persons] −1 likes the same again, 1 never twice
    patience: Floats  # [persons] 0–1
    aspects: Ints  # [persons, 6] which aspect comes first
    habit: Floats  # [persons] organic visits a day at full goodwill
    off_routine: Floats  # [persons] share of moments off the routine
    routine: Ints  # [persons, 2, 24] situation by kind of day and hour
    visiting: Floats  # [persons, 2, 24] when they open the app; sums to 1 over hours
    purposes: Floats  # [persons, situations, purposes]
    moods: Floats  # [persons, 2, blocks, moods]
    guests: Floats  # [persons, 2, blocks]
    shop_day: Ints  # [persons] weekday
    push_kind: Ints  # [persons]
    zone: Ints  # [accounts]
    platform: Ints  # [accounts]
    permission: Ints  # [accounts]
    tablet: Bools  # [accounts]
    tablet_of: Ints  # [accounts] whose tablet it is: two accounts may share one
    visitor: Bools  # [accounts] unknown until they log in
    tells_diet: Bools  # [accounts]

    def __len__(self) -> int:
        return len(self.account)


def make_people(accounts: int, law: Law, rng: np.random.Generator) -> People:
    """A seeded population under a law."""
    shared = rng.random(accounts) < law.shared_accounts
    account = np.concatenate([np.arange(accounts), np.flatnonzero(shared)])
    persons = len(account)
    routine = _routines(persons, rng)
    pull = PULL[routine] * APPETITE * rng.gamma(3.0, 1.0, (persons, 1, 24))
    purposes, moods, guests, budget = _inner_lives(persons, law, rng)
    tablet = rng.random(accounts) < 0.35
    habit = np.minimum(rng.gamma(1.6, law.visits_a_day / 1.6, persons), 2.6)
    return People(
        accounts=accounts,
        account=account,
        liking=rng.beta(0.6, 1.2, (persons, len(CUISINES))),
        ingredients=_ingredient_tastes(persons, rng),
        diet=rng.choice([VEGAN, VEGETARIAN, OMNIVORE], persons, p=[0.07, 0.18, 0.75]),
        household=rng.choice([1, 2, 3, 4, 5], persons, p=[0.3, 0.33, 0.15, 0.15, 0.07]),
        budget=budget,
        novelty=rng.uniform(-1, 1, persons),
        patience=rng.beta(4, 2, persons),
        aspects=np.argsort(rng.random((persons, 6)), axis=1),
        habit=habit,
        off_routine=rng.uniform(*law.off_routine, persons),
        routine=routine,
        visiting=shares(pull),
        purposes=purposes,
        moods=moods,
        guests=guests,
        shop_day=rng.choice(7, persons, p=[0.08, 0.08, 0.1, 0.12, 0.2, 0.32, 0.1]),
        push_kind=rng.choice(4, persons, p=law.push_kinds),
        zone=rng.choice(len(ZONES), accounts, p=[0.4, 0.3, 0.2, 0.1]),
        platform=rng.choice(len(PLATFORMS), accounts, p=[0.55, 0.37, 0.08]),
        permission=rng.choice(3, accounts, p=law.permissions),
        tablet=tablet,
        tablet_of=_shared_tablets(tablet, rng),
        visitor=(rng.random(accounts) < 0.08) & ~shared,
        tells_diet=rng.random(accounts) < 0.6,
    )


def _routines(persons: int, rng: np.random.Generator) -> Ints:
    """Where people usually are: by chronotype, and by whether they work away, at home, at night."""
    hour = np.arange(24)
    routine = np.full((persons, 2, 24), SOFA)
    for n in range(persons):
        shift, trade = int(rng.integers(-2, 3)), rng.random()
        local = (hour - shift - (12 if trade > 0.93 else 0)) % 24
        for weekend in (0, 1):
            day = np.full(24, SOFA)
            day[(local < 7 + weekend) | (local >= 22)] = BED
            day[np.isin(local, (7 + weekend, 18, 19))] = KITCHEN
            if not weekend and trade > 0.3:
                day[(local >= 9) & (local < 17)] = DESK
                day[np.isin(local, (8, 17))] = TRANSIT
            elif weekend:
                day[rng.integers(10, 17) == local] = SHOP
                day[rng.integers(17, 22) == local] = OUT
            if rng.random() < 0.4:
                day[local == 20] = GYM
            if rng.random() < 0.5:
                day[local == (17 if weekend else 18)] = SHOP
            routine[n, weekend] = day
    return routine


def _inner_lives(
    persons: int, law: Law, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """What situations mean, moods, guests and time budgets; all alike where the law says so."""
    meaning = np.broadcast_to(np.array(MEANING), (persons, len(SITUATIONS))).copy()
    own = rng.random(meaning.shape) < law.own_meanings
    meaning[own] = rng.integers(len(PURPOSES), size=int(own.sum()))
    purposes = 0.8 * np.eye(len(PURPOSES))[meaning] + 0.2 / len(PURPOSES)
    moods = shares(MOOD_ODDS * rng.gamma(2.0, 1.0, (persons, 1, 1, len(MOODS))) * law.mood_tilt)
    guests = np.minimum(GUEST_ODDS * rng.gamma(2.0, 0.5, (persons, 1, 1)), 0.9)
    budget = rng.lognormal(np.log(28), 0.35, (persons, 1)) * np.array([1.0, 1.7])
    if not law.situation_matters:
        purposes = np.broadcast_to(purposes.mean(axis=1, keepdims=True), purposes.shape)
        moods = np.broadcast_to(moods.mean(axis=(1, 2), keepdims=True), moods.shape)
        guests = np.broadcast_to(guests.mean(axis=(1, 2), keepdims=True), guests.shape)
        budget = np.broadcast_to(budget.mean(axis=1, keepdims=True), budget.shape)
    return purposes, moods, guests, budget


def _ingredient_tastes(persons: int, rng: np.random.Generator) -> Floats:
    taste = rng.choice([DISLIKED, NEUTRAL, FAVOURITE], (persons, len(INGREDIENTS) + 1),
                       p=[0.1, 0.65, 0.25])  # fmt: skip
    taste[:, -1] = NEUTRAL
    return taste


def _shared_tablets(tablet: Bools, rng: np.random.Generator) -> Ints:
    """One tablet in six belongs to the owner of the tablet before it."""
    owner = np.arange(len(tablet))
    with_tablet = np.flatnonzero(tablet)
    lent = np.flatnonzero(rng.random(max(len(with_tablet) - 1, 0)) < 1 / 6)
    owner[with_tablet[lent + 1]] = with_tablet[lent]
    return owner


assert MOOD_ODDS.shape == (2, BLOCKS, len(MOODS))
