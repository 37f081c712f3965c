"""What the context model is worth to people it never met, beside its peers: one table per label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.senses import AXES, LABELS
from models.release import Metric
from training import context_peers, context_smoothing, over_people
from training.context import OF_LABEL, Judged, Material, cross_validate
from training.over_people import Cases

Doubles = NDArray[np.float64]
Labels = NDArray[np.int8]
Figures = dict[str, Any]
MUST = ("on_table", "walking", "lying", "sitting", "in_pocket", "in_vehicle")
TARGETS = {"on_table": 0.84, "walking": 0.80, "lying": 0.87}
VEHICLES = ("IN_A_CAR", "ON_A_BUS", "DRIVE_-_I_M_THE_DRIVER", "DRIVE_-_I_M_A_PASSENGER")


def people_of(source: Material) -> int:
    return int(source.minutes.users.max()) + 1


def cases_of(source: Material, truth: Labels) -> tuple[Cases, NDArray[np.int64]]:
    """The rows [m] where this truth [n] is known, and which they are."""
    rows = np.flatnonzero(truth >= 0)
    return Cases(source.minutes.users[rows], truth[rows] == 1, people_of(source)), rows


def evaluate(source: Material, judged: Judged, done: Callable[[str], None]) -> Figures:
    """Every label by axis: its figures, and whether the bars are met."""
    drawn = over_people.draws(people_of(source))
    found: Figures = {}
    for axis, labels in AXES.items():
        for label in labels[:-1]:
            done(label)
            found[f"{axis}: {label} ({OF_LABEL[label]})"] = of_label(source, judged, label, drawn)
    return found


def of_label(source: Material, judged: Judged, label: str, drawn: Doubles) -> Figures:
    """One label: the model, its two peers, the paired gains, calibration, people behind it."""
    column = LABELS.index(label)
    cases, rows = cases_of(source, source.truth[:, column])
    chances, base = judged.chances[rows, column], judged.base[rows, column]
    peers = {
        "linear": context_peers.linear(source, column)[rows],
        "clock": context_peers.clock(source, column)[rows],
    }
    ours = over_people.auc(cases, chances, drawn)
    accuracy = over_people.balanced_accuracy(cases, chances >= base, drawn)
    found: Figures = {
        "people with a yes": cases.with_yes(),
        "minutes yes, no": [int(cases.truth.sum()), int((~cases.truth).sum())],
        "auc": told(over_people.interval(ours)),
        "balanced accuracy": told(over_people.interval(accuracy)),
    }
    if label in TARGETS:
        found["target of balanced accuracy"] = TARGETS[label]
    for name, logits in peers.items():
        theirs = over_people.auc(cases, logits, drawn)
        # Both were fitted without weighing people, the linear one balanced.
        threshold = 0.0 if name == "linear" else np.log(base / (1 - base))
        right = over_people.balanced_accuracy(cases, logits >= threshold, drawn)
        found[f"{name}: auc"] = told(over_people.interval(theirs))
        found[f"{name}: balanced accuracy"] = told(over_people.interval(right))
        found[f"gain in auc over {name}"] = told(over_people.interval(ours - theirs))
    gained = over_people.skill(cases, chances, base, drawn)
    found["log-loss skill"] = told(over_people.interval(gained))
    error = over_people.calibration_error(cases.truth, chances)
    found["calibration error, 15 equal masses"] = round(error, 4)
    return found


def composites(source: Material, judged: Judged) -> Figures:
    """Truths made of several labels, told by products of chances; with the people behind each."""
    drawn = over_people.draws(people_of(source))
    return {
        name: of_composite(source, truth, score, base, drawn)
        for name, (truth, score, base) in composite_truths(source, judged).items()
    }


def of_composite(
    source: Material, truth: Labels, score: Doubles, base: Doubles, drawn: Doubles
) -> Figures:
    """AUC, and balanced accuracy where the score lies above its base rate."""
    cases, rows = cases_of(source, truth)
    accuracy = over_people.balanced_accuracy(cases, score[rows] >= base[rows], drawn)
    return {
        "people with a yes": cases.with_yes(),
        "minutes yes, no": [int(cases.truth.sum()), int((~cases.truth).sum())],
        "auc": told(over_people.interval(over_people.auc(cases, score[rows], drawn))),
        "balanced accuracy": told(over_people.interval(accuracy)),
    }


def composite_truths(
    source: Material, judged: Judged
) -> Mapping[str, tuple[Labels, Doubles, Doubles]]:
    """Name → truth [n], score [n] and the score that stands for a yes [n]."""
    of, base = _by_label(judged.chances), _by_label(judged.base)
    lies, sleeps = (source.minutes.labels[name] for name in ("LYING_DOWN", "SLEEPING"))
    awake = (lies == 1) & (sleeps == 0)
    rides = np.stack([source.minutes.labels[name] for name in VEHICLES])
    asked = (rides[[0, 2]] == 0).any(axis=0)
    in_bed = of["lying"] * (1 - of["sleeping"])
    rest = (lies == 0) | (sleeps == 1)
    riding = 1 - (1 - of["in_vehicle"]) * (1 - of["driving"])
    rate = 1 - (1 - base["in_vehicle"]) * (1 - base["driving"])
    label = source.truth[:, LABELS.index("cooking")], source.truth[:, LABELS.index("shopping")]
    return {
        "lying awake, against not lying": (_truth(awake, lies == 0), of["lying"], base["lying"]),
        "in bed awake, against all else": (
            _truth(awake, rest),
            in_bed,
            _rate(_truth(awake, rest), source, in_bed),
        ),
        "cooking": (label[0], of["cooking"], base["cooking"]),
        "shopping": (label[1], of["shopping"], base["shopping"]),
        "commuting: in any vehicle": (_truth((rides == 1).any(axis=0), asked), riding, rate),
    }


def _by_label(values: Doubles) -> dict[str, Doubles]:
    return {label: values[:, column] for column, label in enumerate(LABELS)}


def _truth(yes: NDArray[np.bool_], no: NDArray[np.bool_]) -> Labels:
    made: Labels = np.where(yes, 1, np.where(no, 0, -1)).astype(np.int8)
    return made


def _rate(truth: Labels, source: Material, score: Doubles) -> Doubles:
    """float64 [n]: how often it was true among the people of the three other folds."""
    made = np.full(len(truth), np.nan)
    for fold in np.unique(source.minutes.folds):
        mine = source.minutes.folds == fold
        made[mine] = (truth[~mine & (truth >= 0)] == 1).mean()
    return made


def smoothing(source: Material, judged: Judged, labels: Sequence[str] = LABELS) -> Figures:
    """Flips, balanced accuracy and delay, plain and through the forward filter."""
    columns = [LABELS.index(label) for label in labels]
    smoothed = context_smoothing.evaluate(source, judged, columns)
    found: Figures = {}
    for which, every in (
        ("plain", [one.plain for one in smoothed]),
        ("smoothed", [one.smooth for one in smoothed]),
    ):
        waits = np.array([wait for said in every for wait in said.delays_min()])
        found[f"changes of all labels, {which}"] = {
            "changes": len(waits),
            "noticed at all": _share(np.isfinite(waits)),
            "median minutes until noticed": _median(waits),
            "median minutes, of those noticed": _median(waits[np.isfinite(waits)]),
        }
    for label, one in zip(labels, smoothed, strict=True):
        flips = [one.plain.flips_per_hour(), one.smooth.flips_per_hour()]
        accuracy = [one.plain.balanced_accuracy(), one.smooth.balanced_accuracy()]
        delays = [np.array(one.plain.delays_min()), np.array(one.smooth.delays_min())]
        found[label] = {
            "flips per hour, plain and smoothed": [round(x, 3) for x in flips],
            "cut by": round(1 - flips[1] / max(flips[0], 1e-9), 3),
            "balanced accuracy, plain and smoothed": [round(x, 4) for x in accuracy],
            "changes": len(delays[0]),
            "noticed at all": [_share(np.isfinite(of)) for of in delays],
            "median minutes until noticed": [_median(of) for of in delays],
            "median minutes, of those noticed": [_median(of[np.isfinite(of)]) for of in delays],
            "tau in s and power, by fold": [list(dials) for dials in one.dials],
        }
    return found


def _share(flags: NDArray[np.bool_]) -> float | None:
    return round(float(flags.mean()), 3) if len(flags) else None


def _median(values: Doubles) -> float | str | None:
    if not len(values):
        return None
    middle = float(np.median(values))
    return round(middle, 2) if np.isfinite(middle) else "never"


def told(metric: Metric) -> list[float | None]:
    """[value, 2.5 %, 97.5 %] of draws of people."""
    return [None if x is None else round(x, 4) for x in (metric.value, metric.low, metric.high)]


def fresh(source: Material, done: Callable[[str], None]) -> Judged:
    """Cross-validated over people; see training.context."""
    return cross_validate(source, done=done)
