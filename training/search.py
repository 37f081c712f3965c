"""Choose the factors on validation: the settings' tries, and what a search adds. Optuna's door.

Every try is fitted to the earliest part of the log and judged on moments of the middle part, by
the request's own road; the test part is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import optuna

from engine.candidates import Retriever, Sources
from models.release import Metric
from training.evaluate import METRICS, summary
from training.fitting import fit_factors
from training.material import Material
from training.stages import Say


class Try(msgspec.Struct, frozen=True):
    """One try at factors, and how it did on validation."""

    settings: dict[str, Any]
    score: Metric


class _Chooser:
    """Fits and judges one try after the other; of the models it keeps the best alone."""

    def __init__(self, material: Material, say: Say) -> None:
        self.tries: list[Try] = []
        self.best: Retriever | None = None
        self._material = material
        self._say = say

    def add(self, told: Mapping[str, Any]) -> Try:
        found, model = _try(self._material, told, self._say)
        if all(found.score.value > before.score.value for before in self.tries):
            self.best = model
        self.tries.append(found)
        return found


def choose_factors(material: Material, search: int, say: Say) -> tuple[list[Try], Retriever]:
    """Every try of the settings and `search` more, the best first; and the best as fitted."""
    chooser = _Chooser(material, say)
    for told in material.job.training.factors:
        chooser.add(told)
    if search:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=material.job.training.seed),
        )
        for _ in range(search):
            trial = study.ask()
            study.tell(trial, chooser.add(_drawn(trial)).score.value)
    assert chooser.best is not None  # the settings hold at least one try
    return sorted(chooser.tries, key=lambda one: -one.score.value), chooser.best


def _try(material: Material, told: Mapping[str, Any], say: Say) -> tuple[Try, Retriever]:
    acts = material.acts_upto(material.cuts.rows)
    model = fit_factors(material.history, acts, told, material.job.training.seed)
    parts = material.parts(Sources(factors=model))
    trials = material.compare({"try": parts}, on_test=False)
    resamples = material.job.training.evaluation.resamples
    score = summary(trials["try"], resamples).metrics[METRICS[0]]
    say(f"  {_told(told)}: {METRICS[0]} {score.value:.4f}")
    return Try(dict(told), score), model


def _drawn(trial: optuna.Trial) -> dict[str, Any]:
    """The space that is searched."""
    if trial.suggest_categorical("kind", ["spectral", "als"]) == "spectral":
        return {
            "kind": "spectral",
            "dimensions": trial.suggest_int("dimensions", 16, 768, log=True),
            "user_power": trial.suggest_float("user_power", 0.0, 0.6),
            "item_power": trial.suggest_float("item_power", 0.0, 0.6),
        }
    return {
        "kind": "als",
        "factors": trial.suggest_int("factors", 16, 256, log=True),
        "regularization": trial.suggest_float("regularization", 0.1, 200.0, log=True),
        "alpha": trial.suggest_float("alpha", 0.5, 50.0, log=True),
    }


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
    )
