"""Local time around nights on which clocks change: cells, quiet hours, times of day."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from engine.push_ahead import (
    MINUTE_MS,
    is_within,
    leave,
    look_ahead,
    minute_of_day,
    next_minute,
    offset_ms,
    widen,
)
from engine.times import HOUR_MS, to_ms, to_rfc3339

SPRING, AUTUMN = "2027-03-28", "2026-10-25"  # in Europe


def ms(text: str) -> int:
    return to_ms(text, "at")


def utc(at_ms: int) -> str:
    return to_rfc3339(at_ms)[:16]


@pytest.mark.parametrize(
    ("zone", "start", "hours", "expected"),
    [
        ("Europe/Paris", f"{SPRING}T00:00:00+01:00", 5, [0, 0, 1, 3, 4, 5]),
        ("Europe/Berlin", f"{AUTUMN}T00:00:00+02:00", 5, [0, 0, 1, 2, 2, 3]),
        ("Australia/Lord_Howe", "2027-10-03T00:00:00+10:30", 4, [0, 0, 1, 2, 3, 4]),
        ("Asia/Kathmandu", "2027-01-01T07:50:00+05:45", 2, [7, 8, 9]),
    ],
)
def test_cells_are_local_hours(zone: str, start: str, hours: int, expected: list[int]) -> None:
    ahead = look_ahead(zone, ms(start), hours)

    assert [int(hour) % 24 for hour in ahead.hour_of_week] == expected
    assert ahead.start_ms[0] == ms(start)
    assert all(minute_of_day(zone, int(at)) % 30 == 0 for at in ahead.start_ms[2:-1])


def test_days_have_as_many_hours_as_they_have() -> None:
    lengths = [
        (ms(f"{after}T00:00:00{late}") - ms(f"{day}T00:00:00{early}")) // HOUR_MS
        for day, early, after, late in [
            (SPRING, "+01:00", "2027-03-29", "+02:00"),
            (AUTUMN, "+02:00", "2026-10-26", "+01:00"),
        ]
    ]
    found = []
    for start, length in zip(
        (f"{SPRING}T00:00:00+01:00", f"{AUTUMN}T00:00:00+02:00"), lengths, strict=True
    ):
        cells = look_ahead("Europe/Berlin", ms(start), length)
        found.append(len(cells.start_ms) - 1)  # the first hour is in two

    assert (lengths, found) == ([23, 25], [23, 25])


@pytest.mark.parametrize(
    ("zone", "at", "clock", "expected"),
    [
        ("Europe/Berlin", f"{SPRING}T00:30:00Z", 3 * 60, f"{SPRING}T01:00"),
        # 02:30 never comes: 03:30 is when it would be.
        ("Europe/Berlin", f"{SPRING}T00:30:00Z", 150, f"{SPRING}T01:30"),
        ("Europe/Berlin", "2026-10-24T22:30:00Z", 150, f"{AUTUMN}T00:30"),  # the first of two
        ("Europe/Berlin", f"{AUTUMN}T00:45:00Z", 150, f"{AUTUMN}T01:30"),  # the second
        ("Europe/Berlin", f"{AUTUMN}T01:45:00Z", 150, "2026-10-26T01:30"),
        ("Australia/Lord_Howe", "2027-04-03T14:30:00Z", 105, "2027-04-03T14:45"),
        ("Australia/Lord_Howe", "2027-04-03T15:05:00Z", 105, "2027-04-03T15:15"),  # once more
        ("Pacific/Apia", "2011-12-30T08:00:00Z", 60, "2011-12-30T11:00"),  # the 30th never was
    ],
)
def test_next_minute(zone: str, at: str, clock: int, expected: str) -> None:
    assert utc(next_minute(zone, ms(at), clock)) == expected


@pytest.mark.parametrize(
    ("at", "stretch", "expected"),
    [
        ("2027-03-10T20:00:00Z", (1315, 485), "2027-03-10T20:00"),  # 21:00 in Berlin: not yet
        ("2027-03-10T21:00:00Z", (1315, 485), "2027-03-11T07:05"),
        ("2027-03-27T22:00:00Z", (1315, 485), f"{SPRING}T06:05"),  # 08:05 comes an hour sooner
        ("2026-10-24T21:00:00Z", (1315, 485), f"{AUTUMN}T07:05"),  # … and later
        (f"{SPRING}T00:30:00Z", (1320, 150), f"{SPRING}T01:30"),  # its end is skipped
        (f"{AUTUMN}T01:10:00Z", (1320, 150), f"{AUTUMN}T01:30"),  # the hour comes twice
    ],
)
def test_leave(at: str, stretch: tuple[int, int], expected: str) -> None:
    assert utc(leave("Europe/Berlin", ms(at), stretch)) == expected


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Europe/Berlin", "2026-10-24T18:00:00Z"),
        ("Europe/Berlin", "2027-03-27T18:00:00Z"),
        ("Australia/Lord_Howe", "2027-04-03T06:00:00Z"),
        ("Antarctica/Troll", "2027-03-27T18:00:00Z"),
        ("America/Sao_Paulo", "2018-11-03T18:00:00Z"),
        ("Asia/Almaty", "2024-02-29T09:00:00Z"),
    ],
)
@pytest.mark.parametrize("stretch", [(1320, 480), (0, 30), (90, 150), (100, 95)])
def test_no_way_out_leads_into_quiet_hours(zone: str, start: str, stretch: tuple[int, int]) -> None:
    known = ZoneInfo(zone)
    for at in range(ms(start), ms(start) + 20 * HOUR_MS, 7 * MINUTE_MS):
        out = leave(zone, at, stretch)
        local = datetime.fromtimestamp(out / 1000, UTC).astimezone(known)
        assert not is_within(local.hour * 60 + local.minute, stretch)
        assert at <= out <= at + 50 * HOUR_MS


def test_an_offset_changes_to_the_second() -> None:
    change = ms(f"{SPRING}T01:00:00Z")
    odd = ms("2007-11-04T02:31:00Z")  # St John's went back at a minute past midnight

    assert [offset_ms("Europe/Berlin", at) // HOUR_MS for at in (change - 1, change)] == [1, 2]
    steps = [offset_ms("America/St_Johns", at) // MINUTE_MS for at in (odd - 1, odd)]
    assert steps == [-150, -210]
    assert offset_ms("Nowhere/At_All", change) == 0


@pytest.mark.parametrize(
    ("stretch", "by_min", "expected"),
    [
        ((1320, 480), 5, (1315, 485)),
        ((2, 600), 5, (1437, 605)),
        ((10, 5), 5, (8, 7)),  # never the whole day
    ],
)
def test_widen(stretch: tuple[int, int], by_min: int, expected: tuple[int, int]) -> None:
    assert widen(stretch, by_min) == expected
