"""The spectral filter: a user is the weighted sum of the rows of the items they touched.

R, users × items, is scaled to D_u^−a R D_i^−b and its best k right singular vectors V are kept.
An item's row on the user's side is D_i^−b V, on the answer's side D_i^b V: the scores
r D_i^−b V Vᵀ D_i^b smooth what the user touched by what is common to all. No user is fitted, none
is stored, and the dimensions are nested. After Shen et al., "How Powerful is Graph Convolution
for Recommendation?" (GF-CF), CIKM 2021; the decomposition is randomized subspace iteration, Halko,
Martinsson and Tropp, SIAM Review 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import scipy.sparse as sp

from engine.taste import Taste
from models.artifact import Artifact, Meta
from models.byte_rows import Floats
from models.index import BY_ITEM, Index, Indexed, IndexSettings, build_index, open_index

OVERSAMPLING = 64
COLUMNS_AT_ONCE = 64  # of a product with all users: bounds memory by users × 64 floats


class SpectralSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the matrix is scaled and how much of it is kept."""

    dimensions: int = 768  # at most a quarter of users or items: all of them would smooth nothing
    user_power: float = 0.35  # a: below ½, the active count for more
    item_power: float = 0.4  # b
    rounds: int = 3  # of subspace iteration; a fourth changes nothing that is measured
    index: IndexSettings = IndexSettings()


class Spectral(Indexed):
    """A fitted spectral filter; the index holds the answer's side."""

    name = "spectral"

    def __init__(self, settings: SpectralSettings, index: Index, inward: Floats) -> None:
        """`inward` float32 [n]: times the answer's side it is the user's side."""
        super().__init__(index)
        self.settings = settings
        self.inward = inward

    def user(self, taste: Taste) -> Floats | None:
        """The user's vector float32 [d], or None when no item of the taste is known."""
        items, weights = self.touched(taste)
        if not len(items):
            return None
        return self.index.rows.weighed(items, weights * self.inward[items])

    def to_artifact(self, item_ids: Sequence[str | None]) -> Artifact:
        """The model as files; `item_ids` by dense id."""
        meta = Meta(
            kind=self.name,
            settings=msgspec.to_builtins(self.settings),
            by_item=[*BY_ITEM, "inward"],
            items=list(item_ids[: self.index.size]),
        )
        return Artifact(meta, self.index.arrays() | {"inward": self.inward})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Spectral:
        """The model of an artifact."""
        settings = msgspec.convert(artifact.meta.settings, SpectralSettings)
        index = open_index(artifact.arrays, settings.index)
        return cls(settings, index, artifact.arrays["inward"])


def fit(interactions: sp.csr_matrix, settings: SpectralSettings, seed: int = 1) -> Spectral:
    """Fit to weights > 0, float32 CSR [users, items]."""
    touched = np.asarray(interactions.sum(axis=0), np.float32).ravel()
    active = np.asarray(interactions.sum(axis=1), np.float32).ravel()
    outward = _power(touched, settings.item_power)
    inward = _power(outward, -1)
    scale = sp.diags_array(_power(active, -settings.user_power))
    scaled = sp.csr_array(scale @ interactions @ sp.diags_array(inward))
    right = _right_vectors(scaled.astype(np.float32), settings, seed)
    vectors = right * outward[:, np.newaxis]
    return Spectral(settings, build_index(vectors, settings.index), inward**2)


def _power(values: Floats, power: float) -> Floats:
    """values^power, and 0 for 0: an item nobody touched stays unknown."""
    raised = np.zeros(len(values), np.float32)
    np.power(values, power, out=raised, where=values > 0)
    return raised


def _right_vectors(matrix: sp.csr_array, settings: SpectralSettings, seed: int) -> Floats:
    """Right singular vectors [items, d] of a matrix [users, items], by falling singular value."""
    dimensions = min(settings.dimensions, max(2, min(matrix.shape) // 4))
    width = min(dimensions + OVERSAMPLING, *matrix.shape)
    block = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), np.float32)
    transposed = sp.csr_array(matrix.T)
    for _ in range(settings.rounds):
        block = _square_times(matrix, transposed, _orthonormal(block))
    block = _orthonormal(_orthonormal(block))  # once leaves what single precision loses
    # Rayleigh–Ritz: the best vectors within the block, which is what nests the dimensions.
    _, turn = np.linalg.eigh(block.T @ _square_times(matrix, transposed, block))
    return np.asarray(block @ turn[:, ::-1][:, :dimensions], np.float32)


def _square_times(matrix: sp.csr_array, transposed: sp.csr_array, block: Floats) -> Floats:
    """MᵀM × block [items, width], a few columns at a time."""
    product = np.empty_like(block)
    for start in range(0, block.shape[1], COLUMNS_AT_ONCE):
        columns = slice(start, start + COLUMNS_AT_ONCE)
        product[:, columns] = transposed @ (matrix @ np.ascontiguousarray(block[:, columns]))
    return product


def _orthonormal(block: Floats) -> Floats:
    """An orthonormal basis of a tall block, from its Gram matrix: ten times cheaper than QR."""
    values, turn = np.linalg.eigh((block.T @ block).astype(np.float64))
    kept = values > values[-1] * 1e-9
    basis = (turn[:, kept] / np.sqrt(values[kept])).astype(np.float32)  # a double product takes 2 ×
    return np.asarray(block @ basis, np.float32)
