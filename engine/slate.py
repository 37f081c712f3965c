"""Fill a slate slot by slot: rules, diversity, exploration, and exact propensities.

At each slot the pool's values, lowered by what stands above, become a distribution over the items
that the rules still allow:

    π(i | slots above) = (1 − ε)·[i is the best] + ε·softmax(value_i / T)

One draw u per slot from the decision's seed chooses (below ε, u/ε goes on to choose by the
softmax), nothing is rearranged afterwards, and π of the chosen item is its propensity: exact,
whatever the rules did to the pool.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.recommending import SlateSettings

Floats = NDArray[np.float64]
SPREAD_OF = 50  # items of a pool
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
    epsilon = settings.explore if explore else 0.0
    size = min(size, len(values))
    draw = random.Random(seed).random
    draws = np.array([draw() for _ in range(size)])
    main = np.ascontiguousarray(categories[:, 0])
    rules = settings.most_of_category, settings.window
    filled = _fill(values, main, draws, epsilon, settings.temperature, settings.diversity, *rules)
    return [Choice(*slot) for slot in zip(*(column.tolist() for column in filled), strict=True)]


@compiled("f8(f4[::1])")
def _spread(values: NDArray[np.float32]) -> float:
    """The standard deviation of the best.

    Of these alone: else a longer pool, or items that no model knows, far below the rest, would
    widen it, and a slate's first items would depend on how many are asked for.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(np.std(np.sort(finite)[-SPREAD_OF:])) if len(finite) else 0.0


@compiled("i8(f8[::1], f8)")
def _draw(weights: Floats, reach: float) -> int:
    """The row in whose share of the weights' sum `reach` falls; never one of weight 0."""
    reached, last = 0.0, 0
    for n in range(len(weights)):
        reached += weights[n]
        if weights[n] > 0:
            last = n
            if reached > reach:
                break
    return last


@compiled("Tuple((i8[::1], f8[::1], f8[::1]))(f4[::1], i4[::1], f8[::1], f8, f8, f8, i8, i8)")
def _fill(
    values: NDArray[np.float32],
    main: NDArray[np.int32],
    draws: Floats,
    epsilon: float,
    temperature: float,
    diversity: float,
    most: int,
    window: int,
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Rows, values as adjusted and propensities, slot by slot; one draw u in [0, 1) for each."""
    adjusted = np.empty(len(values))  # −∞ where taken
    for n in range(len(values)):
        value = np.float64(values[n])
        adjusted[n] = -2 * WORST if np.isnan(value) else min(max(value, -WORST), WORST)
    spread = _spread(values)
    penalty = diversity * spread
    # Where all values are equal any temperature gives the uniform draw.
    scale = max(temperature * spread, 1e-9)
    rows = np.empty(len(draws), np.int64)
    chosen, propensities = np.empty(len(draws)), np.empty(len(draws))
    weights = np.empty(len(values))
    for slot in range(len(draws)):
        above = rows[max(slot + 1 - window, 0) : slot]
        best, top = -1, -np.inf
        for n in range(len(values)):
            weights[n] = adjusted[n]  # the values, until they are known to be open
            if most and main[n] >= 0:
                same = 0
                for row in above:
                    same += main[row] == main[n]
                if same >= most:
                    weights[n] = -np.inf
            if weights[n] > top:
                best, top = n, weights[n]
        if best < 0:
            return rows[:slot], chosen[:slot], propensities[:slot]
        row, propensity = best, 1.0
        if epsilon > 0:
            total = 0.0
            for n in range(len(values)):
                weights[n] = math.exp((weights[n] - top) / scale)
                total += weights[n]
            if draws[slot] < epsilon:
                row = _draw(weights, draws[slot] / epsilon * total)
            propensity = epsilon * weights[row] / total + (1.0 - epsilon) * (row == best)
        rows[slot], chosen[slot], propensities[slot] = row, adjusted[row], propensity
        adjusted[row] = -np.inf
        if main[row] >= 0:
            for n in range(len(values)):
                if main[n] == main[row]:
                    adjusted[n] -= penalty
    return rows, chosen, propensities
