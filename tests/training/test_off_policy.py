"""Off-policy estimators against naive loops, published and hand-worked values, and known truths."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InvalidInput
from training.off_policy import (
    METHODS,
    Estimate,
    Logged,
    Method,
    TooLittleOverlap,
    effective_size,
    estimate,
)
from training.off_policy_worlds import Rare, clustered, clustered_truth


def rows(*told: tuple[float, ...]) -> Logged:
    """Decisions of a user each: (reward, propensity, target, predicted, predicted_target)."""
    reward, propensity, target, predicted, of_target = np.array(told).T
    return Logged(reward, propensity, target, np.arange(len(told)), predicted, of_target)


# Worked by hand: weights 2, 1/2, 0, 5.
WORKED = rows(
    (1.0, 0.4, 0.8, 0.5, 0.6),
    (2.0, 0.8, 0.4, 1.0, 1.5),
    (4.0, 0.5, 0.0, 2.0, 0.5),
    (0.0, 0.1, 0.5, 0.2, 0.4),
)
BY_HAND: dict[Method, float] = {
    "ips": (2 * 1 + 0.5 * 2 + 0 + 0) / 4,
    "snips": (2 * 1 + 0.5 * 2) / 7.5,
    "dm": (0.6 + 1.5 + 0.5 + 0.4) / 4,
    "dr": (0.6 + 2 * 0.5 + 1.5 + 0.5 * 1 + 0.5 + 0.4 - 5 * 0.2) / 4,
    "switch": (0.6 + 2 * 0.5 + 1.5 + 0.5 * 1 + 0.5 + 0.4) / 4,  # the weight of 5 is left out
}


@pytest.mark.parametrize("method", METHODS)
def test_values_worked_by_hand(method: Method) -> None:
    assert estimate(WORKED, method, switch_at=4).value == pytest.approx(BY_HAND[method], abs=1e-12)


def test_a_published_value() -> None:
    # "Evaluating a new fraud policy with IPS", the first example of the offline-evaluation package
    # (github.com/banditml/offline-policy-evaluation): logging policy 2.5, new policy −37.5.
    published = Logged(
        reward=np.array([0.0, 20.0, 10.0, -20.0]),
        propensity=np.array([0.9, 0.9, 0.9, 0.1]),
        target=np.array([0.1, 0.9, 0.9, 0.9]),
        users=np.arange(4),
    )
    same = Logged(published.reward, published.propensity, published.propensity, published.users)

    assert estimate(published, "ips").value == pytest.approx(-37.5, abs=1e-9)
    assert estimate(same, "ips").value == pytest.approx(2.5, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_values_and_deviations_are_those_of_naive_loops(method: Method, seed: int) -> None:
    logged = clustered(40, np.random.default_rng(seed))
    found = estimate(logged, method, switch_at=2.0)
    everybody = np.unique(logged.users).tolist()
    left_out = [naive(logged, method, without=user) for user in everybody]
    value = naive(logged, method)
    count = len(everybody)
    spread = sum((one - value) ** 2 for one in left_out) * (count / (count - 1))

    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.deviation == pytest.approx(spread**0.5, abs=1e-6)
    assert found.low < found.value < found.high
    assert found.width == pytest.approx(found.high - found.low)


def naive(logged: Logged, method: Method, without: int | None = None) -> float:
    """An estimate by a loop over the rows, of all users or all but one."""
    predicted, of_target = logged.predictions()
    top = bottom = 0.0
    for row in range(len(logged.reward)):
        if logged.users[row] == without:
            continue
        weight = logged.target[row] / logged.propensity[row]
        reward = logged.reward[row]
        believed = 0.0 if method == "switch" and weight > 2.0 else weight
        if method in ("ips", "snips"):
            top += weight * reward
        else:
            top += of_target[row]
            if method != "dm":
                top += believed * (reward - predicted[row])
        bottom += weight if method == "snips" else 1.0
    return top / bottom


def test_switching_never_is_dr_and_always_is_dm() -> None:
    logged = clustered(60, np.random.default_rng(1))

    assert estimate(logged, "switch", switch_at=1e9) == estimate(logged, "dr")
    assert estimate(logged, "switch", switch_at=0.0).value == estimate(logged, "dm").value


def test_effective_size_counts_rows_of_equal_weight() -> None:
    assert effective_size(np.array([3.0, 3.0, 0.0, 0.0])) == pytest.approx(2)
    assert effective_size(np.array([1.0, 2.0])) == pytest.approx(9 / 5)
    assert effective_size(np.zeros(3)) == 0


@pytest.mark.parametrize("method", [method for method in METHODS if method != "dm"])
def test_too_little_overlap_is_refused_with_its_figures(method: Method) -> None:
    count = 1000
    propensity = np.full(count, 0.5)
    propensity[0] = 1e-6
    logged = Logged(
        np.ones(count), propensity, np.full(count, 0.5), np.arange(count), *[np.ones(count)] * 2
    )

    with pytest.raises(TooLittleOverlap, match=r"1\.0 of 1,000 rows \(0\.10%\).*at least 1%") as it:
        estimate(logged, method)

    assert (it.value.effective, it.value.count) == (pytest.approx(1, abs=0.01), count)
    assert estimate(logged, "dm").value == 1


def test_one_user_with_all_the_weight_is_refused() -> None:
    # Leaving that user out leaves nothing, which read as no doubt at all.
    logged = Logged(
        np.array([1.0, 0.0, 1.0]), np.full(3, 0.5), np.array([1.0, 1.0, 0.0]), np.array([1, 1, 2])
    )

    with pytest.raises(TooLittleOverlap, match="of 2 users"):
        estimate(logged, "snips")


def test_what_cannot_be_logged_is_refused() -> None:
    one = np.ones(1)
    with pytest.raises(InvalidInput, match="propensity"):
        Logged(one, np.zeros(1), one, np.zeros(1, np.int64))
    with pytest.raises(InvalidInput, match="target"):
        Logged(one, one, 2 * one, np.zeros(1, np.int64))
    with pytest.raises(InvalidInput, match="predicted"):
        estimate(Logged(one, one, one, np.zeros(1, np.int64)), "dr")


@pytest.mark.parametrize("method", ["ips", "snips", "dr", "switch"])
def test_intervals_cover_the_truth_when_users_cluster(method: Method) -> None:
    # `kairos benchmark off-policy` does it a thousand times; of 150, 95 % is 133 to 150 (3.5 σ).
    truth, rng = clustered_truth(), np.random.default_rng(3)
    covered, of_rows = 0, 0
    for _ in range(150):
        logged = clustered(200, rng)
        covered += inside(estimate(logged, method), truth)
        alone = Logged(
            logged.reward,
            logged.propensity,
            logged.target,
            np.arange(len(logged.reward)),
            logged.predicted,
            logged.predicted_target,
        )
        of_rows += inside(estimate(alone, method), truth)

    assert covered >= 133
    assert of_rows < 133, "as if decisions of a person were independent: too narrow"


def inside(found: Estimate, truth: float) -> bool:
    return found.low <= truth <= found.high


def test_rare_rewards_are_told_on_average() -> None:
    rng = np.random.default_rng(4)
    world = Rare.draw(0.5, rng)

    found = [estimate(world.log(rng), "ips").value for _ in range(100)]

    assert np.mean(found) == pytest.approx(world.truth(), rel=0.06)
