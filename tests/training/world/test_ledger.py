"""The measure of policies, on visits whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.world.ledger import Ledger

DAY_S = 86_400.0


@pytest.fixture
def ledger() -> Ledger:
    """Account 0 comes on days 0, 0 and 3, account 1 on day 1 and again after 30 days."""
    made = Ledger(start_s=0.0, items=4)
    for account, day, value, item in [(0, 0.2, 1.0, 0), (0, 0.8, 0.0, 0), (0, 3.1, 2.0, 1),
                                      (1, 1.5, 0.5, 2), (1, 31.6, 0.0, 0)]:  # fmt: skip
        seen = np.array([[True, False]])
        items = np.array([[item, 3]])
        worth = np.array([value])
        at_s = np.array([day * DAY_S])
        made.enter(np.array([account]), at_s, worth, worth + 0.5, items, seen)
    return made


def test_value(ledger: Ledger) -> None:
    assert ledger.value_per_visit() == pytest.approx(3.5 / 5)
    assert ledger.value_per_visit(from_day=1, to_day=4) == pytest.approx(1.25)
    assert math.isnan(ledger.value_per_visit(from_day=50))


def test_return_counts_later_days_only(ledger: Ledger) -> None:
    assert ledger.return_rate(within_days=28, to_day=3) == pytest.approx(2 / 3)
    assert ledger.return_rate(within_days=2, to_day=3) == 0.0
    assert ledger.return_rate(within_days=31, to_day=3) == 1.0
    assert math.isnan(ledger.return_rate(from_day=50))


def test_sums_by_account(ledger: Ledger) -> None:
    sums = ledger.by_account(3, from_day=0, to_day=4)

    assert sums["visits"].tolist() == [3, 1, 0]
    assert sums["worth"].tolist() == [4.5, 1.0, 0]
    assert sums["returned"].tolist() == [2, 0, 0]  # account 1 after 30 days only


def test_active_days_and_coverage(ledger: Ledger) -> None:
    assert ledger.active_days(0, 4, accounts=2) == 1.5
    assert ledger.coverage() == 0.75  # what never came into view does not count
    assert ledger.coverage(from_day=3) == 0.5
    assert Ledger(0.0, 4).coverage() == 0.0
