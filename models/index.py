"""The way through items' vectors: search with the first dimensions, rescore the best with all.

The door of faiss. The vectors' dimensions are nested, most telling first. Up to `exact_below`
items the first `search_dimensions` of every item are compared, above it only those in the nearest
cells (IVF); the best `rescore` of them are then compared in full. Vectors are single precision in
memory: NumPy turns a half into a single in 2 ns, 0.2 ms of a request's 200 candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import faiss as stubbed_faiss
import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.candidates import Items, Mask, Scores
from engine.taste import Taste

Floats = NDArray[np.float32]
faiss: Any = stubbed_faiss  # its stubs know neither its keyword arguments nor its array overloads

CELLS_PER_ROOT = 3.2  # cells by the root of the items: 1,000 at 100,000
KMEANS_ROUNDS = 10
LOOSE = 0.5  # share of the items


class IndexSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The dials between recall and time; `training.gowalla_tuning` prints what each buys."""

    search_dimensions: int = 192
    rescore: int = 300  # items compared in full
    exact_below: int = 20_000  # items up to which every one is compared
    probes: int = 64  # cells looked into above that


class Index:
    """Finds the items with the largest inner product; an item of zeros is not known."""

    def __init__(
        self, vectors: NDArray[np.floating], settings: IndexSettings, centroids: Floats | None
    ) -> None:
        """`vectors` [n, d] of any float; `centroids` float32 [cells, s] from `train_cells`."""
        self.settings = settings
        self.centroids = centroids
        self.size, self.dimensions = vectors.shape
        self.vectors: Floats = np.ascontiguousarray(vectors, np.float32)
        self.known: Mask = np.any(self.vectors != 0, axis=1)  # [n]
        self._all_known = bool(self.known.all())
        self._first = min(settings.search_dimensions, self.dimensions)
        if centroids is not None and centroids.shape[1:] != (self._first,):
            raise ValueError(f"centroids: expected {self._first} columns, got {centroids.shape}")
        self._coarse = _coarse(self.vectors[:, : self._first], centroids)

    def search(self, query: Floats, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items, best first, with their scores.

        `query` float32 [d]; `allowed` bool by item: shorter than the items, it allows no further.
        """
        mask = self._mask(allowed)
        count = self.size if mask is None else int(np.count_nonzero(mask))
        k = min(k, count)
        depth = min(max(k, self.settings.rescore), count)
        if count <= 2 * depth:
            items = np.arange(self.size) if mask is None else np.flatnonzero(mask)
            return self._best_of(items, query, k)
        return self._best_of(self._near(query, k, depth, mask, count / self.size), query, k)

    def score(self, query: Floats, items: Items) -> Scores:
        """Inner products float32 [m] with items [m]; NaN for those not known."""
        inside = np.asarray((items >= 0) & (items < self.size))
        rows = np.where(inside, items, 0)
        inside &= self.known[rows]
        scores = self.vectors[rows] @ query
        scores[~inside] = np.nan
        return np.asarray(scores, np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What an artifact keeps: `vectors`, by item, and the cells' `centroids`."""
        arrays: dict[str, NDArray[Any]] = {"vectors": self.vectors.astype(np.float16)}
        if self.centroids is not None:
            arrays["centroids"] = self.centroids
        return arrays

    def _mask(self, allowed: Mask | None) -> Mask | None:
        if allowed is None:
            return None if self._all_known else self.known
        allowed = allowed[: self.size]
        return allowed if self._all_known else allowed & self.known[: len(allowed)]

    def _best_of(self, items: NDArray[Any], query: Floats, k: int) -> tuple[Items, Scores]:
        scores = self.vectors[items] @ query
        best = np.argsort(-scores, kind="stable")[:k]
        return items[best].astype(np.int32), scores[best]

    def _near(
        self, query: Floats, k: int, depth: int, mask: Mask | None, share: float
    ) -> NDArray[np.int64]:
        """About `depth` items of the mask, by the first dimensions; at least k."""
        if mask is None:
            return self._ask(query, depth, self.settings.probes, None)
        # Where most are allowed, dropping the others afterwards costs half of a selector's tests.
        if share > LOOSE:
            found = self._ask(query, int(depth / share), self.settings.probes, None)
            found = found[found < len(mask)]
            found = found[mask[found]]
            if len(found) >= k:
                return found
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        found = self._ask(query, depth, math.ceil(self.settings.probes / share), selector)
        return found if len(found) >= k else self._ask(query, depth, self.size, selector)

    def _ask(self, query: Floats, depth: int, probes: int, selector: Any) -> NDArray[np.int64]:
        parameters = None
        if self.centroids is not None:
            probes = min(probes, len(self.centroids))
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        elif selector is not None:
            parameters = faiss.SearchParameters(sel=selector)
        # OpenMP keeps this per calling thread; a team costs more than one query's work.
        faiss.omp_set_num_threads(1)
        _, items = self._coarse.search(query[np.newaxis, : self._first], depth, params=parameters)
        found: NDArray[np.int64] = items[0]
        return found[found >= 0]


class Indexed:
    """A model whose user is a vector [d] and whose items are the rows of an index."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def search(self, user: Floats, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items, best first, with their scores, only such as `allowed` allows."""
        return self.index.search(user, k, allowed)

    def score(self, user: Floats, items: Items) -> Scores:
        """Scores float32 [m] of items [m]; NaN for items not known."""
        return self.index.score(user, items)

    def touched(self, taste: Taste) -> tuple[Items, Floats]:
        """The known items of a taste with their weights, repeats and order kept."""
        items = taste.items
        known = items < self.index.size
        known[known] = self.index.known[items[known]]
        return items[known], taste.weights[known]


def build_index(vectors: NDArray[np.floating], settings: IndexSettings) -> Index:
    """An index over vectors [n, d], with cells where there are enough items for them."""
    return Index(vectors, settings, train_cells(vectors, settings))


def open_index(arrays: Mapping[str, NDArray[Any]], settings: IndexSettings) -> Index:
    """The index of an artifact's arrays."""
    return Index(arrays["vectors"], settings, arrays.get("centroids"))


def train_cells(vectors: NDArray[np.floating], settings: IndexSettings) -> Floats | None:
    """Centroids float32 [cells, s] of vectors [n, d], or None where so few need no cells."""
    known = vectors[np.any(vectors != 0, axis=1), : settings.search_dimensions]
    if len(known) <= settings.exact_below:
        return None
    cells = int(CELLS_PER_ROOT * math.sqrt(len(known)))
    # Spherical: by inner product, a long centroid would draw every item into its cell.
    means = faiss.Kmeans(
        known.shape[1],
        cells,
        niter=KMEANS_ROUNDS,
        spherical=True,
        seed=1,
        min_points_per_centroid=1,
    )
    means.train(np.ascontiguousarray(known, np.float32))
    return np.asarray(means.centroids, np.float32)


def _coarse(vectors: Floats, centroids: Floats | None) -> Any:
    """The faiss index over the first dimensions [n, s], in half precision."""
    half, inner = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    width = vectors.shape[1]
    if centroids is None:
        index = faiss.IndexScalarQuantizer(width, half, inner)
    else:
        nearest = faiss.IndexFlatIP(width)
        nearest.add(centroids)
        index = faiss.IndexIVFScalarQuantizer(nearest, width, len(centroids), half, inner, False)
        # Else Python frees the centroids that C++ goes on reading.
        nearest.this.disown()
        index.own_fields = True
    index.is_trained = True  # halves need no training, and the centroids come trained
    index.add(np.ascontiguousarray(vectors))
    return index
