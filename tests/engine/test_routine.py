"""What an hour usually is for a person: once an hour, forgotten slowly, with help of its like."""

from __future__ import annotations

import numpy as np
import pytest

from engine.routine import UNIT, Routine, add, usual

WORK = np.array([0, 1, 0], np.float32)
HOME = np.array([0, 0.25, 0.75], np.float32)


def test_nothing_known() -> None:
    assert usual({}, 8.5, 0, 3).tolist() == [0, 0, 0]


def test_an_hour_seen_counts_there_and_less_nearby() -> None:
    routine: Routine = {}
    add(routine, 8, WORK)  # Monday 8:00

    def of(hour: float, weekday: int) -> float:
        return float(usual(routine, hour, weekday, 3)[1])

    assert of(8.9, 0) == 1
    assert of(9, 0) == of(7, 0) == pytest.approx(0.4)
    assert of(8, 3) == pytest.approx(0.5)
    assert of(9, 3) == pytest.approx(0.2)
    assert of(8, 6) == of(11, 0) == 0  # a weekend, another time of day
    assert usual(routine, 8, 0, 2).tolist() == [0, 1]  # and fewer situations than were counted


def test_counts_settle_and_never_overflow() -> None:
    routine: Routine = {}
    for _ in range(200):
        add(routine, 3, WORK)
    assert 6 < usual(routine, 3, 0, 3)[1] <= 255 / UNIT

    for _ in range(20):
        add(routine, 3, HOME)
    found = usual(routine, 3, 0, 3)
    assert found / found.sum() == pytest.approx(HOME, abs=0.08)
    assert all(len(counts) == 3 for counts in routine.values())


def test_a_situation_added_later_has_not_been_seen() -> None:
    routine: Routine = {}
    add(routine, 3, WORK)
    add(routine, 3, np.array([0, 0, 0, 1], np.float32))
    assert usual(routine, 3, 0, 4) == pytest.approx([0, 6 / 7, 0, 1], abs=0.05)
