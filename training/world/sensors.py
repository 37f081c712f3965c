"""What a phone reports of a situation: drawn from real minutes of people, or from a table.

A pool of minutes is looked up by platform, situation and block of the day. Battery and brightness
come from minutes of the same platform, block and charging, whatever the situation: given those
three they say nothing more of it, so that the oracle may leave them out and lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from training.world.arrays import BLOCKS, Bools, Floats, Ints, shares

FILE = Path("extrasensory/phone.parquet")
ACTIVITIES = ("still", "walking", "running", "on_bicycle", "in_vehicle")
STILL, WALKING, RUNNING, BICYCLE, VEHICLE = range(5)
UNTOLD = -1
NO, YES, UNKNOWN = range(3)  # charging; and of the network: cellular, wifi, unknown
NETWORKS = ("cellular", "wifi", None)
CODES = len(ACTIVITIES) * 9
MISTAKEN = 0.12  # how often the recogniser names another activity
FEWEST = 40  # minutes in a pool before all blocks of the day are put together
SITUATIONS = 8  # in the order of training.world.people.SITUATIONS
REPORTING = 2  # Android and iOS; the web reports nothing


@dataclass(frozen=True)
class Signals:
    """What is reported, one row a moment."""

    activity: Ints  # [n]
    confidence: Ints  # [n] 0–100
    charging: Ints  # [n] NO, YES, UNKNOWN
    network: Ints  # [n]
    battery: Floats  # [n], NaN unknown
    brightness: Floats  # [n], NaN unknown


@dataclass(frozen=True)
class Minutes:
    """Columns over recorded minutes."""

    platform: Ints  # 0 Android, 1 iOS
    situation: Ints
    block: Ints
    code: Ints  # activity · 9 + charging · 3 + network
    battery: Floats
    brightness: Floats


class Sensors:
    """Pools of minutes to draw from, and how likely each reading is in each situation."""

    def __init__(self, minutes: Minutes, source: str) -> None:
        self.source = source
        self._minutes = minutes
        self._pools = _pools(minutes)
        self._still = _by_charging(minutes)
        counts = np.zeros((REPORTING, SITUATIONS, BLOCKS, CODES))
        for place, rows in np.ndenumerate(self._pools):
            counts[place] = np.bincount(minutes.code[rows], minlength=CODES)
        split = shares(counts).reshape(*counts.shape[:3], len(ACTIVITIES), 9)
        seen = (1 - MISTAKEN) * split + MISTAKEN * split.mean(axis=3, keepdims=True)
        untold = seen.sum(axis=3, keepdims=True)
        # [platforms, situations, blocks, activities and the sum of all, 9]
        self._likelihood: Floats = np.concatenate([seen, untold], axis=3)

    def read(
        self, platform: Ints, situation: Ints, block: Ints, rng: np.random.Generator
    ) -> Signals:
        """What phones report; arrays [n], platforms 0 or 1."""
        code = np.empty(len(platform), dtype=np.int64)
        quiet = np.empty(len(platform), dtype=np.int64)
        chance = rng.random((2, len(platform)))
        groups = (platform * SITUATIONS + situation) * BLOCKS + block
        for group, rows in _groups(groups):
            pool = self._pools.reshape(-1)[group]
            code[rows] = self._minutes.code[pool[(chance[0, rows] * len(pool)).astype(np.int64)]]
        charging = code % 9 // 3
        for group, rows in _groups((platform * BLOCKS + block) * 3 + charging):
            pool = self._still.reshape(-1)[group]
            quiet[rows] = pool[(chance[1, rows] * len(pool)).astype(np.int64)]
        mistaken = rng.random(len(platform)) < MISTAKEN
        other = rng.integers(len(ACTIVITIES), size=len(platform))
        return Signals(
            activity=np.where(mistaken, other, code // 9),
            confidence=rng.integers(40, 101, len(platform)),
            charging=charging,
            network=code % 3,
            battery=self._minutes.battery[quiet],
            brightness=self._minutes.brightness[quiet],
        )

    def likelihood(
        self, platform: Ints | int, block: Ints | int, activity: Ints | int, rest: Ints | int
    ) -> Floats:
        """How likely a reading is in each situation: float [situations], or [n, situations].

        `rest` is charging · 3 + network; `activity` is UNTOLD where the device does not tell.
        """
        return np.asarray(self._likelihood[platform, :, block, activity, rest])


def _groups(keys: Ints) -> list[tuple[int, Ints]]:
    """Each key with the rows that have it."""
    order = np.argsort(keys, kind="stable")
    names, starts = np.unique(keys[order], return_index=True)
    return list(zip(names.tolist(), np.split(order, starts)[1:], strict=True))


def _pools(minutes: Minutes) -> np.ndarray[tuple[int, int, int], np.dtype[np.object_]]:
    """Row numbers by platform, situation, block; wider where there are too few minutes."""
    pools = np.empty((REPORTING, SITUATIONS, BLOCKS), dtype=np.object_)
    for platform, situation, block in np.ndindex(*pools.shape):
        fits = minutes.situation == situation
        for narrower in (minutes.platform == platform, minutes.block == block):
            if (fits & narrower).sum() >= FEWEST:
                fits = fits & narrower
        pools[platform, situation, block] = np.flatnonzero(fits)
    return pools


def _by_charging(minutes: Minutes) -> np.ndarray[tuple[int, int, int], np.dtype[np.object_]]:
    """Row numbers by platform, block, charging."""
    charging = minutes.code % 9 // 3
    pools = np.empty((REPORTING, BLOCKS, 3), dtype=np.object_)
    for platform, block, state in np.ndindex(*pools.shape):
        fits: Bools = np.ones(len(charging), dtype=np.bool_)
        for narrower in (charging == state, minutes.platform == platform, minutes.block == block):
            if (fits & narrower).any():
                fits = fits & narrower
        pools[platform, block, state] = np.flatnonzero(fits)
    return pools


def real_sensors(data: Path) -> Sensors | None:
    """Pools from ExtraSensory (Vaizman, Ellis, Lanckriet 2017) under `data`, where it is there."""
    file = data / FILE
    if not file.is_file():
        return None
    labels = pl.read_parquet(file, columns=_COLUMNS).with_columns(
        pl.from_epoch("timestamp").dt.convert_time_zone("America/Los_Angeles").dt.hour().alias("h")
    )
    table = labels.with_columns(_SITUATION.alias("situation")).filter(
        pl.col("situation").is_not_null()
    )
    found = table.select(
        platform=(pl.col("phone").cast(pl.String) == "iphone").cast(pl.Int64),
        situation=pl.col("situation").cast(pl.Int64),
        block=(pl.col("h") // 4).cast(pl.Int64),
        code=_ACTIVITY * 9 + _CHARGING * 3 + _NETWORK,
        battery=pl.col("lf_measurements:battery_level").cast(pl.Float64).fill_null(np.nan),
        brightness=pl.col("lf_measurements:screen_brightness").cast(pl.Float64).fill_null(np.nan),
    )
    columns = {name: found[name].to_numpy() for name in found.columns}
    return Sensors(Minutes(**columns), "ExtraSensory")


def _is(*names: str) -> pl.Expr:
    return pl.any_horizontal([pl.col(name) == 1 for name in names])


_DRIVES = ("label:IN_A_CAR", "label:ON_A_BUS", "label:DRIVE_-_I_M_THE_DRIVER",
           "label:DRIVE_-_I_M_A_PASSENGER")  # fmt: skip
_SITUATION = (
    pl.when(_is("label:SHOPPING")).then(4)
    .when(_is(*_DRIVES)).then(5)
    .when(_is("label:COOKING", "label:WASHING_DISHES")).then(2)
    .when(_is("label:OR_exercise", "label:AT_THE_GYM", "label:FIX_running")).then(6)
    .when(_is("label:FIX_restaurant", "label:STROLLING", "label:AT_A_BAR")).then(7)
    .when(_is("label:LOC_main_workplace") & _is("label:SITTING")).then(3)
    .when(_is("label:LYING_DOWN") & ~_is("label:SLEEPING")).then(0)
    .when(_is("label:LOC_home") & _is("label:SITTING")).then(1)
)  # fmt: skip
_ACTIVITY = (
    pl.when(_is("label:FIX_running")).then(RUNNING)
    .when(_is("label:BICYCLING")).then(BICYCLE)
    .when(_is(*_DRIVES)).then(VEHICLE)
    .when(_is("label:FIX_walking", "label:STROLLING")).then(WALKING)
    .otherwise(STILL).cast(pl.Int64)
)  # fmt: skip
_PLUGGED = ("discrete:battery_plugged:is_ac", "discrete:battery_plugged:is_usb",
            "discrete:battery_state:is_charging", "discrete:battery_state:is_full")  # fmt: skip
_RUNS_DOWN = ("discrete:battery_state:is_unplugged", "discrete:battery_state:is_discharging",
              "discrete:battery_state:is_not_charging")  # fmt: skip
_CHARGING = (
    pl.when(_is(*_PLUGGED)).then(YES).when(_is(*_RUNS_DOWN)).then(NO)
    .otherwise(UNKNOWN).cast(pl.Int64)
)  # fmt: skip
_NETWORK = (
    pl.when(_is("discrete:wifi_status:is_reachable_via_wifi")).then(1)
    .when(_is("discrete:wifi_status:is_not_reachable")).then(0)
    .otherwise(UNKNOWN).cast(pl.Int64)
)  # fmt: skip
_COLUMNS = [
    "phone", "timestamp", "lf_measurements:battery_level", "lf_measurements:screen_brightness",
    *_DRIVES, *_PLUGGED, *_RUNS_DOWN,
    *(f"label:{name}" for name in (
        "SHOPPING", "COOKING", "WASHING_DISHES", "OR_exercise", "AT_THE_GYM", "FIX_running",
        "FIX_restaurant", "STROLLING", "AT_A_BAR", "LOC_main_workplace", "SITTING", "LYING_DOWN",
        "SLEEPING", "LOC_home", "BICYCLING", "FIX_walking")),
    "discrete:wifi_status:is_reachable_via_wifi", "discrete:wifi_status:is_not_reachable",
]  # fmt: skip

# Where there is no public data: chances by situation, in the order of people.SITUATIONS.
_MOVES = np.array([
    [0.99, 0.01, 0.00, 0.00, 0.00], [0.97, 0.03, 0.00, 0.00, 0.00],
    [0.75, 0.25, 0.00, 0.00, 0.00], [0.95, 0.05, 0.00, 0.00, 0.00],
    [0.40, 0.60, 0.00, 0.00, 0.00], [0.15, 0.10, 0.00, 0.05, 0.70],
    [0.40, 0.25, 0.30, 0.05, 0.00], [0.70, 0.28, 0.00, 0.02, 0.00],
])  # fmt: skip
_PLUGS = np.array([0.45, 0.25, 0.15, 0.3, 0.01, 0.08, 0.02, 0.02])
_WIFI = np.array([0.92, 0.92, 0.9, 0.8, 0.25, 0.1, 0.4, 0.35])


def synthetic_sensors(seed: int = 0) -> Sensors:
    """Pools of the same shape from a table of chances."""
    rng = np.random.default_rng((seed, 77))
    shape = (REPORTING, SITUATIONS, BLOCKS, 300)
    platform, situation, block, _ = (index.reshape(-1) for index in np.indices(shape))
    size = len(platform)
    activity = (np.cumsum(_MOVES, axis=1)[situation] < rng.random(size)[:, None]).sum(axis=1)
    known = rng.random(size) < 0.93
    charging = np.where(known, rng.random(size) < _PLUGS[situation], UNKNOWN)
    network = np.where(rng.random(size) < 0.97, rng.random(size) < _WIFI[situation], UNKNOWN)
    drained = 1.0 - 0.12 * block + rng.normal(0.0, 0.15, size)
    dark = 0.15 + 0.5 * np.sin(np.pi * (block + 0.5) / BLOCKS) + rng.normal(0.0, 0.1, size)
    return Sensors(
        Minutes(
            platform=platform,
            situation=situation,
            block=block,
            code=np.minimum(activity, 4) * 9 + charging * 3 + network,
            battery=np.clip(drained, 0.03, 1.0),
            brightness=np.where(platform == 0, np.clip(dark, 0.0, 1.0), np.nan),
        ),
        "synthetic",
    )
