"""Rows and the memory of a phone, against a plain version that keeps everything."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import signals
from engine.device import Device, Motion
from engine.motion import read_window

Floats = NDArray[np.float32]
AT = {name: place for place, name in enumerate(signals.QUANTITIES)}
COLUMN = {name: place for place, name in enumerate(signals.NAMES)}


def numbers(**known: float) -> Floats:
    made = np.full(len(signals.QUANTITIES), np.nan, np.float32)
    for name, value in known.items():
        made[AT[name]] = value
    return made


def day(seed: int, count: int = 200) -> list[tuple[float, Floats]]:
    """Moments at irregular times, bursts and a night between them, much of them missing."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0.0, 1.0, 45.0, 60.0, 75.0, 600.0, 9 * 3600.0], count)
    found = []
    for at_s in 1.4e9 + np.cumsum(gaps):
        made = numbers()
        for name in ("acc_std", "gyro_mean", "flat", "speed_mps", "foreground", "charging", "wifi"):
            made[AT[name]] = rng.random() * 0.1 if rng.random() < 0.7 else np.nan
        found.append((float(at_s), made))
    return found


def plain_average(
    past: list[tuple[float, Floats]], at_s: float, name: str, half_life_s: float
) -> float:
    """The definition, over all that was ever told; the weight of what nobody said is lost."""
    total = weight = 0.0
    before = -np.inf
    for then, made in past:
        share = 1 - 2 ** (-min(then - before, signals.STANDS_FOR_S) / half_life_s)
        share *= 2 ** (-(at_s - then) / half_life_s)
        if not np.isnan(value := made[AT[name]]):
            total, weight = total + share * float(value), weight + share
        before = then
    return total / weight if weight >= signals.KNOWN else np.nan


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_averages_are_those_of_the_whole_past(seed: int) -> None:
    past = day(seed)
    memory = b""
    for number, (at_s, made) in enumerate(past):
        if number % 9 == 0:
            row = signals.row(made, memory, at_s, 12.0)
            for name in ("acc_std", "gyro_mean", "flat", "speed_mps", "charging"):
                for half_life_s in signals.HALF_LIVES_S:
                    told = row[COLUMN[f"{name}_{half_life_s / 60:.0f}min"]]
                    expected = plain_average(past[:number], at_s, name, half_life_s)
                    assert told == pytest.approx(expected, rel=1e-3, abs=1e-6, nan_ok=True)
        memory = signals.remember(memory, at_s, made)


def test_a_burst_counts_no_more_than_one() -> None:
    memory = signals.remember(b"", 0.0, numbers(charging=0.0))
    for second in range(60):
        memory = signals.remember(memory, 600.0 + second / 60, numbers(charging=1.0))

    told = signals.row(numbers(), memory, 601.0, 12.0)[COLUMN["charging_5min"]]

    assert told == pytest.approx(1 / (1 + 2**-2), abs=0.01), "one moment, two half-lives later"


def test_late_moments_change_nothing() -> None:
    memory = signals.remember(b"", 1000.0, numbers(acc_std=0.2))

    assert signals.remember(memory, 999.0, numbers(acc_std=0.9)) == memory
    assert len(memory) <= 288


def test_the_same_moments_make_the_same_bytes() -> None:
    def folded() -> bytes:
        memory = b""
        for at_s, made in day(4):
            memory = signals.remember(memory, at_s, made)
        return memory

    assert folded() == folded()


def test_what_is_missing_is_unknown() -> None:
    row = signals.row(signals.quantities(Device()), b"", 0.0, np.nan)

    assert np.isnan(row).all()
    assert row.dtype == np.float32
    assert row.shape == (signals.COUNT,)


def test_turning_and_lying_still() -> None:
    lying = numbers(acc_std=0.001, gravity_x=0, gravity_y=0, gravity_z=1)
    standing = numbers(acc_std=0.001, gravity_x=0, gravity_y=-1, gravity_z=0)
    memory = b""
    for minute in range(10):
        memory = signals.remember(memory, 60.0 * minute, lying)

    row = signals.row(standing, memory, 600.0, 12.0)

    assert row[COLUMN["turned_deg"]] == pytest.approx(90)
    assert row[COLUMN["still_s"]] == pytest.approx(600)
    assert row[COLUMN["untouched_s"]] == 0, "it was turned"
    late = signals.row(standing, memory, 600.0 + 2 * signals.UNSEEN_S, 12.0)
    assert np.isnan(late[COLUMN["turned_deg"]]), "it may have been anywhere in between"


def test_iphone_and_android_say_the_same() -> None:
    """The two point their axes opposite ways: on a table −1 and +1 along z."""
    rng = np.random.default_rng(1)
    acc = rng.normal([1.0, 3.0, 9.0], 0.3, (400, 3))

    def told(sign: float) -> Floats:
        samples = [(float(x), float(y), float(z)) for x, y, z in sign * acc]
        made = signals.quantities(Device(motion=Motion(rate_hz=40.0, acc=samples)))
        memory = signals.remember(b"", 0.0, made)
        return signals.row(made, memory, 60.0, 12.0)

    assert np.allclose(told(1.0), told(-1.0), atol=1e-4, equal_nan=True)


def test_a_device_state_as_quantities() -> None:
    motion = Motion(rate_hz=40.0, acc=[(0.0, 0.1 * (n % 2), 9.8) for n in range(400)])
    device = Device(
        motion=motion,
        orientation="upright",
        speed_mps=1.5,
        app_state="background",
        brightness=0.4,
        charging=True,
        network="cellular",
        lux=30.0,
        proximity="near",
    )

    told = dict(zip(signals.QUANTITIES, signals.quantities(device).tolist(), strict=True))

    assert told["flat"] == pytest.approx(1, abs=0.01), "a window says more than a word"
    assert np.isnan(told["gyro_mean"])
    assert [told[name] for name in signals.OF_DEVICE] == pytest.approx(
        [1.5, 0.0, 0.4, 1.0, 0.0, 30.0, 1.0]
    )
    window = read_window(motion)
    assert np.array_equal(
        signals.quantities(device), signals.quantities(device, window), equal_nan=True
    )


def test_orientation_stands_in_for_a_window() -> None:
    told = signals.quantities(Device(orientation="face_down"))

    assert told[AT["flat"]] == 1
    assert told[AT["tall"]] == 0
    assert np.isnan(told[AT["acc_std"]])
