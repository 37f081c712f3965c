"""A person's routine: what each hour of the week usually is for them, learned from their moments.

For each hour of the local week that they were ever seen in, faded counts of situations: one byte
each, in 1/32 of an hour seen. A new hour counts one, the earlier ones of that cell a seventh less.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Routine = dict[int, bytes]  # hour of the local week -> uint8 [situations]

UNIT = 32
KEEPS = 1 - 1 / 7  # 7 hours at most, which 255 of 1/32 just hold
# How much another hour tells of this one: the same day, or another of its kind (working day or
# weekend), by how many hours it is away. In tenths: sums of whole numbers are the same in any
# order, so that a person among a thousand reads as the same person alone.
SAME_DAY = {0: 10, 1: 4}
SAME_KIND = {0: 5, 1: 2}
WHOLE = 10 * UNIT


def add(routine: Routine, hour_of_week: int, probabilities: Floats) -> None:
    """Count one more hour seen, in place; probabilities [situations] sum to 1."""
    kept = np.zeros(len(probabilities), np.float32)
    before = np.frombuffer(routine.get(hour_of_week, b""), np.uint8)[: len(kept)]
    kept[: len(before)] = before
    counted = np.rint(kept * KEEPS + UNIT * probabilities)
    routine[hour_of_week] = counted.astype(np.uint8).tobytes()


def usual(routine: Routine, hour: float, weekday: int, situations: int) -> Floats:
    """float32 [situations]: how many hours each was seen at about this hour, alike ones weighed."""
    [found] = usual_now([routine], [weekday * 24 + int(hour) % 24], situations)
    return np.asarray(found)


def usual_now(
    routines: Sequence[Routine], hours_of_week: Sequence[int] | NDArray[np.intp], situations: int
) -> Floats:
    """float32 [n, situations]: `usual` of many people, each at an hour of their own."""
    people, hours, seen = _unpacked(routines, situations)
    found = np.zeros((len(routines), situations), np.float32)
    if len(people):
        now = np.array(hours_of_week, np.intp)[people]
        weighed = _shares()[now, hours][:, None] * seen
        first = np.flatnonzero(np.diff(people, prepend=-1))
        found[people[first]] = np.add.reduceat(weighed, first, axis=0) / WHOLE
    return found


def usual_ahead(
    routines: Sequence[Routine], hours_of_week: NDArray[np.intp], situations: int
) -> Floats:
    """float32 [n, hours, situations]: `usual` of many people at the same hours of the week."""
    people, hours, seen = _unpacked(routines, situations)
    counts = np.zeros((168, len(routines), situations), np.float32)
    counts[hours, people] = seen
    told = _shares()[hours_of_week] @ counts.reshape(168, -1)
    found: Floats = told.reshape(len(hours_of_week), *counts.shape[1:]) / WHOLE
    return found.transpose(1, 0, 2)


def _unpacked(
    routines: Sequence[Routine], situations: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Of every hour that was seen, by person: whose, which [n], and counts [n, situations]."""
    packed = list(itertools.chain.from_iterable(routine.values() for routine in routines))
    if {*map(len, packed)} != {situations}:  # there were fewer, or more, then
        packed = [counts.ljust(situations, b"\0")[:situations] for counts in packed]
    people = np.repeat(np.arange(len(routines)), [len(routine) for routine in routines])
    hours = np.fromiter(itertools.chain.from_iterable(routines), np.intp, len(packed))
    seen = np.frombuffer(b"".join(packed), np.uint8).reshape(-1, situations)
    return people, hours, seen


@functools.cache
def _shares() -> Floats:
    """float32 [168, 168]: how much one hour of the week tells of another, in tenths."""
    table = np.zeros((168, 168), np.float32)
    for hour_of_week in range(168):
        weekday, now = divmod(hour_of_week, 24)
        for day in range(5, 7) if weekday >= 5 else range(5):
            for away, share in (SAME_DAY if day == weekday else SAME_KIND).items():
                for near in {now - away, now + away}:
                    table[hour_of_week, (day * 24 + near) % 168] += share
    return table
