"""The catalogue as columns, by dense item id: what a request reads of thousands of items at once.

One thread writes (the follower's); requests read. A column that has to grow is replaced by a longer
copy, so whoever holds the old one reads on undisturbed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.catalog import ItemState

FIRST = 1024
CATEGORIES = 4  # kept of an item, in its own order
RANKED = 5_000  # items in the orders `popular` and `fresh`
FOREVER = np.iinfo(np.int64).max


class _Available(NamedTuple):
    """What may be shown between two times at which that changes."""

    mask: NDArray[np.bool_]
    since_ms: int
    until_ms: int
    changes: int  # of items, when it was looked at


class Columns:
    """Availability, birth, categories and counters of every item."""

    def __init__(self) -> None:
        self.size = 0  # rows in use
        self.changes = 0  # of items, so far
        self.changed = np.zeros(FIRST, np.int64)  # which of them was the item's last, from 1
        self._available: _Available | None = None
        self.hidden = np.ones(FIRST, np.bool_)  # deleted, or no item event told of it
        self.from_ms = np.zeros(FIRST, np.int64)
        self.until_ms = np.full(FIRST, FOREVER)
        self.born_ms = np.zeros(FIRST, np.int64)  # available_from, or the oldest attribute's time
        self.categories = np.full((FIRST, CATEGORIES), -1, np.int32)
        self.counts = np.zeros((FIRST, 8), np.int64)  # [0] impressions, [1 + term] acts
        self.weights = np.zeros(256, np.float32)  # of acts, by term, where above 0
        self.worth = np.zeros(FIRST, np.float32)  # acts × their weights, where above 0
        self.popular = np.zeros(0, np.int32)  # the best by worth …
        self.fresh = np.zeros(0, np.int32)  # … and the newest, as `rank` last found them

    def place(self, state: ItemState, categories: list[int]) -> None:
        """Take over an item's row."""
        item = state.item
        self._reach(item)
        self.hidden[item] = state.deleted[1] or not state.known
        self.from_ms[item] = state.available_from[1] or 0
        until = state.available_until[1]
        self.until_ms[item] = FOREVER if until is None else until
        self.born_ms[item] = _born(state)
        row = categories[:CATEGORIES]
        self.categories[item] = row + [-1] * (CATEGORIES - len(row))
        self.size = max(self.size, item + 1)
        self.changed[item] = self.changes + 1
        self.changes += 1  # last: who reads it finds all that it counts

    def count(self, item: int, term: int, increase: int) -> None:
        """Add to a counter; `term` −1 is impressions."""
        self._reach(item)
        if term + 1 >= self.counts.shape[1]:
            wider = np.zeros((len(self.counts), term + 9), np.int64)
            wider[:, : self.counts.shape[1]] = self.counts
            self.counts = wider
        self.counts[item, term + 1] += increase

    def rank(self, action_weights: NDArray[np.float32], at_ms: int) -> None:
        """Renew `worth`, `popular` and `fresh`; `action_weights` float32 [256] by action term."""
        n = self.size
        self.weights = np.maximum(action_weights, 0).astype(np.float32)
        worth = np.zeros(len(self.hidden), np.float32)
        worth[:n] = self.worth_of(self.counts[:n])
        self.worth = worth
        shown = self.available(at_ms)
        self.popular = _best(np.where(shown, worth[:n], -1.0))
        self.fresh = _best(np.where(shown, self.born_ms[:n], -1))

    def worth_of(self, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [n]: rows of `counts` × the acts' weights, where these are above 0."""
        terms = min(counts.shape[1] - 1, len(self.weights))
        return counts[:, 1 : 1 + terms].astype(np.float32) @ self.weights[:terms]

    def popularity(self, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32 [n]: weighted acts on each item, over all users."""
        return self.worth[items]

    def available(self, at_ms: int) -> NDArray[np.bool_]:
        """bool [size]: known, not deleted, and within its times at `at_ms`; not to be written to.

        The same array is given until an item changes, or begins or ceases to be available.
        """
        found = self._available
        if (
            found is None
            or found.changes != self.changes
            or not found.since_ms <= at_ms < found.until_ms
        ):
            found = self._available = self._look(at_ms)
        return found.mask

    def _look(self, at_ms: int) -> _Available:
        n, changes = self.size, self.changes  # read first: a change meanwhile is looked at again
        starts, ends, shown = self.from_ms[:n], self.until_ms[:n], ~self.hidden[:n]
        mask = shown & (starts <= at_ms) & (ends > at_ms)
        turns = np.concatenate([starts[shown], ends[shown]])
        return _Available(
            mask,
            int(turns[turns <= at_ms].max(initial=0)),
            int(turns[turns > at_ms].min(initial=FOREVER)),
            changes,
        )

    def changed_since(self, changes: int) -> tuple[NDArray[np.int32], int]:
        """Items int32 [m] that changed after so many changes; and how many there are now."""
        now = self.changes  # read first: what changes meanwhile is told of the next time
        return np.flatnonzero(self.changed > changes).astype(np.int32), now

    def _reach(self, item: int) -> None:
        if item < len(self.hidden):
            return
        rows = max(2 * len(self.hidden), item + 1)
        self.changed = _longer(self.changed, rows, 0)
        self.hidden = _longer(self.hidden, rows, True)
        self.from_ms = _longer(self.from_ms, rows, 0)
        self.until_ms = _longer(self.until_ms, rows, FOREVER)
        self.born_ms = _longer(self.born_ms, rows, 0)
        self.categories = _longer(self.categories, rows, -1)
        self.counts = _longer(self.counts, rows, 0)
        self.worth = _longer(self.worth, rows, 0)


def _best(by: NDArray[Any]) -> NDArray[np.int32]:
    """Rows by falling value, at most RANKED, those below 0 left out."""
    rows = np.argpartition(-by, RANKED)[:RANKED] if len(by) > RANKED else np.arange(len(by))
    rows = rows[np.argsort(-by[rows], kind="stable")]
    return rows[by[rows] >= 0].astype(np.int32)


def _longer(column: NDArray[Any], rows: int, fill: object) -> NDArray[Any]:
    longer = np.full((rows, *column.shape[1:]), fill, column.dtype)
    longer[: len(column)] = column
    return longer


def _born(state: ItemState) -> int:
    start = state.available_from[1]
    return start if start else min((ts for ts, _ in state.attributes.values()), default=0)
