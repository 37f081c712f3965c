"""Which module next: what a look at each is worth to this person now, and how sure that is.

The worth of a look is a Gamma-Poisson rate, shrunk level by level (Gelman and Hill, "Data Analysis
Using Regression and Multilevel/Hierarchical Models", 2007):

    worth(module, situation, segment, person) = all × situation/all × segment/all
                                                  × person × person in this situation

A ratio is (acts + κ) / (acts expected from the levels above + κ/w): where nothing is known, w,
which is 1 unless the operator says what is `wanted` where. Acts
are worths divided by that of a typical act, so that κ counts acts. A module nobody has seen starts
below the mean (a pessimistic prior: Bendada, Salha and Bontempelli, "Carousel Personalization in
Music Streaming Apps with Contextual Bandits", RecSys 2020).

Thompson sampling (Thompson 1933) gives a slot to a module as often as it is the best one. That
frequency is computed here, by quadrature over log-normal worths, instead of being drawn: so the
chance of every choice is known exactly,

    π(m | above) = (1 − ε)·P(worth of m is the highest of those open) + ε / number open
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.choosing import ChoiceSettings
from engine.compiled import compiled
from engine.module_counts import ModuleTables, Table
from engine.module_history import Own
from engine.situation import Moment

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
POINTS = 48  # of the quadrature
REACH = 5.0  # standard deviations that it covers
SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class Rates:
    """What a look is worth over all people, float64 [modules, situations, segments]."""

    means: Table  # in acts a look
    variances: Table  # relative
    act: float  # worth of a typical act
    settings: ChoiceSettings


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of each module [m]: log of what a look is worth, as a normal distribution."""

    centres: Doubles
    spreads: Doubles

    def rows(self, rows: NDArray[np.intp]) -> Estimates:
        """Some of the modules."""
        return Estimates(self.centres[rows], self.spreads[rows])

    def times(self, factors: Doubles) -> Estimates:
        """Of worths that are so many times as high: float64 [m]."""
        return Estimates(self.centres + np.log(factors), self.spreads)

    @property
    def means(self) -> Doubles:
        """What a look is worth, in acts."""
        return np.exp(self.centres + self.spreads**2 / 2)


