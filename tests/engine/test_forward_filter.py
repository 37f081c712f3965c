"""The forward filter against a textbook and against itself."""

from __future__ import annotations

import numpy as np
import pytest

from engine.forward_filter import forward, relax, weigh

RAIN = np.array([[0.7, 0.3], [0.3, 0.7]])  # from today's row to tomorrow's column
UMBRELLA = np.array([0.9, 0.2])


def test_umbrella_world() -> None:
    """Russell and Norvig: after one umbrella rain is believed at .818, after two at .883."""
    first = forward(np.array([0.5, 0.5]), RAIN, UMBRELLA)
    second = forward(first, RAIN, UMBRELLA)

    assert first[0] == pytest.approx(0.818, abs=5e-4)
    assert second[0] == pytest.approx(0.883, abs=5e-4)


def test_many_filters_run_as_one() -> None:
    beliefs = np.array([[0.5, 0.5], [0.9, 0.1]])

    together = forward(beliefs, np.stack([RAIN, RAIN.T]), np.stack([UMBRELLA, 1 - UMBRELLA]))

    assert np.allclose(together[0], forward(beliefs[0], RAIN, UMBRELLA))
    assert np.allclose(together[1], forward(beliefs[1], RAIN.T, 1 - UMBRELLA))


def test_relaxing_twice_is_relaxing_once() -> None:
    belief, routine = np.array([0.9, 0.1, 0.0]), np.array([0.2, 0.3, 0.5])

    twice = relax(relax(belief, routine, 40.0, 300.0), routine, 80.0, 300.0)

    assert np.allclose(twice, relax(belief, routine, 120.0, 300.0))
    assert np.allclose(relax(belief, routine, 1e9, 300.0), routine)
    assert np.allclose(relax(belief, routine, 0.0, 300.0), belief)
    assert np.allclose(relax(belief, routine, -5.0, 300.0), belief), "a clock that runs backwards"


def test_relaxing_is_a_transition() -> None:
    belief, routine = np.array([0.8, 0.2]), np.array([0.4, 0.6])
    kept = np.exp(-0.5)
    transition = kept * np.eye(2) + (1 - kept) * routine

    relaxed = weigh(relax(belief, routine, 150.0, 300.0), UMBRELLA)

    assert np.allclose(relaxed, forward(belief, transition, UMBRELLA))


def test_a_state_believed_impossible_comes_back() -> None:
    belief = np.array([1.0, 0.0])
    for _ in range(60):
        belief = weigh(belief, np.array([0.3, 0.7]))

    assert np.isfinite(belief).all()
    assert belief[1] > 0.99
