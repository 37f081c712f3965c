"""A person's routine: what each hour of the week usually is for them, learned from their moments.

For each hour of the local week that they were ever seen in, faded counts of situations: one byte
each, in 1/32 of an hour seen. A new hour counts one, the earlier ones of that cell a seventh less.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Routine = dict[int, bytes]  # hour of the local week -> uint8 [situations]

UNIT = 32
KEEPS = 1 - 1 / 7  # 7 hours at most, which 255 of 1/32 just hold
# How much another hour tells of this one: the same day, or another of its kind (working day or
# weekend), by how many hours it is away.
SAME_DAY = {0: 1.0, 1: 0.4}
SAME_KIND = {0: 0.5, 1: 0.2}


def add(routine: Routine, hour_of_week: int, probabilities: Floats) -> None:
    """Count one more hour seen, in place; probabilities [situations] sum to 1."""
    kept = np.zeros(len(probabilities), np.float32)
    before = np.frombuffer(routine.get(hour_of_week, b""), np.uint8)[: len(kept)]
    kept[: len(before)] = before
    counted = np.rint(kept * KEEPS + UNIT * probabilities)
    routine[hour_of_week] = counted.astype(np.uint8).tobytes()


def usual(routine: Routine, hour: float, weekday: int, situations: int) -> Floats:
    """float32 [situations]: how many hours each was seen at about this hour, alike ones weighed."""
    found = np.zeros(situations, np.float32)
    if not routine:
        return found
    now, kind = int(hour) % 24, weekday >= 5
    for day in range(5, 7) if kind else range(5):
        shares = SAME_DAY if day == weekday else SAME_KIND
        for away, share in shares.items():
            for near in {now - away, now + away}:
                counts = routine.get((day * 24 + near) % 168)
                if counts:
                    seen = np.frombuffer(counts, np.uint8)[:situations]
                    found[: len(seen)] += (share / UNIT) * seen
    return found


def usual_at(routine: Routine, hours_of_week: NDArray[np.intp], situations: int) -> Floats:
    """float32 [n, situations]: `usual` at many hours of the local week at once."""
    if not routine:
        return np.zeros((len(hours_of_week), situations), np.float32)
    counts = np.zeros((168, situations), np.uint8)
    for hour, packed in routine.items():
        seen = np.frombuffer(packed, np.uint8)[:situations]
        counts[hour, : len(seen)] = seen
    found: Floats = _shares()[hours_of_week] @ counts.astype(np.float32)
    return found


@functools.cache
def _shares() -> Floats:
    """float32 [168, 168]: how much one hour of the week tells of another."""
    table = np.zeros((168, 168), np.float32)
    for hour_of_week in range(168):
        weekday, now = divmod(hour_of_week, 24)
        for day in range(5, 7) if weekday >= 5 else range(5):
            for away, share in (SAME_DAY if day == weekday else SAME_KIND).items():
                for near in {now - away, now + away}:
                    table[hour_of_week, (day * 24 + near) % 168] += share / UNIT
    return table
