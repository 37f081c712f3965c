"""What the off-policy estimators say of the Open Bandit Dataset, and how often intervals cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training import open_bandit
from training.long_run import per_user, trajectories
from training.off_policy import (
    METHODS,
    Estimate,
    Logged,
    Method,
    TooLittleOverlap,
    effective_size,
    estimate,
)
from training.off_policy_worlds import Rare, Tiring, clustered, clustered_truth, tiring_log

Figures = dict[str, Any]
COVERED: tuple[Method, ...] = ("ips", "snips", "dr", "switch")
USERS = 300
FAVOURS = (0.5, 1.0, 1.5, 2.0)  # how unlike the policies of rare rewards are
OFTEN, SELDOM, PEOPLE = 0.7, 0.3, 20_000  # of the world whose pushes tire


def of_campaign(folder: Path, source: str, target: str, campaign: str) -> Figures:
    """Each estimator's value of `target` from the rows of `source`; [value, low, high]."""
    theirs = open_bandit.read_shown(folder, target, campaign)
    rows = open_bandit.logged(
        open_bandit.read_shown(folder, source, campaign), open_bandit.chances(theirs, target)
    )
    on_policy = per_user(theirs.click, np.arange(len(theirs.click)))
    found: Figures = {
        "rows": len(rows.reward),
        "effective rows": round(effective_size(rows.weights), 1),
        "on policy, its own rows": _told(on_policy),
    }
    for method in METHODS:
        try:
            found[method] = _told(estimate(rows, method))
        except TooLittleOverlap as refused:
            found[method] = f"refused: {refused}"
    return found


def coverage(runs: int, seed: int, users: int = USERS) -> Figures:
    """How often 95 % intervals hold the truth, by user and as if rows were independent."""
    rng, truth = np.random.default_rng(seed), clustered_truth()
    held: dict[str, list[tuple[bool, float]]] = {}
    for _ in range(runs):
        rows = clustered(users, rng)
        for how, logged in (("by user", rows), ("by row", _alone(rows))):
            for method in COVERED:
                one = estimate(logged, method)
                inside = one.low <= truth <= one.high
                held.setdefault(f"{method}, {how}", []).append((inside, one.width))
    return {"truth": round(truth, 5), "runs": runs, "users a run": users} | {
        name: {"coverage": round(share, 4), "mean width": round(width, 5)}
        for name, (share, width) in ((n, np.mean(v, axis=0).tolist()) for n, v in held.items())
    }


def rare_coverage(runs: int, seed: int) -> Figures:
    """The same where about 46 of 10,000 rows have a reward, by how unlike the policies are."""
    rng = np.random.default_rng(seed)
    found: Figures = {"runs": runs}
    for favour in FAVOURS:
        world, held = Rare.draw(favour, rng), []
        for _ in range(runs):
            one = estimate(world.log(rng), "snips")
            held.append((one.low <= world.truth() <= one.high, one.width, one.effective))
        share, width, effective = np.mean(held, axis=0).tolist()
        found[f"{effective:,.0f} effective rows of 10,000"] = {
            "coverage": round(share, 4),
            "mean width": round(width, 5),
            "truth": round(world.truth(), 5),
        }
    return found


def _alone(rows: Logged) -> Logged:
    return Logged(
        rows.reward,
        rows.propensity,
        rows.target,
        np.arange(len(rows.reward)),
        rows.predicted,
        rows.predicted_target,
    )


def long_run(seed: int) -> Figures:
    """One step beside the long run where pushes tire: openings per decision."""
    world, rng = Tiring(), np.random.default_rng(seed)
    rows, order = tiring_log(world, PEOPLE, SELDOM, OFTEN, rng)
    opened, _ = world.live(PEOPLE, OFTEN, rng)
    kept = per_user(opened.ravel(), np.repeat(np.arange(PEOPLE), world.steps))
    weighted = trajectories(rows, order)
    return {
        "truth": round(world.truth(OFTEN) / world.steps, 5),
        "one step, snips": _told(estimate(rows, "snips")),
        "trajectories": _told(weighted, world.steps),
        "effective users of trajectories": round(weighted.effective, 1),
        "policy kept per user": _told(kept, world.steps),
    }


def _told(found: Estimate, per: int = 1) -> list[float]:
    return [round(value / per, 5) for value in (found.value, found.low, found.high)]
