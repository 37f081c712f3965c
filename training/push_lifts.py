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

    Gamma-Poisson ratios of situations and hours, in turn, each beside the other.
    """
    found = Lifts(np.ones(likely.shape[1]), np.ones(HOURS))
    for _ in range(ROUNDS):
        beside = expected * found.hour[hour]
        # An open is laid to the situations by how likely each brought it about: an EM step.
        lift = np.maximum(found.of(likely, hour) / found.hour[hour], LEAST)
        brought = found.situation * (likely.T @ (opened / lift))
        situation = ratios(brought, likely.T @ beside)
        found = Lifts(_mean_one(situation, likely.T @ expected), found.hour)
        beside = expected * (found.of(likely, hour) / found.hour[hour])
        curve = _hours(_per_hour(hour, opened), _per_hour(hour, beside))
        found = Lifts(found.situation, _mean_one(curve, _per_hour(hour, expected)))
    return found


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
    return np.clip(shrink(mean, precision, 1.0), *FARTHEST)


def shrink(means: Doubles, precision: Doubles, to: float) -> Doubles:
    """float64 [groups]: means drawn to one value by their spread beyond chance.

    The spread is estimated by moments (DerSimonian and Laird 1986), less one standard error of
    that: of groups that are alike half would otherwise seem to differ.
    """
    known = int((precision > 0).sum())
    excess = float((precision * (means - to) ** 2).sum()) - known - np.sqrt(2 * known)
    total = max(float(precision.sum()), LEAST)
    between = max(excess, 0.0) / total
    made: Doubles = to + (means - to) * between * precision / (1 + between * precision)
    return made
