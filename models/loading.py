"""A release's models, opened: from artifacts by name to what a request is answered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from engine.candidates import Sources
from engine.module_choice import ModuleScorer
from engine.objective import Objective
from engine.pipeline import Parts
from engine.push_value import PushModel
from engine.ranking import Ranker
from engine.situation import Situations
from models.artifact import Artifact, BadArtifact
from models.context import ContextModel
from models.factors import Als, Bpr
from models.hybrid import Hybrid
from models.item_item import ItemItem
from models.looks import LearnedLooks
from models.modules import ModuleModel
from models.motion import MotionModel
from models.onnx_scorer import OnnxRanker
from models.popularity import Popular
from models.push import LearnedPush
from models.senses import Senses
from models.spectral import Spectral

RANKER = "ranker"
MODULES = "modules"
PUSH = "push"
MOTION, CONTEXT, SITUATION = SITUATION_MODELS = ("motion", "context", "situation")
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
    MODULES: {"modules": ModuleModel.from_artifact},
    PUSH: {"push": LearnedPush.from_artifact},
    MOTION: {"motion": MotionModel.from_artifact},
    CONTEXT: {"context": ContextModel.from_artifact},
    SITUATION: {"looks": LearnedLooks.from_artifact},
}


@dataclass(frozen=True, slots=True)
class Models:
    """What a release answers with."""

    sources: Sources
    ranker: Ranker | None = None
    senses: Mapping[str, Any] = field(default_factory=dict)  # by name; what is missing is shipped
    modules: ModuleScorer | None = None
    push: PushModel | None = None  # None: the operator's assumptions

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
            situations=self._situations(parts.situations, release),
            module_scorer=self.modules,
        )

    def _situations(self, situations: Situations, release: str | None) -> Situations:
        if not self.senses or not isinstance(situations.models, Senses):
            return situations
        return _filled(self.senses, situations.models, release or "").within(situations)


def load(artifacts: Mapping[str, Artifact]) -> Models:
    """Open a release's artifacts by model name, their items already in the log's own rows.

    Raises BadArtifact naming the model.
    """
    opened = {name: open_model(name, artifact) for name, artifact in artifacts.items()}
    ranker, modules, push = (opened.pop(name, None) for name in (RANKER, MODULES, PUSH))
    senses = {name: opened.pop(name) for name in SITUATION_MODELS if name in opened}
    return Models(Sources(**opened), ranker, senses, modules, push)


def open_senses(artifacts: Mapping[str, Artifact], version: str, shipped: Senses | None) -> Senses:
    """A release's situation models; what it lacks is the shipped one's. Raises BadArtifact."""
    opened = {
        name: open_model(name, artifacts[name]) for name in SITUATION_MODELS if name in artifacts
    }
    return _filled(opened, shipped, version)


def _filled(opened: Mapping[str, Any], shipped: Senses | None, version: str) -> Senses:
    if shipped is None:
        missing = [name for name in (MOTION, CONTEXT) if name not in opened]
        if missing:
            raise BadArtifact(f"{missing[0]}: there is no such model")
        return Senses(opened[MOTION], opened[CONTEXT], opened.get(SITUATION), version)
    return Senses(
        opened.get(MOTION, shipped.motion),
        opened.get(CONTEXT, shipped.context),
        opened.get(SITUATION, shipped.looks),
        version if opened else shipped.version,
    )


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
