"""What the context model has to beat: a linear model of everything the phone told, and the clock.

Both are given the same people, minutes and folds. The linear model is the one that the data's
authors published, balanced logistic regression, here on all of the phone's features, of which
several (altitude, air pressure, extent of the day's places) are none that a `device` may carry.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.boosting import BinarySettings, fit_binary
from training.context import SEED, Flags, Material, person_weights

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
EVERY = 2  # minutes, in the fit
_Tell = Callable[[Flags, Flags, Doubles], Doubles]  # learned, judged, truth → logits
RIDGE = 1.0
ROUNDS = 12  # of Newton's method
FARTHEST = 10.0  # standard deviations that a feature counts


def linear(source: Material, label: int) -> Doubles:
    """float64 [n]: the logit of a balanced logistic regression without a person's fold."""

    def tell(learned: Flags, judged: Flags, truth: Doubles) -> Doubles:
        mean, std = moments(source.minutes.phone[learned])
        read = [standard(source.minutes.phone[of], mean, std) for of in (learned, judged)]
        return read[1] @ fit_logistic(read[0], truth)

    return _cross_validated(source, label, tell)


def clock(source: Material, label: int) -> Doubles:
    """float64 [n]: the logit of trees that read local hour and weekday, without a person's fold."""
    read = np.stack((source.minutes.hours, source.minutes.weekdays), axis=1).astype(np.float32)
    settings = BinarySettings(columns=1.0, rows_in_leaf=300)

    def tell(learned: Flags, judged: Flags, truth: Doubles) -> Doubles:
        weights = person_weights(source.minutes.users[learned])
        trees = fit_binary(read[learned], truth.astype(np.float32), weights, settings, SEED)
        return trees.logits(read[judged])

    return _cross_validated(source, label, tell)


def _cross_validated(source: Material, label: int, tell: _Tell) -> Doubles:
    """float64 [n] of left-out people; `tell` is asked once for every fold."""
    of_fold, truth = source.minutes.folds, source.truth[:, label]
    told = np.full(len(truth), np.nan)
    for fold in np.unique(of_fold):
        learned = (of_fold != fold) & (truth >= 0)
        learned[np.flatnonzero(learned)[1::EVERY]] = False
        judged = of_fold == fold
        told[judged] = tell(learned, judged, truth[learned].astype(np.float64))
    return told


def moments(phone: Floats) -> tuple[Doubles, Doubles]:
    """Mean and deviation of each feature where it is known; 0 and 1 where it never is."""
    known = ~np.isnan(phone)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, phone, 0.0).sum(axis=0, dtype=np.float64) / count
    spread = np.where(known, phone - mean, 0.0)
    std = np.sqrt((spread**2).sum(axis=0) / count)
    return mean, np.where(std > 0, std, 1.0)


def standard(phone: Floats, mean: Doubles, std: Doubles) -> Doubles:
    """float64 [n, 1 + features]: a constant, then features in deviations; a missing one is 0."""
    scaled = np.nan_to_num((phone - mean) / std, nan=0.0)
    made: Doubles = np.concatenate(
        (np.ones((len(phone), 1)), np.clip(scaled, -FARTHEST, FARTHEST)), axis=1
    )
    return made


def fit_logistic(read: Doubles, truth: Doubles) -> Doubles:
    """float64 [columns]: ridge logistic regression, yes and no of equal weight in all."""
    share = float(truth.mean())
    weights = np.where(truth == 1, 0.5 / share, 0.5 / (1 - share))
    ridge = np.full(read.shape[1], RIDGE)
    ridge[0] = 1e-6
    found = np.zeros(read.shape[1])
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(read @ found, -30, 30)))
        spread = weights * np.maximum(chance * (1 - chance), 1e-6)
        gradient = read.T @ (weights * (chance - truth)) + ridge * found
        step = np.linalg.solve((read * spread[:, None]).T @ read + np.diag(ridge), gradient)
        found -= step
        if np.abs(step).max() < 1e-3:
            break
    return found
