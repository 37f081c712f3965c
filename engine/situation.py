"""The moment: what the device says about the situation its person is in.

Rules over activity, place, speed and hour, until fitted models take their place behind the same
two calls. What a rule cannot tell is `unknown`; a missing signal is never read as a zero.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.device import Device
from engine.times import zone

Devices = Mapping[str, tuple[int, Device]]  # device id -> (unix ms, its state then)

# By index, as touches store them: append only, and raise the fold version.
SITUATIONS = (
    "unknown",
    "walking",
    "commuting",
    "shopping",
    "cooking",
    "in_bed",
    "working",
    "at_home",
    "out",
)
INDEX = {name: number for number, name in enumerate(SITUATIONS)}
FRESH_S = 15 * 60  # an older device state says nothing about now
NIGHT = (22.0, 6.5)
MEALS = ((11.0, 13.5), (17.0, 20.5))
WALKING = frozenset({"walking", "on_foot", "running"})
RIDING = frozenset({"in_vehicle", "automotive", "on_bicycle", "cycling"})
RESTING = frozenset({"still", "stationary", "lying"})
PLACES = {
    "supermarket": ("shopping", 0.9),
    "transit": ("commuting", 0.8),
    "work": ("working", 0.7),
    "school": ("working", 0.7),
    "restaurant": ("out", 0.7),
    "gym": ("out", 0.7),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, as a request sees it."""

    at_ms: int
    situation: int  # index into SITUATIONS
    confidence: float  # 0–1
    age_s: float | None  # of the device state it was read from; None: there was none
    hour: float  # local, 0–24
    weekday: int  # local, 0 is Monday
    device_type: str | None = None

    @property
    def name(self) -> str:
        return SITUATIONS[self.situation]


def read_moment(devices: Devices, home_zone: str | None, told: Device | None, at_ms: int) -> Moment:
    """The moment from the request's device state, or the newest that the user's state keeps."""
    seen_ms, device = at_ms, told
    if device is None:
        found = newest_device(devices)
        if found is not None:
            seen_ms, device = found
    elif device.captured_at is not None:
        seen_ms = min(device.captured_at, at_ms)
    hour, weekday = local_clock(device, home_zone, at_ms)
    if device is None:
        return Moment(at_ms, 0, 0.0, None, hour, weekday)
    age_s = (at_ms - seen_ms) / 1000
    # A state from later than `at_ms` (a decision asked for as of then) says nothing either.
    situation, confidence = (0, 0.0) if abs(age_s) > FRESH_S else infer(device, hour)
    return Moment(at_ms, situation, confidence, age_s, hour, weekday, device.device_type)


def situation_of_act(devices: Devices, home_zone: str | None, told: Device | None, ts: int) -> int:
    """The situation in which an act happened, for the fold."""
    device = told
    if device is None:
        found = newest_device(devices)
        if found is None or not 0 <= ts - found[0] <= FRESH_S * 1000:
            return 0
        device = found[1]
    return infer(device, local_clock(device, home_zone, ts)[0])[0]


def infer(device: Device, hour: float) -> tuple[int, float]:
    """(situation, confidence 0–1) by rules, first match wins; `hour` is local."""
    name, confidence = _infer(device, hour)
    return INDEX[name], confidence


def _infer(device: Device, hour: float) -> tuple[str, float]:
    activity = _activity(device)
    if device.place in PLACES:
        return PLACES[device.place]
    if activity in RIDING or (device.speed_mps or 0.0) > 6.0:
        return "commuting", 0.7
    if activity in WALKING and device.place != "home":
        return "walking", 0.8
    if device.place == "home":
        return _at_home(device, activity, hour)
    if activity == "lying" and _between(hour, *NIGHT):
        return "in_bed", 0.6
    return "unknown", 0.0


def _at_home(device: Device, activity: str | None, hour: float) -> tuple[str, float]:
    resting = activity is None or activity in RESTING
    if activity == "lying" or (resting and _between(hour, *NIGHT)):
        return "in_bed", 0.7 if activity == "lying" else 0.5
    on_table = device.orientation in ("face_up", "face_down")
    if on_table and any(_between(hour, *meal) for meal in MEALS):
        return "cooking", 0.6
    return "at_home", 0.6


def _activity(device: Device) -> str | None:
    if not device.activity:
        return None
    name, confidence = max(device.activity.items(), key=lambda entry: entry[1])
    return name if confidence >= 0.3 else None


def _between(hour: float, start: float, end: float) -> bool:
    return start <= hour < end if start < end else hour >= start or hour < end


def newest_device(devices: Devices) -> tuple[int, Device] | None:
    """(unix ms, device state) of the device heard of last."""
    return max(devices.values(), key=lambda kept: kept[0], default=None)


def local_clock(device: Device | None, home_zone: str | None, at_ms: int) -> tuple[float, int]:
    """Local (hour 0–24, weekday with Monday 0); UTC where nothing local is known."""
    if device is not None and device.local_time and (told := _told(device.local_time)):
        return told.hour + told.minute / 60, told.weekday()
    name = (device.time_zone if device is not None else None) or home_zone
    local = datetime.fromtimestamp(at_ms / 1000, (zone(name) if name else None) or UTC)
    return local.hour + local.minute / 60, local.weekday()


@functools.lru_cache(maxsize=4096)
def _told(local_time: str) -> datetime | None:
    """The phone's own clock, as `2026-01-31T08:30:00`; an offset after it changes nothing."""
    try:
        return datetime.fromisoformat(local_time)
    except ValueError:
        return None
