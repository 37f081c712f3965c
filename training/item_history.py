"""Item counters as they stood: the catalogue walked through time, along with the acts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.catalog import Catalog
from training.history import History

HOUR_MS = 3_600_000


class ItemHistory:
    """The catalogue at a time: counters exactly, its orders (popular, fresh) to the hour.

    Attributes are those of now. An item stands in it from its birth, unless someone acted on it
    before: then its event came late, and when it was born is not known.
    """

    def __init__(self, history: History, action_weights: NDArray[np.float32]) -> None:
        acts, shown = history.acts, history.shown
        of_items = acts.item >= 0
        item = np.concatenate([acts.item[of_items], shown.item])
        column = np.concatenate([acts.term[of_items] + 1, np.zeros(len(shown.item), np.int32)])
        at_ms = np.concatenate([acts.at_ms[of_items], shown.at_ms])
        order = np.argsort(at_ms, kind="stable")
        self._item, self._column, self._at_ms = item[order], column[order], at_ms[order]
        self._action_weights = action_weights
        self.catalog = history.catalog
        columns = history.catalog.columns
        columns.count(0, int(column.max(initial=0)), 0)  # as wide as it will ever be
        _be_born(history)
        self._start = columns.counts.copy()
        self._upto = 0
        self._at = 0
        self._ranked_at = -HOUR_MS

    def at(self, at_ms: int) -> Catalog:
        """The catalogue just before a time; cheap where times rise."""
        columns = self.catalog.columns
        if at_ms < self._at:
            columns.counts[:] = self._start
            self._upto, self._ranked_at = 0, -HOUR_MS
        self._at = at_ms
        upto = int(np.searchsorted(self._at_ms, at_ms))
        new = slice(self._upto, upto)
        np.add.at(columns.counts, (self._item[new], self._column[new]), 1)
        self._upto = upto
        if at_ms - self._ranked_at >= HOUR_MS:
            columns.rank(self._action_weights, at_ms)
            self._ranked_at = at_ms
        return self.catalog


def _be_born(history: History) -> None:
    acts, columns = history.acts, history.catalog.columns
    first = np.full(len(columns.born_ms), np.iinfo(np.int64).max)
    of_items = acts.item >= 0
    np.minimum.at(first, acts.item[of_items], acts.at_ms[of_items])
    told = first >= columns.born_ms
    columns.from_ms[told] = np.maximum(columns.from_ms[told], columns.born_ms[told])
