"""How models are trained: the operator's settings, from `training.yaml`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from engine.errors import SettingsError
from models.boosting import BoostingSettings

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class SplitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By time, in shares of the acts; what is left over is the test part."""

    retrieval: Share = 0.5
    rows: Share = 0.3

    def __post_init__(self) -> None:
        if self.retrieval + self.rows >= 1:
            raise ValueError("retrieval and rows leave nothing to test on")


class RowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which decisions the ranker learns."""

    decisions: Positive = 12_000  # at most, drawn by chance
    # Where there are no impressions:
    of_user: Positive = 50  # moments of one user, at most
    negatives: Positive = 30  # of a moment's candidates that were not chosen


class EvaluationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On which moments the models are compared."""

    moments: Positive = 1_500  # at most, drawn by chance
    of_user: Positive = 10  # at most
    horizon_hours: Annotated[float, msgspec.Meta(gt=0)] = 24.0  # what is done within adds worth
    resamples: Positive = 1_000  # of the bootstrap

    @property
    def horizon_ms(self) -> int:
        return int(self.horizon_hours * 3_600_000)


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set about `kairos train`."""

    seed: int = 1
    split: SplitSettings = SplitSettings()
    factors: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [{"kind": "spectral"}]
    )
    similar: dict[str, Any] = {}
    hybrid: dict[str, Any] = {}
    popular: dict[str, Any] = {}
    rows: RowSettings = RowSettings()
    ranker: BoostingSettings = BoostingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


def load_training(path: Path | None = None) -> TrainingSettings:
    """Read `path`, or the shipped file; raises SettingsError naming the key."""
    source = path or resources.files("training") / "training.yaml"
    try:
        raw = yaml.safe_load(source.read_text(encoding="utf-8"))
        return msgspec.convert(raw or {}, TrainingSettings)
    except (yaml.YAMLError, msgspec.ValidationError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from error
