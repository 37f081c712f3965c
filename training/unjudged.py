"""A release that nobody judged, for benchmarks of speed: fitted to the whole log and published.

What `kairos train` takes minutes for is to find out whether a release is better than what serves.
What it costs to serve does not hang on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.archive import Archive
from engine.redis_store import RedisStore
from engine.settings import Settings
from models.index import dimensions_of
from models.registry import Registry
from models.release import Card
from training.fitting import fit_sources
from training.history import read_history
from training.noise_ranker import publish_noise_ranker
from training.publishing import artifacts_of
from training.replay import WholeLog
from training.settings import TrainingSettings

# As a trained release of the simulated app has them; the hybrid seldom earns its place there.
MODELS = ("factors", "similar", "popular")
FACTORS: tuple[Mapping[str, Any], ...] = ({"kind": "spectral", "dimensions": 768},)
REASON = "a benchmark of speed"


def publish_unjudged(settings: Settings, registry: Registry, seed: int) -> None:
    """Publish retrieval models of the log, and a ranker of the shipped size fitted to noise.

    `settings` name a running store.
    """
    log = WholeLog(Archive(settings.archive_path), RedisStore.connect(settings))
    history = read_history(log, settings.partitions)
    told = TrainingSettings(seed=seed, factors=[dict(one) for one in FACTORS])
    sources = fit_sources(history, history.acts, told, MODELS)
    versions = {
        name: registry.add(
            name,
            artifact.files(),
            Card(
                rows=len(history.acts),
                settings={"kind": artifact.meta.kind} | artifact.meta.settings,
                dimensions=dimensions_of(artifact),
                notes=[f"judged by nobody: {REASON}"],
            ),
        ).version
        for name, artifact in artifacts_of(sources, None, history.catalog).items()
    }
    registry.publish(versions, REASON)
    publish_noise_ranker(registry, seed)
