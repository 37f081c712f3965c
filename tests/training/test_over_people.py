"""Figures over people, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from training import over_people
from training.over_people import Cases


def cases(seed: int = 1, rows: int = 300, people: int = 5) -> tuple[Cases, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.3
    scores = np.round(rng.normal(truth * 1.0, 1.0), 1)  # with ties
    return Cases(rng.integers(0, people, rows), truth, people), scores


def test_auc_is_the_share_of_pairs_won() -> None:
    some, scores = cases()
    yes, no = scores[some.truth][:, None], scores[~some.truth][None]
    expected = ((yes > no) + (yes == no) / 2).mean()

    told = over_people.auc(some, scores, over_people.draws(5, 0))

    assert told[0] == pytest.approx(expected)


def test_a_draw_is_the_same_as_people_twice() -> None:
    some, scores = cases()
    drawn = np.array([[2.0, 0.0, 1.0, 1.0, 1.0]])
    rows = np.concatenate([np.flatnonzero(some.users == p) for p in (0, 0, 2, 3, 4)])
    twice = Cases(some.users[rows], some.truth[rows], 5)
    once = np.ones((1, 5))

    assert over_people.auc(some, scores, drawn) == pytest.approx(
        over_people.auc(twice, scores[rows], once)
    )
    assert over_people.balanced_accuracy(some, scores > 0, drawn) == pytest.approx(
        over_people.balanced_accuracy(twice, scores[rows] > 0, once)
    )


def test_balanced_accuracy_of_a_constant_is_a_half() -> None:
    some, _ = cases()
    told = over_people.balanced_accuracy(some, np.ones(300, np.bool_), over_people.draws(5, 0))
    assert told[0] == 0.5


def test_the_base_rate_has_no_skill_and_the_truth_has_all() -> None:
    some, _ = cases()
    base = np.full(300, some.truth.mean())
    drawn = over_people.draws(5, 10)

    assert np.allclose(over_people.skill(some, base, base, drawn), 0)
    assert over_people.skill(some, some.truth * 1.0, base, drawn)[0] > 0.99


def test_calibration_error_of_what_is_off_by_a_tenth() -> None:
    rng = np.random.default_rng(1)
    chances = rng.random(200_000) * 0.8
    truth = rng.random(200_000) < chances + 0.1

    assert over_people.calibration_error(truth, chances) == pytest.approx(0.1, abs=0.01)
    assert over_people.calibration_error(truth, chances + 0.1) < 0.01
