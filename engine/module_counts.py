"""What came of modules, over all people: looks and acts by situation, segment, time and week.

The fold counts whole numbers in cells of a week; they change in its commit and are followed by
every replica. Weights come in only when they are read: half-life and objective can change without
folding anything again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.times import DAY_MS

Table = NDArray[np.float64]
Doubles = NDArray[np.float64]
WEEK_MS = 7 * DAY_MS
WEEKS = 26  # kept
LOOK = -1  # the term of a look …
USED = -2  # … and of one in which something was done, once; acts count under their action's
PARTS = 6  # of a local day


class Cell(NamedTuple):
    """What a count is of."""

    module_id: str
    segment: str  # "" for people of none
    situation: int  # number in situations.yaml, the likeliest as it was decided
    part: int  # of the local day, as it was decided
    week: int  # since 1970
    term: int  # of the action; LOOK


def week_of(ts: int) -> int:
    """The week of a time in unix ms."""
    return ts // WEEK_MS


def part_of(hour: float) -> int:
    """The part of a local day that an hour 0–24 lies in."""
    return int(hour) % 24 * PARTS // 24


def field_of(cell: Cell) -> str:
    """The cell as a name that no item counter has."""
    where = f"{cell.week}:{cell.situation}:{cell.part}:{cell.term}"
    return f"@{where}:{cell.segment}:{cell.module_id}"


def cell_of(field: str) -> Cell:
    """The cell of such a name."""
    week, situation, part, term, segment, module_id = field.removeprefix("@").split(":", 5)
    return Cell(module_id, segment, int(situation), int(part), int(week), int(term))


@dataclass(frozen=True, slots=True)
class ModuleTables:
    """Discounted counts."""

    looks: Table  # float64 [modules, situations, segments, parts of a day]
    used: Table  # the same; of the looks, those in which something was done
    worth: Doubles  # float64 [modules] of all acts, in the objective's


@dataclass(frozen=True, slots=True)
class Axes:
    """What the tables go by."""

    modules: tuple[str, ...]
    situations: int
    segments: tuple[str, ...]  # the last is ""


class ModuleCounts:
    """The cells of all partitions as columns; one thread takes changes in, requests read tables."""

    def __init__(self) -> None:
        self._rows: dict[Cell, int] = {}
        self._names: dict[str, int] = {}  # of modules and segments, by first appearance
        self._keys = np.zeros((64, 6), np.int64)  # module, segment, situation, part, week, term
        self._totals = np.zeros(64, np.int64)
        self._of: dict[int, dict[Cell, int]] = {}  # partition -> its totals

    def take(self, partition: int, totals: Mapping[Cell, int]) -> None:
        """Take over changed totals of a partition."""
        known = self._of.setdefault(partition, {})
        for cell, total in totals.items():
            row = self._row(cell)  # first: it may replace the columns by longer ones
            self._totals[row] += total - known.get(cell, 0)
            known[cell] = total

    def replace(self, partition: int, totals: Mapping[Cell, int]) -> None:
        """Take over all of a partition: what it no longer tells of is gone."""
        gone = dict.fromkeys(self._of.get(partition, {}).keys() - totals.keys(), 0)
        self.take(partition, gone | dict(totals))

    def add(self, cells: Iterable[Cell]) -> None:
        """Count each once more, where no store keeps totals."""
        for cell in cells:
            row = self._row(cell)
            self._totals[row] += 1

    def tables(self, axes: Axes, worth: Doubles, half_life_days: float, at_ms: int) -> ModuleTables:
        """Sums over the cells; `worth` float64 [terms] is what an act is worth by its term."""
        shape = len(axes.modules), axes.situations, len(axes.segments), PARTS
        rows = len(self._rows)
        module, segment, situation, part, week, term = self._keys[:rows].T
        module, segment = self._within(axes.modules)[module], self._within(axes.segments)[segment]
        age = np.maximum(at_ms / WEEK_MS - week - 0.5, 0.0)
        inside = (module >= 0) & (segment >= 0) & (situation < shape[1]) & (age <= WEEKS)
        inside &= term < len(worth)
        weighed = self._totals[:rows] * np.exp2(-7 * age / half_life_days) * inside
        at = ((module * shape[1] + situation) * shape[2] + segment) * PARTS + part

        def table(what: int) -> Table:
            sums = np.bincount(np.where(inside, at, 0), weighed * (term == what), math.prod(shape))
            return np.asarray(sums, np.float64).reshape(shape)

        acted = inside & (term >= 0)
        value = weighed * np.append(worth, 0.0)[np.where(acted, term, -1)]
        values = np.bincount(np.where(inside, module, 0), value, len(axes.modules))
        return ModuleTables(table(LOOK), table(USED), np.asarray(values, np.float64))

    def _row(self, cell: Cell) -> int:
        row = self._rows.get(cell)
        if row is not None:
            return row
        row = len(self._rows)
        if row >= len(self._totals):
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
            self._totals = np.concatenate([self._totals, np.zeros_like(self._totals)])
        names = self._names
        module = names.setdefault(cell.module_id, len(names))
        segment = names.setdefault(cell.segment, len(names))
        self._keys[row] = module, segment, cell.situation, cell.part, cell.week, cell.term
        self._rows[cell] = row  # last: who reads sees whole rows
        return row

    def _within(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """int64 [names known]: the place of each in an axis, −1 where it has none."""
        known = dict(self._names)  # more may come in meanwhile
        places = np.full(len(known), -1)
        for place, name in enumerate(names):
            if name in known:
                places[known[name]] = place
        return places
