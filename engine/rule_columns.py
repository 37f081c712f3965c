"""What the operator's rules say of each item, by dense id; renewed for the items that changed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.catalog import Catalog, ItemState
from engine.rules_file import Ban, Filter

MANY = 256  # items, from which the whole catalogue is looked at again: a mask takes less
MAIN_CATEGORY = "categories"


@dataclass(frozen=True, slots=True)
class Which:
    """Some items: those named, and those of any of the filters."""

    items: frozenset[str] = frozenset()
    filters: tuple[Filter, ...] = ()

    def holds(self, state: ItemState, catalog: Catalog) -> bool:
        """Whether an item is among them."""
        index = catalog.attributes
        return state.item_id in self.items or any(
            index.knows(filter_) and index.holds(filter_, state.item) for filter_ in self.filters
        )

    def mask(self, catalog: Catalog, size: int) -> NDArray[np.bool_]:
        """bool [size]: all of them."""
        found = np.zeros(size, np.bool_)
        named = [catalog.by_id[item_id] for item_id in self.items if item_id in catalog.by_id]
        found[[item for item in named if item < size]] = True
        for filter_ in self.filters:
            if catalog.attributes.knows(filter_):
                found |= catalog.attributes.mask(filter_, size)
        return found


class Banned:
    """What is never shown, and why."""

    def __init__(self, ban: Ban) -> None:
        self.which = Which(frozenset(ban.items), tuple(ban.filters))
        longest_first = sorted(map(re.escape, ban.words), key=len, reverse=True)
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE)
        self.has_words = bool(ban.words)
        self.any = bool(ban.items or ban.filters or ban.words)

    def why(self, state: ItemState, catalog: Catalog) -> str | None:
        """The rule that bans an item, None where it may be shown."""
        if state.item_id in self.which.items:
            return "banned: item"
        if (word := self.word(state)) is not None:
            return f"banned: word {word!r}"
        return "banned: where" if self.which.holds(state, catalog) else None

    def word(self, state: ItemState) -> str | None:
        """The first banned word in an item's texts."""
        if not self.has_words:
            return None
        found = (self._words.search(text) for text in _texts(state))
        return next((match[0].lower() for match in found if match), None)


class RuleColumns:
    """One catalogue's columns: `matches` of each Which, `groups` of each attribute, `permitted`."""

    def __init__(
        self, catalog: Catalog, which: Sequence[Which], attributes: Sequence[str], banned: Banned
    ) -> None:
        self.catalog = catalog
        self._which = which
        self._attributes = attributes
        self._banned = banned
        self.permitted = np.zeros(0, np.bool_)  # [items]
        self.matches = np.zeros((0, len(which)), np.bool_)  # [items, which]
        self.groups = np.zeros((0, len(attributes)), np.int32)  # [items, attributes] −1: none
        self._numbers: list[dict[Any, int]] = [{} for _ in attributes]
        self._filters = [filter_ for one in (*which, banned.which) for filter_ in one.filters]
        self._known: list[bool] = []
        self._changes = -1
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Look at what changed since the last time."""
        if self.catalog.columns.changes == self._changes:
            return
        with self._lock:
            known = [self.catalog.attributes.knows(filter_) for filter_ in self._filters]
            # An attribute's first item changes what `not` says of all the others.
            since = self._changes if known == self._known else 0
            items, now = self.catalog.columns.changed_since(max(since, 0))
            self._reach(self.catalog.columns.size)
            if len(items) > MANY:
                self._look_at_all()
            for item in items.tolist():
                self._look(item, alone=len(items) <= MANY)
            self._known, self._changes = known, now

    def _reach(self, size: int) -> None:
        rows = len(self.permitted)
        if size <= rows:
            return
        more = max(size, 2 * rows, 1024) - rows
        self.permitted = np.concatenate([self.permitted, np.ones(more, np.bool_)])
        self.matches = np.pad(self.matches, ((0, more), (0, 0)))
        self.groups = np.pad(self.groups, ((0, more), (0, 0)), constant_values=-1)

    def _look_at_all(self) -> None:
        size = self.catalog.columns.size
        for column, which in enumerate(self._which):
            self.matches[:size, column] = which.mask(self.catalog, size)
        if self._banned.any:
            self.permitted[:size] = ~self._banned.which.mask(self.catalog, size)

    def _look(self, item: int, alone: bool) -> None:
        """One item; with others in their hundreds, only what is not a mask of all of them."""
        state = self.catalog.at(item)
        if state is None:
            return
        if alone:
            self.matches[item] = [one.holds(state, self.catalog) for one in self._which]
            self.permitted[item] = self._banned.why(state, self.catalog) is None
        elif self._banned.word(state) is not None:
            self.permitted[item] = False
        for column, name in enumerate(self._attributes):
            self.groups[item, column] = self._group(item, column, name)

    def _group(self, item: int, column: int, name: str) -> int:
        if name == MAIN_CATEGORY:
            return int(self.catalog.columns.categories[item, 0])
        keys = self.catalog.attributes.keys(item, name)
        numbers = self._numbers[column]
        return numbers.setdefault(keys[0], len(numbers)) if keys else -1


def _texts(state: ItemState) -> Iterator[str]:
    for _, value in state.attributes.values():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, str):
                yield one
