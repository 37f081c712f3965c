"""Matrix factorization with users folded in at request time: ALS and BPR. The door of implicit.

ALS: implicit fits the items' factors Y; a user is solved for at request time as Hu, Koren and
Volinsky ("Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008) solve for any:
(YᵀY + λI + Σ α|w| y yᵀ) x = Σ (1 + αw) y, over the items touched. What is kept is Z =
Y (YᵀY + λI)^−½: with W = diag α|w| and c = 1 + αw it gives the same scores as Z x', where
(I + ZᵀWZ) x' = Zᵀc, or x' = Zᵀ (I + W ZZᵀ)⁻¹ c, whichever is smaller.
BPR (Rendle et al., UAI 2009): a user is the weighted mean of the items touched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
import numpy as np
import scipy.sparse as sp

from engine.taste import Taste
from models.artifact import Artifact, Meta
from models.byte_rows import Floats
from models.index import BY_ITEM, Index, Indexed, IndexSettings, build_index, open_index


class AlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """λ, α and the rest of Hu, Koren and Volinsky."""

    factors: int = 256
    regularization: float = 100.0  # λ
    alpha: float = 40.0  # α
    iterations: int = 15
    # Its dimensions fall off slowly, so that cells tell less.
    index: IndexSettings = IndexSettings(probes=128)


class BprSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of the stochastic gradient descent over pairs of items."""

    factors: int = 128
    learning_rate: float = 0.05
    regularization: float = 0.01
    iterations: int = 200
    index: IndexSettings = IndexSettings()


class Als(Indexed):
    """A fitted ALS; the index holds Z."""

    name = "als"

    def __init__(self, settings: AlsSettings, index: Index) -> None:
        super().__init__(index)
        self.settings = settings

    def user(self, taste: Taste) -> Floats | None:
        """The user's vector float32 [d], or None when no item of the taste is known."""
        touched, touches = self.touched(taste)
        if not len(touched):
            return None
        items, at = np.unique(touched, return_inverse=True)
        weights = self.settings.alpha * np.bincount(at, touches)
        rows = self.index.rows.floats(items)
        # A dislike is a certain zero: confidence without preference.
        trusted, wanted = np.abs(weights), np.where(weights > 0, 1 + weights, 0)
        if len(items) < self.index.dimensions:
            gram = np.eye(len(items)) + trusted[:, np.newaxis] * (rows @ rows.T)
            return np.asarray(np.linalg.solve(gram, wanted) @ rows, np.float32)
        gram = np.eye(self.index.dimensions) + rows.T @ (trusted[:, np.newaxis] * rows)
        return np.asarray(np.linalg.solve(gram, wanted @ rows), np.float32)

    def to_artifact(self, item_ids: Sequence[str | None]) -> Artifact:
        """The model as files; `item_ids` by dense id."""
        return _artifact(self, self.settings, item_ids)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Als:
        """The model of an artifact."""
        settings = msgspec.convert(artifact.meta.settings, AlsSettings)
        return cls(settings, open_index(artifact.arrays, settings.index))


class Bpr(Indexed):
    """A fitted BPR; the index holds the items' factors, the last of them the bias."""

    name = "bpr"

    def __init__(self, settings: BprSettings, index: Index) -> None:
        super().__init__(index)
        self.settings = settings

    def user(self, taste: Taste) -> Floats | None:
        """The user's vector float32 [d], or None when no item of the taste is known."""
        items, weights = self.touched(taste)
        if not np.any(weights):
            return None
        vector = self.index.rows.weighed(items, weights / np.abs(weights).sum())
        vector[0] = 1.0
        return vector

    def to_artifact(self, item_ids: Sequence[str | None]) -> Artifact:
        """The model as files; `item_ids` by dense id."""
        return _artifact(self, self.settings, item_ids)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Bpr:
        """The model of an artifact."""
        settings = msgspec.convert(artifact.meta.settings, BprSettings)
        return cls(settings, open_index(artifact.arrays, settings.index))


def fit_als(interactions: sp.csr_matrix, settings: AlsSettings, seed: int = 1) -> Als:
    """Fit to weights > 0, float32 CSR [users, items]."""
    # Imported here and below: a replica reads this file and needs no implicit.
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    # implicit has threads of its own and warns of BLAS's.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=settings.factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=settings.iterations,
            random_state=seed,
            num_threads=os.cpu_count() or 1,
        )
        model.fit(interactions, show_progress=False)
    factors = _only_touched(model.item_factors, interactions)
    values, turn = np.linalg.eigh((factors.T @ factors).astype(np.float64))
    # Along the Gram matrix's axes the root is a division, and the widest axes come first.
    scale = 1 / np.sqrt(np.maximum(values, 0) + settings.regularization)
    whitened = factors @ (turn * scale)[:, ::-1]
    return Als(settings, build_index(whitened, settings.index))


def fit_bpr(interactions: sp.csr_matrix, settings: BprSettings, seed: int = 1) -> Bpr:
    """Fit to the pairs of a CSR [users, items]."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=settings.factors,
        learning_rate=settings.learning_rate,
        regularization=settings.regularization,
        iterations=settings.iterations,
        random_state=seed,
        num_threads=1,  # more would make it another model at every run
    )
    model.fit(interactions, show_progress=False)
    factors = _only_touched(model.item_factors, interactions)
    factors, bias = factors[:, :-1], factors[:, -1:]
    # Turned to principal axes, so that the index may search with the first ones.
    _, turn = np.linalg.eigh(factors.T @ factors)
    vectors = np.hstack([bias, factors @ turn[:, ::-1]])
    return Bpr(settings, build_index(vectors, settings.index))


def _only_touched(factors: Floats, interactions: sp.csr_matrix) -> Floats:
    """Zeros for items that nobody touched: the fit left noise there."""
    touched = np.bincount(interactions.indices, minlength=interactions.shape[1]) > 0
    return np.where(touched[:, np.newaxis], factors, np.float32(0))


def _artifact(
    model: Als | Bpr, settings: AlsSettings | BprSettings, item_ids: Sequence[str | None]
) -> Artifact:
    meta = Meta(
        kind=model.name,
        settings=msgspec.to_builtins(settings),
        by_item=BY_ITEM,
        items=list(item_ids[: model.index.size]),
    )
    return Artifact(meta, model.index.arrays())
