"""HAPT: gait as a waist-worn phone at 50 Hz saw it, labelled from video; every window as a request.

Source: Reyes-Ortiz, Oneto, Samà, Parra and Anguita 2015, "Transition-aware human activity
recognition using smartphones", https://archive.ics.uci.edu/dataset/341 (non-commercial).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.device import Motion
from engine.errors import NotFound

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

NAME = "hapt"
RATE_HZ = 50.0
WINDOW = 128
PER_G = 720.0
DEGREES_PER_S = 0.0175
POSTURES = ("walking", "upstairs", "downstairs", "sitting", "standing", "laying")
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Windows:
    """The official windows of the six activities."""

    acc: Floats  # [n, 128, 3], g
    gyro: Floats  # [n, 128, 3], rad/s
    posture: Ints  # [n], of POSTURES
    person: Ints  # [n]
    test: NDArray[np.bool_]  # [n], of the official split

    @property
    def gait(self) -> Ints:
        """int [n], of models.motion.GAITS: the three postures at rest are one."""
        return np.minimum(self.posture, 3)

    def motion(
        self, number: int, rate_hz: float = RATE_HZ, gyro: bool = True, turn: Floats | None = None
    ) -> Motion:
        """One window as a phone would send it, turned by a rotation [3, 3] where one is given.

        A lower rate takes every k-th sample, as a phone without a filter does.
        """
        turn = np.eye(3, dtype=np.float32) if turn is None else turn
        step = round(RATE_HZ / rate_hz)
        acc, turning = ((v[number] @ turn.T)[::step].tolist() for v in (self.acc, self.gyro))
        return Motion(rate_hz, acc, turning if gyro else None, unit="g")

    def folds(self) -> list[NDArray[np.bool_]]:
        """Which windows are tested in each of five folds of people."""
        people = np.unique(self.person)
        fold = np.random.default_rng(1).permutation(len(people)) % FOLDS
        of_window = fold[np.searchsorted(people, self.person)]
        return [of_window == number for number in range(FOLDS)]


def read_windows(folder: Path) -> Windows:
    """The windows; `folder` holds all data sets. Raises NotFound where this one is absent."""
    raw, cut = (_table(folder, name) for name in ("raw", "windows_128_50"))
    cut = cut.filter(pl.col("activity") <= len(POSTURES))
    experiments, begins = np.unique(raw["exp"].to_numpy(), return_index=True)
    begin = begins[np.searchsorted(experiments, cut["exp"].to_numpy())] + cut["start"].to_numpy()
    at = begin[:, None] + np.arange(WINDOW)
    acc = raw.select("acc_x", "acc_y", "acc_z").to_numpy() / PER_G
    gyro = np.radians(raw.select("gyro_x", "gyro_y", "gyro_z").to_numpy() * DEGREES_PER_S)
    return Windows(
        acc[at].astype(np.float32),
        gyro[at].astype(np.float32),
        cut["activity"].to_numpy().astype(np.int64) - 1,
        cut["user"].to_numpy().astype(np.int64),
        (cut["split"] == "test").to_numpy(),
    )


def _table(folder: Path, name: str) -> pl.DataFrame:
    path = folder / NAME / f"{name}.parquet"
    if not path.is_file():
        raise NotFound(
            f"no {name}.parquet in {folder / NAME}: set KAIROS_DATA to the folder that holds "
            f"{NAME} (published at https://archive.ics.uci.edu/dataset/341)"
        )
    return pl.read_parquet(path)


def random_turns(count: int, seed: int) -> Floats:
    """float32 [count, 3, 3] rotations, uniform over all of them (Shoemake 1992)."""
    w, x, y, z = _unit(np.random.default_rng(seed).normal(size=(count, 4))).T
    rows: Sequence[Sequence[NDArray[np.float64]]] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.moveaxis(np.array(rows), 2, 0).astype(np.float32)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
