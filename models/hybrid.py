"""LightFM on attributes: vectors for items and users that nobody and nothing was seen of yet.

An item is the mean of its attributes' embeddings, a user the mean of those they touched (and of
their own attributes): no identities, so a new item scores as an old one with the same attributes
would. After Kula, "Metadata Embeddings for User and Item Cold-start Recommendations" (2015),
with WARP loss (Weston, Bengio, Usunier, 2011). The door of lightfm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.candidates import Items, Mask, Scores
from engine.compiled import compiled_sum
from engine.taste import Taste
from models.artifact import Artifact, Meta
from models.byte_rows import Floats
from models.index import BY_ITEM, Index, IndexSettings, build_index, open_index

Attributes = Mapping[str, Any]


class HybridSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of LightFM, and which attribute values are worth an embedding."""

    factors: int = 32
    epochs: int = 20
    learning_rate: float = 0.05
    held_by: int = 3  # items or users that must share a value
    most_values: int = 5000
    # A few items by attributes: what is nearly the best will do.
    index: IndexSettings = IndexSettings(rescore=100, probes=32)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What is learned of attribute values."""

    values: Mapping[str, int]  # value -> row
    rows: Floats  # [values, d]

    def mean(self, attributes: Attributes) -> Floats | None:
        """The mean float32 [d] over the known values, or None when there is none."""
        found = [self.values[value] for value in read_values(attributes) if value in self.values]
        return np.asarray(self.rows[found].mean(axis=0), np.float32) if found else None


@dataclass(frozen=True, slots=True)
class Late:
    """Items that came after the fit."""

    items: Items  # [e] rising
    answers: Floats  # [e, d]
    likes: Floats  # [e, d]


class Hybrid:
    """A fitted LightFM; its vectors' first entry is the item's bias, met by a user's 1."""

    name = "hybrid"

    def __init__(
        self,
        settings: HybridSettings,
        index: Index,
        likes: Floats,
        of_items: tuple[Embeddings, Embeddings],
        of_users: Embeddings,
        late: Late | None = None,
    ) -> None:
        """`likes` float32 [n, d]: what touching an item says of a user, zeros for nothing.

        `of_items` are the embeddings of items' attributes on the answer's and the user's side.
        """
        self.settings = settings
        self.index = index
        self._likes = likes
        self._of_items = of_items
        self._of_users = of_users
        width = likes.shape[1]
        self._late = late or Late(
            np.empty(0, np.int32),
            np.empty((0, width), np.float32),
            np.empty((0, width), np.float32),
        )

    def item_vector(self, attributes: Attributes) -> Floats | None:
        """An item's vector float32 [d] from its attributes, or None when none is known."""
        return self._of_items[0].mean(attributes)

    def with_items(self, items: Mapping[int, Attributes]) -> Hybrid:
        """The same model that also knows these items (by dense id), or knows them anew.

        Late items stand beside the index, compared one by one: cheap up to some ten thousands.
        """
        old, width = self._late, self._likes.shape[1]
        told: list[int] = []
        rows: list[Floats] = []  # both sides of each item
        for item, attributes in items.items():
            answer, like = (side.mean(attributes) for side in self._of_items)
            if answer is not None and like is not None:
                told.append(item)
                rows.append(np.stack([answer, like]))
        new = np.array(rows, np.float32).reshape(-1, 2, width)
        kept = ~np.isin(old.items, told)
        late_items = np.concatenate([old.items[kept], np.array(told, np.int32)])
        order = np.argsort(late_items)
        late = Late(
            late_items[order],
            np.concatenate([old.answers[kept], new[:, 0]])[order],
            np.concatenate([old.likes[kept], new[:, 1]])[order],
        )
        return Hybrid(self.settings, self.index, self._likes, self._of_items, self._of_users, late)

    def fitted(self, items: Items) -> Mask:
        """bool [m]: which of the items have a vector of the fit; others need `with_items`."""
        inside: Mask = items < self.index.size
        inside[inside] = self.index.known[items[inside]]
        return inside

    def user(self, taste: Taste) -> Floats | None:
        """The user's vector float32 [d], from their touches and their attributes."""
        own = self._of_users.mean(taste.attributes)
        vector = np.zeros(self._likes.shape[1], np.float32)
        at, is_late = self._find(taste.items)
        total = _add(vector, self._likes, taste.items[~is_late], taste.weights[~is_late])
        total += _add(vector, self._late.likes, at.astype(np.int32), taste.weights[is_late])
        if not total and own is None:
            return None
        if total:
            vector /= np.float32(total)
        if own is not None:
            vector += own
        vector[0] = 1.0
        return vector

    def search(self, user: Floats, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items, best first, with their scores, only such as `allowed` allows."""
        late = self._late.items
        if not len(late):
            return self.index.search(user, k, allowed)
        # One more for each late item that the index knows as it was before.
        early, scores = self.index.search(user, k + int(self.fitted(late).sum()), allowed)
        keep = ~np.isin(early, late)
        late_scores = self._late.answers @ user
        if allowed is not None:
            inside = late < len(allowed)
            inside[inside] = allowed[late[inside]]
            late, late_scores = late[inside], late_scores[inside]
        if len(late) > k:
            first = np.argpartition(-late_scores, k)[:k]
            late, late_scores = late[first], late_scores[first]
        items = np.concatenate([early[keep], late])
        scores = np.concatenate([scores[keep], late_scores])
        best = np.argsort(-scores, kind="stable")[:k]
        return items[best], scores[best]

    def score(self, user: Floats, items: Items) -> Scores:
        """Scores float32 [m] of items [m]; NaN for items without a known attribute."""
        scores = self.index.score(user, items)
        at, is_late = self._find(items)
        scores[is_late] = self._late.answers[at] @ user
        return scores

    def to_artifact(self, item_ids: Sequence[str | None]) -> Artifact:
        """The model as files, without late items; `item_ids` by dense id."""
        (answer, like), own = self._of_items, self._of_users
        settings = {
            **msgspec.to_builtins(self.settings),
            "item_values": list(answer.values),
            "user_values": list(own.values),
        }
        meta = Meta(
            kind=self.name,
            settings=settings,
            by_item=[*BY_ITEM, "likes"],
            items=list(item_ids[: self.index.size]),
        )
        arrays = self.index.arrays() | {
            "likes": self._likes.astype(np.float16),
            "value_answers": answer.rows,
            "value_likes": like.rows,
            "user_values": own.rows,
        }
        return Artifact(meta, arrays)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Hybrid:
        """The model of an artifact."""
        told = dict(artifact.meta.settings)
        of_items = {value: n for n, value in enumerate(told.pop("item_values"))}
        of_users = {value: n for n, value in enumerate(told.pop("user_values"))}
        settings = msgspec.convert(told, HybridSettings)
        arrays = artifact.arrays
        sides = (
            Embeddings(of_items, arrays["value_answers"]),
            Embeddings(of_items, arrays["value_likes"]),
        )
        return cls(
            settings,
            open_index(arrays, settings.index),
            np.asarray(arrays["likes"], np.float32),
            sides,
            Embeddings(of_users, arrays["user_values"]),
        )

    def _find(self, items: Items) -> tuple[NDArray[np.intp], Mask]:
        """Rows among the late items, and which of the items are late."""
        late = self._late.items
        if not len(late):
            return np.empty(0, np.intp), np.zeros(len(items), np.bool_)
        at = np.minimum(np.searchsorted(late, items), len(late) - 1)
        is_late = late[at] == items
        return at[is_late], is_late


@compiled_sum("f4(f4[::1], f4[:,::1], i4[::1], f4[::1])")
def _add(vector: Floats, rows: Floats, items: Items, weights: Floats) -> float:
    """Add the weighted rows of known items to a vector; returns their weights' absolute sum."""
    total = np.float32(0)
    for n in range(len(items)):
        if items[n] >= len(rows):
            continue
        row = rows[items[n]]
        if not np.any(row != 0):
            continue
        total += abs(weights[n])
        for j in range(len(vector)):
            vector[j] += weights[n] * row[j]
    return float(total)


def read_values(attributes: Attributes) -> list[str]:
    """`name=value` for every text, truth value and list of texts among the attributes."""
    found = []
    for name, value in attributes.items():
        several = value if isinstance(value, list) else [value]
        found += [f"{name}={one}" for one in several if isinstance(one, str | bool)]
    return found


def fit(
    interactions: sp.csr_matrix,
    item_attributes: Sequence[Attributes],
    user_attributes: Sequence[Attributes],
    settings: HybridSettings,
    seed: int = 1,
) -> Hybrid:
    """Fit to weights > 0, float32 CSR [users, items], and the attributes of both, in its order."""
    from lightfm import LightFM  # a replica reads this file and needs no lightfm

    of_items = _choose_values(item_attributes, settings)
    of_users = _choose_values(user_attributes, settings)
    held = _shares(item_attributes, of_items)
    touched = _by_row(sp.csr_array(interactions @ held))
    model = LightFM(
        no_components=settings.factors,
        learning_rate=settings.learning_rate,
        loss="warp",
        random_state=seed,
    )
    model.fit(
        _narrow(interactions).tocoo(),
        user_features=_narrow(sp.hstack([touched, _shares(user_attributes, of_users)])),
        item_features=_narrow(held),
        epochs=settings.epochs,
        num_threads=1,  # more would make it another model at every run
    )
    answers = np.hstack([model.item_biases[:, np.newaxis], model.item_embeddings])
    # A user's own bias moves all their scores alike and is left out.
    user_side = np.pad(model.user_embeddings, ((0, 0), (1, 0)))
    of_item_likes, of_user_rows = user_side[: len(of_items)], user_side[len(of_items) :]
    return Hybrid(
        settings,
        build_index(held @ answers, settings.index),
        np.asarray((held @ of_item_likes).astype(np.float16), np.float32),
        (Embeddings(of_items, answers), Embeddings(of_items, of_item_likes)),
        Embeddings(of_users, of_user_rows),
    )


def _choose_values(attributes: Sequence[Attributes], settings: HybridSettings) -> dict[str, int]:
    """The values that enough share, the most frequent first -> row."""
    held = Counter(value for one in attributes for value in set(read_values(one)))
    chosen = [value for value, n in held.most_common() if n >= settings.held_by]
    return {value: n for n, value in enumerate(chosen[: settings.most_values])}


def _shares(attributes: Sequence[Attributes], values: Mapping[str, int]) -> sp.csr_array:
    """float32 [rows, values]: each row's values with equal shares, 1 in all."""
    rows: list[int] = []
    columns: list[int] = []
    for row, one in enumerate(attributes):
        found = [values[value] for value in set(read_values(one)) if value in values]
        rows += [row] * len(found)
        columns += found
    ones = np.ones(len(rows), np.float32)
    shape = (len(attributes), len(values))
    return _by_row(sp.csr_array((ones, (rows, columns)), shape))


def _by_row(matrix: sp.csr_array) -> sp.csr_array:
    """The rows divided by their sums."""
    sums = np.asarray(matrix.sum(axis=1), np.float32).ravel()
    scale = np.divide(1, sums, out=np.zeros(len(sums), np.float32), where=sums > 0)
    return sp.csr_array(sp.diags_array(scale) @ matrix, dtype=np.float32)


def _narrow(matrix: Any) -> sp.csr_matrix:
    """As lightfm takes it: 32-bit indices."""
    rows = sp.csr_matrix(matrix, dtype=np.float32)
    parts = (rows.data, rows.indices.astype(np.int32), rows.indptr.astype(np.int32))
    return sp.csr_matrix(parts, rows.shape)
