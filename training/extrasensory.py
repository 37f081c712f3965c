"""ExtraSensory: minutes of 29 people's phones with what they said they were doing, as we read them.

A minute becomes the quantities of engine.signals, as a `device` event would have told them, and its
rows are made by the same `remember` and `row` that serve. The data set is read where it lies and
never copied into the repository. Source: Vaizman, Ellis and Lanckriet 2017, "Recognizing Detailed
Human Context In-the-Wild from Smartphones and Smartwatches", http://extrasensory.ucsd.edu.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine import signals
from engine.errors import NotFound
from engine.window_summary import SUMMARY

NAME = "extrasensory"
ZONE = "America/Los_Angeles"  # where the people lived
NEAR_CM = 5.0  # Android's sensors give 0 to 3 for near, 5 to 100 for far
LEAST_LUX = 1e-5  # the data holds ln(lux + this)
PHONE = ("raw_acc", "proc_gyro", "location", "lf_measurements", "discrete")  # features of the data

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Minutes:
    """All minutes, by person and time."""

    users: NDArray[np.int64]  # [n], people by number
    folds: Labels  # [n], whole people together
    at_s: Doubles  # [n], unix
    hours: Doubles  # [n], local, 0–24
    weekdays: Doubles  # [n], Monday is 0
    numbers: Floats  # [n, signals.QUANTITIES]
    labels: Mapping[str, Labels]  # name → [n]: 1, 0, −1 where they did not say
    phone: Floats  # [n, features]: everything that the data holds of the phone
    unread: Mapping[str, Floats]  # name → [n]: signals of a device that the models do not read


def read(folder: Path) -> Minutes:
    """The minutes of `extrasensory/phone.parquet` in the folder of all sets; raises NotFound."""
    path = folder / NAME / "phone.parquet"
    if not path.is_file():
        raise NotFound(
            f"no {path.name} in {path.parent}: set KAIROS_DATA to the folder that holds {NAME}. "
            "The data is published at http://extrasensory.ucsd.edu"
        )
    table = pl.read_parquet(path).with_columns(pl.col("user").cast(pl.String))
    table = table.sort("user", "timestamp")
    local = pl.from_epoch(table["timestamp"]).dt.replace_time_zone("UTC")
    local = local.dt.convert_time_zone(ZONE)
    features = [name for name in table.columns if name.startswith(PHONE)]
    return Minutes(
        np.unique(table["user"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        table["cv_fold"].to_numpy(),
        table["timestamp"].to_numpy().astype(np.float64),
        (local.dt.hour().cast(pl.Float64) + local.dt.minute() / 60).to_numpy(),
        (local.dt.weekday() - 1).cast(pl.Float64).to_numpy(),
        _numbers(table),
        {
            name.removeprefix("label:"): table[name].to_numpy()
            for name in table.columns
            if name.startswith("label:")
        },
        table.select(features).to_numpy().astype(np.float32),
        {
            "battery": table["lf_measurements:battery_level"].to_numpy().astype(np.float32),
            "ringer": _ringer(table),
            "platform": (table["phone"].cast(pl.String) == "iphone").to_numpy().astype(np.float32),
            "weekday": (local.dt.weekday() - 1).cast(pl.Float32).to_numpy(),
        },
    )


def _ringer(table: pl.DataFrame) -> Floats:
    """float32 [n]: 0 silent, 1 vibrates, 2 normal; NaN unknown."""
    made = np.full(len(table), np.nan, np.float32)
    for value, mode in enumerate(("silent_no_vibrate", "silent_with_vibrate", "normal")):
        made[table[f"discrete:ringer_mode:is_{mode}"].to_numpy() == 1] = value
    return made


def _numbers(table: pl.DataFrame) -> Floats:
    """float32 [n, QUANTITIES]: of each minute what a device state could have told."""
    column = {name: table[name].to_numpy().astype(np.float64) for name in table.columns[4:-1]}
    summary = np.stack([column[name] for name in SUMMARY], axis=1).astype(np.float32)
    seen = signals.of_summary(summary)
    of_window = len(signals.OF_WINDOW)
    told = np.stack(_of_device(column), axis=1).astype(np.float32)
    return np.concatenate((seen[:, :of_window], told, seen[:, of_window:]), axis=1)


def _of_device(column: Mapping[str, Doubles]) -> list[Doubles]:
    """float64 [n] for each of signals.OF_DEVICE."""
    battery, plugged = "discrete:battery_state:is_", "discrete:battery_plugged:is_"
    app, wifi = "discrete:app_state:is_", "discrete:wifi_status:is_"
    cm = column["lf_measurements:proximity_cm"]

    def flag(yes: list[str], no: list[str]) -> Doubles:
        on = np.any([column[name] == 1 for name in yes], axis=0)
        off = np.any([column[name] == 1 for name in no], axis=0)
        return np.where(on, 1.0, np.where(off, 0.0, np.nan))

    return [
        (column["location:min_speed"] + column["location:max_speed"]) / 2,
        flag([app + "active"], [app + "inactive", app + "background"]),
        column["lf_measurements:screen_brightness"],
        flag(
            [battery + "charging", battery + "full", plugged + "ac", plugged + "usb"],
            [battery + "unplugged", battery + "discharging", battery + "not_charging"],
        ),
        flag([wifi + "reachable_via_wifi"], [wifi + "reachable_via_wwan", wifi + "not_reachable"]),
        np.maximum(np.exp(column["lf_measurements:light"]) - LEAST_LUX, 0.0),
        np.where(np.isnan(cm), np.nan, cm < NEAR_CM),
    ]


def rows(minutes: Minutes, numbers: Floats | None = None, remembered: Any = None) -> Floats:
    """float32 [n, signals.COUNT], made one by one as serving makes them.

    `numbers` stand in for the minutes' own; `remembered` bool [n] says which of them the memory
    hears of (all by default).
    """
    told = minutes.numbers if numbers is None else numbers
    heard = np.ones(len(told), np.bool_) if remembered is None else remembered
    made = np.empty((len(told), signals.COUNT), np.float32)
    person, memory = -1, b""
    of_minute = zip(
        minutes.users.tolist(), minutes.at_s.tolist(), minutes.hours.tolist(), heard, strict=True
    )
    for number, (user, at_s, hour, hears) in enumerate(of_minute):
        if user != person:
            person, memory = user, b""
        made[number] = signals.row(told[number], memory, at_s, hour)
        if hears:
            memory = signals.remember(memory, at_s, told[number])
    return made
