"""What phones report: from a table, or from the minutes of real people where those are there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.world import World, encode, real_sensors, synthetic_sensors
from training.world.lines import DeviceState
from training.world.sensors import FILE, STILL, UNKNOWN, VEHICLE, WALKING, Sensors

DATA = Path(os.environ.get("KAIROS_DATA", "../shared/data"))
BED, SHOP, TRANSIT = 0, 4, 5


@pytest.fixture(params=["synthetic", "real"])
def sensors(request: pytest.FixtureRequest) -> Sensors:
    if request.param == "synthetic":
        return synthetic_sensors(1)
    found = real_sensors(DATA)
    if found is None:
        pytest.skip(f"no ExtraSensory under {DATA}: see docs/world.md")
    return found


def read(sensors: Sensors, situation: int, platform: int = 0, n: int = 4000) -> dict[str, object]:
    rng = np.random.default_rng(2)
    every = np.full(n, 1)
    return vars(sensors.read(platform * every, situation * every, 3 * every, rng))


def test_signals_tell_situations_apart(sensors: Sensors) -> None:
    of = {situation: read(sensors, situation) for situation in (BED, SHOP, TRANSIT)}
    moves = {s: np.bincount(signals["activity"], minlength=5) for s, signals in of.items()}
    assert moves[BED].argmax() == STILL
    assert moves[SHOP][WALKING] > 1.5 * moves[BED][WALKING]
    assert moves[TRANSIT].argmax() == VEHICLE


@pytest.mark.parametrize("platform", [0, 1])
def test_readings_come_as_often_as_the_oracle_thinks(sensors: Sensors, platform: int) -> None:
    for situation in range(8):
        signals = read(sensors, situation, platform)
        rest = signals["charging"] * 3 + signals["network"]
        for activity in (STILL, WALKING):
            for code in range(9):
                seen = np.mean((signals["activity"] == activity) & (rest == code))
                told = sensors.likelihood(platform, 3, activity, code)[situation]
                assert seen == pytest.approx(told, abs=0.035)
    everything = sum(
        sensors.likelihood(platform, 3, activity, code)
        for activity in range(5)
        for code in range(9)
    )
    assert np.allclose(everything, 1.0)


def test_values_are_in_range_or_missing(sensors: Sensors) -> None:
    for platform in (0, 1):
        signals = read(sensors, BED, platform)
        for name in ("battery", "brightness"):
            values = np.asarray(signals[name], dtype=float)
            known = values[~np.isnan(values)]
            assert ((known >= 0) & (known <= 1)).all()
        assert set(np.unique(signals["charging"])) <= {0, 1, UNKNOWN}


def test_streams_are_resampled_from_real_ones() -> None:
    if not (DATA / FILE).is_file():
        pytest.skip(f"no ExtraSensory under {DATA}: see docs/world.md")
    world = World("amber", users=80, items=20, seed=1, sensors=real_sensors(DATA))
    assert world.core.sensors.source == "ExtraSensory"
    real = pl.read_parquet(DATA / FILE, columns=["lf_measurements:battery_level"])
    levels = set(real.to_series().drop_nulls().cast(pl.Float64).round(2).to_list())
    told = {
        event.device["battery"]
        for event in world.history(4)
        if isinstance(event, DeviceState) and "battery" in event.device
    }
    assert len(told) > 20
    assert told <= levels


def test_without_the_data_a_table_takes_its_place(tmp_path: Path) -> None:
    assert real_sensors(tmp_path) is None
    world = World("amber", users=20, items=20, seed=1)
    assert world.core.sensors.source == "synthetic"
    other = World("amber", users=20, items=20, seed=1, sensors=synthetic_sensors(1))
    assert encode(world.history(2)) == encode(other.history(2))
