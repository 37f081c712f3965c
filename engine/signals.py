"""What the situation models read of a phone: the same code online and offline.

`quantities` turns one device state into numbers, `remember` folds them into a small memory of that
device, `row` lays both beside the clock. The row is made before its moment is remembered:

    made = signals.row(numbers, memory, at_s, hour)
    memory = signals.remember(memory, at_s, numbers)

What is missing is NaN, never zero. Of motion there are only magnitudes, angles to gravity without
their signs (iOS and Android point their axes opposite ways), and by how much the phone was turned
since last seen. The absolute level of acceleration, battery, ringer and platform are not read: they
tell people apart rather than situations (`kairos benchmark signals`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.device import Device
from engine.motion import Window, read_window
from engine.window_summary import SUMMARY, summarize

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# Names of quantities, in the order of their columns. Of a window's summary (engine.window_summary):
_STATISTICS = {
    "std": "magnitude_stats:std",
    "moment3": "magnitude_stats:moment3",
    "moment4": "magnitude_stats:moment4",
    "value_entropy": "magnitude_stats:value_entropy",
    "band1": "magnitude_spectrum:log_energy_band1",
    "band2": "magnitude_spectrum:log_energy_band2",
    "band3": "magnitude_spectrum:log_energy_band3",
    "band4": "magnitude_spectrum:log_energy_band4",
    "spectral_entropy": "magnitude_spectrum:spectral_entropy",
    "period": "magnitude_autocorrelation:period",
    "periodic": "magnitude_autocorrelation:normalized_ac",
}
_LEVELS = {
    "mean": "magnitude_stats:mean",
    "p25": "magnitude_stats:percentile25",
    "p50": "magnitude_stats:percentile50",
    "p75": "magnitude_stats:percentile75",
}
SUMMARIZED = {f"acc_{short}": f"raw_acc:{name}" for short, name in _STATISTICS.items()} | {
    f"gyro_{short}": f"proc_gyro:{name}" for short, name in (_LEVELS | _STATISTICS).items()
}
OF_WINDOW = (
    *SUMMARIZED,
    "wobble",  # g: how far acceleration strays from its mean, all axes together
    "wide",  # |x| of gravity's direction
    "tall",  # |y|: 1 where the phone stands on its lower or upper edge
    "flat",  # |z|: 1 where it lies on its face or its back
)
OF_DEVICE = ("speed_mps", "foreground", "brightness", "charging", "wifi", "lux", "near")
GRAVITY = ("gravity_x", "gravity_y", "gravity_z")  # its direction: for the memory's eyes alone
READ = (*OF_WINDOW, *OF_DEVICE)
QUANTITIES = (*READ, *GRAVITY)

# Averages of the past, and what each shares its weights with: known together or not at all.
AVERAGED = {
    "acc_std": "motion",
    "handled": "motion",
    "flat": "gravity",
    "gyro_mean": "gyro",
    "speed_mps": "speed",
    "foreground": "app",
    "charging": "charging",
    "wifi": "network",
}
HALF_LIVES_S = (300.0, 1200.0, 3600.0, 10800.0)
SINCE = ("turned_deg", "still_s", "untouched_s", "acc_over_floor", "gyro_over_floor")
AVERAGES = tuple(f"{name}_{h / 60:.0f}min" for name in AVERAGED for h in HALF_LIVES_S)
NAMES = (*READ, *SINCE, *AVERAGES, "hour")
COUNT = len(NAMES)

STANDS_FOR_S = 120.0  # the longest time that one moment speaks for
UNSEEN_S = 1800.0  # after it a phone may have been anywhere in between
MOVING_G = 0.05  # of acc_std: above it, somebody carries or holds the phone
TURNED_DEG = 10.0
KNOWN = 0.05  # below this weight an average says nothing
FLOOR_DOUBLES_S = 2 * 86400.0  # how slowly a sensor's lowest noise is forgotten
LEAST_FLOOR = 1e-4
SHORTEST_G = 0.1  # a mean vector below it has no direction
# flat, tall: where no window says more. |x| remains unknown.
ORIENTATION = {"face_up": (1.0, 0.0), "face_down": (1.0, 0.0), "upright": (0.0, 1.0)}

_COLUMNS = np.array([SUMMARY.index(name) for name in SUMMARIZED.values()])
_MEAN = SUMMARY.index("raw_acc:3d:mean_x")
_STD = SUMMARY.index("raw_acc:3d:std_x")
_ACC, _GYRO = QUANTITIES.index("acc_std"), QUANTITIES.index("gyro_mean")
_FLAT, _TALL = QUANTITIES.index("flat"), QUANTITIES.index("tall")
_GRAVITY = QUANTITIES.index("gravity_x")
_NOWHERE = np.full(len(OF_WINDOW) + len(GRAVITY), np.nan, np.float32)


def quantities(device: Device, window: Window | None = None) -> Floats:
    """float32 [QUANTITIES] of a device state; `window` is its motion where already read."""
    if window is None and device.motion is not None:
        window = read_window(device.motion)
    seen = _NOWHERE if window is None else of_summary(summarize(window))
    numbers = np.concatenate((seen[: len(OF_WINDOW)], _of_device(device), seen[len(OF_WINDOW) :]))
    if window is None and device.orientation is not None:
        numbers[_FLAT], numbers[_TALL] = ORIENTATION[device.orientation]
    return numbers


def of_summary(summary: Floats) -> Floats:
    """float32 [..., OF_WINDOW + GRAVITY] of summaries [..., 52]."""
    mean = summary[..., _MEAN : _MEAN + 3]
    length = np.sqrt((mean * mean).sum(axis=-1, keepdims=True))
    direction = mean / np.where(length >= SHORTEST_G, length, np.nan)
    std = summary[..., _STD : _STD + 3]
    wobble = np.sqrt((std * std).sum(axis=-1, keepdims=True))
    parts = (summary[..., _COLUMNS], wobble, np.abs(direction), direction)
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def _of_device(device: Device) -> Floats:
    told = (
        device.speed_mps,
        _is(device.app_state, "foreground"),
        device.brightness,
        device.charging,
        _is(device.network, "wifi"),
        device.lux,
        _is(device.proximity, "near"),
    )
    return np.array([np.nan if value is None else value for value in told], np.float32)


def _is(value: str | None, name: str) -> bool | None:
    return None if value is None else value == name


def remember(memory: bytes, at_s: float, numbers: Floats) -> bytes:
    """The memory (empty at first) after a moment; one from before its time changes nothing."""
    before_s, kept = _opened(memory)
    if at_s < before_s:
        return memory
    after = np.empty(_LENGTH, np.float32)
    _remember(kept, at_s - before_s, numbers, after)
    return np.float64(at_s).tobytes() + after.tobytes()


def row(numbers: Floats, memory: bytes, at_s: float, hour: float) -> Floats:
    """float32 [COUNT]: a moment's quantities, what was remembered before, the local hour 0–24."""
    before_s, kept = _opened(memory)
    made = np.empty(COUNT, np.float32)
    _row(numbers, kept, max(at_s - before_s, 0.0), hour, made)
    return made


