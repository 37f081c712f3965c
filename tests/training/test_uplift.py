"""Uplift learners in worlds whose effect is known, and what they leave of leakage."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from engine.errors import InvalidInput
from models.export import trees_graph
from models.onnx_scorer import INPUT, OUTPUT
from training.qini import qini
from training.uplift import (
    Doubles,
    Floats,
    Learner,
    Trial,
    UpliftFit,
    by_user,
    fit_forward,
    fit_uplift,
)

LEARNERS: tuple[Learner, ...] = get_args(Learner)
COUNT = 4_000


class World:
    """Two decisions a user; the outcome rises with column 0, the effect is all in column 1."""

    def __init__(self, seed: int, effect: float = 0.3, count: int = COUNT) -> None:
        rng = np.random.default_rng(seed)
        self.features: Floats = rng.normal(size=(count, 5)).astype(np.float32)
        self.users = np.arange(count) // 2
        self.propensity = np.where(self.features[:, 2] > 0, 0.3, 0.6)
        self.treated = rng.random(count) < self.propensity
        self.truth: Doubles = np.where(self.features[:, 1] > 0, effect, 0.0)
        chance = 0.3 + 0.1 * np.tanh(self.features[:, 0]) + self.truth * self.treated
        self.outcome = (rng.random(count) < chance).astype(np.float64)

    def fit(self, learner: Learner) -> UpliftFit:
        return fit_uplift(
            self.features, self.treated, self.propensity, self.outcome, self.users, learner, 1
        )


@pytest.mark.parametrize("learner", LEARNERS)
def test_an_effect_is_found_and_ranks_people_it_was_not_learned_from(learner: Learner) -> None:
    world = World(1)
    fit = world.fit(learner)

    found = qini(
        fit.out_of_fold, world.treated, world.propensity, world.outcome, world.users, resamples=50
    )

    assert found.low > 0
    assert np.corrcoef(fit.out_of_fold, world.truth)[0, 1] > 0.6
    fresh = World(2)
    assert np.corrcoef(fit.effects(fresh.features), fresh.truth)[0, 1] > 0.6
    assert fit.effects(fresh.features).mean() == pytest.approx(0.15, abs=0.04)


@pytest.mark.parametrize("learner", LEARNERS)
def test_no_users_own_outcomes_reach_the_effects_they_are_judged_by(learner: Learner) -> None:
    # People whose effects are pure chance, each told by a number that says who it is: whoever has
    # seen a person's outcomes knows something of their effect, and nobody else can.
    world = World(3, count=3_000)
    rng = np.random.default_rng(3)
    world.users = rng.integers(0, 300, 3_000)
    own = rng.choice([-0.4, 0.4], 300)[world.users]
    world.features[:, 3] = rng.normal(size=300)[world.users]
    world.outcome = (rng.random(3_000) < 0.5 + own * (world.treated - 0.5)).astype(np.float64)

    fit = world.fit(learner)
    inside, outside = (
        np.corrcoef(effects, own)[0, 1]
        for effects in (fit.effects(world.features), fit.out_of_fold)
    )

    assert outside < 0.1
    assert inside > outside + 0.1


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_model_exports_as_it_scores(learner: Learner) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    world = World(5, count=2_000)
    fit = world.fit(learner)
    rows = world.features.copy()
    rows[::7, 1] = np.nan

    graph = trees_graph([fit.model.trees()], rows.shape[1], "Identity")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    [found] = session.run([OUTPUT], {INPUT: rows})

    assert found[:, 0] == pytest.approx(fit.effects(rows), abs=1e-5)


def test_forward_effects_know_the_past_alone() -> None:
    world = World(8)
    block = np.arange(COUNT) * 4 // COUNT
    told = [world.features, world.treated, world.propensity, world.outcome, world.users]
    effects = fit_forward(Trial(*told), block, "dr", 1)
    told[3] = np.where(block < 3, world.outcome, 1 - world.outcome)  # another last night

    assert np.isnan(effects[block == 0]).all()
    assert np.isfinite(effects[block > 0]).all()
    assert fit_forward(Trial(*told), block, "dr", 1)[block > 0] == pytest.approx(effects[block > 0])
    assert np.corrcoef(effects[block == 3], world.truth[block == 3])[0, 1] > 0.6


def test_the_same_seed_gives_the_same_effects() -> None:
    world = World(6, count=1_000)

    assert world.fit("dr").out_of_fold.tolist() == world.fit("dr").out_of_fold.tolist()


def test_folds_keep_a_users_rows_together_and_cover_everybody() -> None:
    users = np.random.default_rng(1).integers(0, 50, 400)

    folds = np.array(list(by_user(users, 5, seed=1)))

    assert folds.sum(axis=0).tolist() == [1] * 400
    for user in range(50):
        assert len({tuple(row) for row in folds[:, users == user].T.tolist()}) <= 1


def test_what_was_not_random_is_refused() -> None:
    world = World(7, count=200)
    world.propensity[3] = 1.0
    with pytest.raises(InvalidInput, match="propensity"):
        world.fit("dr")

    world.propensity[3] = 0.5
    world.treated[:] = True
    with pytest.raises(InvalidInput, match="treated"):
        world.fit("dr")
