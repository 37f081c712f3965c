"""Item to item: what else was touched by those who touched this, scaled by how popular both are.

The K nearest neighbours of every item by degree-normalised co-occurrence, MᵀM with
M = D_u^−a R D_i^−½ (a = 0: the cosine of Deshpande and Karypis, "Item-based top-N recommendation
algorithms", TOIS 2004; above it, the touches of the very active tell less).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.candidates import Items, Mask, Scores, are_allowed
from engine.compiled import compiled
from engine.places import no_places, slot_of
from engine.taste import Taste
from models.artifact import Artifact, Meta

ROWS_AT_ONCE = 512  # of the items × items product; all of it is 42 million numbers on Gowalla


class ItemItemSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many neighbours, and how degrees are scaled."""

    neighbours: int = 100  # K
    user_power: float = 0.5  # a
    newest: int = 50  # touches that a user is read from


@dataclass(frozen=True, slots=True)
class Near:
    """The items near a user's, each once: what a user is to this model."""

    items: Items  # [m] in the order in which the touches lead to them
    scores: Scores  # [m]
    places: NDArray[np.int32]  # of items; see engine.places


class ItemItem:
    """Neighbours of every item."""

    name = "item_item"

    def __init__(self, settings: ItemItemSettings, near: Items, weights: Scores) -> None:
        """`near` int32 [n, K], −1 for none, and `weights` float32 [n, K], falling, 0 for none."""
        self.settings = settings
        self._near = near
        self._weights = weights

    def similar(self, item: int, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items nearest to one, nearest first."""
        if not 0 <= item < len(self._near):
            return np.empty(0, np.int32), np.empty(0, np.float32)
        items, scores = self._near[item], self._weights[item]
        keep = items >= 0 if allowed is None else (items >= 0) & are_allowed(allowed, items)
        return items[keep][:k], scores[keep][:k]

    def user(self, taste: Taste) -> Near | None:
        """The neighbourhood of the newest touches, or None when no item of them has neighbours."""
        newest = slice(-self.settings.newest, None)
        found = Near(
            *_gather(self._near, self._weights, taste.items[newest], taste.weights[newest])
        )
        return found if len(found.items) else None

    def search(self, user: Near, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k of the user's neighbourhood, best first; those below 0 are left out."""
        items, scores = user.items, user.scores
        keep = scores > 0
        if allowed is not None:
            keep &= are_allowed(allowed, items)
        items, scores = items[keep], scores[keep]
        best = np.argsort(-scores, kind="stable")[:k]
        return items[best], scores[best]

    def score(self, user: Near, items: Items) -> Scores:
        """Scores float32 [m] of items [m]; 0 outside the neighbourhood, NaN where not known."""
        return _look_up(user.items, user.scores, user.places, self._near, items)

    def to_artifact(self, item_ids: Sequence[str | None]) -> Artifact:
        """The model as files; `item_ids` by dense id."""
        meta = Meta(
            kind=self.name,
            settings=msgspec.to_builtins(self.settings),
            by_item=["near", "weights"],
            of_items=["near"],
            items=list(item_ids[: len(self._near)]),
        )
        return Artifact(meta, {"near": self._near, "weights": self._weights.astype(np.float16)})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> ItemItem:
        """The model of an artifact."""
        settings = msgspec.convert(artifact.meta.settings, ItemItemSettings)
        near = np.asarray(artifact.arrays["near"], np.int32)
        return cls(settings, near, np.asarray(artifact.arrays["weights"], np.float32))


def fit(interactions: sp.csr_matrix, settings: ItemItemSettings) -> ItemItem:
    """Fit to weights > 0, float32 CSR [users, items]."""
    active = np.asarray(interactions.sum(axis=1), np.float32).ravel()
    scaled = sp.csr_array(sp.diags_array(_power(active, -settings.user_power)) @ interactions)
    length = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=0), np.float32).ravel())
    scaled = sp.csr_array(scaled @ sp.diags_array(_power(length, -1)))
    transposed = sp.csr_array(scaled.T)
    size, width = interactions.shape[1], settings.neighbours
    near = np.full((size, width), -1, np.int32)
    weights = np.zeros((size, width), np.float32)
    for start in range(0, size, ROWS_AT_ONCE):
        block = sp.csr_array(transposed[start : start + ROWS_AT_ONCE] @ scaled)
        for row in range(block.shape[0]):
            span = slice(block.indptr[row], block.indptr[row + 1])
            items, values = block.indices[span], block.data[span]
            values = np.where(items == start + row, np.float32(0), values)
            best = np.argsort(-values, kind="stable")[:width]
            best = best[values[best] > 0]
            near[start + row, : len(best)] = items[best]
            weights[start + row, : len(best)] = values[best]
    return ItemItem(settings, near, weights.astype(np.float16).astype(np.float32))


@compiled("Tuple((i4[::1], f4[::1], i4[::1]))(i4[:,::1], f4[:,::1], i4[::1], f4[::1])")
def _gather(
    near: Items, weights: Scores, touched: Items, touches: Scores
) -> tuple[Items, Scores, NDArray[np.int32]]:
    """The neighbours of what was touched, scores added up, and the table of their places."""
    most = len(touched) * near.shape[1]
    places = no_places(most)
    items, scores = np.empty(most, np.int32), np.empty(most, np.float32)
    count = 0
    for t in range(len(touched)):
        if touched[t] >= len(near):
            continue
        for j in range(near.shape[1]):
            item = near[touched[t], j]
            if item < 0:
                continue
            slot = slot_of(places, items, item)
            if places[slot] < 0:
                places[slot] = count
                items[count], scores[count] = item, 0
                count += 1
            scores[places[slot]] += touches[t] * weights[touched[t], j]
    return items[:count].copy(), scores[:count].copy(), places


@compiled("f4[::1](i4[::1], f4[::1], i4[::1], i4[:,::1], i4[::1])")
def _look_up(
    found: Items, scores: Scores, places: NDArray[np.int32], near: Items, items: Items
) -> Scores:
    """float32 [m]: the scores of items [m]; 0 where not found, NaN where without neighbours."""
    told = np.empty(len(items), np.float32)
    for n in range(len(items)):
        item = items[n]
        if item < 0 or item >= len(near) or near[item, 0] < 0:
            told[n] = np.nan
            continue
        place = places[slot_of(places, found, item)]
        told[n] = scores[place] if place >= 0 else 0
    return told


def _power(values: Scores, power: float) -> Scores:
    raised = np.zeros(len(values), np.float32)
    np.power(values, power, out=raised, where=values > 0)
    return raised
