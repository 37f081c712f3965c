"""Names of the array types that the world is made of."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

DAY_S = 86_400.0
BLOCKS = 6  # of four hours each, local time


def draw(odds: Floats, rng: np.random.Generator) -> Ints:
    """One index per row of `odds` (float [n, m], each row sums to 1)."""
    below = np.cumsum(odds, axis=1) < rng.random(len(odds))[:, None]
    return np.asarray(np.minimum(below.sum(axis=1), odds.shape[1] - 1))


def shares(weights: Floats) -> Floats:
    """Weights scaled to sum to 1 over the last axis."""
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
