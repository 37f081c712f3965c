"""The operator's rules at work: what is left out, and what they say of a pool of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.catalog import Catalog, ItemState
from engine.rule_columns import Banned, RuleColumns, Which
from engine.rules_file import Chosen, Filter, Most, Pin, Rule, RulesFile, Sponsored
from engine.slot_rules import NO_SLOT_RULES, Mask, SlotRules
from engine.state import TOUCHES, UserState
from engine.times import DAY_MS

R = TypeVar("R", bound=Rule)
C = TypeVar("C", bound=Chosen)
Items = NDArray[np.int32]
DAY_S = DAY_MS // 1000
SLOTS = 100  # of the longest list
NO_ITEMS: Items = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class _Timed(Generic[R]):
    """A rule of slots: when and where it holds, and the columns of its items."""

    rule: R
    kind: str
    number: int  # in rules.yaml, from 0
    columns: tuple[int, ...]
    since_ms: int
    until_ms: int

    @property
    def label(self) -> str:
        return f"{self.kind}[{self.number}]"

    def holds(self, at_ms: int, surface: str | None, module_id: str | None) -> bool:
        if not self.since_ms <= at_ms < self.until_ms:
            return False
        if self.rule.surfaces and surface not in self.rule.surfaces:
            return False
        if self.rule.modules:
            return module_id in self.rule.modules
        return module_id is None or not isinstance(self.rule, Pin)


class Rules:
    """A file of rules, compiled; it keeps columns of the catalogue that it was last asked about."""

    def __init__(self, file: RulesFile | None = None) -> None:
        self.file = file or RulesFile()
        self._banned = Banned(self.file.ban)
        self._which: list[Which] = []
        self._boosts = [self._chosen("boost", n, one) for n, one in enumerate(self.file.boost)]
        self._pins = [self._chosen("pin", n, one) for n, one in enumerate(self.file.pin)]
        self._paid = [self._chosen("sponsored", n, o) for n, o in enumerate(self.file.sponsored)]
        self._pairs = [
            self._timed("never_together", n, one, one.first, one.second)
            for n, one in enumerate(self.file.never_together)
        ]
        self._most = [self._timed("most", n, one) for n, one in enumerate(self.file.most)]
        self._attributes = [one.of for one in self.file.most]
        timed = (self._boosts, self._pins, self._paid, self._pairs, self._most)
        self._of_columns = any(timed)
        self._days: NDArray[np.float64] = np.zeros(0)  # [256] of `already`, by action term
        self._days_for = -1
        self._columns: RuleColumns | None = None

    @property
    def any(self) -> bool:
        """Whether any rule may say something of a pool."""
        return self._of_columns or bool(self.file.seen_often.by)

    def renew(self, catalog: Catalog) -> RuleColumns:
        """The columns of a catalogue as it stands; what changed is looked at again."""
        columns = self._columns
        if columns is None or columns.catalog is not catalog:
            columns = RuleColumns(catalog, self._which, self._attributes, self._banned)
            self._columns = columns
        columns.renew()
        return columns

    def permitted(self, catalog: Catalog) -> Mask | None:
        """bool [items or more]: not banned; None where nothing is."""
        return self.renew(catalog).permitted if self._banned.any else None

    def why_banned(self, state: ItemState, catalog: Catalog) -> str | None:
        """The ban that an item falls under."""
        return self._banned.why(state, catalog) if self._banned.any else None

    def done_already(self, state: UserState, catalog: Catalog, at_ms: int) -> Items:
        """Dense ids of what `already` leaves out, as far as a user's last touches tell."""
        if not self.file.already or not state.recent:
            return NO_ITEMS
        terms = catalog.terms["action"]
        if len(terms) != self._days_for:
            self._days, self._days_for = self._by_term(terms), len(terms)
        recent = np.frombuffer(state.recent, TOUCHES)
        within = recent["at_s"] > at_ms / 1000 - self._days[recent["term"]] * DAY_S
        done: Items = recent["item"][within & (self._days[recent["term"]] > 0)].astype(np.int32)
        return done

    def for_pool(
        self,
        items: Items,
        catalog: Catalog,
        at_ms: int,
        surface: str | None = None,
        module_id: str | None = None,
        state: UserState | None = None,
    ) -> SlotRules:
        """What the rules in force say of these items [n], each by its row."""
        often = self.file.seen_often
        moved: list[tuple[str, NDArray[np.float32]]] = []
        if often.by and state is not None and state.shown:
            times = _times_shown(items, state, at_ms // 1000 - round(often.days * DAY_S))
            moved.append(("seen_often", (-often.by * times).astype(np.float32)))
        if not self._of_columns:
            return _with_moved(NO_SLOT_RULES, moved) if moved else NO_SLOT_RULES

        def now(kind: Sequence[_Timed[R]]) -> list[_Timed[R]]:
            return [one for one in kind if one.holds(at_ms, surface, module_id)]

        columns = self.renew(catalog)
        matches = columns.matches[items]
        for boost in now(self._boosts):
            moved.append((boost.label, matches[:, boost.columns[0]] * np.float32(boost.rule.by)))
        pins, paid, pairs, most = (
            now(self._pins),
            now(self._paid),
            now(self._pairs),
            now(self._most),
        )
        found = SlotRules(
            groups=_take(columns.groups[items], [one.number for one in most]),
            most=_counts([one.rule for one in most]),
            first=_take(matches, [one.columns[0] for one in pairs]),
            second=_take(matches, [one.columns[1] for one in pairs]),
            pinned=_take(matches, [one.columns[0] for one in pins]),
            pin_slots=np.array([one.rule.slot - 1 for one in pins], np.int64),
            paid=_take(matches, [one.columns[0] for one in paid]),
            paid_slots=_slots([one.rule for one in paid]),
            pins=tuple(one.label for one in pins),
            sponsored=tuple(one.label for one in paid),
        )
        return _with_moved(found, moved) if moved else found

    def _chosen(self, kind: str, number: int, rule: C) -> _Timed[C]:
        which = Which(frozenset(rule.items or ()), () if rule.where is None else (rule.where,))
        self._which.append(which)
        return _Timed(rule, kind, number, (len(self._which) - 1,), *rule.span_ms)

    def _timed(self, kind: str, number: int, rule: R, *sides: Filter) -> _Timed[R]:
        columns = tuple(range(len(self._which), len(self._which) + len(sides)))
        self._which += [Which(filters=(side,)) for side in sides]
        return _Timed(rule, kind, number, columns, *rule.span_ms)

    def _by_term(self, terms: dict[str, int]) -> NDArray[np.float64]:
        days = np.zeros(256)
        for rule in self.file.already:
            for action in rule.actions:
                if action in terms:
                    days[terms[action]] = max(days[terms[action]], rule.days)
        return days


def _take(of_pool: NDArray[Any], columns: Sequence[int]) -> NDArray[Any]:
    """[n, columns], contiguous."""
    return np.take(of_pool, np.array(columns, np.intp), axis=1)


def _counts(most: Sequence[Most]) -> NDArray[np.int64]:
    return np.array([(rule.count, rule.window or 0) for rule in most], np.int64).reshape(-1, 2)


def _slots(sponsored: Sequence[Sponsored]) -> Mask:
    slots = np.zeros((len(sponsored), SLOTS), np.bool_)
    for row, rule in enumerate(sponsored):
        slots[row, np.array(rule.slots) - 1] = True
    return slots


def _with_moved(rules: SlotRules, moved: list[tuple[str, NDArray[np.float32]]]) -> SlotRules:
    added = moved[0][1] if len(moved) == 1 else np.sum([by for _, by in moved], axis=0)
    return replace(rules, added=np.ascontiguousarray(added, np.float32), moved=tuple(moved))


def _times_shown(items: Items, state: UserState, since_s: int) -> NDArray[np.int64]:
    """int64 [n]: impressions of each item since then that no act on it followed."""
    shown = [(at_s, of_one) for at_s, of_one in state.shown if at_s >= since_s]
    order = np.argsort(items, kind="stable")
    acted_s = np.zeros(len(items), np.int64)
    recent = np.frombuffer(state.recent, TOUCHES)
    rows, of = _rows_of(items, order, recent["item"].astype(np.int64))
    np.maximum.at(acted_s, rows, recent["at_s"][of])
    every = np.fromiter(chain.from_iterable(of_one for _, of_one in shown), np.int64)
    at_s = np.repeat([at for at, _ in shown], [len(of_one) for _, of_one in shown])
    rows, of = _rows_of(items, order, every)
    return np.bincount(rows[at_s[of] > acted_s[rows]], minlength=len(items))


def _rows_of(
    items: Items, order: NDArray[np.intp], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(rows of items, places in wanted) of those wanted that are among the items."""
    if not len(items):
        return order, order
    rows = order[np.minimum(np.searchsorted(items, wanted, sorter=order), len(items) - 1)]
    there = np.flatnonzero(items[rows] == wanted)
    return rows[there], there


NO_RULES = Rules()
