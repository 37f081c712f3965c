"""Device state: what a phone can tell. Every field is optional; unknown is never zero.

Old apps can't be recalled, so a field or value that can't be read is ignored and counted,
and the rest of the device state stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from engine.errors import InvalidInput
from engine.times import to_ms, zone

MAX_SAMPLES = 4096  # of one motion window: 40 s at 100 Hz
CONFIDENCE = {"low": 0.33, "medium": 0.67, "high": 1.0}  # iOS; Android sends 0–100


class Motion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A raw window: acc and gyro are [[x, y, z]…], gyro in rad/s."""

    rate_hz: float
    acc: list[tuple[float, float, float]]
    gyro: list[tuple[float, float, float]] | None = None
    unit: str = "m/s2"
    gravity: str = "included"


class Device(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The last known state of one device of a person; None is unknown."""

    device_id: str | None = None
    captured_at: int | None = None  # unix ms
    activity: dict[str, float] | None = None  # name -> confidence 0–1
    motion: Motion | None = None
    place: str | None = None
    speed_mps: float | None = None
    orientation: str | None = None
    screen: str | None = None
    app_state: str | None = None
    charging: bool | None = None
    battery: float | None = None
    brightness: float | None = None
    headphones: bool | None = None
    ringer: str | None = None
    network: str | None = None
    lux: float | None = None
    proximity: str | None = None
    local_time: str | None = None
    time_zone: str | None = None
    platform: str | None = None
    device_type: str | None = None
    app_version: str | None = None
    label: str | None = None


def read_device(raw: dict[str, Any]) -> tuple[Device, list[str]]:
    """The device state in `raw`, and the names of the fields that could not be read."""
    known: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in raw.items():
        if value is None:
            continue
        reader = READERS.get(name)
        try:
            if reader is None:
                raise ValueError(name)
            known[name] = reader(value)
        except (ValueError, TypeError, OverflowError, InvalidInput):
            ignored.append(name)
    return Device(**known), ignored


def _one_of(*names: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in names:
            raise ValueError(value)
        return str(value)

    return read


def _number(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(value)
        if not low <= value <= high:  # NaN fails both
            raise ValueError(value)
        return float(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 128:
        raise ValueError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _zone(value: Any) -> str:
    if zone(_text(value)) is None:
        raise ValueError(value)
    return str(value)


def _time(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(value)
    return to_ms(value, "captured_at")


def _confidence(value: Any) -> float:
    if isinstance(value, str):
        return CONFIDENCE[value.lower()] if value.lower() in CONFIDENCE else _fail(value)
    number = _number(0, 100)(value)
    return number / 100 if number > 1 else number


def _fail(value: Any) -> float:
    raise ValueError(value)


def _activity(value: Any) -> dict[str, float]:
    """A name, {name: number} or {name, confidence}; Android's and iOS's scales are understood."""
    if isinstance(value, str):
        return {_text(value).lower(): 1.0}
    if not isinstance(value, dict) or not 1 <= len(value) <= 16:
        raise TypeError(value)
    if isinstance(value.get("name"), str):
        return {_text(value["name"]).lower(): _confidence(value.get("confidence", 1.0))}
    percent = any(number > 1 for number in value.values())
    return {
        _text(name).lower(): _number(0, 100)(number) / (100 if percent else 1)
        for name, number in value.items()
    }


def _motion(value: Any) -> Motion:
    motion = msgspec.convert(value, Motion)
    windows = [motion.acc] if motion.gyro is None else [motion.acc, motion.gyro]
    if not 1 <= motion.rate_hz <= 1000 or not all(1 <= len(w) <= MAX_SAMPLES for w in windows):
        raise ValueError(value)
    if not all(np.isfinite(np.array(window)).all() for window in windows):
        raise ValueError(value)
    if motion.unit not in ("m/s2", "g") or motion.gravity not in ("included", "removed"):
        raise ValueError(value)
    return motion


READERS: dict[str, Callable[[Any], Any]] = {
    "device_id": _text,
    "captured_at": _time,
    "activity": _activity,
    "motion": _motion,
    "place": _one_of(
        "home", "work", "supermarket", "restaurant", "gym", "transit", "school", "other"
    ),
    "speed_mps": _number(0, 400),
    "orientation": _one_of("face_up", "face_down", "upright"),
    "screen": _one_of("on", "off"),
    "app_state": _one_of("foreground", "background"),
    "charging": _flag,
    "battery": _number(0, 1),
    "brightness": _number(0, 1),
    "headphones": _flag,
    "ringer": _one_of("normal", "vibrate", "silent"),
    "network": _one_of("wifi", "cellular", "none"),
    "lux": _number(0, 1e6),
    "proximity": _one_of("near", "far"),
    "local_time": _text,
    "time_zone": _zone,
    "platform": _text,
    "device_type": _one_of("phone", "tablet", "watch", "web"),
    "app_version": _text,
    "label": _text,
}
