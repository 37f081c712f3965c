"""Alpha spent over looks against published bounds; the gate; power."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InvalidInput
from models.release import Metric
from training.qini import Qini
from training.spending import Spending, bounds, crossing, gate, power, spent

# Lan and DeMets' bounds at five equal looks, two-sided .05: vignette of the R package ldbounds
# (the program of Reboussin, DeMets, Kim and Lan 2000).
PUBLISHED: dict[Spending, list[float]] = {
    "obrien_fleming": [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
    "pocock": [2.4380, 2.4268, 2.4101, 2.3966, 2.3859],
}


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_published_bounds(spending: Spending) -> None:
    assert bounds(5, 0.05, spending) == pytest.approx(PUBLISHED[spending], abs=1e-3)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_all_is_spent_and_no_more(spending: Spending) -> None:
    assert spent(0.0, 0.025, spending) == 0
    assert spent(1.0, 0.025, spending) == pytest.approx(0.025)
    assert crossing(bounds(7, 0.05, spending), 0.0) == pytest.approx(0.025, abs=1e-6)


def test_bounds_hold_on_drawn_walks() -> None:
    steps = np.random.default_rng(1).normal(size=(100_000, 5))
    walks = np.cumsum(steps, axis=1) / np.sqrt(np.arange(1, 6))

    crossed = (walks > bounds(5)).any(axis=1).mean()

    assert crossed == pytest.approx(0.025, abs=0.002)


def test_one_look_is_the_usual_interval() -> None:
    assert bounds(1)[0] == pytest.approx(1.95996, abs=1e-4)
    assert crossing(bounds(1), 1.95996 + 1.28155) == pytest.approx(0.9, abs=1e-4)


def found(value: float, deviation: float) -> Qini:
    nothing = Metric(0.0)
    return Qini(value, 0.0, 0.0, deviation, np.zeros((2, 2)), nothing, nothing)


def test_the_gate_opens_where_the_interval_at_the_spent_level_lies_above_zero() -> None:
    early, late = gate(found(0.003, 0.001), 3, 5), gate(found(0.003, 0.001), 2, 5)

    assert early.use
    assert early.low == pytest.approx(0.003 - 2.6803e-3, abs=1e-5)
    assert "the uplift model is used" in early.reason
    assert not late.use, "3.36 standard errors are asked for at the second look"
    assert "the effect shrunk by situation is used" in late.reason


def test_the_gate_stays_shut_without_evidence() -> None:
    assert not gate(found(0.0, 0.001), 5, 5).use
    assert not gate(found(0.5, 0.0), 5, 5).use, "no deviation is no evidence"
    assert not gate(found(0.5, 0.1), 1, 40).use, "nothing is spent at the first of forty looks"
    assert gate(found(0.5, 0.1), 10, 5).bound == gate(found(0.5, 0.1), 5, 5).bound
    with pytest.raises(InvalidInput, match="look 0 of 5"):
        gate(found(0.5, 0.1), 0, 5)


def test_power_grows_with_decisions_and_is_the_error_rate_where_there_is_nothing() -> None:
    few, many = power(5_600, 0.0137, 0.1, looks=7), power(50_000, 0.0137, 0.1, looks=7)

    assert 0.3 < few < 0.5
    assert many > 0.99
    assert power(5_600, 0.0, 0.1, looks=7) == pytest.approx(0.025, abs=1e-4)


def test_power_is_what_drawn_decisions_show() -> None:
    rng = np.random.default_rng(2)
    count, spread, rate = 2_000, 0.06, 0.3
    ranks = (np.arange(count) + 0.5) / count
    effect = spread * np.sqrt(12) * (0.5 - ranks)
    passed = 0
    for _ in range(400):
        treated = rng.random(count) < 0.5
        outcome = rng.random(count) < rate + effect * np.where(treated, 0.5, -0.5)
        score = 2 * np.where(treated, 1, -1) * (outcome - rate) * (0.5 - ranks)
        passed += score.mean() > 1.96 * score.std() / count**0.5

    assert passed / 400 == pytest.approx(power(count, spread, rate), abs=0.08)