class ModuleScorer(Protocol):
    """A model of what a look is worth, fitted to the log: it corrects what is counted."""

    def worth(
        self, modules: Sequence[str], counted: Doubles, moment: Moment, segment: str
    ) -> Doubles:
        """float64 [m], above 0: what a look at each is worth, in the objective's.

        `counted` float64 [m] is that by the counts alone, and stays for a module that the model
        does not know.
        """


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is thought beforehand: times the whole, float64 [modules, situations or segments]."""

    situations: Table
    segments: Table


def rates(tables: ModuleTables, settings: ChoiceSettings, wanted: Wanted | None = None) -> Rates:
    """Shrink the counts of all people: situations and segments towards the whole."""
    if wanted is None:
        modules, situations, segments = tables.looks.shape
        wanted = Wanted(np.ones((modules, situations)), np.ones((modules, segments)))
    looks, worth, square = tables.looks, np.maximum(tables.worth, 0.0), tables.square
    act = float(square.sum() / worth.sum()) if worth.sum() > 0 else 1.0
    acts = worth / act
    every = acts.sum() / looks.sum() if looks.sum() > 0 else 1.0
    prior_acts = settings.prior_looks * settings.prior_share * max(every, SMALL)
    shape = acts.sum(axis=(1, 2)) + prior_acts
    whole = shape / (looks.sum(axis=(1, 2)) + settings.prior_looks)
    expected = looks * whole[:, None, None]
    of_situations = acts.sum(axis=2), expected.sum(axis=2), wanted.situations
    here, here_shape = _ratios(*of_situations, settings.situation)
    # A segment that comes in the morning alone has the morning's ratio already.
    expected = (expected * here[:, :, None]).sum(axis=1)
    of, of_shape = _ratios(acts.sum(axis=1), expected, wanted.segments, settings.segment)
    means = whole[:, None, None] * here[:, :, None] * of[:, None, :]
    variances = 1 / shape[:, None, None] + 1 / here_shape[:, :, None] + 1 / of_shape[:, None, :]
    return Rates(means, variances, act, settings)


def _ratios(acts: Table, expected: Table, wanted: Table, strength: float) -> tuple[Table, Table]:
    """Ratios to the expected [modules, k] and their Gamma shapes; a lone group has none.

    Gamma(κ, κ/w) beforehand, of mean w: an acts' rate of w times the whole.
    """
    if acts.shape[1] == 1:
        return np.ones_like(acts), np.full_like(acts, np.inf)
    shape = acts + strength
    return shape / (expected + strength / wanted), shape


def estimate(found: Rates, situation: int, segment: int, own: Own | None) -> Estimates:
    """For one person and moment; `own` is what they did with each module before."""
    settings = found.settings
    means = found.means[:, situation, segment].copy()
    variances = found.variances[:, situation, segment].copy()
    if own is not None and settings.person > 0:
        acts = np.maximum(own.worth, 0.0) / found.act
        expected = own.looks * found.means[:, :, segment]
        shape = acts.sum(axis=1) + settings.person
        person = shape / (expected.sum(axis=1) + settings.person)
        here_shape = acts[:, situation] + settings.person_situation
        here = here_shape / (expected[:, situation] * person + settings.person_situation)
        means *= person * here
        variances += 1 / shape + 1 / here_shape
    spreads = np.maximum(np.sqrt(np.log1p(variances)) * settings.curiosity, SMALL)
    # The draws' mean stays the rate: unsure is wider, not better.
    return Estimates(np.log(np.maximum(means, SMALL)) - spreads**2 / 2, spreads)


def shares(estimates: Estimates, open_: Flags, explore: float) -> Doubles:
    """float64 [m]: the chance of each open module to get the slot; they sum to 1."""
    return _shares(estimates.centres, estimates.spreads, open_, explore)


@compiled("f8[::1](f8[::1], f8[::1], b1[::1], f8)")
def _shares(centres: Doubles, spreads: Doubles, open_: Flags, explore: float) -> Doubles:
    count, floor = 0, 0
    low, high = -np.inf, -np.inf
    for m in range(len(centres)):
        if open_[m]:
            count += 1
            if centres[m] - REACH * spreads[m] > low:
                low, floor = centres[m] - REACH * spreads[m], m
            high = max(high, centres[m] + REACH * spreads[m])
    found = np.zeros(len(centres))
    if count == 0:
        return found
    # Points lie densely around the module that is surely good, sparsely far above it: one known to
    # a hundredth and one known to a factor of four share a slot. Evenly spread points would pass
    # the first by (its share was wrong by .3), and whatever is narrower there has lost already.
    middle, scale = centres[floor], spreads[floor]
    first = math.asinh((low - middle) / scale)
    step = (math.asinh((high - middle) / scale) - first) / (POINTS - 1)
    below = np.zeros(POINTS)  # log of the chance that all of the open lie below a point
    lies = np.ones((len(centres), POINTS))  # the same of each
    for k in range(POINTS):
        point = middle + scale * math.sinh(first + k * step)
        for m in range(len(centres)):
            if open_[m]:
                z = (point - centres[m]) / spreads[m]
                lies[m, k] = max(0.5 * math.erfc(-z / math.sqrt(2.0)), 1e-300)
                below[k] += math.log(lies[m, k])
    total = 0.0
    for m in range(len(centres)):
        if open_[m]:
            for k in range(POINTS):
                point = middle + scale * math.sinh(first + k * step)
                z = (point - centres[m]) / spreads[m]
                chance = math.exp(below[k] - z * z / 2) / lies[m, k] / spreads[m]
                found[m] += chance * math.cosh(first + k * step)
            total += found[m]
    for m in range(len(centres)):
        if open_[m]:
            found[m] = (1.0 - explore) * (found[m] / total) + explore / count
    return found
