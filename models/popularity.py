"""Popularity: decayed counts of acts, overall and by situation.

A category's most popular are `search` with that category's items allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.candidates import Items, Mask, Scores, first_allowed
from engine.compiled import compiled
from engine.situation import Moment
from engine.state import SURE
from engine.taste import Taste
from models.artifact import Artifact, Meta
from models.lifts import fit_lifts


class PopularSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How fast an act is forgotten, and how much must be known of a situation to go by it."""

    half_life_days: float = 14.0
    own: float = 20.0  # acts on an item in a situation that are half believed beside its attributes
    strength: float = 10.0  # of the prior that an attribute's weight is 0; see models.lifts


@dataclass(frozen=True, slots=True)
class Here:
    """What is asked of popularity."""

    situation: int  # whose order is taken
    weights: Scores  # [situations] how likely each is, everyone's where it is not known


class Popular:
    """Shares of all acts, by situation and item; situation 0 is all of them."""

    name = "popular"

    def __init__(self, settings: PopularSettings, shares: NDArray[np.floating]) -> None:
        """`shares` [n, situations]; an item that nobody touched is not known."""
        self.settings = settings
        self._shares: Scores = np.ascontiguousarray(shares.T, np.float32)  # [situations, n]
        self._known: Mask = self._shares[0] > 0
        ratio = self._shares / np.where(self._known, self._shares[0], 1)
        self._lifts: Scores = np.ascontiguousarray(ratio.T)  # [n, situations]
        known = np.flatnonzero(self._known)
        order = np.argsort(-self._shares[:, known], axis=1, kind="stable")
        self._order: Items = known[order].astype(np.int32)  # [situations, known], best first

    def user(self, taste: Taste) -> Here:
        """Everyone's popularity, situation 0."""
        return Here(0, np.eye(1, len(self._shares), dtype=np.float32)[0])

    def here(self, moment: Moment) -> Here:
        """The popularity of the situations it may be; one not seen in training is everyone's."""
        weights = np.zeros(len(self._shares), np.float32)
        told = np.array(moment.probabilities[1 : len(weights)], np.float32)
        weights[1 : 1 + len(told)] = told
        weights[0] = max(1 - told.sum(), 0)
        sure = moment.confidence >= SURE and moment.situation < len(self._shares)
        return Here(moment.situation if sure else 0, weights)

    def search(self, user: Here, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items, most popular first in the likeliest situation, with their shares."""
        order = self._order[user.situation]
        items = order[:k] if allowed is None else first_allowed(order, allowed, k)
        return items, self.score(user, items)

    def score(self, user: Here, items: Items) -> Scores:
        """Shares float32 [m] of items [m]; NaN for items not known."""
        shares = _look_up(self._shares[0], self._known, items)
        return shares * self._lift(user, items)

    def lift(self, here: Here, items: Items) -> Scores:
        """float32 [m]: log of an item's share here over everyone's; NaN for items not known."""
        unknown = _look_up(self._shares[0], self._known, items)
        with np.errstate(divide="ignore"):
            return np.where(np.isnan(unknown), np.nan, np.log(self._lift(here, items)))

    def _lift(self, user: Here, items: Items) -> Scores:
        if user.weights[0] == 1:
            return np.ones(len(items), np.float32)
        inside = np.clip(items, 0, len(self._lifts) - 1)
        found: Scores = self._lifts[inside] @ user.weights
        return found

    def to_artifact(self, item_ids: Sequence[str | None]) -> Artifact:
        """The model as files; `item_ids` by dense id."""
        meta = Meta(
            kind=self.name,
            settings=msgspec.to_builtins(self.settings),
            by_item=["shares"],
            items=list(item_ids[: len(self._known)]),
        )
        return Artifact(meta, {"shares": self._shares.T})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Popular:
        """The model of an artifact."""
        settings = msgspec.convert(artifact.meta.settings, PopularSettings)
        return cls(settings, artifact.arrays["shares"])


@compiled("f4[::1](f4[::1], b1[::1], i4[::1])")
def _look_up(shares: Scores, known: Mask, items: Items) -> Scores:
    told = np.empty(len(items), np.float32)
    for n in range(len(items)):
        item = items[n]
        inside = 0 <= item < len(known) and known[item]
        told[n] = shares[item] if inside else np.nan
    return told


def fit(
    items: Items,
    weights: Scores,
    age_days: NDArray[np.floating],
    situations: NDArray[np.integer],
    size: int,
    settings: PopularSettings,
    attributes: sp.csr_matrix | None = None,
) -> Popular:
    """Fit to acts: arrays [m] of item, weight (those ≤ 0 count for nothing), age and situation.

    `size` is the number of items, `situations` 0 where it was not known; `attributes` CSR
    [items, values] say what items have in common (models.lifts.attribute_rows).
    """
    faded = np.maximum(weights, 0) * np.exp2(-age_days / settings.half_life_days)
    last = int(situations.max(initial=0))
    overall = _sums(items, faded, size)
    overall /= max(overall.sum(), np.finfo(np.float64).tiny)
    # In a situation acts are counted, not weighed: a few that weigh ten are not ten times known.
    acts = (weights > 0) * np.exp2(-age_days / settings.half_life_days)
    counts = np.stack([_sums(items, acts * (situations == s), size) for s in range(last + 1)], 1)
    at_large = counts.sum(axis=1) / max(counts.sum(), np.finfo(np.float64).tiny)
    lifts = np.ones_like(counts)
    if attributes is not None:
        lifts = fit_lifts(attributes, counts, at_large, settings.strength)
    # Gamma-Poisson: an item's own acts count beside what its attributes let expect of it.
    expected = counts.sum(axis=0) * at_large[:, np.newaxis] * lifts
    lifts *= (counts + settings.own) / (expected + settings.own)
    lifts[:, 0] = 1
    return Popular(settings, (overall[:, np.newaxis] * lifts).astype(np.float32))


def _sums(items: Items, weights: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    return np.bincount(items, weights, size).astype(np.float64)
