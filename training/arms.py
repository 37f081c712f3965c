"""Policies in the same simulated world, one held against another with intervals.

Both meet the same people under the same seed, so that what a world does of itself (tastes that
drift, people who stay away) happens to both. Intervals are those of a bootstrap that draws
accounts and takes each one's sums in both worlds.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.release import Metric
from training.world import World
from training.world.ledger import MONTH

RESAMPLES = 1_000
Floats = NDArray[np.float64]


class Lead(msgspec.Struct, frozen=True):
    """How much more one policy's days were worth than another's, with 95 % intervals."""

    value_per_visit: Metric
    visits_per_person: Metric
    value_per_person: Metric
    returned_28: Metric | None  # share of visits; None where no day has 28 after it


def lead(world: World, over: World, days: tuple[int, int]) -> Lead:
    """`world` less `over` on these days; both began alike."""
    accounts = world.core.people.accounts
    mine, theirs = (w.ledger.by_account(accounts, *days) for w in (world, over))
    each = np.ones(accounts)
    ripe = (days[0], min(days[1], world.day - MONTH, over.day - MONTH))
    returned = None
    if ripe[0] < ripe[1]:
        then, there = (w.ledger.by_account(accounts, *ripe) for w in (world, over))
        returned = _difference(
            (then["returned"], then["visits"]), (there["returned"], there["visits"])
        )
    return Lead(
        _difference((mine["worth"], mine["visits"]), (theirs["worth"], theirs["visits"])),
        _difference((mine["visits"], each), (theirs["visits"], each)),
        _difference((mine["worth"], each), (theirs["worth"], each)),
        returned,
    )


def _difference(of: tuple[Floats, Floats], over: tuple[Floats, Floats]) -> Metric:
    """Of two ratios of sums over accounts, each told as (above, below)."""
    accounts = len(of[0])
    drawn = np.random.default_rng(1).multinomial(accounts, [1 / accounts] * accounts, RESAMPLES)
    every = np.ones((1, accounts))
    (value,), found = (_ratio(t, of) - _ratio(t, over) for t in (every, drawn.astype(np.float64)))
    low, high = np.quantile(found, (0.025, 0.975))
    return Metric(float(value), float(low), float(high))


def _ratio(times: Floats, of: tuple[Floats, Floats]) -> Floats:
    above, below = of
    ratio: Floats = (times @ above) / np.maximum(times @ below, 1e-9)
    return ratio
