"""What phones tell: read where it can be read, ignored and named where not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.device import MAX_SAMPLES, READERS, Device, Motion, read_device

FULL = {
    "device_id": "d1",
    "captured_at": "2026-02-02T02:40:00Z",
    "activity": "Walking",
    "motion": {"rate_hz": 50, "acc": [[0, 0, 9.81]], "gyro": [[0.1, 0.2, 0.3]]},
    "place": "supermarket",
    "speed_mps": 1.5,
    "orientation": "face_up",
    "screen": "on",
    "app_state": "foreground",
    "charging": False,
    "battery": 0.5,
    "brightness": 1,
    "headphones": True,
    "ringer": "silent",
    "network": "wifi",
    "lux": 300,
    "proximity": "far",
    "local_time": "18:30",
    "time_zone": "Europe/Berlin",
    "platform": "ios",
    "device_type": "phone",
    "app_version": "1.2.3",
    "label": "cooking",
}


def read_one(name: str, value: Any) -> Any:
    device, ignored = read_device({name: value})
    assert ignored == []
    return getattr(device, name)


def test_every_field_is_read() -> None:
    device, ignored = read_device(FULL)

    assert ignored == []
    assert set(FULL) == set(READERS) == {f.name for f in msgspec.structs.fields(Device)}
    motion = Motion(50, [(0, 0, 9.81)], [(0.1, 0.2, 0.3)])
    told = FULL | {"captured_at": 1_770_000_000_000, "activity": {"walking": 1.0}, "motion": motion}
    assert {name: getattr(device, name) for name in FULL} == told


def test_a_missing_field_is_unknown_and_null_says_nothing() -> None:
    assert read_device({}) == (Device(), [])
    assert read_device(dict.fromkeys(FULL)) == (Device(), [])
    assert all(getattr(Device(), name) is None for name in FULL)


@pytest.mark.parametrize(
    ("told", "activity"),
    [
        ("WALKING", {"walking": 1.0}),
        ({"still": 80, "walking": 20}, {"still": 0.8, "walking": 0.2}),  # Android
        ({"still": 0.8, "walking": 0.2}, {"still": 0.8, "walking": 0.2}),
        ({"still": 0, "walking": 100}, {"still": 0.0, "walking": 1.0}),
        ({"name": "running", "confidence": 75}, {"running": 0.75}),  # Android
        ({"name": "running", "confidence": 0.75}, {"running": 0.75}),
        ({"name": "running", "confidence": "low"}, {"running": 0.33}),  # iOS
        ({"name": "running", "confidence": "Medium"}, {"running": 0.67}),
        ({"name": "running", "confidence": "HIGH"}, {"running": 1.0}),
        ({"name": "running"}, {"running": 1.0}),
    ],
)
def test_activities_of_every_kind(told: Any, activity: dict[str, float]) -> None:
    assert read_one("activity", told) == pytest.approx(activity)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("battery", value) for value in (NAN, INF, -INF, -0.1, 1.1, 10**400, True, "0.5", [])],
        *[("lux", value) for value in (NAN, INF, -1, 1e7)],
        *[("speed_mps", value) for value in (NAN, -1, 401)],
        *[("charging", value) for value in (1, 0, "true", {})],
        *[("screen", value) for value in ("ON", "off ", True, 1, [], {})],
        *[("captured_at", value) for value in (NAN, INF, -1, "now", 10**400, True, [], {})],
        *[("time_zone", value) for value in ("Mars/Olympus", "", "../etc", 5, "x" * 129)],
        *[("device_id", value) for value in ("", "x" * 129, 5, None.__class__, ["d"])],
        *[
            ("activity", value)
            for value in (
                *("", 5, [], {}, ["walking"], "x" * 129, NAN),
                *({"walking": NAN}, {"walking": INF}, {"walking": 101}, {"walking": -1}),
                *({"walking": "high"}, {"walking": None}, {"walking": True}, {"": 1}),
                *({"name": "running", "confidence": "sure"}, {"name": "x", "confidence": NAN}),
                *({"name": "x", "confidence": None}, {f"a{n}": 1 for n in range(17)}),
            )
        ],
        *[
            ("motion", value)
            for value in (
                *("shake", [], {}, {"rate_hz": 50}, {"acc": [[1, 2, 3]]}),
                {"rate_hz": 50, "acc": []},
                {"rate_hz": 50, "acc": [[1, 2]]},
                {"rate_hz": 50, "acc": [[1, 2, "3"]]},
                {"rate_hz": 50, "acc": [[1, 2, NAN]]},
                {"rate_hz": 50, "acc": [[1, 2, INF]]},
                {"rate_hz": 50, "acc": [[1, 2, 10**400]]},
                {"rate_hz": 50, "acc": [[1, 2, 3]], "gyro": [[NAN, 0, 0]]},
                {"rate_hz": 50, "acc": [[1, 2, 3]], "gyro": []},
                {"rate_hz": NAN, "acc": [[1, 2, 3]]},
                {"rate_hz": 0, "acc": [[1, 2, 3]]},
                {"rate_hz": 1001, "acc": [[1, 2, 3]]},
                {"rate_hz": 50, "acc": [[1, 2, 3]], "unit": "furlong"},
                {"rate_hz": 50, "acc": [[1, 2, 3]], "gravity": "some"},
                {"rate_hz": 50, "acc": [[1, 2, 3]] * (MAX_SAMPLES + 1)},
            )
        ],
    ],
)
def test_a_value_that_cannot_be_read_is_ignored_and_named(name: str, value: Any) -> None:
    device, ignored = read_device({"platform": "android", name: value, "screen_size": 6})

    assert ignored == [name, "screen_size"]
    assert device == Device(platform="android")


def test_a_motion_window_of_a_million_samples_is_ignored() -> None:
    window = [[0.0, 0.0, 9.81]] * 1_000_000

    assert read_device({"motion": {"rate_hz": 100, "acc": window}, "lux": 1}) == (
        Device(lux=1.0),
        ["motion"],
    )


def test_units_and_gravity_of_a_motion_window() -> None:
    told = {"rate_hz": 50, "acc": [[0, 0, 1]], "unit": "g", "gravity": "removed"}

    assert read_one("motion", told) == Motion(50, [(0, 0, 1)], None, "g", "removed")
    assert read_one("motion", {"rate_hz": 50, "acc": [[0, 0, 1]] * MAX_SAMPLES}).unit == "m/s2"


def test_a_name_of_any_kind_is_ignored() -> None:
    names = ["", "__class__", "x" * 5000, "ü", "a.b", "Screen"]

    assert read_device(dict.fromkeys(names, 1)) == (Device(), names)
