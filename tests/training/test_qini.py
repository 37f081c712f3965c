"""The Qini curve against published values and a naive loop; its interval."""

from __future__ import annotations

import numpy as np
import pytest

from training.qini import Doubles, Flags, Qini, qini


def judged(scores: list[float], treated: list[int], outcome: list[float]) -> Qini:
    count = len(scores)
    return qini(
        np.array(scores),
        np.array(treated, np.bool_),
        np.full(count, 0.5),
        np.array(outcome),
        np.arange(count),
        resamples=50,
    )


# Published: scikit-uplift's qini_auc_score (sklift/tests/test_metrics.py), which is the area over
# that of a perfect ranking; the latter, in counts, is worked out here: 0 1 1 0 and 0 2 2 0.
@pytest.mark.parametrize(
    ("treated", "outcome", "perfect", "published"),
    [
        ([0, 1, 0], [0, 1, 2], 2.0, -0.5),
        ([1, 0, 1], [0, 1, 2], 4.0, 0.75),
    ],
)
def test_published_values(
    treated: list[int], outcome: list[float], perfect: float, published: float
) -> None:
    found = judged([0.1, 0.3, 0.9], treated, outcome)

    in_counts = found.value * len(treated) * sum(treated)
    assert in_counts / perfect == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_curve_is_that_of_a_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 60
    scores = np.round(rng.random(count), 1)  # many ties
    treated, propensity = rng.random(count) < 0.4, rng.uniform(0.2, 0.8, count)
    outcome = rng.random(count)

    found = qini(scores, treated, propensity, outcome, np.arange(count), resamples=2)

    points = naive(scores, treated, propensity, outcome)
    assert found.points == pytest.approx(points, abs=1e-9)
    shares, gains = points.T
    area = sum(
        (shares[n + 1] - shares[n]) * (gains[n + 1] + gains[n]) / 2 for n in range(len(points) - 1)
    )
    assert found.value == pytest.approx(area - gains[-1] / 2, abs=1e-9)
    assert found.average.value == pytest.approx(points[-1, 1], abs=1e-9)


def naive(scores: Doubles, treated: Flags, propensity: Doubles, outcome: Doubles) -> Doubles:
    points = [(0.0, 0.0)]
    all_treated = sum(1 / e for t, e in zip(treated, propensity, strict=True) if t)
    for score in sorted(set(scores.tolist()), reverse=True):
        best = [row for row in range(len(scores)) if scores[row] >= score]
        yes = [row for row in best if treated[row]]
        no = [row for row in best if not treated[row]]
        weight_yes = sum(1 / propensity[row] for row in yes)
        weight_no = sum(1 / (1 - propensity[row]) for row in no)
        gain = sum(outcome[row] / propensity[row] for row in yes)
        if no:
            lost = sum(outcome[row] / (1 - propensity[row]) for row in no)
            gain -= lost * weight_yes / weight_no
        points.append((len(best) / len(scores), gain / all_treated))
    return np.array(points)


def drawn(rng: np.random.Generator, spread: float, users: int = 1000) -> Qini:
    """Three decisions of each user, whose effect differs by `spread`; scores know it."""
    who = np.repeat(np.arange(users), 3)
    effect = 0.1 + spread * rng.normal(size=users)[who]
    own = rng.uniform(-0.1, 0.1, users)[who]
    treated = rng.random(len(who)) < 0.5
    outcome = 0.4 + own + effect * treated + 0.3 * rng.normal(size=len(who))
    half = np.full(len(who), 0.5)
    return qini(effect, treated, half, outcome, who, cross_fitted=False, resamples=100)


def test_a_ranking_of_the_effect_is_found_and_its_tenth_gains_most() -> None:
    found = drawn(np.random.default_rng(1), 0.1)

    assert found.low > 0
    # Normal effects in the order of their ranks: the area is their spread / (2√π).
    assert found.value == pytest.approx(0.1 / (2 * np.pi**0.5), abs=0.01)
    assert found.average.value == pytest.approx(0.1, abs=0.03)
    assert found.top.value == pytest.approx(0.1 + 0.1755, abs=0.06)
    assert found.points[0].tolist() == [0, 0]
    assert found.points[-1, 0] == 1


def test_scores_that_know_nothing_are_rarely_believed() -> None:
    # A large average effect is no ranking. Of 60, 95 % is 52 to 60 (3 σ).
    rng = np.random.default_rng(2)
    found = [drawn(rng, 0.0, users=200) for _ in range(60)]

    assert sum(one.low <= 0 <= one.high for one in found) >= 52
    assert np.mean([one.value for one in found]) == pytest.approx(0, abs=0.003)


def test_folds_that_judge_each_other_scatter_more_than_each_alone_says() -> None:
    # Regression: intervals that held such scores fixed let 8 % of useless models pass 2.5 %.
    rng = np.random.default_rng(3)
    standardised = {}
    for cross_fitted in (False, True):
        found = [useless(rng, cross_fitted) for _ in range(120)]
        standardised[cross_fitted] = np.std([one.value / one.deviation for one in found])

    assert standardised[False] == pytest.approx(2**0.5, abs=0.3)
    assert standardised[True] == pytest.approx(1.0, abs=0.22)


def useless(rng: np.random.Generator, cross_fitted: bool, count: int = 400) -> Qini:
    """A linear model of an effect that is the same for all, each half judged by the other's."""
    features, treated = rng.normal(size=(count, 3)), rng.random(count) < 0.5
    outcome = rng.normal(size=count) + 0.3 * treated
    signed = np.where(treated, 2.0, -2.0) * (outcome - outcome.mean())
    first = np.arange(count) < count // 2
    scores = np.empty(count)
    for half in (first, ~first):
        scores[half] = features[half] @ (features[~half].T @ signed[~half])
    propensity = np.full(count, 0.5)
    users = np.arange(count)
    return qini(scores, treated, propensity, outcome, users, cross_fitted, resamples=30)


def test_equal_scores_are_treated_together() -> None:
    found = judged([0.5] * 6, [1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 0, 1])

    assert found.points.tolist() == [[0, 0], [1, pytest.approx(1 / 3)]]
    assert found.value == pytest.approx(0)
