"""At which moments pushes do more: lifts of situations and of hours, shrunk to 1.

Opens are many and say how moments compare; effects, which are what counts, are few and noisy. So
lifts are those of opens, moved as far as the effects bear it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from training.push_log import HOURS

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
STRENGTHS = np.geomspace(1.0, 1e5, 26)  # of evidence assumed beside each group's
KERNEL_H = 1.5  # how far an hour speaks for its neighbours
BLOCK = 3  # hours that effects are told apart by
ROUNDS = 12
SURE = 2.0  # standard errors of the mean effect before effects say which moments are better
FARTHEST = (0.2, 5.0)  # a correction
RATIOS_APART = 0.3  # corrections of groups, as a rule
SPREADS = np.geomspace(0.02, 200, 60)  # times what is the rule
LIFTS_APART = 0.5  # logarithms of lifts of situations; push.yaml assumes as much
SPREADS_OF_LIFTS = np.geomspace(0.01, 2.0, 9)
FARTHEST_LOG = 2.5
STEPS = 4  # of Newton's method, from the spread before
LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Lifts:
    """How many times the usual; each 1 on the mean of what was sent."""

    situation: Doubles  # [situations]
    hour: Doubles  # [HOURS]

    def of(self, likely: Doubles, hour: Ints) -> Doubles:
        """float64 [n] of P(situation) [n, situations] and hours [n]."""
        unsure = np.maximum(1 - likely.sum(axis=1), 0.0)
        made: Doubles = (likely @ self.situation + unsure) * self.hour[hour]
        return made


def lifts_of_opens(likely: Doubles, hour: Ints, opened: Doubles, expected: Doubles) -> Lifts:
    """From what was opened [n] and what of these people's messages was expected to be [n].

    Of situations and hours, in turn, each beside the other.
    """
    found = Lifts(np.ones(likely.shape[1]), np.ones(HOURS))
    for _ in range(ROUNDS):
        situation = _situations(likely, expected * found.hour[hour], opened)
        found = Lifts(_mean_one(situation, likely.T @ expected), found.hour)
        beside = expected * (found.of(likely, hour) / found.hour[hour])
        curve = _hours(_per_hour(hour, opened), _per_hour(hour, beside))
        found = Lifts(found.situation, _mean_one(curve, _per_hour(hour, expected)))
    return found


def _situations(likely: Doubles, expected: Doubles, opened: Doubles) -> Doubles:
    """float64 [situations]: opened ~ Poisson(expected · Σ P(situation) · lift), lifts about 1.

    Moments are mixtures of situations, which counts by situation would blur. Logarithms of lifts
    are normal about 0, their spread half-Cauchy as in `shrink`, integrated by Laplace's method.
    """
    unsure = np.maximum(1 - likely.sum(axis=1), 0.0)
    logs, lifts = (
        np.empty(len(SPREADS_OF_LIFTS)),
        np.empty((len(SPREADS_OF_LIFTS), likely.shape[1])),
    )
    at, bend = np.zeros(likely.shape[1]), np.eye(likely.shape[1])
    for row, spread in enumerate(SPREADS_OF_LIFTS):
        for _ in range(STEPS):
            parts = expected[:, np.newaxis] * likely * np.exp(at)
            mean = np.maximum(parts.sum(axis=1) + expected * unsure, LEAST)
            slope = parts.T @ (opened / mean - 1) - at / spread**2
            bend = parts.T @ (parts / mean[:, np.newaxis]) + np.eye(len(at)) / spread**2
            at = np.clip(at + np.linalg.solve(bend, slope), -FARTHEST_LOG, FARTHEST_LOG)
        mean = np.maximum(expected * (likely @ np.exp(at) + unsure), LEAST)
        fit = float((opened * np.log(mean) - mean).sum()) - float(at @ at) / (2 * spread**2)
        volume = len(at) * np.log(spread) + float(np.linalg.slogdet(bend)[1]) / 2
        prior = np.log(spread) - np.log1p((spread / LIFTS_APART) ** 2)
        logs[row], lifts[row] = fit - volume + prior, np.exp(at)
    chance = np.exp(logs - logs.max())
    made: Doubles = (chance / chance.sum()) @ lifts
    return made


def ratios(observed: Doubles, expected: Doubles, mean: Doubles | None = None) -> Doubles:
    """float64 [groups]: (observed + a) / (expected + a), the strength a by marginal likelihood.

    With `mean`, ratios to it: a group of which nothing is known has its mean.
    """
    expected = expected if mean is None else expected * mean
    logs = [
        float(
            (
                gammaln(observed + a)
                - gammaln(a)
                + a * np.log(a / (a + expected))
                + observed * np.log(np.maximum(expected, LEAST) / (a + expected))
            ).sum()
        )
        for a in STRENGTHS
    ]
    strength = float(STRENGTHS[int(np.argmax(logs))])
    made: Doubles = (observed + strength) / (expected + strength)
    return made if mean is None else made * mean


def _hours(observed: Doubles, expected: Doubles) -> Doubles:
    """float64 [HOURS]: all days' curve, then each kind of day's shrunk to it, both smoothed."""
    near, kinds = _near(), (observed.reshape(2, 24), expected.reshape(2, 24))
    whole = ratios(near @ kinds[0].sum(axis=0), near @ kinds[1].sum(axis=0))
    return np.concatenate([ratios(near @ o, near @ e, whole) for o, e in zip(*kinds, strict=True)])


def _near() -> Doubles:
    """float64 [24, 24]: how much an hour speaks for another; 1 for itself."""
    apart = np.abs(np.subtract.outer(np.arange(24), np.arange(24)))
    made: Doubles = np.exp(-0.5 * (np.minimum(apart, 24 - apart) / KERNEL_H) ** 2)
    return made


def corrected(lifts: Lifts, likely: Doubles, hour: Ints, scores: Doubles, left: Doubles) -> Lifts:
    """Lifts of opens, moved to those of effects as far as scores of effects [n] bear it out."""
    found = lifts
    ratio = _correction(likely, found.of(likely, hour) * left, scores)
    situation = _mean_one(found.situation * ratio, likely.sum(axis=0))
    found = Lifts(situation, found.hour)
    block = np.arange(HOURS) // BLOCK
    ratio = _correction(np.eye(HOURS // BLOCK)[block[hour]], found.of(likely, hour) * left, scores)
    return Lifts(found.situation, _mean_one(found.hour * ratio[block], _per_hour(hour)))


def _per_hour(hour: Ints, values: Doubles | None = None) -> Doubles:
    """float64 [HOURS]: sums of values [n], or how many there are."""
    return np.bincount(hour, values, HOURS).astype(np.float64)


def _mean_one(values: Doubles, weights: Doubles) -> Doubles:
    made: Doubles = values * weights.sum() / max(float((values * weights).sum()), LEAST)
    return made


def _correction(groups: Doubles, expected: Doubles, scores: Doubles) -> Doubles:
    """float64 [groups]: effect over what was expected, each over the mean, shrunk to 1.

    Without a mean effect that is sure, ratios to it say nothing.
    """
    weight = groups.T @ expected**2
    whole = float((scores * expected).sum() / max(float((expected**2).sum()), LEAST))
    noise = max(float((scores - whole * expected).var()), LEAST)
    error = np.sqrt(noise / max(float((expected**2).sum()), LEAST))
    if whole < SURE * error:
        return np.ones(groups.shape[1])
    told = weight > LEAST
    mean = np.where(told, (groups.T @ (scores * expected)) / np.maximum(weight, LEAST) / whole, 1.0)
    precision = np.where(told, weight * whole**2 / noise, 0.0)
    return np.clip(shrink(mean, precision, 1.0, RATIOS_APART), *FARTHEST)


def shrink(means: Doubles, precision: Doubles, to: float, apart: float) -> Doubles:
    """float64 [groups]: means drawn to one value, as far as they differ no more than by chance.

    The posterior's mean under a normal spread about that value, the spread's prior half-Cauchy with
    the scale `apart` (Gelman 2006, Prior distributions for variance parameters): of the few groups
    there are here, an estimate of the spread alone would be far too large every so often, and what
    is chosen by value then is what was estimated worst.
    """
    spreads = apart * SPREADS
    known = 1 + np.outer(spreads**2, precision)  # [spreads, groups]
    off = precision * (means - to) ** 2
    logs = -(np.log(known) + off / known).sum(axis=1) / 2 - np.log1p(SPREADS**2)
    # Spreads stand evenly in their logarithm: each speaks for as much as its own size.
    chance = np.exp(logs - logs.max()) * SPREADS
    kept = (chance / chance.sum()) @ (1 - 1 / known)
    made: Doubles = to + (means - to) * kept
    return made
