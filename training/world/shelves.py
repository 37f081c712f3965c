"""Which recipes stand in the modules of a day: the module's filter, popularity, a person's past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.world.arrays import DAY_S, Bools, Floats, Ints
from training.world.core import Core, generator
from training.world.moments import Moments
from training.world.reaction import chances
from training.world.recipes import COURSES, CUISINES, Recipes

ASKED = 300  # people whose tastes make a recipe popular
FRONT = 40  # popular recipes of a module, of which each account is shown those it may like
IMPERSONAL = ("new_this_week", "popular_now")  # the same for all
TURNS = 64  # rows that an impersonal module shows on a day
NEWEST = 40
FOUND = 24  # recipes that someone came across, of which they opened or listed the best
SAVED, OPENED, LISTED = 0.65, 0.55, 0.4  # share of people who have saved, just opened, listed some
PAST = {"continue_cooking": OPENED, "shopping_list": LISTED}
AT_MOST = 4  # recipes just opened or listed


class Shelves:
    """The rows of one day's modules."""

    def __init__(self, core: Core, day_s: float, modules: Sequence[str], width: int) -> None:
        self._core, self._modules, self._width = core, modules, width
        self._rng = generator(core.seed, "shelves", core.day)
        self._open = core.recipes.available_s <= day_s
        self._popular = self._popularity(day_s)
        self._pools = {m: self._pool(suits(core.recipes, m, day_s)) for m in modules}
        of_cuisine = [self._pool(core.recipes.cuisine == n) for n in range(len(CUISINES))]
        self._cuisines = np.stack([self._turns(pool) for pool in of_cuisine])
        # What was opened lately is remembered: worth less to some, more to others.
        self._past = {module: self._found(share, day_s) for module, share in PAST.items()}
        core.lives.recent[:] = -1
        core.lives.recent[:, :AT_MOST] = self._past["continue_cooking"]

    def of(self, moments: Moments) -> Ints:
        """Recipes of each module at each moment: int [n, m, width], −1 where a row has ended."""
        items = np.full((len(moments), len(self._modules), self._width), -1)
        for place, module in enumerate(self._modules):
            row = self._row(module, moments)
            items[:, place, : row.shape[1]] = row
        return items

    def _row(self, module: str, moments: Moments) -> Ints:
        if module in PAST:
            return self._past[module][moments.person, : self._width]
        turn = self._rng.integers(TURNS, size=len(moments))
        if module == "because_you_saved":
            cuisine = saved_cuisine(self._core)[moments.person]
            return np.where(cuisine[:, None] < 0, -1, self._cuisines[cuisine, turn])
        if module in IMPERSONAL:
            return self._turns(self._pools[module])[turn]
        return self._personal(self._pools[module], moments)

    def _popularity(self, day_s: float) -> Floats:
        core = self._core
        some = self._rng.choice(len(core.people), min(ASKED, len(core.people)), replace=False)
        asked = core.moments(some, day_s - self._rng.random(len(some)) * DAY_S, self._rng)
        every = np.arange(len(core.recipes))[None, :]
        liked = chances(core.law, core.recipes, core.lives.need(asked), every).value
        return np.asarray(liked.mean(axis=0))

    def _pool(self, belongs: Bools) -> Ints:
        """The most popular of those that belong."""
        pool = np.flatnonzero(belongs & self._open)
        return pool[np.argsort(-self._popular[pool], kind="stable")][:FRONT]

    def _turns(self, pool: Ints) -> Ints:
        """Rows from a pool: int [turns, width]."""
        order = np.argsort(self._rng.random((TURNS, len(pool))), axis=1)[:, : self._width]
        rows = np.full((TURNS, self._width), -1)
        rows[:, : order.shape[1]] = pool[order]
        return rows

    def _personal(self, pool: Ints, moments: Moments) -> Ints:
        """What is popular of the cuisines that the account's owner likes, and may eat."""
        core = self._core
        owner = core.people.account[moments.person]
        score = self._popular[pool] * core.lives.liking[owner][:, core.recipes.cuisine[pool]]
        score = score * self._rng.uniform(0.4, 1.0, score.shape)
        score = np.where(core.recipes.diet[pool] <= core.people.diet[owner, None], score, 0.0)
        return pool[np.argsort(-score, axis=1)[:, : self._width]]

    def _found(self, share: float, day_s: float) -> Ints:
        """What everyone opened or listed lately, the best of what they came across: −1 for none."""
        core, rng = self._core, self._rng
        everyone = np.arange(len(core.people))
        then = core.moments(everyone, day_s - rng.random(len(everyone)) * DAY_S, rng)
        pool = np.flatnonzero(self._open)
        items = pool[rng.integers(len(pool), size=(len(everyone), FOUND))]
        click = chances(core.law, core.recipes, core.lives.need(then), items).click
        best = np.argsort(-click, axis=1)[:, :AT_MOST]
        count = np.where(
            rng.random(len(everyone)) < share, rng.integers(1, AT_MOST + 1, len(everyone)), 0
        )
        chosen = np.take_along_axis(items, best, axis=1)
        return np.where(np.arange(AT_MOST) < count[:, None], chosen, -1)


def saved_cuisine(core: Core) -> Ints:
    """The cuisine of which each person has saved recipes, −1 for none: int [persons]."""
    rng, people = generator(core.seed, "saved"), core.people
    favourite = (people.liking * rng.random(people.liking.shape)).argmax(axis=1)
    return np.where(rng.random(len(people)) < SAVED, favourite, -1)


def suits(recipes: Recipes, module: str, day_s: float) -> Bools:
    """Which recipes a module may hold, whoever it is for: bool [recipes]."""
    if module == "new_this_week":
        out = recipes.available_s <= day_s
        newest = np.argsort(np.where(out, -recipes.available_s, np.inf), kind="stable")[:NEWEST]
        return np.asarray(np.isin(np.arange(len(recipes)), newest))
    wanted = {
        "quick": recipes.minutes <= 25,
        "weekend_projects": recipes.minutes >= 60,
        "desserts": recipes.course == COURSES.index("dessert"),
        "breakfast": recipes.course == COURSES.index("breakfast"),
        "pantry": recipes.spoils <= 0.2,
        "for_guests": (recipes.servings >= 4) & recipes.showy,
    }
    return np.asarray(wanted.get(module, np.ones(len(recipes), dtype=np.bool_)))
