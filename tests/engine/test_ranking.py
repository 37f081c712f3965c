"""Ranking: the best first, NaN last, whoever values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import features
from engine.candidates import SOURCES, Candidates
from engine.ranking import (
    Ranked,
    rank,
    rank_by_likeness,
    rank_by_retrieval,
    rank_plainly,
    stacked,
)

NAN = math.nan
INF = math.inf


def candidates(*scores: tuple[float, ...]) -> Candidates:
    """One item per row of (factors, similar, hybrid, popular, fresh)."""
    n = len(scores)
    table = np.array(scores, np.float32).reshape(n, len(SOURCES))
    unknown = np.full(n, np.nan, np.float32)
    return Candidates(np.arange(n, dtype=np.int32), table, np.ones(n, np.uint8), unknown)


class Told:
    """Says of each row what stands in its first columns; coarser by its first trees."""

    outcomes = ("click", "dismiss")

    def __init__(self) -> None:
        self.rows_valued: list[int] = []

    def chances(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        self.rows_valued.append(len(rows))
        return rows[:, :2]

    def first_chances(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.round(rows[:, :2], 1)


def table(*chances: tuple[float, float]) -> NDArray[np.float32]:
    rows = np.zeros((len(chances), features.COUNT), np.float32)
    rows[:, :2] = np.array(chances, np.float32).reshape(len(chances), 2)
    return rows


WEIGHTS = np.array([1, -2], np.float32)


def order(ranked: Ranked) -> list[int]:
    return ranked.rows.tolist()


def test_values_are_the_weighted_chances() -> None:
    ranked = rank(Told(), WEIGHTS, table((0.5, 0.0), (0.9, 0.4), (0.75, 0.0)), 10)

    assert order(ranked) == [2, 0, 1]
    assert ranked.values == pytest.approx([0.75, 0.5, 0.1])


def test_the_first_trees_choose_and_all_trees_order() -> None:
    ranker = Told()
    ranked = rank(ranker, WEIGHTS, table((0.51, 0), (0.1, 0), (0.54, 0), (0.2, 0)), 2)

    assert order(ranked) == [2, 0]  # alike to the first trees, which keep their order
    assert ranker.rows_valued == [2]


@pytest.mark.parametrize("most", [2, 3, 5])
def test_nan_and_infinity_from_a_ranker(most: int) -> None:
    rows = table((NAN, 0), (0.1, 0), (INF, 0), (-INF, 0), (0.2, 0))

    assert order(rank(Told(), WEIGHTS, rows, most)) == [2, 4, 1, 3, 0][:most]


def test_ties_keep_the_candidates_order_and_nothing_is_ranked() -> None:
    assert order(rank(Told(), WEIGHTS, table(*[(0.5, 0.0)] * 4), 3)) == [0, 1, 2]
    empty = rank(Told(), WEIGHTS, table(), 3)
    assert (order(empty), empty.values.shape) == ([], (0,))


def test_retrieval_goes_by_factors_then_by_what_else_knows_the_item() -> None:
    found = candidates(
        (NAN, NAN, NAN, 9.0, 0.1),
        (-5.0, NAN, 1.0, 0.0, 0.1),
        (NAN, 7.0, 0.5, 0.0, 0.1),
        (-4.0, NAN, NAN, NAN, 0.1),
        (NAN, 9.0, NAN, NAN, 1.0),
        (NAN, NAN, 0.6, 0.0, 0.1),
    )
    ranked = rank_by_retrieval(found, 10)

    assert order(ranked) == [3, 1, 5, 2, 0, 4]
    assert (np.diff(ranked.values) <= 0).all()
    assert order(rank_by_retrieval(found, 2)) == [3, 1]


def test_the_last_touches_move_what_the_factors_put_close_together() -> None:
    found = candidates(
        (1.0, 0.0, NAN, 0.0, 0.1),
        (0.9, 5.0, NAN, 0.0, 0.1),
        (0.0, 5.0, NAN, 0.0, 0.1),  # likeness alone weighs a quarter of the factors
        (NAN, 5.0, NAN, 0.0, 0.1),
    )

    assert order(rank_by_retrieval(found, 10)) == [1, 0, 2, 3]


def test_a_popular_list_sees_no_other_source() -> None:
    found = candidates((9.0, 9.0, 9.0, 1.0, 0.1), (0, 0, 0, 2.0, 0.1), (9.0, 9.0, 9.0, NAN, 1.0))

    assert order(rank_plainly(found, 10)) == [1, 0, 2]


def test_likeness_is_what_similar_and_factors_say_together() -> None:
    found = candidates(
        (0.0, 1.0, NAN, 9.0, 1.0),
        (1.0, 0.95, NAN, 0.0, 1.0),
        (0.2, NAN, NAN, 0.0, 1.0),
        (NAN, 0.9, NAN, 0.0, 1.0),  # known to the neighbours alone
        (NAN, NAN, NAN, 9.0, 1.0),  # popular, and like nothing
    )

    assert order(rank_by_likeness(found, 10)) == [1, 0, 2, 3, 4]


def test_likeness_without_factors() -> None:
    found = candidates((NAN, 0.1, NAN, 9.0, 1.0), (NAN, 0.9, NAN, 0.0, 1.0), (NAN,) * 4 + (1.0,))

    assert order(rank_by_likeness(found, 10)) == [1, 0, 2]
    assert math.isnan(found.scores[0, 0])  # the candidates stay as they were


@pytest.mark.parametrize("ranking", [rank_by_retrieval, rank_by_likeness, rank_plainly])
def test_candidates_that_nothing_knows(ranking: object) -> None:
    assert callable(ranking)
    unknown = ranking(candidates(*[(NAN,) * 5] * 3), 10)
    nothing = ranking(candidates(), 10)

    assert order(unknown) == [0, 1, 2]
    assert np.isfinite(unknown.values).all()
    assert order(nothing) == []


def test_steps_do_not_touch() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(200, 5)).astype(np.float32) * 10.0 ** rng.integers(-9, 9, 5)
    scores[rng.random(scores.shape) < 0.5] = NAN
    values = stacked(scores, (0, 2, 3))

    first = np.select([~np.isnan(scores[:, s]) for s in (0, 2, 3)], [4, 2, 0], -1)
    assert ((values >= first) & (values <= first + 1)).all()
    for step, source in ((4, 0), (2, 2), (0, 3)):
        rows = np.flatnonzero(first == step)
        by_score = rows[np.argsort(scores[rows, source], kind="stable")]
        assert (np.diff(values[by_score]) >= 0).all()
