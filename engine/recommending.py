"""How recommendations are made: the operator's settings, from `recommend.yaml`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from engine.errors import SettingsError
from engine.taste import AboveZero, Share, TasteSettings

Count = Annotated[int, msgspec.Meta(ge=0, le=1000)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class SourceQuotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many items each source may bring; beyond `candidates` the last ones are cut."""

    factors: Count = 110
    similar: Count = 30
    hybrid: Count = 20
    popular: Count = 30
    fresh: Count = 10


class SlateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exploration, diversity and rules of a slate; see engine.slate and engine.diversity."""

    explore: Share = 0.05
    temperature: AboveZero = 0.5
    diversity: NotNegative = 0.3
    most_of_category: Count = 0
    window: Annotated[int, msgspec.Meta(ge=1)] = 10
    method: Literal["category", "mmr", "dpp"] = "category"
    diversity_across: Share = 0.5
    calibrate: NotNegative = 0.0


class RowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which feature rows are kept for training, beside those of what was shown."""

    not_shown: Count = 5


class Recommending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an operator can set about `POST /v1/recommend`."""

    candidates: Annotated[int, msgspec.Meta(ge=10, le=1000)] = 200
    ranked: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    deadline_ms: Annotated[int, msgspec.Meta(ge=1)] = 100
    sources: SourceQuotas = SourceQuotas()
    taste: TasteSettings = TasteSettings()
    slate: SlateSettings = SlateSettings()
    rows: RowSettings = RowSettings()


def load_recommending(path: Path | None = None) -> Recommending:
    """Read `path`, or the shipped file; raises SettingsError naming the key."""
    source = path or resources.files("engine") / "recommend.yaml"
    try:
        raw = yaml.safe_load(source.read_text(encoding="utf-8"))
        return msgspec.convert(raw or {}, Recommending)
    except (yaml.YAMLError, msgspec.ValidationError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from error
