"""`filter`: conditions on item attributes, answered for the whole catalogue at once.

The follower's thread keeps the index; requests turn a filter into a mask over dense ids.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.catalog import ItemState

Mask = NDArray[np.bool_]
Key = tuple[str, Any]  # kind and value: true is not 1, and 1 is 1.0
MOST_VALUES = 100
COMPARISONS = frozenset({"gte", "lte", "not"})


class AttributeIndex:
    """Which items carry which value of which attribute; numbers also as columns."""

    def __init__(self) -> None:
        self._postings: dict[str, dict[Key, int | set[int]]] = {}
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._keys: dict[int, dict[str, list[Key]]] = {}  # what an item is filed under
        self._lock = threading.Lock()

    def place(self, state: ItemState) -> None:
        """File an item under its attributes as they are now."""
        item = state.item
        told = state.attributes.items()
        keys = {name: list(_keys(value)) for name, (_, value) in told if value is not None}
        with self._lock:
            filed = self._keys.get(item, {})
            if keys == filed:
                return
            for name in filed.keys() | keys.keys():
                before, after = filed.get(name, []), keys.get(name, [])
                if before != after:
                    self._move(name, item, before, after)
            self._keys[item] = keys

    def check(self, filter_: Mapping[str, Any]) -> None:
        """Raise InvalidInput naming the attribute or condition that cannot be understood."""
        for name, condition in filter_.items():
            if name not in self._postings:
                raise InvalidInput(f"filter.{name}", "no item has such an attribute")
            _check(f"filter.{name}", condition)

    def mask(self, filter_: Mapping[str, Any], size: int) -> Mask:
        """bool [size]: the items for which every condition of a checked filter holds."""
        found = np.ones(size, np.bool_)
        with self._lock:
            for name, condition in filter_.items():
                found &= self._condition(name, condition, size)
        return found

    def _condition(self, name: str, condition: Any, size: int) -> Mask:
        if not isinstance(condition, dict):
            return self._any_of(name, condition, size)
        found = np.ones(size, np.bool_)
        if "not" in condition:
            found &= ~self._any_of(name, condition["not"], size)
        if "gte" in condition or "lte" in condition:
            column = np.full(size, np.nan)
            numbers = self._numbers.get(name, column[:0])[:size]
            column[: len(numbers)] = numbers
            with np.errstate(invalid="ignore"):  # NaN, no number, compares false
                found &= column >= condition.get("gte", -np.inf)
                found &= column <= condition.get("lte", np.inf)
        return found

    def _any_of(self, name: str, values: Any, size: int) -> Mask:
        mask = np.zeros(size, np.bool_)
        postings = self._postings.get(name, {})
        for key in _keys(values):
            items = postings.get(key, ())
            at = np.fromiter((items,) if isinstance(items, int) else items, np.int64)
            mask[at[at < size]] = True
        return mask

    def _move(self, name: str, item: int, before: list[Key], after: list[Key]) -> None:
        postings = self._postings.setdefault(name, {})
        for key in before:
            items = postings.get(key)
            if isinstance(items, set):
                items.discard(item)
            elif items == item:
                del postings[key]
        for key in after:
            items = postings.get(key)
            if isinstance(items, set):
                items.add(item)
            else:  # a value that one item alone has, a title, needs no set
                postings[key] = item if items is None or items == item else {items, item}
        numbers = [value for kind, value in after if kind == "number"]
        if numbers or name in self._numbers:
            self._set_number(name, item, numbers[0] if numbers else np.nan)

    def _set_number(self, name: str, item: int, value: float) -> None:
        column = self._numbers.get(name, np.empty(0))
        if item >= len(column):
            longer = np.full(max(1024, 2 * len(column), item + 1), np.nan)
            longer[: len(column)] = column
            column = self._numbers[name] = longer
        column[item] = value


def _keys(value: Any) -> Iterable[Key]:
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, bool):
            yield "bool", one
        elif isinstance(one, int | float):
            yield "number", float(one)
        elif isinstance(one, str):
            yield "text", one


def _check(field: str, condition: Any) -> None:
    if isinstance(condition, dict):
        if not condition or condition.keys() - COMPARISONS:
            raise InvalidInput(field, "expected a value, a list, or gte, lte and not")
        for name in ("gte", "lte"):
            bound = condition.get(name, 0)
            if isinstance(bound, bool) or not isinstance(bound, int | float):
                raise InvalidInput(f"{field}.{name}", "expected a number")
        _check_values(f"{field}.not", condition.get("not", ""))
    else:
        _check_values(field, condition)


def _check_values(field: str, values: Any) -> None:
    listed = values if isinstance(values, list) else [values]
    if len(listed) > MOST_VALUES:
        raise InvalidInput(field, f"expected at most {MOST_VALUES} values")
    if not all(isinstance(one, bool | int | float | str) for one in listed):
        raise InvalidInput(field, "expected text, numbers or booleans")
