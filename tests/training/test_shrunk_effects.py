"""Effects by cell: shrunk towards all where evidence is thin, kept where it is plain."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InvalidInput
from training.shrunk_effects import ShrunkEffects, shrunk_effects


def drawn(
    effects: list[float], rows: list[int], rng: np.random.Generator, rate: float = 0.2
) -> ShrunkEffects:
    """Cells of so many decisions each, a user's own, with these effects on a chance."""
    cells = np.repeat(np.arange(len(rows)), rows)
    propensity = np.where(cells % 2, 0.5, 0.3)
    treated = rng.random(len(cells)) < propensity
    outcome = rng.random(len(cells)) < rate + np.array(effects)[cells] * treated
    return shrunk_effects(
        cells, treated, propensity, outcome.astype(float), np.arange(len(cells)), len(rows)
    )


def test_much_evidence_is_kept_and_little_is_shrunk() -> None:
    effects = [0.3, 0.0, 0.1, -0.1, 0.2]
    found = drawn([*effects, 0.9], [20_000] * 5 + [4], np.random.default_rng(1), rate=0.1)

    assert found.mean[:5] == pytest.approx(effects, abs=0.03)
    assert found.deviation[:5] == pytest.approx(0.006, abs=0.004)
    # Four decisions say next to nothing, whatever they showed.
    assert found.deviation[5] > 0.08
    assert abs(found.mean[5] - found.overall) < 0.3
    assert found.spread == pytest.approx(np.std(effects, ddof=1), abs=0.05)


def test_equal_cells_come_together() -> None:
    found = drawn([0.1] * 30, [200] * 30, np.random.default_rng(2))

    assert found.spread < 0.05
    assert found.mean == pytest.approx(0.1, abs=0.05)
    assert np.std(found.mean) < 0.03


def test_a_cell_nobody_was_seen_in_has_what_is_known_of_all() -> None:
    found = drawn([0.1, 0.3, 0.5], [3_000, 3_000, 0], np.random.default_rng(3))

    assert found.mean[2] == pytest.approx(found.overall)
    assert found.deviation[2] > found.deviation[:2].max()
    assert np.isfinite(found.deviation).all()


def test_a_cell_without_any_outcome_is_not_sure_of_it() -> None:
    # No outcome in either arm: no scatter, so an infinite weight if it were taken at its word.
    cells = np.repeat([0, 1], [4_000, 10])
    treated = np.arange(len(cells)) % 2 == 0
    outcome = np.where(treated, 0.3, 0.1) > np.random.default_rng(4).random(len(cells))
    outcome[cells == 1] = False

    found = shrunk_effects(
        cells, treated, np.full(len(cells), 0.5), outcome.astype(float), np.arange(len(cells)), 2
    )

    assert found.overall > 0.1
    assert found.mean[0] == pytest.approx(0.2, abs=0.04)


def test_decisions_of_one_user_count_for_less() -> None:
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(100), 20)
    cells = rng.integers(0, 3, len(users))
    treated = np.repeat(rng.random(100) < 0.5, 20)  # a user's decisions are all alike
    outcome = np.repeat(rng.random(100), 20) + 0.1 * treated

    def told(who: np.ndarray) -> float:
        half = np.full(len(users), 0.5)
        return shrunk_effects(cells, treated, half, outcome, who, 3).overall_deviation

    assert told(users) > 3 * told(np.arange(len(users)))


def test_the_posterior_covers_the_truth() -> None:
    rng = np.random.default_rng(6)
    inside = total = 0
    for _ in range(40):
        effects = rng.normal(0.1, 0.05, 20)
        found = drawn(effects.tolist(), rng.integers(50, 2_000, 20).tolist(), rng)
        inside += int((np.abs(found.mean - effects) <= 1.96 * found.deviation).sum())
        total += 20

    assert 0.91 < inside / total < 0.98


def test_one_arm_alone_is_refused() -> None:
    alone = np.ones(5, np.bool_)
    with pytest.raises(InvalidInput, match="cells"):
        shrunk_effects(np.zeros(5, np.int64), alone, 0.5 * alone, 1.0 * alone, np.arange(5), 1)
