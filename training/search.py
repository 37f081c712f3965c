"""Choose the factors on validation: the settings' tries, and what a search adds. Optuna's door.

Every try is fitted to the earliest part of the log and judged on moments of the middle part, by
the request's own road; the test part is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import optuna

from engine.candidates import Sources
from models.release import Metric
from training.evaluate import METRICS, summary
from training.fitting import fit_factors
from training.material import Material
from training.stages import Say


class Try(msgspec.Struct, frozen=True):
    """One try at factors, and how it did on validation."""

    settings: dict[str, Any]
    score: Metric


def choose_factors(material: Material, search: int, say: Say) -> list[Try]:
    """Every try of the settings and `search` more, the best first."""
    tries = [_try(material, told, say) for told in material.job.training.factors]
    if search:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=material.job.training.seed),
        )
        for _ in range(search):
            trial = study.ask()
            found = _try(material, _drawn(trial), say)
            study.tell(trial, found.score.value)
            tries.append(found)
    return sorted(tries, key=lambda one: -one.score.value)


def _try(material: Material, told: Mapping[str, Any], say: Say) -> Try:
    acts = material.acts_upto(material.cuts.rows)
    model = fit_factors(material.history, acts, told, material.job.training.seed)
    parts = material.parts(Sources(factors=model))
    trials = material.compare({"try": parts}, on_test=False)
    resamples = material.job.training.evaluation.resamples
    score = summary(trials["try"], resamples).metrics[METRICS[0]]
    say(f"  {_told(told)}: {METRICS[0]} {score.value:.4f}")
    return Try(dict(told), score)


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
