"""A reference that knows how the phone is mounted: six postures from the usual features by axis.

What sitting, standing and lying are to a waist-worn phone is its tilt. It is never served: turned
at random, as phones are, it falls apart, which is what the figure beside it shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.hapt import POSTURES, Floats, Windows

Mask = NDArray[np.bool_]

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
BANDS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 32, 48)
RIDGE = 30.0


def axis_rows(windows: Windows, turns: Floats | None = None) -> Floats:
    """float32 [n, features] of all windows, each turned by its rotation of [n, 3, 3].

    After Anguita et al. 2013: each axis of acceleration, jerk and angular velocity and each length
    by moments, percentiles, bands and correlations; and the mean direction of gravity.
    """
    acc, gyro = windows.acc, windows.gyro
    if turns is not None:
        acc, gyro = (np.einsum("nij,ntj->nti", turns, v) for v in (acc, gyro))
    moved = acc - acc.mean(axis=1, keepdims=True)
    jerk = np.gradient(acc, axis=1)
    lengths = [np.linalg.norm(v, axis=2)[:, :, None] for v in (acc, moved, jerk, gyro)]
    signals = np.concatenate((acc, jerk, gyro, *lengths), axis=2)
    mean, std = signals.mean(axis=1), signals.std(axis=1)
    ordered = [np.percentile(signals, percent, axis=1) for percent in PERCENTILES]
    power = np.abs(np.fft.rfft(signals - mean[:, None], axis=1)) ** 2
    bands = np.log(np.add.reduceat(power, BANDS, axis=1) + 1e-6)
    scaled = (signals - mean[:, None]) / (std[:, None] + 1e-6)
    ro = np.einsum("nti,ntj->nij", scaled, scaled) / signals.shape[1]
    upper = np.triu_indices(signals.shape[2], 1)
    gravity = acc.mean(axis=1)
    direction = gravity / np.linalg.norm(gravity, axis=1, keepdims=True)
    skewness = (scaled**3).mean(axis=1)
    flat = bands.reshape(len(bands), -1)
    blocks = (mean, std, np.log(std + 1e-4), skewness, *ordered, flat, ro[:, *upper], direction)
    return np.concatenate((*blocks, direction**2), axis=1).astype(np.float32)


def postures(rows: Floats, windows: Windows, taught: Mask, asked: Floats) -> NDArray[np.int64]:
    """Postures [m] of `asked` rows, by a linear model of the `taught` windows.

    Ridge regression on standardised features, one posture against the rest.
    """
    centre, spread = rows[taught].mean(axis=0), rows[taught].std(axis=0) + 1e-6
    known, unknown = ((part - centre) / spread for part in (rows[taught], asked))
    known, unknown = (np.column_stack((p, np.ones(len(p)))).astype(float) for p in (known, unknown))
    wanted = np.eye(len(POSTURES))[windows.posture[taught]] * 2 - 1
    gram = known.T @ known + RIDGE * np.eye(known.shape[1])
    found: NDArray[np.int64] = (unknown @ np.linalg.solve(gram, known.T @ wanted)).argmax(axis=1)
    return found
