"""How modules are chosen: the operator's settings, the section `choice` of `modules.yaml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
Strength = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class ChoiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See engine.module_choice; strengths (κ) count looks in which something was done."""

    explore: Share = 0.02
    curiosity: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.5
    half_life_days: AboveZero = 30.0
    prior_looks: Strength = 20.0
    prior_share: AboveZero = 0.5
    situation: Strength = 5.0
    segment: Strength = 5.0
    part: Strength = 5.0
    value: Strength = 10.0
    person: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 2.0
    person_situation: Strength = 10.0
