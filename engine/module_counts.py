"""What came of modules, over all people: looks and acts by situation, segment and week.

The fold counts whole numbers in cells of a week; they change in its commit and are followed by
every replica. Weights come in only when they are read: half-life and objective can change without
folding anything again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.times import DAY_MS

Table = NDArray[np.float64]
WEEK_MS = 7 * DAY_MS
WEEKS = 26  # kept
LOOK = -1  # the term of a look; acts count under their action's


class Cell(NamedTuple):
    """What a count is of."""

    module_id: str
    segment: str  # "" for people of none
    situation: int  # number in situations.yaml, the likeliest as it was decided
    week: int  # since 1970
    term: int  # of the action; LOOK


def week_of(ts: int) -> int:
    """The week of a time in unix ms."""
    return ts // WEEK_MS


@dataclass(frozen=True, slots=True)
class ModuleTables:
    """Discounted counts, float64 [modules, situations, segments]; worth is in the objective's."""

    looks: Table
    worth: Table
    square: Table  # of the acts' worths: how uneven they are


@dataclass(frozen=True, slots=True)
class Axes:
    """What the tables go by."""

    modules: tuple[str, ...]
    situations: int
    segments: tuple[str, ...]  # the last is ""


class ModuleCounts:
    """The cells of all partitions; one thread takes changes in, requests read tables."""

    def __init__(self) -> None:
        self.changes = 0
        self._cells: dict[Cell, int] = {}
        self._of: dict[int, dict[Cell, int]] = {}  # partition -> its totals

    def take(self, partition: int, totals: Mapping[Cell, int]) -> None:
        """Take over changed totals of a partition."""
        known = self._of.setdefault(partition, {})
        for cell, total in totals.items():
            self._cells[cell] = self._cells.get(cell, 0) + total - known.get(cell, 0)
            known[cell] = total
        self.changes += len(totals)

    def replace(self, partition: int, totals: Mapping[Cell, int]) -> None:
        """Take over all of a partition: what it no longer tells of is gone."""
        gone = dict.fromkeys(self._of.get(partition, {}).keys() - totals.keys(), 0)
        self.take(partition, gone | dict(totals))

    def tables(
        self, axes: Axes, worth: Mapping[int, float], half_life_days: float, at_ms: int
    ) -> ModuleTables:
        """Sums over the cells; `worth` is what an act is worth by its action's term."""
        module_of = {name: number for number, name in enumerate(axes.modules)}
        segment_of = {name: number for number, name in enumerate(axes.segments)}
        shape = len(axes.modules), axes.situations, len(axes.segments)
        looks, value, square = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        now = at_ms / WEEK_MS
        for cell, count in list(self._cells.items()):
            module, segment = module_of.get(cell.module_id), segment_of.get(cell.segment)
            if module is None or segment is None or cell.situation >= axes.situations:
                continue
            age_weeks = max(now - cell.week - 0.5, 0.0)
            if age_weeks > WEEKS:
                continue
            weighed = count * 2.0 ** (-7 * age_weeks / half_life_days)
            at = module, cell.situation, segment
            if cell.term == LOOK:
                looks[at] += weighed
            else:
                each = worth.get(cell.term, 0.0)
                value[at] += weighed * each
                square[at] += weighed * each * each
        return ModuleTables(looks, value, square)
