"""The measures of the diversity benchmark, where their values are plain."""

from __future__ import annotations

import numpy as np
import pytest

from engine.recommending import SlateSettings
from training.diversity_figures import _divergence, _diversity, _mean, _split, measure, read_case
from training.recorded import Recorded, record


def recorded() -> Recorded:
    """Forty users of two tastes, two items of each genre in three."""
    genres = ("a", "b")
    events = [
        {"type": "item", "item_id": str(n), "attributes": {"categories": [genres[n % 2]]}}
        for n in range(60)
    ]
    rng = np.random.default_rng(1)
    acts = [
        {"type": "interaction", "user_id": str(user), "item_id": str(item), "ts": 100 * n + user}
        for user in range(40)
        for n, item in enumerate(
            sorted(rng.permutation(60), key=lambda i: (i % 2 != user % 2, 0))[:25]
        )
    ]
    return record([*events, *sorted(acts, key=lambda act: act["ts"])], 1.0)


def test_the_newest_acts_are_held_out() -> None:
    earlier, later = _split(recorded())

    assert {len(items) for items in earlier} == {20}
    assert {len(items) for items in later} == {5}


def test_measures_of_plain_lists() -> None:
    alike, apart = np.array([[1.0, 0], [1, 0]]), np.eye(2)

    assert _diversity(alike) == pytest.approx(0)
    assert _diversity(apart) == pytest.approx(1)
    assert _divergence(np.array([0.5, 0.5]), _mean(apart)) == pytest.approx(0)
    half = 0.5 * np.log(0.5 / (0.99 + 0.005)) + 0.5 * np.log(0.5 / 0.005)
    assert _divergence(np.array([0.5, 0.5]), _mean(alike)) == pytest.approx(half)


def test_a_pull_brings_a_list_nearer_to_the_user() -> None:
    case = read_case(recorded())
    plain = SlateSettings(explore=0.0, diversity=0.0)
    pulled = SlateSettings(explore=0.0, diversity=0.0, calibrate=5.0)
    users = range(len(case.users))

    before, after = (measure(case, users, one)[:, 2].mean() for one in (plain, pulled))
    assert after < before
