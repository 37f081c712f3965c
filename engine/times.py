"""Times: RFC 3339, unix seconds or milliseconds in; integer milliseconds inside; RFC 3339 out."""

from __future__ import annotations

import functools
import math
import zoneinfo
from datetime import UTC, datetime, timedelta

from engine.errors import InvalidInput

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MILLISECONDS_FROM = 10**11  # numbers from here up are milliseconds, below it seconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = 253_402_300_799_999  # the last millisecond of year 9999, where RFC 3339 ends


def to_ms(value: str | int | float, field: str) -> int:
    """Read a time as unix milliseconds; raises InvalidInput naming `field`."""
    if isinstance(value, str):
        return _parse_rfc3339(value, field)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(field, "expected a finite number")
    ms = value if value >= MILLISECONDS_FROM else value * 1000
    if not 0 <= ms <= LATEST_MS:
        raise InvalidInput(field, "expected a time between 1970 and 9999")
    return round(ms)


def date_ms(text: str, field: str) -> int:
    """Unix ms of a date (its first moment in UTC) or an RFC 3339 time; raises InvalidInput."""
    return to_ms(f"{text}T00:00:00Z" if len(text) == len("2026-01-31") else text, field)


def _parse_rfc3339(value: str, field: str) -> int:
    try:
        parsed = datetime.fromisoformat(value.upper())  # RFC 3339 allows t and z
    except ValueError:
        raise InvalidInput(field, "expected RFC 3339, unix seconds or milliseconds") from None
    if parsed.tzinfo is None or "T" not in value.upper().replace(" ", "T"):
        raise InvalidInput(field, "expected a date, a time and an offset, as 2026-01-31T08:00:00Z")
    try:
        ms = round(parsed.timestamp() * 1000)
    except (OverflowError, ValueError):
        ms = -1
    if not 0 <= ms <= LATEST_MS:
        raise InvalidInput(field, "expected a time between 1970 and 9999")
    return ms


def to_rfc3339(ms: int) -> str:
    """Milliseconds as RFC 3339 in UTC, with milliseconds."""
    # Not fromtimestamp: from the year 2250 on a float loses the last millisecond.
    return (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


@functools.lru_cache(maxsize=1024)
def zone(name: str) -> zoneinfo.ZoneInfo | None:
    """The IANA zone of this name, or None where there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def hour_of_week(ms: int, time_zone: str | None) -> int:
    """Hour of the local week, 0 (Monday 00:00) to 167; UTC where the zone is unknown."""
    local = datetime.fromtimestamp(ms / 1000, (zone(time_zone) if time_zone else None) or UTC)
    return local.weekday() * 24 + local.hour


def local_day(ms: int, time_zone: str | None) -> int:
    """The local date as days since 1970; UTC where the zone is unknown."""
    local = datetime.fromtimestamp(ms / 1000, (zone(time_zone) if time_zone else None) or UTC)
    return (local.date() - EPOCH.date()).days
