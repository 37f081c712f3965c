"""Peers for a prequential comparison: what the full road is held against, in this process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.candidates import Retriever
from engine.taste import Taste
from models import factors, item_item
from training.prequential import DEPTH, Contender, Group

# The best of 16 and of 6 on the ratings between 64 % and 80 % of MovieLens latest-small's time,
# fitted to those before: part of what the benchmark imports, none of what it predicts.
ALS = factors.AlsSettings(factors=128, regularization=10, alpha=1)
ITEM_ITEM = item_item.ItemItemSettings()


def peers(touched: sp.csr_matrix, history: Sequence[Group]) -> dict[str, Contender]:
    """Popularity, ALS and item-item, fitted to float32 CSR [users, items]."""
    items = touched.shape[1]
    return {
        "popularity": Popularity(items, history),
        "ALS": Fitted(factors.fit_als(touched, ALS), items, history),
        "item-item": Fitted(item_item.fit(touched, ITEM_ITEM), items, history),
    }


class Popularity:
    """The most touched items so far."""

    def __init__(self, items: int, history: Iterable[Group]) -> None:
        self.counts = np.zeros(items, np.int64)
        self.touched: dict[int, list[int]] = defaultdict(list)  # by user, newest last
        for group in history:
            self.tell(group)

    def rank(self, user: int) -> NDArray[np.int64]:
        """Most touched first, without the user's own."""
        counts = self.counts.copy()
        counts[self.touched[user]] = -1
        return np.argsort(-counts, kind="stable")[:DEPTH]

    def tell(self, group: Group) -> None:
        """Count them."""
        self.counts[list(group.items)] += 1
        self.touched[group.user].extend(group.items)


class Fitted:
    """A model that was fitted once, folding in histories as they grow; then what is popular."""

    def __init__(self, model: Retriever, items: int, history: Iterable[Group]) -> None:
        self._model = model
        self._popular = Popularity(items, history)

    def rank(self, user: int) -> NDArray[np.int64]:
        """By the model; popular items where it knows no more."""
        touched = self._popular.touched[user]
        popular = self._popular.rank(user)
        taste = Taste(np.array(touched, np.int32), np.ones(len(touched), np.float32), {})
        vector: Any = self._model.user(taste)
        if vector is None:
            return popular
        allowed = np.ones(len(self._popular.counts), np.bool_)
        allowed[touched] = False
        found, _ = self._model.search(vector, DEPTH, allowed)
        return np.concatenate([found, popular[~np.isin(popular, found)]])[:DEPTH]

    def tell(self, group: Group) -> None:
        """They are part of the user's history."""
        self._popular.tell(group)


class Constant:
    """One order of some items for everybody."""

    def __init__(self, items: NDArray[np.int64], scores: NDArray[np.floating]) -> None:
        self._order = items[np.argsort(-scores, kind="stable")]

    def rank(self, user: int) -> NDArray[np.int64]:
        """The order."""
        return self._order

    def tell(self, group: Group) -> None:
        """Nothing changes."""


class Chance:
    """Another order of some items at every question."""

    def __init__(self, items: NDArray[np.int64], seed: int) -> None:
        self._items = items
        self._rng = np.random.default_rng(seed)

    def rank(self, user: int) -> NDArray[np.int64]:
        """Any order."""
        return self._rng.permutation(self._items)

    def tell(self, group: Group) -> None:
        """Nothing changes."""


def attribute_popularity(
    counts: NDArray[np.int64], attributes: Sequence[Collection[str]], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How popular each item's attributes are: the mean, over its own, of touches per known item.

    counts int64 [items]; known bool [items]: items that had the chance to be touched.
    """
    touches: dict[str, int] = defaultdict(int)
    holders: dict[str, int] = defaultdict(int)
    for item in np.flatnonzero(known).tolist():
        for value in attributes[item]:
            touches[value] += int(counts[item])
            holders[value] += 1
    worth = {value: touches[value] / holders[value] for value in holders}
    means = [[worth.get(value, 0.0) for value in values] for values in attributes]
    return np.array([float(np.mean(of_item)) if of_item else 0.0 for of_item in means])
