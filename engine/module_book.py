"""The modules as they serve: rules made ready, what was learned of each, the items it may hold.

`refresh` runs off the request path and replaces one reference; a request reads one Standing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.candidates import Items, Mask
from engine.catalog import Catalog
from engine.errors import InvalidInput
from engine.filters import matches
from engine.module_choice import Rates, Wanted, rates
from engine.module_counts import Axes, ModuleCounts
from engine.module_history import ModuleHistory
from engine.modules import WEEKDAYS, Module, ModulesFile, hours_of, time_of
from engine.objective import Objective
from engine.situation import Moment
from engine.state import UserState, time_zone
from engine.times import HOUR_MS, local_day, to_rfc3339

LATEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Shelf:
    """One module, made ready."""

    number: int  # in the file
    module_id: str
    module: Module
    hours: frozenset[int]  # local; empty: every hour
    weekdays: frozenset[int]
    from_ms: int
    until_ms: int
    below: frozenset[int]
    apart: frozenset[int]  # modules that never stand on one page with it

    def why_not(
        self,
        surface: str | None,
        segments: frozenset[str],
        moment: Moment,
        known: ModuleHistory | None,
        zone: str | None,
    ) -> str | None:
        """Why it may not be shown to this person now; None where it may."""
        module, when = self.module, self.module.when
        if module.surfaces and surface not in module.surfaces:
            return f"not for surface {surface or 'none'}"
        if when.situations and moment.name not in when.situations:
            return f"not for situation {moment.name}"
        if when.segments and segments.isdisjoint(when.segments):
            return "not for this person's segments"
        if self.hours and int(moment.hour) % 24 not in self.hours:
            return f"not at {int(moment.hour):02d} h"
        if self.weekdays and moment.weekday not in self.weekdays:
            return f"not on a {WEEKDAYS[moment.weekday]}"
        if not self.from_ms <= moment.at_ms < self.until_ms:
            return "not on this date"
        return None if known is None else self._rests(known, moment.at_ms, zone)

    def _rests(self, known: ModuleHistory, at_ms: int, zone: str | None) -> str | None:
        cooldown, most = self.module.cooldown, self.module.most_a_day
        if cooldown is not None and known.ignored and known.ignored % cooldown.after == 0:
            until_ms = known.last_s * 1000 + round(cooldown.hours * HOUR_MS)
            if at_ms < until_ms:
                looks = f"looked at {known.ignored} times and not used"
                return f"{looks}: rests until {to_rfc3339(until_ms)}"
        day, seen = known.today
        if most is not None and seen >= most and day == local_day(at_ms, zone):
            return f"was seen {seen} times today"
        return None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of all modules at one time."""

    rates: Rates
    filtered: Mapping[int, Mask]  # module -> bool [items], where it has a filter
    listed: Mapping[int, Items]  # module -> its own list


class ModuleBook:
    """Every module of the file; `counts` is kept up to date by whoever follows the store."""

    def __init__(
        self,
        file: ModulesFile,
        situations: Sequence[str],
        objective: Objective,
        counts: ModuleCounts,
        catalog: Catalog,
        at_ms: int,
    ) -> None:
        self.file = file
        self.shelves = [_shelf(file, number) for number in range(len(file.modules))]
        self.axes = Axes(file.names, len(situations), file.segment_names)
        boosts = [module.boost for module in file.modules.values()]
        self.boosts: NDArray[np.float64] = np.array(boosts)  # times a look's worth
        self._wanted = _wanted(file, situations)
        self._objective = objective
        self._counts = counts
        self._catalog = catalog
        self.now: Standing
        self._changes = -1  # of items, when the filters were last looked at
        self._filtered: dict[int, Mask] = {}
        self._listed: dict[int, Items] = {}
        self.refresh(at_ms)

    def refresh(self, at_ms: int) -> None:
        """Read counts and catalogue again."""
        choice = self.file.choice
        worth = self._objective.worth_of_acts(self._catalog.terms["action"])
        tables = self._counts.tables(self.axes, worth, choice.half_life_days, at_ms)
        self._look_at_items()
        self.now = Standing(rates(tables, choice, self._wanted), self._filtered, self._listed)

    def segments_of(self, state: UserState) -> list[str]:
        """The segments that a person belongs to, in the file's order."""
        known = {name: value for name, (_, value) in state.attributes.items()}
        return [name for name, told in self.file.segments.items() if matches(told, known)]

    def _look_at_items(self) -> None:
        changes = self._catalog.columns.changes
        if changes == self._changes:
            return
        size = self._catalog.columns.size
        filtered, listed = {}, {}
        for shelf in self.shelves:
            items = shelf.module.items
            if items.where:
                filtered[shelf.number] = self._mask(items.where, size)
            if items.ids:
                known = [self._catalog.by_id.get(name, -1) for name in dict.fromkeys(items.ids)]
                listed[shelf.number] = np.array([n for n in known if n >= 0], np.int32)
        self._filtered, self._listed, self._changes = filtered, listed, changes

    def _mask(self, where: Mapping[str, object], size: int) -> Mask:
        try:
            self._catalog.attributes.check(where)
        except InvalidInput:  # no item has such an attribute, so far
            return np.zeros(size, np.bool_)
        return self._catalog.attributes.mask(where, size)


def why_nothing(shelf: Shelf, found: int) -> str:
    """Of a module with too few items."""
    return f"{found} of at least {shelf.module.items.least} items"


def open_shelves(
    book: ModuleBook, state: UserState, moment: Moment, surface: str | None
) -> tuple[list[Shelf], dict[str, str], list[str]]:
    """The modules that may be shown, why the others may not, and the person's segments."""
    segments = book.segments_of(state)
    named, zone = frozenset(segments), time_zone(state)
    open_, closed = [], {}
    for shelf in book.shelves:
        known = state.modules.get(shelf.module_id)
        why = shelf.why_not(surface, named, moment, known, zone)
        if why is None:
            open_.append(shelf)
        else:
            closed[shelf.module_id] = why
    return open_, closed, segments


def _wanted(file: ModulesFile, situations: Sequence[str]) -> Wanted:
    def table(names: Sequence[str]) -> NDArray[np.float64]:
        modules = file.modules.values()
        return np.array([[module.wanted.get(name, 1.0) for name in names] for module in modules])

    return Wanted(table(situations), table(file.segment_names))


def _shelf(file: ModulesFile, number: int) -> Shelf:
    name = file.names[number]
    module = file.modules[name]
    when = module.when
    groups = [set(group) for group in file.never_together if name in group]
    apart = set[str]().union(*groups) - {name}
    return Shelf(
        number,
        name,
        module,
        frozenset[int]().union(*(hours_of(stretch) for stretch in when.hours)),
        frozenset(WEEKDAYS.index(day) for day in when.weekdays),
        time_of(when.from_, 0),
        time_of(when.until, LATEST),
        frozenset(file.names.index(other) for other in module.below),
        frozenset(file.names.index(other) for other in apart),
    )
