"""A window's summary: against a plain reading of the definitions, and what it leaves unsaid."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.device import Motion
from engine.motion import Window, read_window
from engine.window_summary import LENGTHY, SUMMARY, SURE, summarize

Vectors = NDArray[np.float64]


def window_of(acc: Vectors, rate_hz: float = 40.0, gyro: Vectors | None = None) -> Window:
    turning = None if gyro is None else gyro.tolist()
    window = read_window(Motion(rate_hz, acc.tolist(), turning, unit="g"))
    assert window is not None
    return window


def walk(count: int, rng: np.random.Generator) -> Vectors:
    """Gravity, a sway of two steps a second along a random axis, noise."""
    time = np.arange(count) / 40.0
    sway = 0.3 * np.sin(2 * np.pi * 1.9 * time)[:, None] * rng.normal(size=3)
    return np.array([0, 0.6, 0.8]) + sway + rng.normal(0, 0.05, (count, 3))


def entropy(weights: list[float]) -> float:
    return -sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights if w > 0)


def plainly(vectors: Vectors) -> dict[str, float]:
    """The 26 numbers of a sensor, definition by definition."""
    x = [math.sqrt(sum(v * v for v in row)) for row in vectors.astype(np.float32).tolist()]
    n, mean = len(x), sum(x) / len(x)
    moment = [sum((v - mean) ** power for v in x) / n for power in range(5)]
    bins = [0.0] * 20
    for v in x:
        bins[min(int((v - min(x)) / (max(x) - min(x)) * 20), 19)] += 1
    found = {
        "magnitude_stats:mean": mean,
        "magnitude_stats:std": moment[2] ** 0.5,
        "magnitude_stats:moment3": math.copysign(abs(moment[3]) ** (1 / 3), moment[3]),
        "magnitude_stats:moment4": moment[4] ** 0.25,
        "magnitude_stats:value_entropy": entropy(bins),
        "magnitude_stats:time_entropy": entropy(x) + math.log(800 / n),
    }
    for percent in (25, 50, 75):
        at = (n - 1) * percent / 100
        low, high = sorted(x)[int(at)], sorted(x)[min(int(at) + 1, n - 1)]
        found[f"magnitude_stats:percentile{percent}"] = low + (high - low) * (at - int(at))
    return found | spectrum(x) | periodicity(x, mean) | by_axis(vectors)


def spectrum(x: list[float]) -> dict[str, float]:
    n = len(x)
    hamming = [0.54 - 0.46 * math.cos(2 * math.pi * i / (n - 1)) for i in range(n)]
    power = {}
    for k in range((n + 1) // 2):
        turn = [2 * math.pi * k * i / n for i in range(n)]
        real = sum(h * v * math.cos(t) for h, v, t in zip(hamming, x, turn, strict=True))
        imaginary = sum(h * v * math.sin(t) for h, v, t in zip(hamming, x, turn, strict=True))
        power[k * 40.0 / n] = real**2 + imaginary**2
    total = sum(power.values())
    edges = [0.5, 1.0, 3.0, 5.0, math.inf]
    energy = [sum(p for f, p in power.items() if 0 < f <= 0.5)]
    for low, high in itertools.pairwise(edges):
        energy.append(sum(p for f, p in power.items() if low <= f < high))
    found = {
        f"magnitude_spectrum:log_energy_band{band}": math.log((0.001 + e / total) / 0.001)
        for band, e in enumerate(energy)
    }
    return found | {"magnitude_spectrum:spectral_entropy": entropy(list(power.values()))}


def periodicity(x: list[float], mean: float) -> dict[str, float]:
    z = [v - mean for v in x]
    lags = range((len(z) + 1) // 2)
    shared = [sum(a * b for a, b in zip(z, z[lag:], strict=False)) for lag in lags]
    first = next((lag for lag in lags if shared[lag] < 0), None)
    assert first is not None
    best = max(range(first, len(shared)), key=lambda lag: shared[lag])
    return {
        "magnitude_autocorrelation:period": best / 40.0,
        "magnitude_autocorrelation:normalized_ac": shared[best] / shared[0],
    }


def by_axis(vectors: Vectors) -> dict[str, float]:
    ro = np.corrcoef(vectors.T)
    found = {"3d:ro_xy": ro[0, 1], "3d:ro_xz": ro[0, 2], "3d:ro_yz": ro[1, 2]}
    for axis, column in zip("xyz", vectors.T, strict=True):
        found |= {f"3d:mean_{axis}": column.mean(), f"3d:std_{axis}": column.std()}
    return found


@pytest.mark.parametrize("count", [400, 401])
def test_equals_a_plain_reading_of_the_definitions(count: int) -> None:
    rng = np.random.default_rng(count)
    acc, gyro = walk(count, rng), rng.normal(0, 1, (count, 3))

    found = dict(zip(SUMMARY, summarize(window_of(acc, gyro=gyro)).tolist(), strict=True))

    for sensor, vectors in (("raw_acc", acc), ("proc_gyro", gyro)):
        expected = {f"{sensor}:{name}": value for name, value in plainly(vectors).items()}
        assert len(expected) == 26
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=2e-5, rel=2e-5), name


def test_a_phone_at_rest_reads_as_the_datas_phones_at_rest() -> None:
    found = dict(zip(SUMMARY, summarize(window_of(np.full((800, 3), 0.57735))), strict=True))

    # Medians of 144,200 minutes, of which most are rest.
    assert found["raw_acc:magnitude_stats:time_entropy"] == pytest.approx(6.6846, abs=1e-4)
    assert found["raw_acc:magnitude_spectrum:log_energy_band0"] == pytest.approx(5.0433, abs=3e-3)
    assert found["raw_acc:magnitude_spectrum:spectral_entropy"] == pytest.approx(0.4296, abs=2e-3)
    assert math.isnan(found["raw_acc:magnitude_autocorrelation:period"])
    assert math.isnan(found["raw_acc:3d:ro_xy"])


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 100.0])
def test_another_rate_says_the_same(rate_hz: float) -> None:
    at_40, other = (summarize(window_of(stepping(r), r)) for r in (40.0, rate_hz))

    known = ~np.isnan(at_40)
    np.testing.assert_allclose(other[known], at_40[known], atol=0.02, rtol=0.02)


def stepping(rate_hz: float) -> Vectors:
    """Twenty seconds of the same steps, of two harmonics, at any rate."""
    phase = 2 * np.pi * 1.9 * np.arange(int(20 * rate_hz)) / rate_hz
    vertical = 1 + 0.3 * np.sin(phase) - 0.2 * np.cos(2 * phase)
    return np.outer(vertical, [0.0, 0.6, 0.8])


def test_a_short_window_leaves_the_lengthy_columns_unknown() -> None:
    rng = np.random.default_rng(5)
    long, short = (
        summarize(window_of(walk(n, rng), gyro=rng.normal(0, 1, (n, 3)))) for n in (400, 104)
    )

    lengthy = np.isin(SUMMARY, LENGTHY)
    assert not np.isnan(long).any()
    np.testing.assert_array_equal(np.isnan(short), lengthy)


def test_without_gravity_or_gyroscope_its_columns_are_unknown() -> None:
    rng = np.random.default_rng(6)
    moved = (walk(800, rng) - [0, 0.6, 0.8]).tolist()
    window = read_window(Motion(40.0, moved, moved, "g", "removed"))
    assert window is not None
    acc = np.array([name.startswith("raw_acc") for name in SUMMARY])

    np.testing.assert_array_equal(np.isnan(summarize(window)), acc)
    np.testing.assert_array_equal(np.isnan(summarize(window_of(walk(800, rng)))), ~acc)


def test_what_depends_on_the_makers_axes_is_not_sure() -> None:
    assert len(SUMMARY) == 52
    assert {name for name in SUMMARY if name not in SURE} == {
        f"{sensor}:3d:mean_{axis}" for sensor in ("raw_acc", "proc_gyro") for axis in "xyz"
    }
