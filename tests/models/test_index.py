"""The index against plain NumPy, on vectors like real ones: clustered, of falling spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.byte_rows import in_bytes
from models.index import Cells, Index, IndexSettings, build_index, open_index, train_cells

ITEMS, DIMENSIONS = 6_000, 64
CELLS = IndexSettings(search_dimensions=24, rescore=300, exact_below=1_000, probes=32)
EXACT = IndexSettings(search_dimensions=24, rescore=300, exact_below=ITEMS)


def vectors() -> NDArray[np.float32]:
    """float32 [n, d]: 150 clusters, later dimensions tell less, norms span a factor of ten.

    Rounded as the index rounds them, so that its scores can be held against NumPy's.
    """
    rng = np.random.default_rng(3)
    spectrum = (1 + np.arange(DIMENSIONS)) ** -0.6
    centres = rng.standard_normal((150, DIMENSIONS))
    rows = centres[rng.integers(0, 150, ITEMS)] + 0.6 * rng.standard_normal((ITEMS, DIMENSIONS))
    rows *= spectrum * np.exp(rng.uniform(-1.15, 1.15, (ITEMS, 1)))
    rows[17] = rows[4_000] = 0
    return in_bytes(rows).floats()


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    return vectors()


@pytest.fixture(scope="module", params=[CELLS, EXACT], ids=["cells", "exact"])
def index(request: pytest.FixtureRequest, rows: NDArray[np.float32]) -> Index:
    return build_index(rows, request.param)


def queries(rows: NDArray[np.float32], n: int = 40) -> NDArray[np.float32]:
    """Users: the mean of five items."""
    rng = np.random.default_rng(8)
    return np.array([rows[rng.integers(0, ITEMS, 5)].mean(0) for _ in range(n)], np.float32)


def exact(
    rows: NDArray[np.float32], query: NDArray[np.float32], k: int, allowed: Any
) -> NDArray[np.intp]:
    scores = np.where(allowed & rows.any(axis=1), rows @ query, -np.inf)
    return np.argsort(-scores, kind="stable")[:k]


@pytest.mark.parametrize("share", [1.0, 0.95, 0.3, 0.1])
def test_it_finds_what_comparing_all_finds(
    index: Index, rows: NDArray[np.float32], share: float
) -> None:
    allowed = np.random.default_rng(1).random(ITEMS) < share
    hits = []
    for query in queries(rows):
        items, scores = index.search(query, 20, allowed)
        assert allowed[items].all()
        assert len(items) == 20
        assert (np.diff(scores) <= 0).all()
        np.testing.assert_allclose(scores, rows[items] @ query, rtol=1e-4, atol=1e-5)
        hits.append(np.isin(exact(rows, query, 20, allowed), items).mean())
    assert np.mean(hits) > 0.9


def test_a_narrow_filter_is_answered_exactly(index: Index, rows: NDArray[np.float32]) -> None:
    allowed = np.zeros(ITEMS, np.bool_)
    allowed[np.random.default_rng(2).choice(ITEMS, 500, replace=False)] = True
    for query in queries(rows, 10):
        items, _ = index.search(query, 50, allowed)
        assert items.tolist() == exact(rows, query, 50, allowed).tolist()


def test_a_filter_far_from_the_user_is_answered_all_the_same(
    index: Index, rows: NDArray[np.float32]
) -> None:
    """Few of the allowed items are in the cells near the query."""
    for query in queries(rows, 10):
        allowed = np.ones(ITEMS, np.bool_)
        allowed[exact(rows, query, 3_000, allowed)] = False
        items, _ = index.search(query, 200, allowed)
        assert len(items) == 200
        assert allowed[items].all()


def test_zeros_are_never_found(index: Index, rows: NDArray[np.float32]) -> None:
    for query in (queries(rows, 1)[0], -rows.sum(0)):
        items, _ = index.search(query, ITEMS)
        assert len(items) == ITEMS - 2
        assert not {17, 4_000} & set(items.tolist())
    scores = index.score(rows[0], np.array([17, 3, 4_000, ITEMS, -1], np.int32))
    assert np.isnan(scores).tolist() == [
        True,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("k", [0, 1, ITEMS, 10 * ITEMS])
def test_any_k(index: Index, rows: NDArray[np.float32], k: int) -> None:
    items, scores = index.search(rows[0], k)
    assert len(items) == len(scores) == len(set(items.tolist())) == min(k, ITEMS - 2)


def test_no_item_is_allowed(index: Index, rows: NDArray[np.float32]) -> None:
    for allowed in (np.zeros(ITEMS, np.bool_), np.zeros(0, np.bool_)):
        assert len(index.search(rows[0], 10, allowed)[0]) == 0


def test_no_items_at_all() -> None:
    index = build_index(np.zeros((0, 8), np.float32), CELLS)
    assert len(index.search(np.ones(8, np.float32), 10)[0]) == 0


def test_cells_travel_with_the_vectors(rows: NDArray[np.float32]) -> None:
    index = build_index(rows, CELLS)
    again = open_index(index.arrays(), CELLS)
    assert (
        again.arrays().keys()
        == index.arrays().keys()
        == {"codes", "scales", "centroids", "codebook"}
    )
    query = queries(rows, 1)[0]
    assert again.search(query, 20)[0].tolist() == index.search(query, 20)[0].tolist()


def test_few_items_need_no_cells(rows: NDArray[np.float32]) -> None:
    assert train_cells(rows, EXACT) is None
    cells = train_cells(rows, CELLS)
    assert cells is not None
    assert (cells.centroids.shape[1], cells.codebook.shape) == (24, (8, 16, 3))


def test_centroids_of_another_width_are_refused(rows: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="expected 24 columns"):
        Index(in_bytes(rows), CELLS, Cells(np.ones((10, 23), np.float32), np.ones((8, 16, 3))))


def test_vectors_that_end_within_a_span(rows: NDArray[np.float32]) -> None:
    for width in (2, 8):
        index = build_index(in_bytes(rows[:, :width]).floats(), CELLS)
        assert len(index.search(rows[0, :width].copy(), 20)[0]) == 20


def test_bytes_keep_a_number_to_half_a_step() -> None:
    wide = np.array([[1.0, -0.5, 0.003], [0, 0, 0], [-2e-4, 1e-4, 0]], np.float32)
    rows = in_bytes(wide)
    assert (np.abs(rows.floats() - wide) <= 0.5001 * np.abs(wide).max(1, keepdims=True) / 127).all()
    chosen, weights = np.array([2, 0]), np.array([3.0, -1.0], np.float32)
    query = np.array([0.3, 2.0, -1.0], np.float32)
    np.testing.assert_allclose(rows.dot(chosen, query), rows.floats()[chosen] @ query, rtol=1e-6)
    np.testing.assert_allclose(
        rows.weighed(chosen, weights), weights @ rows.floats()[chosen], rtol=1e-6
    )
