"""Situations by rules: known answers, and nothing made of what is missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engine.device import Device, read_device
from engine.situation import (
    FRESH_S,
    INDEX,
    SITUATIONS,
    infer,
    local_clock,
    newest_device,
    read_moment,
    situation_of_act,
)

MONDAY = int(datetime(2026, 2, 2, 12, 30, tzinfo=UTC).timestamp() * 1000)
SHOP = Device(place="supermarket")


def name_of(device: Device, hour: float) -> str:
    return SITUATIONS[infer(device, hour)[0]]


@pytest.mark.parametrize(
    ("device", "hour", "name"),
    [
        ({"place": "supermarket"}, 18, "shopping"),
        ({"place": "supermarket", "activity": "walking"}, 18, "shopping"),
        ({"place": "transit"}, 8, "commuting"),
        ({"place": "work"}, 8, "working"),
        ({"place": "school"}, 8, "working"),
        ({"place": "restaurant"}, 20, "out"),
        ({"place": "gym"}, 20, "out"),
        ({"activity": "in_vehicle"}, 8, "commuting"),
        ({"activity": "cycling"}, 8, "commuting"),
        ({"speed_mps": 20}, 8, "commuting"),
        ({"speed_mps": 0}, 8, "unknown"),
        ({"activity": "walking"}, 8, "walking"),
        ({"activity": "running", "place": "other"}, 8, "walking"),
        ({"activity": "walking", "place": "home"}, 15, "at_home"),
        ({"activity": {"walking": 0.2, "still": 0.1}}, 8, "unknown"),
        ({"place": "home"}, 15, "at_home"),
        ({"place": "home", "orientation": "face_up"}, 18.5, "cooking"),
        ({"place": "home", "orientation": "face_down", "activity": "still"}, 12, "cooking"),
        ({"place": "home", "orientation": "upright"}, 18.5, "at_home"),
        ({"place": "home", "orientation": "face_up"}, 15, "at_home"),
        ({"place": "home", "activity": "lying"}, 15, "in_bed"),
        ({"place": "home", "activity": "still"}, 23, "in_bed"),
        ({"place": "home"}, 3, "in_bed"),
        ({"place": "home", "activity": "walking"}, 23, "at_home"),
        ({"activity": "lying"}, 23, "in_bed"),
        ({"activity": "lying"}, 15, "unknown"),
        ({"orientation": "face_up"}, 18.5, "unknown"),  # on a table, who knows where
        ({"screen": "on", "battery": 0.0, "charging": False}, 12, "unknown"),
        ({}, 12, "unknown"),
    ],
)
def test_known_answers(device: dict[str, object], hour: float, name: str) -> None:
    known, ignored = read_device(device)
    situation, confidence = infer(known, hour)

    assert (SITUATIONS[situation], ignored) == (name, [])
    assert (confidence == 0) == (name == "unknown")
    assert 0 <= confidence <= 1


def test_every_situation_can_be_told() -> None:
    told = [
        Device(),
        Device(activity={"walking": 1}),
        Device(place="transit"),
        SHOP,
        Device(place="home", orientation="face_up"),
        Device(place="home", activity={"lying": 1}),
        Device(place="work"),
        Device(place="home"),
        Device(place="gym"),
    ]

    assert tuple(name_of(device, 12) for device in told) == SITUATIONS


@pytest.mark.parametrize("hour", [0.0, 3.0, 7.0, 12.0, 18.0, 23.0])
def test_a_device_that_tells_nothing_is_unknown_at_any_hour(hour: float) -> None:
    assert infer(Device(), hour) == (0, 0.0)


def test_nothing_known_has_no_age() -> None:
    moment = read_moment({}, None, None, MONDAY)

    assert (moment.name, moment.confidence, moment.age_s) == ("unknown", 0.0, None)
    assert (moment.hour, moment.weekday, moment.device_type) == (12.5, 0, None)


def test_the_requests_own_device_comes_before_the_kept_ones() -> None:
    kept = {"phone": (MONDAY, SHOP)}
    told = Device(place="work", device_type="tablet")

    assert read_moment(kept, None, told, MONDAY).name == "working"
    assert read_moment(kept, None, told, MONDAY).device_type == "tablet"
    assert read_moment(kept, None, None, MONDAY).name == "shopping"
    # an empty one says nothing, and the kept one is not taken for it
    assert read_moment(kept, None, Device(), MONDAY).name == "unknown"


def test_the_device_heard_of_last_counts() -> None:
    kept = {"watch": (MONDAY - 60_000, SHOP), "phone": (MONDAY - 30_000, Device(place="work"))}

    assert newest_device(kept) == (MONDAY - 30_000, Device(place="work"))
    assert read_moment(kept, None, None, MONDAY).name == "working"
    assert newest_device({}) is None


@pytest.mark.parametrize(
    ("age_s", "name"),
    [
        (0, "shopping"),
        (FRESH_S, "shopping"),
        (FRESH_S + 1, "unknown"),
        (86_400, "unknown"),
        (-60, "shopping"),  # clocks differ
        (-FRESH_S - 1, "unknown"),  # decided as of a time before the device was heard
    ],
)
def test_a_stale_device_says_nothing(age_s: int, name: str) -> None:
    kept = {"phone": (MONDAY - age_s * 1000, SHOP)}

    moment = read_moment(kept, None, None, MONDAY)

    assert (moment.name, moment.age_s) == (name, age_s)


def test_a_device_state_told_now_may_be_old() -> None:
    old = Device(place="supermarket", captured_at=MONDAY - 2 * FRESH_S * 1000)
    ahead = Device(place="supermarket", captured_at=MONDAY + 60_000)

    assert read_moment({}, None, old, MONDAY).name == "unknown"
    assert read_moment({}, None, old, MONDAY).age_s == 2 * FRESH_S
    assert read_moment({}, None, ahead, MONDAY).age_s == 0


@pytest.mark.parametrize(
    ("zone", "home", "clock"),
    [
        (None, None, (12.5, 0)),
        ("Asia/Tokyo", None, (21.5, 0)),
        (None, "Asia/Tokyo", (21.5, 0)),
        ("America/New_York", "Asia/Tokyo", (7.5, 0)),  # where the device is, not where home is
        ("Pacific/Kiritimati", None, (2.5, 1)),
        ("Asia/Kathmandu", None, (18.25, 0)),
        (None, "Mars/Olympus", (12.5, 0)),
    ],
)
def test_the_clock_is_local(zone: str | None, home: str | None, clock: tuple[float, int]) -> None:
    assert local_clock(Device(time_zone=zone), home, MONDAY) == clock
    assert local_clock(None, home, MONDAY) == local_clock(Device(), home, MONDAY)


def test_the_local_hour_decides() -> None:
    told = Device(place="home", time_zone="Asia/Tokyo")
    night = MONDAY + 60 * 60_000  # 22:30 there, 13:30 in UTC

    assert read_moment({}, None, told, night).name == "in_bed"
    assert read_moment({}, "Asia/Tokyo", Device(place="home"), night).name == "in_bed"
    assert read_moment({}, None, Device(place="home"), night).name == "at_home"


def test_the_situation_of_an_act() -> None:
    kept = {"phone": (MONDAY, SHOP)}

    assert situation_of_act({}, None, None, MONDAY) == 0
    assert situation_of_act(kept, None, None, MONDAY + 60_000) == INDEX["shopping"]
    assert situation_of_act(kept, None, None, MONDAY - 1) == 0  # a late event, from before
    assert situation_of_act(kept, None, None, MONDAY + FRESH_S * 1000 + 1) == 0
    assert situation_of_act(kept, None, Device(place="work"), MONDAY) == INDEX["working"]
