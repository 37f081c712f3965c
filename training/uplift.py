"""What a treatment changes, decision by decision, learned from decisions made at random.

The propensity of every decision is known, so nothing about the treatment has to be modelled. Three
learners, all of boosted trees:

- t: a model of the outcome for each arm, and their difference;
- x: what each arm's outcome adds to the other arm's model, then one model of that (Künzel, Sekhon,
  Bickel and Yu 2019). Their two effect models, mixed by the propensity, are fitted as one: a
  regression whose weights, (1 − e)/e of the treated and e/(1 − e) of the others, have that mix as
  their mean;
- dr: doubly robust scores of the effect, then one model of these (Kennedy 2023).

Models of the outcome never see the users whose effects they help to score, and the effect that is
judged (`out_of_fold`) comes from models of both kinds that never saw the user at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput
from models.boosting import Regression, RegressionSettings, fit_regression
from models.export import calibrated

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Learner = Literal["t", "x", "dr"]

FOLDS = 5  # of users, for the effects that are judged
INNER_FOLDS = 3  # within what is left, for the models of the outcome
OUTCOME = RegressionSettings()
# Scores of effects scatter far more than effects: few leaves, and much evidence before one counts.
EFFECT = RegressionSettings(trees=60, leaves=4, rows_in_leaf=200, l2=2000.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """Decisions made at random."""

    features: Floats  # [n, columns]
    treated: Flags  # [n]
    propensity: Doubles  # [n], of being treated, above 0 and below 1
    outcome: Doubles  # [n]
    users: Ints  # [n]

    def __post_init__(self) -> None:
        if not ((self.propensity > 0) & (self.propensity < 1)).all():
            raise InvalidInput("propensity", "expected more than 0 and less than 1: made at random")
        if not 0 < int(self.treated.sum()) < len(self.treated):
            raise InvalidInput("treated", "expected decisions of both kinds")

    def some(self, wanted: Flags) -> Trial:
        """These decisions only."""
        return Trial(
            self.features[wanted],
            self.treated[wanted],
            self.propensity[wanted],
            self.outcome[wanted],
            self.users[wanted],
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A model of the outcome for each arm."""

    treated: Regression
    control: Regression

    def means(self, rows: Floats) -> Doubles:
        """float64 [n]: effects."""
        return self.treated.means(rows) - self.control.means(rows)

    def trees(self) -> list[dict[str, Any]]:
        """Trees whose sum is the effect."""
        return [*self.treated.trees(), *calibrated(self.control.trees(), -1.0, 0.0)]


@dataclass(frozen=True, slots=True)
class UpliftFit:
    """A fitted effect; `model.trees()` exports by models.export.trees_graph with link Identity."""

    model: Regression | Difference  # of all users
    out_of_fold: Doubles  # [n]: each user's effects by models that never saw them

    def effects(self, rows: Floats) -> Doubles:
        """float64 [n]: what treating adds to the outcome, for users that were not learned from."""
        return self.model.means(rows)


def fit_uplift(
    features: Floats,
    treated: Flags,
    propensity: Doubles,
    outcome: Doubles,
    users: Ints,
    learner: Learner = "dr",
    seed: int = 1,
) -> UpliftFit:
    """Learn the effect of being treated from random decisions [n], cross-fitted over users.

    Raises InvalidInput where a decision was not random or one arm is lacking.
    """
    trial = Trial(features, treated, propensity, outcome, users)
    effects = np.empty(len(users))
    for held_out in by_user(users, FOLDS, seed):
        model = _fit(trial.some(~held_out), learner, seed)
        effects[held_out] = model.means(features[held_out])
    return UpliftFit(_fit(trial, learner, seed), effects)


def fit_forward(trial: Trial, block: Ints, learner: Learner = "dr", seed: int = 1) -> Doubles:
    """float64 [n]: effects of each block [n] of time by a model of all blocks before; NaN at first.

    What a model of that time would have said, and so what nightly looks may be judged by: unlike
    with cross-fitted effects, nothing that was judged changes when a night is added. NaN as long as
    one arm is lacking.
    """
    effects = np.full(len(block), np.nan)
    for later in np.unique(block)[1:]:
        before, now = block < later, block == later
        if 0 < int(trial.treated[before].sum()) < int(before.sum()):
            model = _fit(trial.some(before), learner, seed)
            effects[now] = model.means(trial.features[now])
    return effects


def by_user(users: Ints, folds: int, seed: int) -> Iterator[Flags]:
    """Flags [n] of each fold in turn; a user's rows stand in one."""
    names, who = np.unique(users, return_inverse=True)
    fold_of = np.random.default_rng(seed).permutation(len(names)) % folds
    for fold in range(folds):
        yield fold_of[who] == fold


def _fit(trial: Trial, learner: Learner, seed: int) -> Regression | Difference:
    if learner == "t":
        return fit_arms(trial, seed)
    treated, control = _out_of_fold_arms(trial, seed)
    scores, weights = (_dr_scores if learner == "dr" else _x_scores)(trial, treated, control)
    return fit_regression(trial.features, scores, weights, EFFECT, seed)


def fit_arms(trial: Trial, seed: int) -> Difference:
    """A model of the outcome for each arm."""
    arms = [
        fit_regression(
            trial.features[arm], trial.outcome[arm], np.ones(int(arm.sum())), OUTCOME, seed
        )
        for arm in (trial.treated, ~trial.treated)
    ]
    return Difference(*arms)


def _out_of_fold_arms(trial: Trial, seed: int) -> tuple[Doubles, Doubles]:
    """float64 [n] each: the outcome if treated, and if not, by models that never saw the user."""
    treated, control = np.empty(len(trial.users)), np.empty(len(trial.users))
    # Another seed than the outer folds': the same draw would make the inner ones of unequal size.
    for held_out in by_user(trial.users, INNER_FOLDS, seed + 1):
        arms = fit_arms(trial.some(~held_out), seed)
        treated[held_out] = arms.treated.means(trial.features[held_out])
        control[held_out] = arms.control.means(trial.features[held_out])
    return treated, control


def _dr_scores(trial: Trial, treated: Doubles, control: Doubles) -> tuple[Doubles, Doubles]:
    """Scores whose mean given the features is the effect, whatever the outcome models are worth."""
    e = trial.propensity
    scores = (
        treated
        - control
        + np.where(
            trial.treated, (trial.outcome - treated) / e, -(trial.outcome - control) / (1 - e)
        )
    )
    return scores, np.ones(len(scores))


def _x_scores(trial: Trial, treated: Doubles, control: Doubles) -> tuple[Doubles, Doubles]:
    """Imputed effects, and weights under which their mean is e·τ₀ + (1 − e)·τ₁."""
    e = trial.propensity
    imputed = np.where(trial.treated, trial.outcome - control, treated - trial.outcome)
    return imputed, np.where(trial.treated, (1 - e) / e, e / (1 - e))


def doubly_robust(trial: Trial, seed: int = 1) -> Doubles:
    """float64 [n]: scores whose mean given the features is the effect, models cross-fitted."""
    return _dr_scores(trial, *_out_of_fold_arms(trial, seed))[0]
