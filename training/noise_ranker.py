"""A ranker of the shipped size that has learned nothing, for benchmarks of speed.

On a log of plain interactions a ranker seldom earns its place, and a release without one would be
faster than what most applications run. What trees cost depends on their number and size alone.
"""

from __future__ import annotations

import msgspec
import numpy as np

from engine import features
from engine.actions import load_actions
from engine.objective import load_objective
from engine.state import FOLD_VERSION
from models import boosting
from models.boosting import BoostingSettings, Examples
from models.export import export_ranker
from models.loading import RANKER
from models.registry import Registry
from models.release import Card

ROWS = 20_000


def publish_noise_ranker(registry: Registry, seed: int) -> bool:
    """Publish what serves with such a ranker beside it; False where it has one already."""
    release = registry.current()
    versions = {} if release is None else {v.model: v.version for v in release.versions()}
    if RANKER in versions:
        return False
    rng = np.random.default_rng(seed)
    outcomes = list(load_objective(load_actions()).outcomes)
    rows = rng.standard_normal((ROWS, features.COUNT)).astype(np.float32)
    # Chances that hang on some columns, so that trees grow as deep as the settings let them.
    leaning = rows @ rng.standard_normal((features.COUNT, len(outcomes)))
    labels = (rng.random(leaning.shape) < 1 / (1 + np.exp(1 - leaning))).astype(np.float32)
    examples = Examples(rows, labels, np.ones(ROWS, np.float32), np.arange(ROWS) > 0.9 * ROWS)
    boosted = boosting.fit(examples, outcomes, BoostingSettings(), seed)
    assert boosted is not None  # every outcome came true often enough
    ranker = export_ranker(boosted)
    card = Card(
        features=list(features.NAMES),
        fold_version=FOLD_VERSION,
        settings=msgspec.to_builtins(ranker.meta) | {"kind": "fitted to noise"},
    )
    version = registry.add(RANKER, ranker.to_artifact().files(), card)
    registry.publish(versions | {RANKER: version.version}, "a benchmark of speed")
    return True