def _opened(memory: bytes) -> tuple[float, Floats]:
    """When it was made, unix s, and what it holds."""
    if not memory:
        return -np.inf, _NOTHING
    kept = np.frombuffer(bytearray(memory), np.float32)  # a loop takes no array that is locked
    return float(kept[:2].view(np.float64)[0]), kept[2:]


# The memory: gravity [3], its age, seconds still and untouched, two floors; then sums [A, H] and
# the weights that they share [S, H].
_AGE, _STILL, _UNTOUCHED, _FLOORS, _SUMS = 3, 4, 5, 6, 8
_SOURCES = list(dict.fromkeys(AVERAGED.values()))
_SOURCE = np.array([_SOURCES.index(source) for source in AVERAGED.values()])
_PLACE = np.array([QUANTITIES.index(n) if n in QUANTITIES else -1 for n in AVERAGED])
_HANDLED = list(AVERAGED).index("handled")
_A, _S, _H = len(AVERAGED), len(_SOURCES), len(HALF_LIVES_S)
_HALF = np.array(HALF_LIVES_S)
_WEIGHTS = _SUMS + _A * _H
_LENGTH = _WEIGHTS + _S * _H
_NOTHING = np.zeros(_LENGTH, np.float32)
_NOTHING[:_SUMS] = np.nan
_SINCE = len(READ)
_AVERAGES = _SINCE + len(SINCE)


@compiled("f8(f4[::1], f8, f4[::1])")
def _turned(kept: Floats, elapsed_s: float, numbers: Floats) -> float:
    """Degrees between gravity as last seen and as it is; NaN where unknown."""
    if not kept[_AGE] + elapsed_s <= UNSEEN_S:
        return np.nan
    dot = 0.0
    for axis in range(3):
        dot += kept[axis] * numbers[_GRAVITY + axis]
    if dot != dot:
        return np.nan
    return float(np.degrees(np.arccos(min(max(dot, -1.0), 1.0))))


