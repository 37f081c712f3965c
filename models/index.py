"""The way through items' vectors: search with the first dimensions, rescore the best with all.

The door of faiss. The vectors' dimensions are nested, most telling first. Up to `exact_below`
items the first `search_dimensions` of every item are compared, above it only those in the nearest
cells (IVF), in four bits for every SPAN dimensions (product quantization, scanned in registers:
André, Kermarrec and Le Scouarnec, "Quicker ADC", 2019). The best `rescore` of them are then
compared in full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss as stubbed_faiss
import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.candidates import Items, Mask, Scores
from engine.compiled import compiled
from engine.taste import Taste
from models.artifact import Artifact
from models.byte_rows import ByteRows, Floats, in_bytes

faiss: Any = stubbed_faiss  # its stubs know neither its keyword arguments nor its array overloads

CELLS_PER_ROOT = 3.2  # cells by the root of the items: 1,000 at 100,000
KMEANS_ROUNDS = 10
POINTS_A_CELL = 64  # at most, to learn the cells from
SPAN, BITS = 3, 4  # dimensions that share a code, and its size
LOOSE = 0.5  # share of the items


class IndexSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The dials between recall and time; `training.gowalla_tuning` prints what each buys."""

    search_dimensions: int = 384
    rescore: int = 300  # items compared in full
    exact_below: int = 20_000  # items up to which every one is compared
    probes: int = 64  # cells looked into above that


@dataclass(frozen=True, slots=True)
class Cells:
    """What was learned of many vectors: where they gather, and codes for their parts."""

    centroids: Floats  # [cells, s]
    codebook: Floats  # [s / SPAN, 2^BITS, SPAN]


