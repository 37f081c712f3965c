"""A release's models, opened: from artifacts by name to what a request is answered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from engine.candidates import Sources
from engine.objective import Objective
from engine.pipeline import Parts
from engine.ranking import Ranker
from models.artifact import Artifact, BadArtifact
from models.factors import Als, Bpr
from models.hybrid import Hybrid
from models.item_item import ItemItem
from models.onnx_scorer import OnnxRanker
from models.popularity import Popular
from models.spectral import Spectral

RANKER = "ranker"
# model of a release -> the kinds of artifact that may stand for it, and what opens each
OPENERS: Mapping[str, Mapping[str, Callable[[Artifact], Any]]] = {
    "factors": {
        "spectral": Spectral.from_artifact,
        "als": Als.from_artifact,
        "bpr": Bpr.from_artifact,
        "item_item": ItemItem.from_artifact,
    },
    "similar": {"item_item": ItemItem.from_artifact},
    "hybrid": {"hybrid": Hybrid.from_artifact},
    "popular": {"popular": Popular.from_artifact},
    RANKER: {"ranker": OnnxRanker.from_artifact},
}


@dataclass(frozen=True, slots=True)
class Models:
    """What a release answers with."""

    sources: Sources
    ranker: Ranker | None = None

    @property
    def outcomes(self) -> list[str]:
        """Names of what the ranker predicts, in its order; empty where there is no ranker."""
        return [] if self.ranker is None else list(self.ranker.outcomes)

    def within(self, parts: Parts, objective: Objective, release: str | None) -> Parts:
        """The parts of a request with these models in them, under the operator's weights."""
        return replace(
            parts,
            sources=self.sources,
            ranker=self.ranker,
            outcome_weights=objective.weights(self.outcomes),
            release=release,
        )


def load(artifacts: Mapping[str, Artifact]) -> Models:
    """Open a release's artifacts by model name, their items already in the log's own rows.

    Raises BadArtifact naming the model.
    """
    opened = {name: open_model(name, artifact) for name, artifact in artifacts.items()}
    ranker = opened.pop(RANKER, None)
    return Models(Sources(**opened), ranker)


def open_model(name: str, artifact: Artifact) -> Any:
    """The fitted model of an artifact; raises BadArtifact naming the model."""
    openers = OPENERS.get(name)
    if openers is None:
        raise BadArtifact(f"{name}: expected one of {', '.join(OPENERS)}")
    kind = artifact.meta.kind
    if kind not in openers:
        raise BadArtifact(f"{name}: expected kind {' or '.join(openers)}, got {kind!r}")
    try:
        return openers[kind](artifact)
    except (KeyError, IndexError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise BadArtifact(f"{name}: {type(error).__name__}: {error}") from error
