"""What each signal of a phone is worth: what is lost where an app does not collect it.

dropped   the models are fitted again without its columns, and without what the memory makes of
          it; the loss in mean AUC over the labels, paired, with an interval that draws people
missing   the models as they ship are told rows without it: nothing is fitted again
added     signals that the models do not read are given to them

What is fitted again, with every signal or without one, learns from half as many minutes as what
ships.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import signals
from engine.senses import LABELS
from training import over_people
from training.context import (
    POOR,
    SEED,
    Lost,
    Material,
    fit_label,
)
from training.context_figures import MUST, cases_of, people_of, told
from training.extrasensory import rows

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Figures = dict[str, Any]
Status = Callable[[str], None]
EVERY = 8  # minutes, in the fits: half as many as of the model that ships

_MOTION = (*signals.OF_WINDOW, *signals.SINCE, "acc_std_", "handled_", "flat_", "gyro_mean_")
# Signal of the contract → how the names of its columns begin.
SIGNALS: Mapping[str, Sequence[str]] = {
    "motion": _MOTION,
    "motion: gyroscope": ("gyro_",),
    "orientation": ("flat", "tall", "wide", "turned_deg", "untouched_s"),
    "speed_mps": ("speed_mps",),
    "app_state": ("foreground",),
    "brightness": ("brightness",),
    "charging": ("charging",),
    "network": ("wifi",),
    "lux": ("lux",),
    "proximity": ("near",),
    "clock": ("hour",),
    "history": (*signals.SINCE, *signals.AVERAGES),
}


def evaluate(source: Material, status: Status) -> Figures:
    """The three tables, each with the mean AUC over all labels and over the six of MUST."""
    drawn = over_people.draws(people_of(source), 500)
    status("all signals")
    whole = _aucs(source, _refitted(source, range(signals.COUNT)), drawn)
    figures: Figures = {"all signals": _means(whole), "dropped: loss in mean auc": {}}
    for name, begins in SIGNALS.items():
        status(f"without {name}")
        kept = [at for at, n in enumerate(signals.NAMES) if not n.startswith(tuple(begins))]
        without = _aucs(source, _refitted(source, kept), drawn)
        figures["dropped: loss in mean auc"][name] = _means(whole - without)
    figures["added: gain in mean auc"] = {}
    for name in source.minutes.unread:
        status(f"with {name}")
        richer = _with(source, source.minutes.unread[name])
        every = range(richer.rows.shape[1])
        figures["added: gain in mean auc"][name] = _means(
            _aucs(source, _refitted(richer, every), drawn) - whole
        )
    status("missing sensors")
    figures["missing: auc of the model as shipped"] = _missing(source, drawn)
    return figures


def _refitted(source: Material, columns: Sequence[int]) -> Doubles:
    """float64 [n, LABELS]: logits of left-out people, of models that read these columns."""
    found = np.full((len(source.rows), len(LABELS)), np.nan)
    for label in range(len(LABELS)):
        for fold in np.unique(source.minutes.folds):
            mine = source.minutes.folds == fold
            model = fit_label(source, label, ~mine, list(columns), EVERY)
            judged = mine & (source.truth[:, label] >= 0)
            found[judged, label] = model.logits(source.rows[judged][:, list(columns)])
    return found


def _aucs(source: Material, scores: Doubles, drawn: Doubles) -> Doubles:
    """float64 [draws, LABELS]."""
    found = []
    for label in range(len(LABELS)):
        cases, wanted = cases_of(source, source.truth[:, label])
        found.append(over_people.auc(cases, scores[wanted, label], drawn))
    return np.stack(found, axis=1)


def _means(values: Doubles) -> Figures:
    """Of AUCs [draws, LABELS]; a draw without a yes of a label leaves it out."""
    must = [LABELS.index(label) for label in MUST]
    single = {name: round(float(values[0, at]), 4) for at, name in enumerate(LABELS)}
    return {
        "all labels": told(over_people.interval(np.nanmean(values, axis=1))),
        "the six": told(over_people.interval(np.nanmean(values[:, must], axis=1))),
        "by label": single,
    }


def _with(source: Material, column: Floats) -> Material:
    richer = [np.column_stack((of, column)) for of in (source.rows, source.learned)]
    return replace(source, rows=richer[0], learned=richer[1])


def _missing(source: Material, drawn: Doubles) -> Figures:
    """Models as shipped, of left-out people's rows as phones would tell them without a sensor."""
    rng = np.random.default_rng(SEED)
    told_rows = {"nothing missing": source.rows}
    for name, lose in POOR.items():
        lost: Lost = lose(source.minutes.numbers.copy(), rng)
        told_rows[name] = rows(source.minutes, *lost)
    clockless = source.rows.copy()
    clockless[:, signals.NAMES.index("hour")] = np.nan
    told_rows["no clock"] = clockless
    return {name: _means(_aucs(source, scores, drawn)) for name, scores in _told(source, told_rows)}


def _told(source: Material, told_rows: Mapping[str, Floats]) -> list[tuple[str, Doubles]]:
    shape = (len(source.rows), len(LABELS))
    found = {name: np.full(shape, np.nan) for name in told_rows}
    for label in range(len(LABELS)):
        for fold in np.unique(source.minutes.folds):
            mine = source.minutes.folds == fold
            model = fit_label(source, label, ~mine)
            judged = mine & (source.truth[:, label] >= 0)
            for name, read in told_rows.items():
                found[name][judged, label] = model.logits(read[judged])
    return list(found.items())
