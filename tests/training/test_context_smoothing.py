"""Smoothing: on a person who changes twice, seen through noise."""

from __future__ import annotations

import numpy as np

from training.context_smoothing import DIALS, Said, changes, choose, smooth


def seen(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Users, times, truth and chances of three hours, the middle one true."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(180)
    truth = ((minutes >= 60) & (minutes < 120)).astype(np.int8)
    logits = rng.normal(np.where(truth == 1, 1.5, -1.5), 1.5)
    return np.zeros(180, np.int64), minutes * 60.0, truth, 1 / (1 + np.exp(-logits))


def test_flips_go_and_changes_are_still_noticed() -> None:
    users, at_s, truth, chances = seen()
    base = np.full((180, 1), 0.5)
    plain = Said(users, at_s, chances >= 0.5, truth)

    beliefs = smooth(users, at_s, chances[:, None], base)
    best = choose(plain, beliefs[:, :, 0] >= 0.5)
    smoothed = Said(users, at_s, beliefs[:, best, 0] >= 0.5, truth)

    assert beliefs.shape == (180, len(DIALS), 1)
    assert smoothed.flips_per_hour() < plain.flips_per_hour() / 2
    assert smoothed.balanced_accuracy() > plain.balanced_accuracy() - 0.01
    assert np.median(smoothed.delays_min()) <= 4


def test_changes_are_steady_on_both_sides() -> None:
    users, at_s, truth, _ = seen()
    said = Said(users, at_s, truth == 1, truth)

    assert changes(said) == [(60, 119), (120, 179)]
    assert said.delays_min() == [0, 0]
    assert said.balanced_accuracy() == 1

    never = Said(users, at_s, np.zeros(180, np.bool_), truth)
    assert never.delays_min() == [float("inf"), 0]

    truth[62] = 0
    assert changes(Said(users, at_s, truth == 1, truth))[0] != (60, 119), "two minutes hold not"


def test_another_person_begins_anew() -> None:
    users = np.array([0, 0, 1])
    chances, base = np.array([[0.99], [0.99], [0.5]]), np.full((3, 1), 0.5)

    beliefs = smooth(users, np.array([0.0, 60.0, 120.0]), chances, base)

    assert np.allclose(beliefs[2], 0.5)
