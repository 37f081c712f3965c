"""The ranker's fit and export, and how far its chances can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import boosting
from models.boosting import Boosted, Examples
from models.export import check_parity, export_ranker
from models.onnx_scorer import OnnxRanker
from training.datasets import Rows
from training.material import Material

BINS = 10
HELD_OUT = 0.2
PARITY_ROWS = 20_000


class Calibration(msgspec.Struct, frozen=True):
    """Of one outcome: mean chance and share that came true, by tenths of the rows."""

    predicted: list[float]
    observed: list[float]
    error: float  # mean difference of the two


@dataclass(frozen=True, slots=True)
class Fitted:
    """A ranker as fitted and as it serves; their chances differ by `parity` at most."""

    boosted: Boosted
    ranker: OnnxRanker
    parity: float


def fit_ranker(material: Material, rows: Rows) -> Fitted | None:
    """None where no outcome came true often enough; raises NotEqual where parity fails."""
    job = material.job
    # The latest decisions say when more trees no longer help on what comes after.
    latest = np.quantile(rows.decision, 1 - HELD_OUT) if len(rows) else 0
    examples = Examples(rows.features, rows.labels, rows.weight, rows.decision >= latest)
    boosted = boosting.fit(examples, material.outcomes, job.training.ranker, job.training.seed)
    if boosted is None:
        return None
    ranker = export_ranker(boosted)
    return Fitted(boosted, ranker, check_parity(boosted, ranker, rows.features[:PARITY_ROWS]))


def calibrate(material: Material, ranker: OnnxRanker, rows: Rows) -> dict[str, Calibration]:
    """Each learned outcome on rows that come after all that was learned from."""
    if not len(rows):
        return {}
    chances = ranker.chances(rows.features)
    found = {}
    for column, name in enumerate(ranker.outcomes):
        labels = rows.labels[:, material.outcomes.index(name)]
        ripe = ~np.isnan(labels)
        if ripe.sum() >= BINS:
            found[name] = _calibration(chances[ripe, column], labels[ripe])
    return found


def _calibration(chances: NDArray[np.float32], labels: NDArray[np.float32]) -> Calibration:
    order = np.argsort(chances, kind="stable")
    parts = np.array_split(order, BINS)
    predicted = [float(chances[part].mean()) for part in parts]
    observed = [float(labels[part].mean()) for part in parts]
    sizes = [len(part) for part in parts]
    gaps = np.abs(np.subtract(predicted, observed))
    return Calibration(predicted, observed, float(np.average(gaps, weights=sizes)))
