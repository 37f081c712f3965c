"""What changes in people: tastes, satiation, goodwill, absences, pushes they remember."""

from __future__ import annotations

import numpy as np

from training.world.appeal import Need
from training.world.arrays import DAY_S, Floats, Ints
from training.world.laws import Law
from training.world.moments import Moments
from training.world.people import People
from training.world.recipes import CUISINES

REMEMBERED = 12  # recipes opened
PUSHES = 10  # remembered
FULL_GOODWILL = 1.1
LEAST_GOODWILL = 0.15


class Lives:
    """Columns over persons, and over accounts for pushes; the only thing that changes."""

    def __init__(self, people: People, law: Law) -> None:
        persons = len(people)
        self._people, self._law = people, law
        self.liking = people.liking.copy()
        self.satiation = np.zeros((persons, len(CUISINES)))
        self.recent = np.full((persons, REMEMBERED), -1)
        self.goodwill = np.full(persons, 0.9)
        self.away_until_s = np.zeros(persons)
        self.visited_s = np.zeros(people.accounts)  # their last visit
        self.pushed_s = np.full((people.accounts, PUSHES), -np.inf)
        self.push_off = np.zeros(people.accounts, dtype=np.bool_)
        self.visitor = people.visitor.copy()

    def sleep(self, day: int, rng: np.random.Generator) -> None:
        """A night: tastes drift, satiation fades, goodwill drifts back to the usual."""
        self.liking = self._law.change(self.liking, self._people.liking, day, rng)
        self.satiation *= np.exp(-1.0 / self._law.satiation_days)
        self.goodwill += 0.02 * (0.9 - self.goodwill)

    def need(self, moments: Moments) -> Need:
        """What acts on the choices of these moments."""
        people, person = self._people, moments.person
        since_shop = (moments.weekday - people.shop_day[person]) % 7
        return Need(
            liking=self.liking[person] * (1.0 - self.satiation[person]),
            ingredients=people.ingredients[person],
            order=people.aspects[person],
            diet=people.diet[person],
            household=people.household[person],
            novelty=people.novelty[person],
            minutes=people.budget[person, moments.weekend],
            since_shop=since_shop if self._law.situation_matters else np.full_like(since_shop, 3),
            recent=self.recent[person],
            block=moments.block,
            purpose=moments.purpose,
            mood=moments.mood,
            guests=moments.guests,
        )

    def tire(self, person: Ints, item: Ints, cuisine: Ints, weight: Floats) -> None:
        """They opened (or cooked) a recipe; each person at most once in a call."""
        eaten = self.satiation[person, cuisine]
        self.satiation[person, cuisine] = eaten + self._law.satiation * weight * (1.0 - eaten)
        self.recent[person] = np.roll(self.recent[person], 1, axis=1)
        self.recent[person, 0] = item

    def feel(self, person: Ints, change: Floats) -> None:
        """Goodwill gained and lost; each person at most once in a call."""
        now = self.goodwill[person] + change
        self.goodwill[person] = np.clip(now, LEAST_GOODWILL, FULL_GOODWILL)

    def fatigue(self, account: Ints, at_s: Floats) -> Floats:
        """How tired of pushes, 0–1: float [n]."""
        age = np.maximum(at_s[:, None] - self.pushed_s[account], 0.0) / DAY_S
        weight = np.where(np.isfinite(age), self._law.load(np.where(age < 1e6, age, 1e6)), 0.0)
        return np.asarray(np.minimum(self._law.push_load * weight.sum(axis=1), 1.0))
