"""The long run: trajectory weights and policies kept per user, where one step misleads."""

from __future__ import annotations

import numpy as np
import pytest

from training.long_run import per_user, trajectories
from training.off_policy import Estimate, Logged, TooLittleOverlap, estimate
from training.off_policy_worlds import Tiring, tiring_log

WORLD = Tiring()
OFTEN, SELDOM = 0.7, 0.3  # how often the new and the logging policy send


def of_decision(found: Estimate) -> tuple[float, float, float]:
    low, value, high = (x / WORLD.steps for x in (found.low, found.value, found.high))
    return low, value, high


def test_where_pushes_tire_one_step_misleads_and_trajectories_do_not() -> None:
    rng = np.random.default_rng(1)
    truth = WORLD.truth(OFTEN) / WORLD.steps
    logged, order = tiring_log(WORLD, 20_000, SELDOM, OFTEN, rng)

    for method in ("ips", "snips"):
        assert estimate(logged, method).low > 1.25 * truth  # type: ignore[arg-type]
    low, value, high = of_decision(trajectories(logged, order))
    assert low < truth < high
    assert value == pytest.approx(truth, rel=0.1)


def test_a_policy_kept_per_user_tells_the_long_run() -> None:
    opened, _ = WORLD.live(20_000, OFTEN, np.random.default_rng(2))
    users = np.repeat(np.arange(20_000), WORLD.steps)

    low, value, high = of_decision(per_user(opened.ravel(), users))

    truth = WORLD.truth(OFTEN) / WORLD.steps
    assert low < truth < high
    assert value == pytest.approx(truth, rel=0.05)


def test_the_truth_of_the_tiring_world_is_what_living_there_gives() -> None:
    opened, pushed = WORLD.live(200_000, 0.5, np.random.default_rng(3))

    assert opened.sum(axis=1).mean() == pytest.approx(WORLD.truth(0.5), rel=0.01)
    assert pushed.mean() == pytest.approx(0.5, abs=0.01)


def test_trajectories_are_those_of_a_naive_loop_whatever_the_rows_order() -> None:
    rng = np.random.default_rng(4)
    lengths = [3, 1, 4, 2, 4]
    users = np.repeat(np.arange(len(lengths)), lengths)
    order = np.concatenate([np.arange(length) for length in lengths])
    count = len(users)
    logged = Logged(
        rng.random(count), rng.uniform(0.3, 0.9, count), rng.uniform(0.2, 0.9, count), users
    )
    mixed = rng.permutation(count)
    shuffled = Logged(
        *(column[mixed] for column in (logged.reward, logged.propensity, logged.target, users))
    )

    found = trajectories(shuffled, order[mixed])

    assert found.value == pytest.approx(naive(logged), abs=1e-9)
    assert found == trajectories(logged, order)


def naive(logged: Logged) -> float:
    """Weighted per-decision importance sampling by loops; rows lie by user and order."""
    paths: dict[int, list[int]] = {}
    for row, user in enumerate(logged.users.tolist()):
        paths.setdefault(user, []).append(row)
    total = 0.0
    for step in range(max(map(len, paths.values()))):
        top = bottom = 0.0
        for path in paths.values():
            weight = 1.0
            for row in path[: step + 1]:
                weight *= logged.target[row] / logged.propensity[row]
            bottom += weight
            if step < len(path):
                top += weight * logged.reward[path[step]]
        total += top / bottom
    return total


def test_a_log_too_short_for_its_horizon_is_refused() -> None:
    logged, order = tiring_log(Tiring(steps=30), 500, 0.3, 0.9, np.random.default_rng(5))

    with pytest.raises(TooLittleOverlap, match="of 500 users"):
        trajectories(logged, order)
