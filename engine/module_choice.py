"""Which module next: what a look at each is worth to this person now, and how sure that is.

What a look is worth = how often one leads to something × what that is worth in the module. The
first is a Gamma-Poisson rate, shrunk level by level (Gelman and Hill, "Data Analysis Using
Regression and Multilevel/Hierarchical Models", 2007):

    rate = all × situation × segment × part of the day × person × person in this situation

A ratio is (uses + κ) / (uses expected from the levels above + κ/w): where nothing is known, w,
which is 1 unless the operator says what is `wanted` where.
A use is a look in which something was done, however much: worths scatter so widely that a person's
own would say little for a long time (in trials on two simulated laws uses brought a quarter to a
half more). A module nobody has seen starts below the mean (a pessimistic prior: Bendada, Salha and
Bontempelli, "Carousel Personalization in Music Streaming Apps with Contextual Bandits", RecSys
2020).

Only what is not known of all people is explored: trying out what is not known of one person costs
that person's few visits more than it brings (a fifth of the gain, at curiosity 0.5, in the same
trials).

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
class Doubt:
    """Relative variances of the factors of a rate, float64 as there."""

    whole: Doubles
    situations: Table
    segments: Table
    parts: Table


@dataclass(frozen=True, slots=True)
class Rates:
    """How often looks lead to something, over all people, and what that is worth: float64."""

    whole: Doubles  # [modules]
    situations: Table  # [modules, situations] times the whole
    segments: Table  # [modules, segments] times that
    parts: Table  # [modules, parts of a day] times that
    doubt: Doubt
    value: Doubles  # [modules] of a look in which something was done, in the objective's
    settings: ChoiceSettings


@dataclass(frozen=True, slots=True)
class Here:
    """Where and for whom modules are chosen, as numbers along the tables' axes."""

    situation: int
    segment: int
    part: int


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
        """What a look is worth, in the objective's."""
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
    """Shrink the counts of all people: situations, segments and parts of a day to the whole."""
    looks, used = tables.looks, tables.used
    modules, situations, segments, parts = looks.shape
    if wanted is None:
        wanted = Wanted(np.ones((modules, situations)), np.ones((modules, segments)))
    every = used.sum() / looks.sum() if looks.any() else 1.0
    prior = settings.prior_looks * settings.prior_share * max(every, SMALL)
    shape = used.sum(axis=(1, 2, 3)) + prior
    whole = shape / (looks.sum(axis=(1, 2, 3)) + settings.prior_looks)
    # Each from what the ones before expect: a segment that comes in the morning alone has the
    # morning's ratio already.
    expected = looks * whole[:, None, None, None]
    strengths = settings.situation, settings.segment, settings.part
    beforehand = wanted.situations, wanted.segments, np.ones((modules, parts))
    ratios, shapes = [], []
    for axis, (strength, before) in enumerate(zip(strengths, beforehand, strict=True), 1):
        others = tuple({1, 2, 3} - {axis})
        counted = used.sum(axis=others), expected.sum(axis=others)
        ratio, of_ratio = _ratios(*counted, before, strength)
        ratios.append(ratio)
        shapes.append(of_ratio)
        expected = expected * np.expand_dims(ratio, others)
    doubt = Doubt(1 / shape, 1 / shapes[0], 1 / shapes[1], 1 / shapes[2])
    return Rates(
        whole, ratios[0], ratios[1], ratios[2], doubt, _value(tables, settings.value), settings
    )


def _ratios(used: Table, expected: Table, wanted: Table, strength: float) -> tuple[Table, Table]:
    """Ratios to the expected [modules, k] and their Gamma shapes; a lone group has none.

    Gamma(κ, κ/w) beforehand, of mean w: w times as many as expected.
    """
    if used.shape[1] == 1:
        return np.ones_like(used), np.full_like(used, np.inf)
    shape = used + strength
    return shape / (expected + strength / wanted), shape


def _value(tables: ModuleTables, strength: float) -> Doubles:
    """float64 [modules]: worth of a look in which something was done, shrunk to that of all."""
    used, worth = tables.used.sum(axis=(1, 2, 3)), np.maximum(tables.worth, 0.0)
    every = worth.sum() / used.sum() if used.any() and worth.any() else 1.0
    found: Doubles = (worth + strength * every) / (used + strength)
    return found


def estimate(found: Rates, here: Here, own: Own | None) -> Estimates:
    """For one person and moment; `own` is what they did with each module before."""
    settings = found.settings
    usual = found.whole * found.segments[:, here.segment]
    means = usual * found.situations[:, here.situation] * found.parts[:, here.part]
    doubt = found.doubt
    variances = doubt.whole + doubt.situations[:, here.situation]
    variances = variances + doubt.segments[:, here.segment] + doubt.parts[:, here.part]
    if own is not None and settings.person > 0:
        expected = own.looks * found.situations * usual[:, None]
        uses = own.used.sum(axis=1) + settings.person
        person = uses / (expected.sum(axis=1) + settings.person)
        at_hand = expected[:, here.situation] * person + settings.person_situation
        uses_here = own.used[:, here.situation] + settings.person_situation
        means = means * person * uses_here / at_hand
    spreads = np.maximum(np.sqrt(np.log1p(variances)) * settings.curiosity, SMALL)
    # The draws' mean stays the rate: unsure is wider, not better.
    return Estimates(np.log(np.maximum(means * found.value, SMALL)) - spreads**2 / 2, spreads)


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
    below = np.ones(POINTS)  # the chance that all of the open lie below a point
    lies = np.ones((len(centres), POINTS))  # the same of each
    for k in range(POINTS):
        point = middle + scale * math.sinh(first + k * step)
        for m in range(len(centres)):
            if open_[m]:
                z = (point - centres[m]) / spreads[m]
                lies[m, k] = max(0.5 * math.erfc(-z / math.sqrt(2.0)), 1e-300)
                below[k] *= lies[m, k]
    total = 0.0
    for m in range(len(centres)):
        if open_[m]:
            for k in range(POINTS):
                point = middle + scale * math.sinh(first + k * step)
                z = (point - centres[m]) / spreads[m]
                chance = math.exp(-z * z / 2) * (below[k] / lies[m, k]) / spreads[m]
                found[m] += chance * math.cosh(first + k * step)
            total += found[m]
    for m in range(len(centres)):
        if open_[m]:
            found[m] = (1.0 - explore) * (found[m] / total) + explore / count
    return found