@compiled("f8(f8, f8, b1, b1)")
def _lasting(before_s: float, elapsed_s: float, over: bool, known: bool) -> float:
    """Seconds that something has lasted, seen ones alone; from 0 after a long silence."""
    if over:
        return 0.0
    if before_s != before_s or not elapsed_s <= UNSEEN_S:
        return 0.0 if known else np.nan
    return before_s + min(elapsed_s, STANDS_FOR_S)


@compiled("f8(f8, f8, f8)")
def _floor(before: float, elapsed_s: float, value: float) -> float:
    """The lowest value seen, slowly forgotten: what the sensor tells of a phone on a table."""
    if before != before:
        return max(value, LEAST_FLOOR) if value == value else np.nan
    risen: float = before * 2.0 ** (elapsed_s / FLOOR_DOUBLES_S)
    return min(risen, max(value, LEAST_FLOOR)) if value == value else risen


@compiled("void(f4[::1], f8, f4[::1], f4[::1])")
def _remember(kept: Floats, elapsed_s: float, numbers: Floats, after: Floats) -> None:
    known = numbers[_ACC] == numbers[_ACC]
    moving = numbers[_ACC] > MOVING_G
    handled = moving or _turned(kept, elapsed_s, numbers) > TURNED_DEG
    seen = numbers[_GRAVITY] == numbers[_GRAVITY]
    for axis in range(3):
        after[axis] = numbers[_GRAVITY + axis] if seen else kept[axis]
    after[_AGE] = 0.0 if seen else kept[_AGE] + elapsed_s
    after[_STILL] = _lasting(kept[_STILL], elapsed_s, moving, known)
    after[_UNTOUCHED] = _lasting(kept[_UNTOUCHED], elapsed_s, handled, known)
    after[_FLOORS] = _floor(kept[_FLOORS], elapsed_s, numbers[_ACC])
    after[_FLOORS + 1] = _floor(kept[_FLOORS + 1], elapsed_s, numbers[_GYRO])
    for place in range(_SUMS, _LENGTH):
        after[place] = kept[place] * 2.0 ** (-elapsed_s / _HALF[(place - _SUMS) % _H])
    weighed = -1
    for a in range(_A):
        value = numbers[_PLACE[a]] if _PLACE[a] >= 0 else np.float32(np.nan)
        if known and a == _HANDLED:
            value = np.float32(handled)
        if value != value:
            continue
        for h in range(_H):
            # A moment weighs by the time that it stands for: a burst counts no more than one.
            weight = 1.0 - 2.0 ** (-min(elapsed_s, STANDS_FOR_S) / _HALF[h])
            after[_SUMS + a * _H + h] += weight * value
            if weighed != _SOURCE[a]:
                after[_WEIGHTS + _SOURCE[a] * _H + h] += weight
        weighed = _SOURCE[a]


@compiled("void(f4[::1], f4[::1], f8, f8, f4[::1])")
def _row(numbers: Floats, kept: Floats, elapsed_s: float, hour: float, made: Floats) -> None:
    made[:_SINCE] = numbers[:_SINCE]
    turned = _turned(kept, elapsed_s, numbers)
    known = numbers[_ACC] == numbers[_ACC]
    moving = numbers[_ACC] > MOVING_G
    handled = moving or turned > TURNED_DEG
    made[_SINCE] = turned
    made[_SINCE + 1] = _lasting(kept[_STILL], elapsed_s, moving, known)
    made[_SINCE + 2] = _lasting(kept[_UNTOUCHED], elapsed_s, handled, known)
    made[_SINCE + 3] = numbers[_ACC] / _floor(kept[_FLOORS], elapsed_s, numbers[_ACC])
    made[_SINCE + 4] = numbers[_GYRO] / _floor(kept[_FLOORS + 1], elapsed_s, numbers[_GYRO])
    for a in range(_A):
        for h in range(_H):
            weight = kept[_WEIGHTS + _SOURCE[a] * _H + h]
            known = weight * 2.0 ** (-elapsed_s / _HALF[h]) >= KNOWN
            average = kept[_SUMS + a * _H + h] / weight
            made[_AVERAGES + a * _H + h] = average if known else np.float32(np.nan)
    made[COUNT - 1] = hour
