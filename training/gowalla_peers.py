"""What others do on Gowalla's published split: fitted to train, folded in, judged in this process.

The same masks and the same measure as for the answers that are served: every touch weighs the same,
and what a user trained on is left out. ALS and BPR compare every item: what an index loses is not
theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import scipy.sparse as sp

from models import factors, item_item, popularity, spectral
from models.artifact import Artifact
from models.index import dimensions_of
from training.gowalla import Split, evaluate
from training.gowalla_tuning import EVERYTHING, Served


class Peer(msgspec.Struct, frozen=True):
    """A row of the table."""

    recall: float
    ndcg: float
    dimensions: int | None  # of its vectors
    bytes: int  # of its arrays
    fit_s: float


def peers(split: Split) -> Iterator[tuple[str, Peer]]:
    """Name and row of each, as it is measured; about ten minutes on one core."""
    for name, fit in FITS.items():
        started = time.monotonic()
        model = fit(split.train)
        fit_s = time.monotonic() - started
        yield name, _judged(model, split, fit_s)


def _judged(model: Any, split: Split, fit_s: float) -> Peer:
    quality = evaluate(Served(model, split.train).recommend, split.test)
    artifact: Artifact = model.to_artifact([])
    return Peer(
        round(quality.recall, 4),
        round(quality.ndcg, 4),
        dimensions_of(artifact),
        sum(array.nbytes for array in artifact.arrays.values()),
        round(fit_s, 1),
    )


def _fit_popularity(train: sp.csr_matrix) -> popularity.Popular:
    nothing = np.zeros(train.nnz)
    settings = popularity.PopularSettings()
    items = train.indices.astype(np.int32)
    return popularity.fit(
        items, train.data, nothing, nothing.astype(np.int32), train.shape[1], settings
    )


FITS: Mapping[str, Callable[[sp.csr_matrix], Any]] = {
    "popularity": _fit_popularity,
    "item-item": lambda train: item_item.fit(train, item_item.ItemItemSettings()),
    "ALS": lambda train: factors.fit_als(train, factors.AlsSettings(index=EVERYTHING)),
    "BPR": lambda train: factors.fit_bpr(train, factors.BprSettings(index=EVERYTHING)),
    "spectral, 64 dimensions": lambda train: spectral.fit(
        train, spectral.SpectralSettings(dimensions=64)
    ),
}
