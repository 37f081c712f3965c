"""How tastes change from one day to the next: float [persons, cuisines], 0–1."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from training.world.arrays import Floats

# (liking now, liking as the world began, day, rng) -> liking on that day
Change: TypeAlias = Callable[[Floats, Floats, int, np.random.Generator], Floats]
FASHION_DAYS = 10


def wander(now: Floats, born: Floats, day: int, rng: np.random.Generator) -> Floats:
    """Small steps, reflected at the ends."""
    stepped = np.abs(now + rng.normal(0.0, 0.03, now.shape))
    return np.asarray(1.0 - np.abs(1.0 - stepped))


def leap(now: Floats, born: Floats, day: int, rng: np.random.Generator) -> Floats:
    """Nothing for weeks, then someone comes back from a journey with other tastes."""
    moved = (rng.random((len(now), 1)) < 0.012) & (rng.random(now.shape) < 0.4)
    return np.where(moved, rng.beta(0.6, 1.2, now.shape), now)


def seasons(now: Floats, born: Floats, day: int, rng: np.random.Generator) -> Floats:
    """Each cuisine has its time of the year (a short one, of ninety days)."""
    phase = np.arange(born.shape[1]) / born.shape[1]
    return np.asarray(np.clip(born + 0.3 * np.sin(2 * np.pi * (day / 90 + phase)), 0.0, 1.0))


def fashion(now: Floats, born: Floats, day: int, rng: np.random.Generator) -> Floats:
    """One cuisine after another is in everybody's mouth; the rest goes back to what it was."""
    follows = born.mean(axis=1)
    now = now + 0.08 * (born - now)
    # Which one it is has to stay for its days, so it is not drawn from the day's generator.
    cuisine = (day // FASHION_DAYS) * 5 % born.shape[1]
    now[:, cuisine] += 0.25 * follows * (1.0 - now[:, cuisine])
    return now
