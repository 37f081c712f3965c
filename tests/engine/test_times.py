"""Times in, milliseconds inside, RFC 3339 out."""

from __future__ import annotations

import random

import pytest

from engine.errors import InvalidInput
from engine.times import LATEST_MS, hour_of_week, to_ms, to_rfc3339, zone


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (0.0015, 2),
        (1_770_000_000, 1_770_000_000_000),
        (1_770_000_000.123, 1_770_000_000_123),
        (99_999_999_999, 99_999_999_999_000),  # below 10^11 seconds …
        (10**11, 10**11),  # … from there on milliseconds
        (99_999_999_999.9994, 99_999_999_999_999),
        (1_770_000_000_123, 1_770_000_000_123),
        (1_770_000_000_123.6, 1_770_000_000_124),
        (LATEST_MS, LATEST_MS),
        ("1970-01-01T00:00:00Z", 0),
        ("2026-02-02T02:40:00Z", 1_770_000_000_000),
        ("2026-02-02T02:40:00.123Z", 1_770_000_000_123),
        ("2026-02-02T02:40:00.123456789Z", 1_770_000_000_123),
        ("2026-02-02T03:40:00+01:00", 1_770_000_000_000),
        ("2026-02-01T18:10:00-08:30", 1_770_000_000_000),
        ("2026-02-02t02:40:00z", 1_770_000_000_000),
        ("2026-02-02 02:40:00Z", 1_770_000_000_000),
        ("9999-12-31T23:59:59.999Z", LATEST_MS),
    ],
)
def test_a_time_is_read(value: str | float, ms: int) -> None:
    assert to_ms(value, "ts") == ms


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        LATEST_MS + 1,
        10**400,
        -(10**400),
        1e308,
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "T",
        "Z",
        "yesterday",
        "1770000000",
        "2026-02-02",
        "2026-02-02T02:40:00",  # no offset: whose clock?
        "2026-02-30T00:00:00Z",
        "2026-02-02T25:00:00Z",
        "2026-02-02T02:40:00+25:00",
        "2026-02-02X02:40:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
        "２０２６-02-02T02:40:00Z",
        "T" * 100_000,
    ],
)
def test_rubbish_is_refused_with_the_name_of_the_field(value: str | float) -> None:
    with pytest.raises(InvalidInput) as caught:
        to_ms(value, "sent_at")

    assert caught.value.field == "sent_at"
    assert len(caught.value.detail) < 200


def test_what_goes_out_comes_in_to_the_millisecond() -> None:
    random_ = random.Random(1)
    known = [0, 1, 999, 1000, 1_770_000_000_123, LATEST_MS - 1, LATEST_MS]
    for ms in known + [random_.randrange(LATEST_MS) for _ in range(5000)]:
        assert to_ms(to_rfc3339(ms), "ts") == ms

    assert to_rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert to_rfc3339(LATEST_MS) == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("utc", "time_zone", "day", "hour"),
    [
        ("2026-02-02T00:00:00Z", None, 0, 0),  # a Monday
        ("2026-02-08T23:59:59Z", None, 6, 23),
        ("2026-02-02T00:00:00Z", "America/New_York", 6, 19),
        ("2026-02-02T00:00:00Z", "Asia/Kathmandu", 0, 5),
        # Berlin: the hour before and the hour after clocks go forward, then back
        ("2026-03-29T00:30:00Z", "Europe/Berlin", 6, 1),
        ("2026-03-29T01:30:00Z", "Europe/Berlin", 6, 3),
        ("2026-10-25T00:30:00Z", "Europe/Berlin", 6, 2),
        ("2026-10-25T01:30:00Z", "Europe/Berlin", 6, 2),
        ("2026-02-02T00:00:00Z", "Mars/Olympus", 0, 0),
        ("2026-02-02T00:00:00Z", "", 0, 0),
    ],
)
def test_the_hour_of_the_local_week(utc: str, time_zone: str | None, day: int, hour: int) -> None:
    assert hour_of_week(to_ms(utc, "ts"), time_zone) == day * 24 + hour


@pytest.mark.parametrize(
    "name",
    ["", "America", "../zone.tab", "/etc/passwd", "\0", "x" * 5000, "\ud800", "zone.tab", "a b"],
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert zone(name) is None
