"""How the two teachers of motion are joined."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.motion import ACTIVITIES, CARRIER_COLUMNS, combine

Floats = NDArray[np.float32]
EVEN = [0.2] * 5


def joined(gait: list[float], carrier: list[float]) -> dict[str, float]:
    found = combine(np.array(gait, np.float32), np.array(carrier, np.float32))
    return dict(zip(ACTIVITIES, found.tolist(), strict=True))


def test_agreement_is_stronger_than_either() -> None:
    activity = joined([0.9, 0.05, 0.05, 0.0], [0.7, 0.1, 0.1, 0.05, 0.05])

    assert activity["walking"] > 0.7
    assert sum(activity.values()) == pytest.approx(1)


def test_stairs_are_the_gait_models_word() -> None:
    up, down = (
        joined([0.0, 1, 0, 0], [0.9, 0.025, 0.025, 0.025, 0.025]),
        joined([0.0, 0, 1, 0], [0.9, 0.025, 0.025, 0.025, 0.025]),
    )

    assert up["stairs"] > 0.85
    assert up == pytest.approx(down)


def test_one_teacher_cannot_overrule_a_certain_other() -> None:
    activity = joined([1.0, 0, 0, 0], [0.001, 0, 0, 0.001, 0.998])

    assert activity["still"] > 0.9


def test_a_gait_without_opinion_changes_nothing() -> None:
    carrier = [0.3, 0.1, 0.2, 0.3, 0.1]
    activity = joined([0.5, 0, 0, 0.5], carrier)

    assert activity["running"] == pytest.approx(0.1)
    assert activity["cycling"] == pytest.approx(0.2)
    assert activity["still"] == pytest.approx(0.1)


def test_no_step_no_stairs() -> None:
    assert joined([0, 0.01, 0.01, 0.98], EVEN)["stairs"] < 0.05


def test_nothing_that_the_mounting_or_the_sensors_error_decides_is_learned() -> None:
    assert len(CARRIER_COLUMNS) == 30
    assert not [name for name in CARRIER_COLUMNS if ":3d:" in name]
    assert "raw_acc:magnitude_stats:mean" not in CARRIER_COLUMNS
