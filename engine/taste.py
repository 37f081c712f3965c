"""Taste: what a user touched, weighted; every retrieval model reads a user from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.actions import Actions
from engine.catalog import Catalog
from engine.situation import Moment
from engine.spans import span
from engine.state import TOUCHES, UserState

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]


class TasteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a touch weighs."""

    half_life_days: AboveZero = 30.0  # of a touch, counted back from the newest one
    other_situation: Share = 0.7  # of a touch in another situation than now
    older: Share = 1.0  # of items acted on before the last 50 touches, beside the oldest of these


@dataclass(frozen=True, slots=True)
class Taste:
    """Items touched, newest last; an item may stand in it more than once."""

    items: NDArray[np.int32]  # [m] dense ids
    weights: NDArray[np.float32]  # [m] action × recency × situation; below 0: disliked
    attributes: Mapping[str, Any]


@span("taste")
def read_taste(
    state: UserState,
    moment: Moment,
    action_weights: NDArray[np.float32],
    settings: TasteSettings,
) -> Taste:
    """The taste of a state in a moment; `action_weights` float32 [256] by action term."""
    recent = np.frombuffer(state.recent, TOUCHES)
    older = np.frombuffer(state.seen, "<u4")
    weights = action_weights[recent["term"]]
    floor = 1.0
    if len(recent):
        age_s = recent["at_s"].max() - recent["at_s"]
        recency = np.exp2(age_s / (-86_400 * settings.half_life_days)).astype(np.float32)
        weights = weights * recency
        floor = float(recency.min())
        if moment.situation:
            elsewhere = (recent["situation"] != moment.situation) & (recent["situation"] != 0)
            weights[elsewhere] *= settings.other_situation
    if not len(older):
        return Taste(recent["item"].astype(np.int32), weights, _attributes(state))
    items = np.concatenate([older, recent["item"]]).astype(np.int32)
    faded = np.full(len(older), settings.older * floor, np.float32)
    return Taste(items, np.concatenate([faded, weights]), _attributes(state))


def weights_by_term(actions: Actions, catalog: Catalog) -> NDArray[np.float32]:
    """Signed weights float32 [256] by action term; an action no longer declared weighs nothing."""
    weights = np.zeros(256, np.float32)
    for name, term in catalog.terms["action"].items():
        action = actions.by_name.get(name)
        if action is not None and action.needs_item:
            weights[term] = action.signed_weight
    return weights


def _attributes(state: UserState) -> dict[str, Any]:
    return {name: value for name, (_, value) in state.attributes.items() if value is not None}
