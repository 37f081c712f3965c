"""What stood on the screen before: the old policy, whose log is confounded, and pure chance.

The old policy pushes what is popular, which it made popular itself, and tilts it by a "how do you
feel?" widget whose answers were never logged. The mood depends on hour and person, and acts on
what is opened: so the log shows an effect of hour and situation that the lists do not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from training.world.arrays import Bools, Floats, Ints
from training.world.people import ADVENTUROUS, COMFORT, MOODS, TIRED
from training.world.recipes import Recipes

PolicyName: TypeAlias = Literal["legacy", "random"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
SLOTS = 8
WIDGET_RIGHT = 0.85  # how often the answer is the mood


@dataclass(frozen=True)
class Slates:
    """Lists of recipes; the old policy kept no propensities."""

    items: Ints  # [n, slots]
    propensity: Floats | None  # [n, slots], of the choice given the slots above


class OldPolicy:
    """Popularity by clicks so far, times a tilt by mood."""

    def __init__(self, recipes: Recipes, rng: np.random.Generator) -> None:
        self._recipes, self._rng = recipes, rng
        self.clicks = rng.gamma(0.5, 6.0, len(recipes)) * (0.3 + recipes.lure)
        tilt = np.ones((len(MOODS), len(recipes)))
        tilt[TIRED] = np.where(recipes.minutes <= 20, 8.0, 0.3)
        tilt[ADVENTUROUS] = np.where(recipes.cuisine >= 6, 6.0, 0.5)
        tilt[COMFORT] = np.where(recipes.hearty, 8.0, 0.2)
        self._tilt = tilt

    def slates(self, at_s: float, mood: Ints) -> Slates:
        """A list for each of these moods, int [n]."""
        n, guess = len(mood), self._guess(mood)
        open_ = np.flatnonzero(self._recipes.available_s <= at_s)
        slots = min(SLOTS, len(open_))
        order = self._rng.permutation(open_)
        chosen = np.empty((n, slots), dtype=np.int64)
        for answer in range(len(MOODS)):
            rows = np.flatnonzero(guess == answer)
            score = (self.clicks[order] + 0.3) ** 0.6 * self._tilt[answer, order]
            chosen[rows] = order[systematic(score, slots, self._rng.random(len(rows)))]
        # The more popular stand higher, more or less: position is confounded as well.
        key = np.log(self.clicks[chosen] + 0.3) + self._rng.gumbel(size=chosen.shape)
        return Slates(np.take_along_axis(chosen, np.argsort(-key, axis=1), axis=1), None)

    def learn(self, items: Ints, clicked: Bools) -> None:
        """Count clicks: what it shows is what becomes popular."""
        np.add.at(self.clicks, items[clicked], 1.0)

    def _guess(self, mood: Ints) -> Ints:
        wrong = self._rng.random(len(mood)) >= WIDGET_RIGHT
        return np.where(wrong, self._rng.integers(len(MOODS), size=len(mood)), mood)


def systematic(score: Floats, slots: int, start: Floats) -> Ints:
    """`slots` different indices a row with chances near to score: int [n, slots].

    Equally spaced points on the cumulated scores; none is wider than the space between them.
    """
    share = score / score.sum()
    for _ in range(4):
        share = np.minimum(share, 0.999 / slots)
        share = share / share.sum()
    edges = np.cumsum(np.minimum(share, 1.0 / slots))
    points = (start[:, None] + np.arange(slots)) / slots * edges[-1]
    return np.asarray(np.minimum(np.searchsorted(edges, points, side="right"), len(score) - 1))


def random_slates(recipes: Recipes, at_s: float, rows: int, rng: np.random.Generator) -> Slates:
    """Any recipes in any order, with the propensity of each given those above it."""
    open_ = np.flatnonzero(recipes.available_s <= at_s)
    slots = min(SLOTS, len(open_))
    chosen = np.empty((rows, slots), dtype=np.int64)
    for row in range(rows):
        chosen[row] = rng.choice(len(open_), slots, replace=False, shuffle=True)
    odds = np.broadcast_to(1.0 / (len(open_) - np.arange(slots)), (rows, slots))
    return Slates(open_[chosen], odds)
