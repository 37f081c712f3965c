"""Popularity: decayed counts of acts, overall and by situation.

A category's most popular are `search` with that category's items allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.candidates import Items, Mask, Scores, first_allowed
from engine.compiled import compiled
from engine.taste import Taste
from models.artifact import Artifact, Meta


class PopularSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How fast an act is forgotten, and how much must be known of a situation to go by it."""

    half_life_days: float = 14.0
    overall: float = 20.0  # acts that the overall share counts as, beside a situation's own


class Popular:
    """Shares of all acts, by situation and item; situation 0 is all of them."""

    name = "popular"

    def __init__(self, settings: PopularSettings, shares: NDArray[np.floating]) -> None:
        """`shares` [n, situations]; an item that nobody touched is not known."""
        self.settings = settings
        self._shares: Scores = np.ascontiguousarray(shares.T, np.float32)  # [situations, n]
        self._known: Mask = self._shares[0] > 0
        known = np.flatnonzero(self._known)
        order = np.argsort(-self._shares[:, known], axis=1, kind="stable")
        self._order: Items = known[order].astype(np.int32)  # [situations, known], best first

    def user(self, taste: Taste) -> int:
        """Everyone's popularity, situation 0."""
        return 0

    def here(self, taste: Taste, situation: int) -> int:
        """The popularity of a situation; one not seen in training is everyone's."""
        return situation if 0 <= situation < len(self._shares) else 0

    def search(self, user: int, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items, most popular first, with their shares."""
        order = self._order[user]
        items = order[:k] if allowed is None else first_allowed(order, allowed, k)
        return items, self._shares[user, items]

    def score(self, user: int, items: Items) -> Scores:
        """Shares float32 [m] of items [m]; NaN for items not known."""
        return _look_up(self._shares[user], self._known, items)

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
) -> Popular:
    """Fit to acts: arrays [m] of item, weight (those ≤ 0 count for nothing), age and situation.

    `size` is the number of items, `situations` 0 where it was not known.
    """
    faded = np.maximum(weights, 0) * np.exp2(-age_days / settings.half_life_days)
    last = int(situations.max(initial=0))
    counts = np.zeros((size, last + 1), np.float64)
    np.add.at(counts, (items, situations), faded)
    total = counts.sum(axis=1)
    overall = total / max(total.sum(), np.finfo(np.float64).tiny)
    # Shrunk to the overall share: ten acts in a situation say little about 3,000 items.
    weight = settings.overall
    shares = (counts + weight * overall[:, np.newaxis]) / (counts.sum(axis=0) + weight)
    shares[:, 0] = overall
    return Popular(settings, shares.astype(np.float32))
