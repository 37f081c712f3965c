"""The hours to come of a person's day: cells from now on, each a stretch of one local hour.

The first cell is now, the next a quarter of an hour later, the others begin on full local hours.
Within a cell the situation is taken as one; a gate that opens inside one moves its beginning, but
what does not open now is not now. Daylight saving and changes of zone come from the zone
itself, so a day may have 23 or 25 cells.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from engine.times import DAY_MS, HOUR_MS, LATEST_MS, zone

MINUTE_MS = 60_000
SOON_MS = 15 * MINUTE_MS
LAST_MS = LATEST_MS - DAY_MS
JUMP_MS = 5 * MINUTE_MS
MOST_CELLS = 7 * 24  # who may wait longer is looked at again
Minutes = tuple[int, int]  # of the local day: from, until


@dataclass(frozen=True, slots=True)
class Ahead:
    """Cells of one zone, [cells] each."""

    start_ms: NDArray[np.int64]
    hour_of_week: NDArray[np.intp]  # local
    zone: str


def offset_ms(name: str, at_ms: int) -> int:
    """What local time is ahead of UTC; 0 where the zone is unknown."""
    hour = at_ms // HOUR_MS
    throughout = _offset_of_hour(name, hour)
    return _offset_ms(name, at_ms) if throughout is None else throughout


@functools.lru_cache(maxsize=1 << 16)
def _offset_of_hour(name: str, hour: int) -> int | None:
    """The offset throughout an hour since 1970; None where it changes in it."""
    first, last = (_offset_ms(name, at) for at in (hour * HOUR_MS, (hour + 1) * HOUR_MS - 1))
    return first if first == last else None


def _offset_ms(name: str, at_ms: int) -> int:
    known = zone(name)
    if known is None:
        return 0
    at_ms = min(at_ms, LAST_MS)  # what is never open is so until after the last year
    away = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(known).utcoffset()
    return 0 if away is None else round(away.total_seconds() * 1000)


def look_ahead(name: str, at_ms: int, hours: int) -> Ahead:
    """The cells from now until so many hours later."""
    starts, hours_of_week = [], []
    at, end = at_ms, at_ms + min(hours, MOST_CELLS) * HOUR_MS
    while at < end:
        local = at + offset_ms(name, at)
        starts.append(at)
        # 1 January 1970 was a Thursday.
        hours_of_week.append((local // HOUR_MS + 3 * 24) % 168)
        rest = HOUR_MS - local % HOUR_MS
        at += SOON_MS if at == at_ms and rest > SOON_MS else rest
    return Ahead(np.array(starts, np.int64), np.array(hours_of_week, np.intp), name)


def minute_of_day(name: str, at_ms: int) -> int:
    """Minute of the local day, 0–1439."""
    return (at_ms + offset_ms(name, at_ms)) % DAY_MS // MINUTE_MS


def is_within(minute: int, stretch: Minutes) -> bool:
    """Whether a minute of the day lies in a stretch that may pass midnight."""
    start, end = stretch
    return start <= minute < end if start < end else minute >= start or minute < end


def next_minute(name: str, at_ms: int, minute: int) -> int:
    """Unix ms of the next time that the local clock shows so, or would, where it is put forward."""
    offsets = [offset_ms(name, at_ms), offset_ms(name, at_ms + DAY_MS)]
    times = [at_ms + (minute * MINUTE_MS - at_ms - offset) % DAY_MS for offset in offsets]
    shown = [at for at, offset in zip(times, offsets, strict=True) if offset_ms(name, at) == offset]
    return min(shown or times[:1])


@functools.lru_cache(maxsize=1 << 14)
def leave(name: str, at_ms: int, stretch: Minutes) -> int:
    """The first moment from then on that is not in a stretch of the local day."""
    for _ in range(9):  # a clock that is put back enters the stretch once more
        if is_within(minute_of_day(name, at_ms), stretch) or _jumps(name, at_ms, JUMP_MS, stretch):
            at_ms = max(next_minute(name, at_ms, stretch[1]), at_ms + MINUTE_MS)
        elif _jumps(name, at_ms, -JUMP_MS, stretch):
            at_ms += MINUTE_MS
        else:
            break
    return at_ms


def _jumps(name: str, at_ms: int, by_ms: int, stretch: Minutes) -> bool:
    """Whether the clock jumps between here and there, and there it is in the stretch.

    A jump may skip the margins that a stretch has for clocks that differ.
    """
    there_ms = at_ms + by_ms
    return offset_ms(name, at_ms) != offset_ms(name, there_ms) and is_within(
        minute_of_day(name, there_ms), stretch
    )


def widen(stretch: Minutes, by_min: int) -> Minutes:
    """The stretch with so many minutes more at either end; never the whole day."""
    start, end = stretch
    length = (end - start) % 1440
    by_min = min(by_min, max((1439 - length) // 2, 0))
    return (start - by_min) % 1440, (end + by_min) % 1440
