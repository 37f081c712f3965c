"""Raw windows: what is believed, and that another rate or unit says the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.device import Motion
from engine.motion import LONGEST_S, RATE_HZ, STANDARD_GRAVITY, Window, read_window, resample

Vectors = NDArray[np.float64]
REST = [(0.0, 0.0, 9.81)] * 200


def swaying(rate_hz: float, seconds: float = 4.0) -> Vectors:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = np.stack([np.sin(2 * np.pi * f * time) for f in (1.3, 2.1, 4.7)], axis=1)
    return np.array([0.0, 0.6, 0.8]) + 0.2 * waves


def read(motion: Motion) -> Window:
    window = read_window(motion)
    assert window is not None
    return window


@pytest.mark.parametrize("rate_hz", [20.0, 25.0, 33.3, 40.0, 60.0, 100.0, 200.0])
def test_every_rate_is_brought_to_50_hz(rate_hz: float) -> None:
    acc = swaying(rate_hz)
    window = read(Motion(rate_hz, acc.tolist(), acc.tolist(), unit="g"))

    inner = slice(25, 150)  # away from the ends, where a filter has to guess
    expected = swaying(RATE_HZ)[inner]
    assert window.acc.dtype == np.float32
    assert abs(len(window.acc) - 200) <= 3
    np.testing.assert_allclose(window.acc[inner], expected, atol=0.02)
    assert window.gyro is not None
    np.testing.assert_allclose(window.gyro, window.acc, atol=1e-6)


def test_what_50_hz_cannot_carry_is_filtered_not_folded_down() -> None:
    time = np.arange(400) / 100
    shaking = np.sin(2 * np.pi * 44 * time)[:, None] * np.ones(3)  # would read as 6 Hz

    low = resample(shaking.astype(np.float32), 100, 50)[20:-20]

    assert np.abs(low).max() < 0.02


def test_a_clock_slightly_off_is_left_alone() -> None:
    acc = swaying(50)

    np.testing.assert_array_equal(
        read(Motion(50.3, acc.tolist(), unit="g")).acc, acc.astype(np.float32)
    )


def test_units_say_the_same() -> None:
    acc = swaying(50)
    in_g = read(Motion(50, acc.tolist(), unit="g"))
    in_m_s2 = read(Motion(50, (acc * STANDARD_GRAVITY).tolist()))

    np.testing.assert_allclose(in_g.acc, in_m_s2.acc, atol=1e-6)


def test_only_the_newest_part_of_a_long_window_is_read() -> None:
    acc = np.concatenate((swaying(50, 40), np.full((100, 3), 0.6)))
    window = read(Motion(50, acc.tolist(), unit="g"))

    assert len(window.acc) == LONGEST_S * 50
    np.testing.assert_allclose(window.acc[-100:], 0.6, atol=1e-6)


def test_a_still_phone_is_believed() -> None:
    assert read(Motion(50, REST)).gravity


@pytest.mark.parametrize(
    "motion",
    [
        Motion(50, REST[:60]),  # 1.2 s
        Motion(50, []),
        Motion(50, REST, unit="g"),
        Motion(50, swaying(50).tolist()),  # g told as m/s²
        Motion(50, [(0.0, 0.0, 0.0)] * 200),
        Motion(50, [(0.0, 0.0, 0.0)] * 200, gravity="removed"),
        Motion(50, REST, gravity="removed"),
        Motion(50, swaying(50).tolist(), unit="g", gravity="removed"),
        Motion(50, [*REST, (float("nan"), 0.0, 0.0)]),
        Motion(50, [*REST, (float("inf"), 0.0, 0.0)]),
        Motion(50, [*REST, (1e308, 1e308, 1e308)]),
        Motion(9.9, REST),
        Motion(201, REST),
        Motion(float("nan"), REST),
        Motion(float("inf"), REST),
        Motion(-50, REST),
    ],
)
def test_nothing_is_said_of_what_cannot_be_believed(motion: Motion) -> None:
    assert read_window(motion) is None


@pytest.mark.parametrize(
    "acc", [None, 3, "abc" * 200, [1.0] * 200, [(1.0, 2.0)] * 200, [("a", "b", "c")] * 200, [[]]]
)
def test_malformed_samples_do_not_raise(acc: Any) -> None:
    assert read_window(Motion(50, acc)) is None


@pytest.mark.parametrize(
    "gyro",
    [
        REST[:-1],
        [],
        [(0.0, 0.0, 0.0)] * 200,  # dead
        [(float("nan"), 0.0, 0.0)] * 200,
        [(0.0, 0.0, 100.0 * (n % 2)) for n in range(200)],  # degrees
        [(1.0, 2.0)] * 200,
    ],
)
def test_a_gyroscope_that_does_not_fit_is_dropped_alone(gyro: Any) -> None:
    assert read(Motion(50, REST, gyro)).gyro is None


def test_a_million_samples_cost_what_a_window_costs() -> None:
    many = [(0.0, 0.1 * (n % 7), 9.81) for n in range(1_000_000)]

    assert len(read(Motion(200, many, many)).acc) <= LONGEST_S * RATE_HZ
