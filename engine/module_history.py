"""A person's own history with modules, as their state keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.module_counts import LOOK, USED, Cell

MODULES = 40  # of a person; the one not looked at for longest goes


class ModuleHistory(msgspec.Struct, array_like=True, gc=False):
    """Looks at one module, and what was done in it."""

    counts: dict[int, float] = {}  # by situation, see key_of; decayed, at the state's landmark
    last_s: int = 0  # of the last look
    ignored: int = 0  # looks since something was done in it
    today: tuple[int, int] = (0, 0)  # local day of the last look, looks on it


@dataclass(frozen=True, slots=True)
class Own:
    """The same of the modules asked about, decayed to now: float64 [modules, situations]."""

    looks: NDArray[np.float64]
    used: NDArray[np.float64]  # looks in which something was done


def key_of(situation: int, used: bool) -> int:
    """Where looks, or those in which something was done, stand in ModuleHistory.counts."""
    return situation << 1 | used


def remember(
    histories: dict[str, ModuleHistory], cells: Sequence[Cell], at_s: int, day: int, weight: float
) -> None:
    """Take looks and uses in; `day` is the local one, `weight` the decayed count's increase."""
    for cell in cells:
        if cell.term not in (LOOK, USED):
            continue
        known = histories.get(cell.module_id)
        if known is None:
            known = histories[cell.module_id] = ModuleHistory()
        key = key_of(cell.situation, cell.term == USED)
        known.counts[key] = known.counts.get(key, 0.0) + weight
        if cell.term == USED:
            known.ignored = 0
            continue
        known.ignored += 1
        known.last_s = max(known.last_s, at_s)
        last, looks = known.today
        if day >= last:
            known.today = (day, looks + 1 if day == last else 1)
    _cap(histories)


def decay(histories: Mapping[str, ModuleHistory], factor: float) -> None:
    """Multiply all counts: the state's landmark moved."""
    for known in histories.values():
        known.counts = {key: count * factor for key, count in known.counts.items()}


def join_histories(mine: dict[str, ModuleHistory], theirs: Mapping[str, ModuleHistory]) -> None:
    """Add another state's of the same person, at the same landmark."""
    for name, other in theirs.items():
        known = mine.setdefault(name, ModuleHistory())
        for key, count in other.counts.items():
            known.counts[key] = known.counts.get(key, 0.0) + count
        if other.last_s > known.last_s:
            known.last_s, known.ignored = other.last_s, other.ignored
        if known.today[0] == other.today[0]:
            known.today = (known.today[0], known.today[1] + other.today[1])
        known.today = max(known.today, other.today)
    _cap(mine)


def _cap(histories: dict[str, ModuleHistory]) -> None:
    while len(histories) > MODULES:
        del histories[min(histories, key=lambda name: histories[name].last_s)]


def read_own(
    histories: Mapping[str, ModuleHistory], modules: Sequence[str], situations: int, factor: float
) -> Own | None:
    """The history with these modules, times `factor`; None where there is none."""
    if not histories:
        return None
    tables = np.zeros((2, len(modules), situations))
    for number, name in enumerate(modules):
        known = histories.get(name)
        if known is not None:
            for key, count in known.counts.items():
                if key >> 1 < situations:
                    tables[key & 1, number, key >> 1] = count * factor
    return Own(tables[0], tables[1])
