"""The ranker's fit: gradient-boosted trees, one binary classifier per outcome. LightGBM's door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.features import NAMES

Floats = NDArray[np.float32]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class BoostingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of all outcomes together; `trees` is what a request pays for."""

    trees: Positive = 200
    first_trees: Positive = 36  # of them: those that choose which candidates all trees rank
    leaves: Annotated[int, msgspec.Meta(ge=2, le=256)] = 15
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.15
    rows_in_leaf: Positive = 50
    l2: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    positives: Positive = 100  # an outcome that came true less often is not learned


@dataclass(frozen=True, slots=True)
class Boosted:
    """Fitted trees: a booster per outcome, each of `rounds` trees."""

    boosters: Mapping[str, lightgbm.Booster]
    rounds: int
    first_rounds: int

    @property
    def outcomes(self) -> list[str]:
        return list(self.boosters)

    def chances(self, rows: Floats, rounds: int | None = None) -> NDArray[np.float64]:
        """float64 [n, outcomes] by LightGBM itself; of the first `rounds` trees, or of all."""
        found = [
            np.asarray(booster.predict(rows, num_iteration=rounds or self.rounds))
            for booster in self.boosters.values()
        ]
        return np.stack(found, axis=1)

    def importance(self) -> dict[str, float]:
        """Each feature's share of all gain, over all outcomes."""
        gains = np.sum([b.feature_importance("gain") for b in self.boosters.values()], axis=0)
        shares = gains / max(float(gains.sum()), 1e-12)
        return dict(zip(NAMES, shares.tolist(), strict=True))

    def trees(self, outcome: str) -> list[dict[str, Any]]:
        """The trees of an outcome as LightGBM dumps them, in order."""
        dumped: list[dict[str, Any]] = self.boosters[outcome].dump_model()["tree_info"]
        return dumped


def fit(
    rows: Floats,
    labels: Floats,
    outcomes: Sequence[str],
    settings: BoostingSettings,
    seed: int = 1,
    threads: int = 0,
) -> Boosted | None:
    """Fit to rows float32 [n, features] and labels float32 [n, outcomes], NaN where not ripe.

    None where no outcome came true often enough.
    """
    learned = [
        number
        for number in range(len(outcomes))
        if np.nansum(labels[:, number]) >= settings.positives
        and np.nansum(1 - labels[:, number]) >= settings.positives
    ]
    if not learned:
        return None
    rounds = max(settings.trees // len(learned), 1)
    parameters = {
        "objective": "binary",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_in_leaf,
        "lambda_l2": settings.l2,
        "seed": seed,
        "deterministic": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    boosters = {}
    for number in learned:
        ripe = ~np.isnan(labels[:, number])
        data = lightgbm.Dataset(
            rows[ripe], labels[ripe, number], feature_name=list(NAMES), params={"verbosity": -1}
        )
        boosters[outcomes[number]] = lightgbm.train(parameters, data, num_boost_round=rounds)
    first_rounds = min(max(settings.first_trees // len(learned), 1), rounds)
    return Boosted(boosters, rounds, first_rounds)
