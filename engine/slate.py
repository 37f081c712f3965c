"""Fill a slate slot by slot: rules, diversity, exploration, and exact propensities.

At each slot the pool's values, lowered by what stands above, become a distribution over the items
that the rules still allow:

    π(i | slots above) = (1 − ε)·[i is the best] + ε·softmax(value_i / T)

One draw u per slot from the decision's seed chooses (below ε, u/ε goes on to choose by the
softmax), nothing is rearranged afterwards, and π of the chosen item is its propensity: exact,
whatever the rules did to the pool.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.recommending import SlateSettings

Floats = NDArray[np.float64]
WORST = 1e30  # stands for −∞ in values, so that −∞ can mean "not open"; NaN stands below it


@dataclass(frozen=True, slots=True)
class Choice:
    """One filled slot: a row of the pool, its value as adjusted there, and its propensity."""

    row: int
    value: float
    propensity: float


def fill(
    values: NDArray[np.float32],
    categories: NDArray[np.int32],
    size: int,
    settings: SlateSettings,
    seed: int,
    explore: bool = True,
) -> list[Choice]:
    """Up to `size` choices out of a pool.

    values      float32 [n], the higher the better; NaN is never chosen before a number
    categories  int32 [n, c] dense category numbers, −1 for none; the first is the main one
    Fewer come back where the rules leave nothing to choose.
    """
    pool = _Pool(values, categories, settings)
    epsilon = settings.explore if explore else 0.0
    draw = random.Random(seed).random
    chosen: list[Choice] = []
    while len(chosen) < min(size, len(values)):
        adjusted = pool.open()
        best = int(adjusted.argmax())
        top = float(adjusted[best])
        if top == -np.inf:
            break
        row, propensity = best, 1.0
        if epsilon:
            weights = np.exp((adjusted - top) / pool.temperature)
            if (u := draw()) < epsilon:
                row = _draw(weights, u / epsilon)
            propensity = epsilon * float(weights[row] / weights.sum())
            if row == best:
                propensity += 1.0 - epsilon
        chosen.append(Choice(row, float(adjusted[row]), propensity))
        pool.take(row)
    return chosen


def _draw(weights: Floats, u: float) -> int:
    """The row in whose share of [0, 1) `u` falls; never one of weight 0."""
    reached = weights.cumsum()
    return int(reached.searchsorted(u * reached[-1], side="right"))  # u < 1, so below the end


class _Pool:
    """What can still be chosen, and how much what stands above takes off."""

    def __init__(
        self, values: NDArray[np.float32], categories: NDArray[np.int32], settings: SlateSettings
    ) -> None:
        self._adjusted: Floats = np.clip(values.astype(np.float64), -WORST, WORST)
        self._adjusted[np.isnan(values)] = -2 * WORST
        numbers = self._adjusted[np.isfinite(values)]
        spread = float(numbers.std()) if len(numbers) else 0.0
        self._penalty = settings.diversity * spread
        # Where all values are equal any temperature gives the uniform draw.
        self.temperature = max(settings.temperature * spread, 1e-9)
        self._main = categories[:, 0] if len(categories) else np.zeros(0, np.int32)
        self._most, self._window = settings.most_of_category, settings.window
        self._above: list[int] = []  # main categories, from the top

    def open(self) -> Floats:
        """float64 [n]: adjusted values; −inf where taken or against a rule."""
        if not self._most:
            return self._adjusted
        above = self._above[max(len(self._above) + 1 - self._window, 0) :]
        full = [c for c in set(above) if c >= 0 and above.count(c) >= self._most]
        if not full:
            return self._adjusted
        adjusted = self._adjusted.copy()
        for category in full:
            adjusted[self._main == category] = -np.inf
        return adjusted

    def take(self, row: int) -> None:
        """The row is chosen: gone from the pool, and a weight on its category."""
        category = int(self._main[row])
        self._above.append(category)
        self._adjusted[row] = -np.inf
        if self._penalty and category >= 0:
            same = self._main == category
            np.subtract(self._adjusted, self._penalty, out=self._adjusted, where=same)
