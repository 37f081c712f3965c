"""The gate over looks: a plain effect passes however it is judged."""

from __future__ import annotations

import numpy as np

from training.gate_figures import JUDGED, draw_trial, let_through


def test_a_plain_effect_is_let_through_at_the_end() -> None:
    found = let_through(1, spread=0.15)

    assert set(found) == set(JUDGED)
    assert all(found[how]["let through"] == 1 for how in JUDGED)


def test_trials_have_the_effect_they_are_drawn_with() -> None:
    trial = draw_trial(0.1, np.random.default_rng(1), 60_000)
    gains = trial.features[:, 1] > 0

    for who, effect in ((gains, 0.14), (~gains, -0.06)):
        with_it, without = (
            trial.outcome[who & arm].mean() for arm in (trial.treated, ~trial.treated)
        )
        assert abs(with_it - without - effect) < 0.02
