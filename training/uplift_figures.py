"""What the uplift learners find on Hillstrom's e-mail trial, and what the gate says to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np

from models.release import Metric
from training.hillstrom import read_mailing
from training.qini import qini
from training.spending import gate, power
from training.uplift import Learner, fit_uplift

Figures = dict[str, Any]
LEARNERS: tuple[Learner, ...] = get_args(Learner)
LOOKS = 28  # nights, for the gate and power that nightly training would have
DECISIONS = (5_600, 20_000, 100_000)
SPREADS = (0.01, 0.02, 0.04)
RATE = 0.1


def of_mailing(folder: Path, mail: str, outcome: str, seed: int = 1) -> Figures:
    """Averages, and each learner's out-of-fold ranking; [value, 2.5 %, 97.5 %] in points."""
    mailing = read_mailing(folder, mail)
    result, count = mailing.outcomes[outcome], len(mailing.treated)
    # A third each by design, so a half of two arms.
    propensity, users = np.full(count, 0.5), np.arange(count)
    found: Figures = {
        "customers": count,
        "with mail": _points(float(result[mailing.treated].mean())),
        "without": _points(float(result[~mailing.treated].mean())),
    }
    for learner in LEARNERS:
        fit = fit_uplift(
            mailing.features, mailing.treated, propensity, result, users, learner, seed
        )
        judged = qini(fit.out_of_fold, mailing.treated, propensity, result, users)
        found["average effect"] = _interval(judged.average)
        found[learner] = {
            "top tenth": _interval(judged.top),
            "qini": _interval(Metric(judged.value, judged.low, judged.high)),
            "gate, one look": gate(judged, 1, 1).reason,
            f"gate, last of {LOOKS} looks": gate(judged, LOOKS, LOOKS).reason,
        }
    return found


def powers() -> Figures:
    """How likely the gate opens by the last night, by decisions and by the effect's spread."""
    return {
        f"{decisions:,} decisions, half treated, rate {RATE}, {LOOKS} looks": {
            f"spread {spread}": round(power(decisions, spread, RATE, looks=LOOKS), 3)
            for spread in SPREADS
        }
        for decisions in DECISIONS
    }


def _points(value: float | None) -> float:
    return round(100 * (value or 0.0), 4)


def _interval(metric: Metric) -> list[float]:
    return [_points(value) for value in (metric.value, metric.low, metric.high)]
