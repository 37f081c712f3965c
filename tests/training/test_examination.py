"""Examination told from attraction where our own policy, exploring, put the best on top."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.recommending import SlateSettings
from engine.slate import Pool, fill
from engine.slot_rules import NO_SLOT_RULES
from training.examination import examination

SLOTS = 10
ITEMS = 40
DECISIONS = 50_000
PLANTED = 1 / np.arange(1, SLOTS + 1) ** 0.7


def logged(seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Items, slots and acts of decisions whose values are nearly the items' attractions."""
    rng = np.random.default_rng(seed)
    attraction = np.sort(rng.beta(2.0, 3.0, ITEMS))[::-1]
    categories = np.full((ITEMS, 1), -1, np.int32)
    settings = SlateSettings(explore=0.3, temperature=1.0, diversity=0.0)
    rows = np.empty((DECISIONS, SLOTS), np.int32)
    for number in range(DECISIONS):
        values = (attraction + rng.normal(0, 0.05, ITEMS)).astype(np.float32)
        choices = fill(Pool(values, categories, NO_SLOT_RULES), SLOTS, settings, number)
        rows[number] = [choice.row for choice in choices]
    slots = np.tile(np.arange(SLOTS, dtype=np.int32), DECISIONS)
    items = rows.ravel()
    acted = rng.random(len(items)) < attraction[items] * PLANTED[slots]
    return items, slots, acted


def test_a_planted_position_bias_is_recovered() -> None:
    items, slots, acted = logged(3)
    rates = np.array([acted[slots == slot].mean() for slot in range(SLOTS)])
    off = np.abs(rates / rates[0] / PLANTED - 1)
    assert off.max() > 0.3  # confounded: what stands low is less wanted too

    np.testing.assert_allclose(examination(items, slots, acted), PLANTED, rtol=0.05)