class Index:
    """Finds the items with the largest inner product; an item of zeros is not known."""

    def __init__(self, rows: ByteRows, settings: IndexSettings, cells: Cells | None) -> None:
        """`rows` by item; `cells` from `train_cells`, None where every item is compared."""
        self.settings = settings
        self.rows = rows
        self.size, self.dimensions = rows.codes.shape
        self.known: Mask = rows.scales > 0  # [n]
        self._cells = cells
        self._first = _searched(self.dimensions, settings)
        if cells is not None and cells.centroids.shape[1:] != (self._first,):
            raise ValueError(
                f"centroids: expected {self._first} columns, got {cells.centroids.shape}"
            )
        first = ByteRows(rows.codes[:, : self._first], rows.scales).floats()
        self._coarse = _compare_all(first) if cells is None else _compare_near(first, cells)

    def search(self, query: Floats, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """At most k items, best first, with their scores.

        `query` float32 [d]; `allowed` bool by item: shorter than the items, it allows no further.
        """
        mask = self.known if allowed is None else allowed[: self.size]
        count = int(np.count_nonzero(mask))
        k = min(k, count)
        depth = min(max(k, self.settings.rescore), count)
        if count <= 2 * depth:
            return self._best_of(np.flatnonzero(mask & self.known[: len(mask)]), query, k)
        return self._best_of(self._near(query, k, depth, mask, count / self.size), query, k)

    def score(self, query: Floats, items: Items) -> Scores:
        """Inner products float32 [m] with items [m]; NaN for those not known."""
        return self.rows.dot(items, query)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What an artifact keeps: by item BY_ITEM, and what was learned of them all."""
        arrays: dict[str, NDArray[Any]] = {"codes": self.rows.codes, "scales": self.rows.scales}
        if self._cells is not None:
            arrays |= {"centroids": self._cells.centroids, "codebook": self._cells.codebook}
        return arrays

    def _best_of(self, items: NDArray[Any], query: Floats, k: int) -> tuple[Items, Scores]:
        scores = self.rows.dot(items, query)
        best = np.argsort(-scores, kind="stable")[:k]
        return items[best].astype(np.int32), scores[best]

    def _near(
        self, query: Floats, k: int, depth: int, mask: Mask, share: float
    ) -> NDArray[np.int64]:
        """About `depth` known items of the mask, by the first dimensions; at least k."""
        # Where most are allowed, dropping the others afterwards costs half of a selector's tests.
        if share > LOOSE:
            found = self._ask(query, int(depth / share), self.settings.probes, None)
            found = _known_of(found, mask, self.rows.scales)
            if len(found) >= k:
                return found
        bits = np.packbits(mask & self.known[: len(mask)], bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        found = self._ask(query, depth, math.ceil(self.settings.probes / share), selector)
        return found if len(found) >= k else self._ask(query, depth, self.size, selector)

    def _ask(self, query: Floats, depth: int, probes: int, selector: Any) -> NDArray[np.int64]:
        parameters = None
        if self._cells is not None:
            probes = min(probes, len(self._cells.centroids))
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        elif selector is not None:
            parameters = faiss.SearchParameters(sel=selector)
        # OpenMP keeps this per calling thread; a team costs more than one query's work.
        faiss.omp_set_num_threads(1)
        _, items = self._coarse.search(query[np.newaxis, : self._first], depth, params=parameters)
        found: NDArray[np.int64] = items[0]
        return found if found[-1] >= 0 else found[found >= 0]


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


@compiled("i8[::1](i8[::1], b1[::1], f4[::1])")
def _known_of(found: NDArray[np.int64], mask: Mask, scales: Floats) -> NDArray[np.int64]:
    """Those found that a mask allows, which may be shorter than the items, and that are known."""
    kept = np.empty(len(found), np.int64)
    count = 0
    for item in found:
        if item < len(mask) and mask[item] and scales[item] > 0:
            kept[count] = item
            count += 1
    return kept[:count]


BY_ITEM = ["codes", "scales"]  # of an index's arrays


def build_index(vectors: NDArray[np.floating], settings: IndexSettings) -> Index:
    """An index over vectors [n, d], with cells where there are enough items for them."""
    return Index(in_bytes(vectors), settings, train_cells(vectors, settings))


def open_index(arrays: Mapping[str, NDArray[Any]], settings: IndexSettings) -> Index:
    """The index of an artifact's arrays."""
    rows = ByteRows(np.array(arrays["codes"], np.int8), np.array(arrays["scales"], np.float32))
    if "centroids" not in arrays:
        return Index(rows, settings, None)
    return Index(rows, settings, Cells(arrays["centroids"], arrays["codebook"]))


def dimensions_of(artifact: Artifact) -> int | None:
    """How wide the vectors of an indexed model are; None for any other."""
    codes = artifact.arrays.get("codes")
    return None if codes is None else int(codes.shape[1])


def train_cells(vectors: NDArray[np.floating], settings: IndexSettings) -> Cells | None:
    """What vectors [n, d] have in common, or None where so few need no cells."""
    first = _searched(vectors.shape[1], settings)
    known = np.ascontiguousarray(vectors[np.any(vectors != 0, axis=1), :first], np.float32)
    if len(known) <= settings.exact_below or first < SPAN:
        return None
    # Spherical: by inner product, a long centroid would draw every item into its cell.
    means = faiss.Kmeans(
        first,
        int(CELLS_PER_ROOT * math.sqrt(len(known))),
        niter=KMEANS_ROUNDS,
        spherical=True,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_A_CELL,
    )
    means.train(known)
    # Every part is a small k-means of its own: waiting for a second thread costs ten times more.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    codes = faiss.ProductQuantizer(first, first // SPAN, BITS)
    codes.train(known)
    faiss.omp_set_num_threads(threads)
    codebook = faiss.vector_to_array(codes.centroids).reshape(first // SPAN, 2**BITS, SPAN)
    return Cells(np.asarray(means.centroids, np.float32), codebook)


def _searched(dimensions: int, settings: IndexSettings) -> int:
    """How many dimensions are searched with: whole spans."""
    return max(min(settings.search_dimensions, dimensions) // SPAN * SPAN, min(dimensions, SPAN))


def _compare_all(vectors: Floats) -> Any:
    """A faiss index over vectors [n, s], in half precision."""
    half, inner = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexScalarQuantizer(vectors.shape[1], half, inner)
    index.is_trained = True  # halves need no training
    index.add(vectors)
    return index


def _compare_near(vectors: Floats, cells: Cells) -> Any:
    """A faiss index over the cells of vectors [n, s]."""
    width = vectors.shape[1]
    nearest = faiss.IndexFlatIP(width)
    nearest.add(cells.centroids)
    inner = faiss.METRIC_INNER_PRODUCT
    count, parts = len(cells.centroids), width // SPAN
    index = faiss.IndexIVFPQFastScan(nearest, width, count, parts, BITS, inner)
    # Else Python frees the centroids that C++ goes on reading.
    nearest.this.disown()
    index.own_fields = True
    index.by_residual = False  # one table of a query's products serves every cell
    faiss.copy_array_to_vector(np.ravel(cells.codebook), index.pq.centroids)
    index.is_trained = True
    index.add(vectors)
    return index
