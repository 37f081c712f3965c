"""The effect of a treatment by cell (category × situation), shrunk towards the effect over all.

Used where no uplift model has proved itself. Cells with much evidence keep what they showed, cells
with little are near the mean of all: empirical Bayes for normal means (Morris 1983), with the
spread of true effects between cells found by DerSimonian and Laird's moments (1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
# Rows' worth of the scatter over all that a cell starts with: a cell where nobody answered yet
# would otherwise seem to know its effect exactly.
PRIOR_ROWS = 20.0


@dataclass(frozen=True, slots=True)
class ShrunkEffects:
    """Outcomes per treatment, by cell; cells without both arms have what is known of all cells."""

    mean: Doubles  # [cells]
    deviation: Doubles  # [cells], of the posterior
    overall: float  # mean of the cells' effects
    overall_deviation: float
    spread: float  # standard deviation of the true effects between cells


def shrunk_effects(
    cells: Ints, treated: Flags, propensity: Doubles, outcome: Doubles, users: Ints, count: int
) -> ShrunkEffects:
    """Effects of `count` cells, numbered from 0, from decisions made at random [n].

    Raises InvalidInput where no cell has seen both arms.
    """
    arms = [np.bincount(cells[arm], minlength=count) > 0 for arm in (treated, ~treated)]
    known = arms[0] & arms[1]
    if not known.any():
        raise InvalidInput("cells", "expected a cell with treated decisions and others")
    raw, squares = _differences(cells, treated, propensity, outcome, count)
    squares = squares * _design_effect(treated, propensity, outcome, users)
    spread = _spread(raw[known], squares[known])
    trust = np.divide(1.0, squares + spread, out=np.zeros(count), where=known)
    overall = float((trust[known] * raw[known]).sum() / trust.sum())
    of_overall = float(1 / trust.sum())
    # Share of a cell's own evidence; what is left is the overall effect's, with its own doubt.
    own = spread * trust
    mean = np.where(known, own * np.where(known, raw, 0.0) + (1 - own) * overall, overall)
    variance = (1 - own) * spread + np.square(1 - own) * of_overall
    return ShrunkEffects(
        mean, np.sqrt(variance), overall, float(np.sqrt(of_overall)), float(np.sqrt(spread))
    )


def _differences(
    cells: Ints, treated: Flags, propensity: Doubles, outcome: Doubles, count: int
) -> tuple[Doubles, Doubles]:
    """float64 [cells] each: difference of weighted means, NaN without both arms; its variance."""
    means, squares = _arm(cells, treated / propensity, outcome, count)
    others, of_others = _arm(cells, ~treated / (1 - propensity), outcome, count)
    return means - others, squares + of_others


def _arm(cells: Ints, weights: Doubles, outcome: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """float64 [cells] each: the weighted mean outcome of one arm and its variance; NaN if empty."""
    sums = np.bincount(cells, weights, count)
    sums[sums == 0] = np.nan
    rows = np.square(sums) / np.bincount(cells, np.square(weights), count)
    means = np.bincount(cells, weights * outcome, count) / sums
    over_all = float(weights @ outcome) / float(weights.sum())
    scatter_over_all = float(weights @ np.square(outcome - over_all)) / float(weights.sum())
    # A row of the other arm weighs nothing, even where its cell has no mean.
    residuals = np.where(weights > 0, outcome - means[cells], 0.0)
    scatter = np.bincount(cells, weights * np.square(residuals), count) / sums * rows
    scatter = (scatter + PRIOR_ROWS * scatter_over_all) / (rows + PRIOR_ROWS)
    return means, scatter / rows


def _design_effect(treated: Flags, propensity: Doubles, outcome: Doubles, users: Ints) -> float:
    """By how much a user's decisions going together widens the effect's variance; at least 1."""
    residuals = np.zeros(len(users))
    for arm, chance, sign in ((treated, propensity, 1.0), (~treated, 1 - propensity, -1.0)):
        weights = arm / chance
        mean = float(weights @ outcome) / float(weights.sum())
        residuals += sign * weights * (outcome - mean) / float(weights.sum())
    _, who = np.unique(users, return_inverse=True)
    alone = float(np.square(residuals).sum())
    return max(float(np.square(np.bincount(who, residuals)).sum()) / alone, 1.0) if alone else 1.0


def _spread(raw: Doubles, squares: Doubles) -> float:
    """Variance of true effects between cells, at least 0 (DerSimonian and Laird 1986)."""
    if len(raw) < 2 or not (squares > 0).all():
        return 0.0
    trust = 1 / squares
    mean = float((trust * raw).sum() / trust.sum())
    excess = float((trust * np.square(raw - mean)).sum()) - (len(raw) - 1)
    return max(excess / float(trust.sum() - np.square(trust).sum() / trust.sum()), 0.0)
