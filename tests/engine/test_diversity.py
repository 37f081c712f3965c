"""Each way of diversity against its formula, written down once more in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.diversity import ALIKE, ALPHA, FEWEST, category_mix
from engine.recommending import SlateSettings
from engine.slate import Pool, fill
from engine.slot_rules import NO_SLOT_RULES
from engine.taste import Taste

SEEDS = range(25)
CATEGORIES = 8
SIZE = 12


def pool_of(seed: int, n: int = 40, mixed: bool = False) -> Pool:
    """Items of no to four categories."""
    rng = np.random.default_rng(seed)
    categories = np.full((n, 4), -1, np.int32)
    for row in range(n):
        count = rng.integers(0, 5)
        categories[row, :count] = rng.permutation(CATEGORIES)[:count]
    mix = rng.dirichlet(np.full(CATEGORIES, 0.5)).astype(np.float32)
    mix[rng.integers(CATEGORIES)] = 0
    values = rng.normal(size=n).astype(np.float32)
    return Pool(values, categories, NO_SLOT_RULES, mix / mix.sum() if mixed else None)


def best(pool: Pool, above: Sequence[int] = (), **told: float | str) -> list[int]:
    settings = SlateSettings(explore=0.0, **told)  # type: ignore[arg-type]
    choices = fill(pool, SIZE, settings, 1, above=np.array(above, np.intp))
    return [choice.row for choice in choices]


def spread(pool: Pool) -> float:
    return float(np.std(np.sort(pool.values.astype(float))[-50:]))


def cosines(pool: Pool) -> NDArray[np.float64]:
    hot = np.zeros((len(pool.values), CATEGORIES))
    for row, named in enumerate(pool.categories):
        hot[row, named[named >= 0]] = 1
    length = np.sqrt(np.maximum(hot.sum(axis=1), 1))
    return (hot @ hot.T) / np.outer(length, length)


def greedy(pool: Pool, above: Sequence[int], worth: Callable[[list[int], int], float]) -> list[int]:
    """The best of what is left, again and again; `worth` of a row below those placed."""
    placed: list[int] = list(above)
    while len(placed) < SIZE + len(above):
        left = [row for row in range(len(pool.values)) if row not in placed]
        placed.append(max(left, key=lambda row: (worth(placed, row), -row)))
    return placed[len(above) :]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("above", [(), (3, 7, 11)])
def test_dpp_is_the_greedy_of_the_log_determinant(seed: int, above: Sequence[int]) -> None:
    """… of L = diag(q)·S·diag(q), every determinant made anew."""
    pool, strength, across = pool_of(seed), 1.0 + seed % 3, 0.5
    step = strength * spread(pool)
    alike = ALIKE * cosines(pool)
    np.fill_diagonal(alike, 1.0)
    apart = np.isin(np.arange(len(alike)), above)
    alike[apart[:, None] != apart[None, :]] *= across
    quality = np.exp(pool.values.astype(float) / (2 * step))
    kernel = quality[:, None] * alike * quality[None, :]

    def worth(placed: list[int], row: int) -> float:
        of = [*placed, row]
        sign, log_det = np.linalg.slogdet(kernel[np.ix_(of, of)])
        assert sign > 0
        return float(log_det)

    settings = SlateSettings(explore=0.0, method="dpp", diversity=strength, diversity_across=across)
    choices = fill(pool, SIZE, settings, 1, above=np.array(above, np.intp))
    rows = [choice.row for choice in choices]
    assert rows == greedy(pool, above, worth)
    placed = list(above)
    for choice in choices:  # each value is what the item adds to the logarithm, in these steps
        without = np.linalg.slogdet(kernel[np.ix_(placed, placed)])[1] if placed else 0.0
        added = worth(placed, choice.row) - without
        assert choice.value == pytest.approx(step * added, abs=1e-6)
        placed.append(choice.row)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("above", [(), (3, 7, 11)])
def test_mmr_is_the_best_of_value_and_novelty(seed: int, above: Sequence[int]) -> None:
    pool, strength, across = pool_of(seed), 0.5 + seed % 4, 0.3
    alike = cosines(pool)

    def worth(placed: list[int], row: int) -> float:
        near = (alike[row, p] * (across if p in above else 1.0) for p in placed)
        return float(pool.values[row]) - strength * spread(pool) * max(near, default=0.0)

    found = best(pool, above, method="mmr", diversity=strength, diversity_across=across)
    assert found == greedy(pool, above, worth)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("above", [(), (3, 7, 11)])
def test_calibration_is_the_papers_greedy(seed: int, above: Sequence[int]) -> None:
    pool, strength, across = pool_of(seed, mixed=True), 0.5 + seed % 4, 0.4
    assert pool.mix is not None
    mix = pool.mix.astype(float)

    def shares(rows: Sequence[int]) -> NDArray[np.float64]:
        sums = np.zeros(CATEGORIES)
        for row in rows:
            named = pool.categories[row][pool.categories[row] >= 0]
            sums[named] += (across if row in above else 1.0) / max(len(named), 1)
        return sums / sums.sum() if sums.sum() else sums

    def worth(placed: list[int], row: int) -> float:
        pulled = (1 - ALPHA) * shares([*placed, row]) + ALPHA * mix
        kl = sum(p * math.log(p / q) for p, q in zip(mix, pulled, strict=True) if p)
        return float(pool.values[row]) - strength * spread(pool) * kl

    found = best(pool, above, diversity=0.0, calibrate=strength, diversity_across=across)
    assert found == greedy(pool, above, worth)


@pytest.mark.parametrize("method", ["category", "mmr", "dpp"])
def test_without_strength_there_is_only_value(method: str) -> None:
    pool = pool_of(1)
    assert best(pool, method=method, diversity=0.0) == np.argsort(-pool.values)[:SIZE].tolist()


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_the_like_of_what_is_above_sinks(method: str) -> None:
    categories = np.array([[0, 1], [0, 1], [0, 2], [3, -1], [-1, -1]], np.int32)
    pool = Pool(np.array([5, 4.9, 4.8, 4.7, 4.6], np.float32), categories, NO_SLOT_RULES)

    assert best(pool, method=method, diversity=20.0) == [0, 3, 4, 2, 1]


@pytest.mark.parametrize("method", ["category", "mmr", "dpp"])
def test_a_page_above_counts_as_much_as_it_is_told_to(method: str) -> None:
    categories = np.array([[0], [0], [1]], np.int32)
    pool = Pool(np.array([3, 2.9, 2.8], np.float32), categories, NO_SLOT_RULES)

    assert best(pool, (0,), method=method, diversity=2.0, diversity_across=1.0) == [2, 1]
    assert best(pool, (0,), method=method, diversity=2.0, diversity_across=0.0) == [1, 2]


def taste(items: Sequence[int], weights: Sequence[float]) -> Taste:
    return Taste(np.array(items, np.int32), np.array(weights, np.float32), {})


def test_a_mix_shares_an_items_weight_among_its_categories() -> None:
    categories = np.array([[0, 1, -1], [2, -1, -1], [-1, -1, -1], [1, 2, 0]], np.int32)
    found = category_mix(taste([0, 0, 1, 2, 3, 1], [1, 1, 2, 9, -5, 2]), categories, 4)

    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1 / 6, 1 / 6, 4 / 6, 0], rtol=1e-6)


def test_little_or_nothing_liked_is_no_mix() -> None:
    categories = np.array([[0], [-1]], np.int32)

    assert category_mix(taste([0] * (FEWEST - 1), [1] * (FEWEST - 1)), categories, 1) is None
    assert category_mix(taste([0] * 9, [-1] * 9), categories, 1) is None
    assert category_mix(taste([1] * 9, [1] * 9), categories, 1) is None
    assert category_mix(taste([7] * 9, [1] * 9), categories, 1) is None
    assert category_mix(taste([0] * 9, [1] * 9), categories, 1) is not None
