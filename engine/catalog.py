"""Items in memory: dense ids, attributes and categories, availability, counters.

A replica loads the folded items once, then follows the item stream; a request never asks Redis
about items. Folding an item is per attribute: the newest `ts` wins, a tie goes to the later record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from engine.columns import Columns
from engine.filters import AttributeIndex
from engine.records import ItemLogRecord, ItemRecord, TermRecord


class ItemState(msgspec.Struct, array_like=True):
    """All that is known of an item; times are unix ms, each value carries the time it is from."""

    item_id: str
    item: int  # dense id
    attributes: dict[str, tuple[int, Any]] = {}
    available_from: tuple[int, int | None] = (0, None)
    available_until: tuple[int, int | None] = (0, None)
    deleted: tuple[int, bool] = (0, False)

    def attribute(self, name: str) -> Any:
        return self.attributes.get(name, (0, None))[1]

    @property
    def categories(self) -> list[str]:
        found = self.attribute("categories")
        return list(found) if isinstance(found, list) else []

    @property
    def known(self) -> bool:
        """Whether an `item` event told of it; others were only named by someone's behaviour."""
        return bool(self.attributes) or self.available_from[0] > 0 or self.deleted[0] > 0

    def why_not(self, at_ms: int) -> str | None:
        """Why the item can't be shown at that time, or None where it can."""
        if self.deleted[1]:
            return "deleted"
        if not self.known:
            return "unknown: no item event told of it"
        start, end = self.available_from[1], self.available_until[1]
        if start is not None and at_ms < start:
            return "not available yet"
        if end is not None and at_ms >= end:
            return "no longer available"
        return None


encode_item = msgspec.msgpack.Encoder().encode
decode_item = msgspec.msgpack.Decoder(ItemState).decode


def fold_item(state: ItemState | None, record: ItemRecord) -> ItemState:
    """The item after the record."""
    state = state or ItemState(record.item_id, record.item)
    ts = record.ts
    for name, value in record.attributes.items():
        if ts >= state.attributes.get(name, (0, None))[0]:
            state.attributes[name] = (ts, value)
    if record.available_from is not UNSET and ts >= state.available_from[0]:
        state.available_from = (ts, record.available_from)
    if record.available_until is not UNSET and ts >= state.available_until[0]:
        state.available_until = (ts, record.available_until)
    if record.deleted is not UNSET and ts >= state.deleted[0]:
        state.deleted = (ts, record.deleted)
    return state


class Catalog:
    """Every item, and the dense numbers of categories and actions."""

    def __init__(self) -> None:
        self.items: list[ItemState | None] = []  # by dense id
        self.by_id: dict[str, int] = {}
        self.terms: dict[str, dict[str, int]] = {"category": {}, "action": {}}
        self.names: dict[str, dict[int, str]] = {"category": {}, "action": {}}
        self.counters: dict[tuple[int, int], dict[int, int]] = {}  # (item, term) -> partition: n
        self.columns = Columns()
        self.attributes = AttributeIndex()

    def load(self, states: Iterable[ItemState]) -> None:
        for state in states:
            self._place(state)

    def apply(self, records: Iterable[ItemLogRecord]) -> None:
        """Follow the item stream; applying a record twice changes nothing."""
        for record in records:
            if isinstance(record, TermRecord):
                self.name(record.space, record.name, record.term)
            else:
                self._place(fold_item(self.get(record.item_id), record))

    def name(self, space: str, name: str, term: int) -> None:
        """Learn the dense number of a category or an action."""
        self.terms.setdefault(space, {})[name] = term
        self.names.setdefault(space, {})[term] = name

    def get(self, item_id: str) -> ItemState | None:
        item = self.by_id.get(item_id)
        return None if item is None else self.items[item]

    def at(self, item: int) -> ItemState | None:
        """The item of a dense id."""
        return self.items[item] if 0 <= item < len(self.items) else None

    def category_terms(self, item: int) -> list[int]:
        """The dense numbers of an item's categories as known now."""
        state = self.at(item)
        terms = self.terms["category"]
        return [] if state is None else [terms[c] for c in state.categories if c in terms]

    def id_of(self, item: int) -> str | None:
        state = self.at(item)
        return None if state is None else state.item_id

    def count(self, partition: int, changed: dict[tuple[int, int], int]) -> None:
        """Take over changed totals of one partition's item counters."""
        for key, total in changed.items():
            by_partition = self.counters.setdefault(key, {})
            self.columns.count(*key, total - by_partition.get(partition, 0))
            by_partition[partition] = total

    def totals(self, item: int, terms: Iterable[int]) -> dict[int, int]:
        """An item's totals over all partitions, by term, where there are any."""
        found = {term: sum(self.counters.get((item, term), {}).values()) for term in terms}
        return {term: total for term, total in found.items() if total}

    def _place(self, state: ItemState) -> None:
        while len(self.items) <= state.item:
            self.items.append(None)
        self.items[state.item] = state
        self.by_id[state.item_id] = state.item
        # The columns last: whoever sees there that an item changed finds it changed here too.
        self.attributes.place(state)
        self.columns.place(state, self.category_terms(state.item))
