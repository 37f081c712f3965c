"""How often the gate lets a model through: useless ones, and ones that rank a real effect."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.qini import CROSS_FITTED, qini
from training.spending import bounds
from training.uplift import Doubles, Flags, Floats, Ints, Learner, Trial, fit_forward, fit_uplift

Figures = dict[str, Any]
LOOKS, BLOCKS = 5, 10  # a look after every second block of time
DECISIONS = 2_800
DRAWS = 50
LEARNER: Learner = "t"  # of the three the one that fits fastest
JUDGED = ("forward in time", "cross-fitted", "cross-fitted, its scores held fixed")


def draw_trial(spread: float, rng: np.random.Generator, count: int = DECISIONS) -> Trial:
    """Random decisions, two a user on average; half of all gain `spread` more, half less."""
    features = rng.normal(size=(count, 6)).astype(np.float32)
    treated = rng.random(count) < 0.5
    effect = 0.04 + np.where(features[:, 1] > 0, spread, -spread)
    chance = 0.1 + 0.04 * (features[:, 0] > 0) + effect * treated
    outcome = (rng.random(count) < chance).astype(np.float64)
    return Trial(
        features, treated, np.full(count, 0.5), outcome, rng.integers(0, count // 2, count)
    )


def let_through(runs: int, spread: float, seed: int = 1) -> Figures:
    """Share of runs in which one of five looks opens the gate, by how effects are judged."""
    asked = bounds(LOOKS)
    found = np.array([_looks(spread, seed * 100_000 + run) for run in range(runs)])
    return {
        how: {
            "let through": round(float((found[:, :, n] > asked).any(axis=1).mean()), 4),
            "at the last look alone": round(float((found[:, -1, n] > asked[-1]).mean()), 4),
            "deviation of the last look": round(float(found[:, -1, n].std()), 3),
        }
        for n, how in enumerate(JUDGED)
    }


def _looks(spread: float, seed: int) -> list[list[float]]:
    """Qini values in standard errors, by look and as JUDGED."""
    trial = draw_trial(spread, np.random.default_rng(seed))
    block = np.arange(len(trial.users)) * BLOCKS // len(trial.users)
    forward = fit_forward(trial, block, LEARNER, seed)
    found = []
    for look in range(1, LOOKS + 1):
        so_far = block < look * BLOCKS // LOOKS
        told = so_far & np.isfinite(forward)
        fit = fit_uplift(*_columns(trial.some(so_far)), learner=LEARNER, seed=seed)
        strict = _standardised(trial.some(so_far), fit.out_of_fold, True, seed)
        ahead = _standardised(trial.some(told), forward[told], False, seed)
        found.append([ahead, strict, strict * CROSS_FITTED])
    return found


def _columns(trial: Trial) -> tuple[Floats, Flags, Doubles, Doubles, Ints]:
    return trial.features, trial.treated, trial.propensity, trial.outcome, trial.users


def _standardised(trial: Trial, scores: Doubles, cross_fitted: bool, seed: int) -> float:
    _, treated, propensity, outcome, users = _columns(trial)
    found = qini(scores, treated, propensity, outcome, users, cross_fitted, DRAWS, seed)
    return found.value / found.deviation if found.deviation > 0 else 0.0  # too few to tell apart
