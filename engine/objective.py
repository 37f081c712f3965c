"""The operator's objective, from `objective.yaml`: outcomes, their windows and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from engine.actions import Actions
from engine.errors import SettingsError

Hours = Annotated[float, msgspec.Meta(gt=0, le=24 * 90)]


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that can come of showing an item."""

    weight: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
    actions: list[str] = []
    within_hours: Hours = 24.0
    returns: bool = False
    after_hours: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Objective(msgspec.Struct, frozen=True):
    """Every outcome by name, in the file's order."""

    outcomes: dict[str, Outcome]

    def weights(self, names: list[str]) -> NDArray[np.float32]:
        """float32 [outcomes] in the order of `names`; an outcome no longer named weighs nothing."""
        return np.array([self.outcomes[n].weight if n in self.outcomes else 0.0 for n in names],
                        np.float32)  # fmt: skip

    def worth_of_acts(self, terms: Mapping[str, int]) -> NDArray[np.float64]:
        """float64 [terms]: what an act is worth by its action's dense number."""
        worth = np.zeros(max(terms.values(), default=-1) + 1)
        for outcome in self.outcomes.values():
            for action in outcome.actions:
                if action in terms:
                    worth[terms[action]] += outcome.weight
        return worth

    @property
    def ripe_hours(self) -> float:
        """How long until every outcome of a decision is known."""
        return max(outcome.within_hours for outcome in self.outcomes.values())


def load_objective(actions: Actions, path: Path | None = None) -> Objective:
    """Read `path`, or the shipped file; raises SettingsError naming the outcome and key.

    Of the shipped file, what speaks of actions that are not declared here is left out.
    """
    source = path or resources.files("engine") / "objective.yaml"
    try:
        raw = yaml.safe_load(source.read_text(encoding="utf-8"))
        outcomes = msgspec.convert(raw, dict[str, Outcome])
    except (yaml.YAMLError, msgspec.ValidationError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from error
    if path is None:
        outcomes = _declared(outcomes, actions)
    if not outcomes:
        raise SettingsError(f"{source}: expected at least one outcome")
    return Objective({n: _completed(n, o, actions, str(source)) for n, o in outcomes.items()})


def _declared(outcomes: dict[str, Outcome], actions: Actions) -> dict[str, Outcome]:
    known = {
        name: [action for action in outcome.actions or [name] if action in actions.by_name]
        for name, outcome in outcomes.items()
    }
    return {
        name: outcome if outcome.returns else msgspec.structs.replace(outcome, actions=known[name])
        for name, outcome in outcomes.items()
        if outcome.returns or known[name]
    }


def _completed(name: str, outcome: Outcome, actions: Actions, source: str) -> Outcome:
    if outcome.returns:
        if outcome.actions or outcome.after_hours >= outcome.within_hours:
            detail = "expected no actions and after_hours below within_hours"
            raise SettingsError(f"{source}: {name}: {detail}")
        return outcome
    named = outcome.actions or [name]
    for action in named:
        if action not in actions.by_name:
            raise SettingsError(f"{source}: {name}.actions: {action!r} is not declared")
    return msgspec.structs.replace(outcome, actions=named)


def value_of(chances: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n] from chances float32 [n, outcomes] and their weights."""
    values: NDArray[np.float32] = chances @ weights
    return values


def changed(objective: Objective, weights: Mapping[str, float]) -> Objective:
    """The same outcomes under other weights."""
    outcomes = {
        name: msgspec.structs.replace(outcome, weight=weights.get(name, outcome.weight))
        for name, outcome in objective.outcomes.items()
    }
    return Objective(outcomes)
