"""ExtraSensory as rows: like those of a device that told the same, and the real files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine import signals
from engine.device import Device
from engine.errors import NotFound
from engine.window_summary import SUMMARY
from training import extrasensory
from training.context import truths

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("KAIROS_DATA") or ROOT / "../shared/data")
needs_data = pytest.mark.skipif(
    not (DATA / "extrasensory").is_dir(),
    reason=f"no extrasensory in {DATA}: set KAIROS_DATA to the folder that holds it",
)
STATES = {
    "app_state": ("active", "inactive", "background"),
    "battery_plugged": ("ac", "usb"),
    "battery_state": ("unplugged", "not_charging", "discharging", "charging", "full"),
    "ringer_mode": ("normal", "silent_no_vibrate", "silent_with_vibrate"),
    "wifi_status": ("not_reachable", "reachable_via_wifi", "reachable_via_wwan"),
}
MEASURES = {
    "location:min_speed": 1.0,
    "location:max_speed": 2.0,
    "lf_measurements:light": float(np.log(30.0 + 1e-5)),
    "lf_measurements:proximity_cm": 8.0,
    "lf_measurements:battery_level": 0.5,
    "lf_measurements:screen_brightness": 0.25,
}


def write(folder: Path, minutes: int = 5) -> None:
    """A person's minutes, in the wrong order, with no motion."""
    at_s = 1_440_000_000 + 60 * np.arange(minutes)[::-1]
    columns: dict[str, object] = {
        "user": ["p00"] * minutes,
        "phone": ["android"] * minutes,
        "cv_fold": np.ones(minutes, np.int8),
        "timestamp": at_s,
    }
    columns |= {name: np.full(minutes, np.nan, np.float32) for name in SUMMARY}
    columns |= {name: np.full(minutes, value, np.float32) for name, value in MEASURES.items()}
    true = {"app_state": "background", "battery_state": "full", "wifi_status": "reachable_via_wifi"}
    for state, values in STATES.items():
        for value in values:
            on = true.get(state) == value
            columns[f"discrete:{state}:is_{value}"] = np.full(minutes, on, np.int8)
    columns["label:LYING_DOWN"] = np.array([1, 0, -1, 1, 1], np.int8)[:minutes]
    columns["label_source"] = np.full(minutes, 2, np.int8)
    (folder / "extrasensory").mkdir()
    pl.DataFrame(columns).write_parquet(folder / "extrasensory" / "phone.parquet")


def test_a_minute_is_what_a_device_would_have_told(tmp_path: Path) -> None:
    write(tmp_path)
    minutes = extrasensory.read(tmp_path)
    device = Device(
        speed_mps=1.5,
        app_state="background",
        brightness=0.25,
        charging=True,
        network="wifi",
        lux=30.0,
        proximity="far",
    )
    memory, told = b"", signals.quantities(device)
    online = []
    for at_s, hour in zip(minutes.at_s.tolist(), minutes.hours.tolist(), strict=True):
        online.append(signals.row(told, memory, at_s, hour))
        memory = signals.remember(memory, at_s, told)

    assert np.allclose(extrasensory.rows(minutes), online, rtol=1e-5, equal_nan=True)
    assert minutes.hours[0] == pytest.approx(9.0), "16:00 UTC in California's summer"
    assert minutes.weekdays[0] == 2, "a Wednesday"
    assert minutes.labels["LYING_DOWN"].tolist() == [1, 1, -1, 0, 1], "by time"


def test_a_missing_folder_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="KAIROS_DATA"):
        extrasensory.read(tmp_path)


@needs_data
def test_the_data_as_published() -> None:
    minutes = extrasensory.read(DATA)
    known = truths(minutes)

    assert len(minutes.users) == 144_200
    assert len(np.unique(minutes.users)) == 29
    assert (np.diff(minutes.at_s)[np.diff(minutes.users) == 0] > 0).all()
    assert int((known[:, 0] == 1).sum()) == 34_654
    for fold in range(1, 5):
        assert not np.isin(
            minutes.users[minutes.folds == fold], minutes.users[minutes.folds != fold]
        ).any()
