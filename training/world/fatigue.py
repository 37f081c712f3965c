"""What a push of some age (days) still weighs, 0–1: people recover, but never exponentially."""

from __future__ import annotations

import numpy as np

from training.world.arrays import Floats


def hyperbolic(age: Floats) -> Floats:
    """Quickly at first, then hardly."""
    return 1.0 / (1.0 + age / 1.5)


def plateau(age: Floats) -> Floats:
    """Nothing is forgotten for three days, everything after four."""
    return np.clip(4.0 - age, 0.0, 1.0)


def power(age: Floats) -> Floats:
    """A long tail."""
    return np.asarray((1.0 + age) ** -0.6)


def linear(age: Floats) -> Floats:
    """The same amount every day, gone after nine."""
    return np.clip(1.0 - age / 9.0, 0.0, 1.0)
