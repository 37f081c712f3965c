"""The context model: fitted to ExtraSensory, cross-validated over its people.

    truths → rows (also of poorer phones) → trees per label → Platt's calibration → one ONNX graph

What is said of a person comes from models that never saw them: four folds of whole people. Slope,
intercept and threshold of a fold's models come from its training people, each told by a model
without their own fold and without the fold that is judged, so that nothing of the judged people is
ever used. Of such models there are six, one for each pair of folds left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import signals
from engine.window_summary import LENGTHY
from models.boosting import Binary, BinarySettings, fit_binary
from models.context import HOURS, LABELS, ContextMeta, ContextModel
from models.export import PARITY, NotEqual, calibrated, trees_graph
from training.extrasensory import Minutes, rows

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int8]
Flags = NDArray[np.bool_]

OF_LABEL = {
    "lying": "LYING_DOWN",
    "sitting": "SITTING",
    "walking": "FIX_walking",
    "in_vehicle": "IN_A_CAR",
    "on_table": "PHONE_ON_TABLE",
    "in_hand": "PHONE_IN_HAND",
    "in_pocket": "PHONE_IN_POCKET",
    "in_bag": "PHONE_IN_BAG",
    "sleeping": "SLEEPING",
    "driving": "DRIVE_-_I_M_THE_DRIVER",
    "cooking": "COOKING",
    "shopping": "SHOPPING",
    "eating": "EATING",
}
EVERY = 4  # minutes: neighbours say nearly the same, and a fit on a quarter of them costs a quarter
POORER = 0.35  # share of the learned rows as a phone that tells less would have made them
SEED = 1
SLOPES = (0.2, 1.5)  # of Platt's calibration: beyond it the training people disagree too much
CLOCK_PRIOR = 5.0  # people's hours: how much of the overall rate is mixed into each hour's


def truths(minutes: Minutes) -> Labels:
    """int8 [n, LABELS]: 1, 0, −1 where unknown."""
    return np.stack([minutes.labels[OF_LABEL[label]] for label in LABELS], axis=1)


def settings_of(yes: int) -> BinarySettings:
    """Fewer trees where fewer minutes came true."""
    return BinarySettings(trees=60)


@dataclass(frozen=True, slots=True)
class Platt:
    """A chance is the sigmoid of slope × logit + intercept (Platt 1999)."""

    slope: float = 1.0
    intercept: float = 0.0

    def chances(self, logits: Doubles) -> Doubles:
        made: Doubles = 1 / (1 + np.exp(-(self.slope * logits + self.intercept)))
        return made


def fit_platt(logits: Doubles, truth: Flags, weights: Doubles) -> Platt:
    """By Newton's method; the slope within SLOPES."""
    slope, intercept = 1.0, 0.0
    for _ in range(30):
        chance = 1 / (1 + np.exp(-(slope * logits + intercept)))
        off, spread = weights * (chance - truth), weights * chance * (1 - chance)
        gradient = np.array([off @ logits, off.sum()])
        cross = spread @ logits
        hessian = np.array([[spread @ logits**2 + 1e-6, cross], [cross, spread.sum() + 1e-6]])
        step = np.linalg.solve(hessian, gradient)
        slope, intercept = slope - float(step[0]), intercept - float(step[1])
        slope = min(max(slope, SLOPES[0]), SLOPES[1])
        if np.abs(step).max() < 1e-6:
            break
    return Platt(slope, intercept)


def person_weights(users: NDArray[np.int64]) -> Floats:
    """float32 [n], 1 on the mean: every person counts the same."""
    counts = np.bincount(users)
    weights = 1.0 / counts[users]
    return (weights / weights.mean()).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from and judged on."""

    minutes: Minutes
    rows: Floats  # [n, signals.COUNT], as told
    learned: Floats  # the same, a share of them as poorer phones would have made them
    truth: Labels  # [n, LABELS]


def material(minutes: Minutes) -> Material:
    """Rows and truths of all minutes."""
    made = rows(minutes)
    return Material(minutes, made, poorer(minutes, made), truths(minutes))


def poorer(minutes: Minutes, told: Floats) -> Floats:
    """The rows, POORER of them as of phones that tell less: so that a model met what it lacks."""
    rng = np.random.default_rng(SEED)
    kind = rng.integers(0, len(POOR), len(told))
    replaced = rng.random(len(told)) < POORER
    made = told.copy()
    for number, lose in enumerate(POOR.values()):
        numbers, heard = lose(minutes.numbers.copy(), rng)
        wanted = replaced & (kind == number)
        made[wanted] = rows(minutes, numbers, heard)[wanted]
    return made


Lost = tuple[Floats, Flags]
Lose = Callable[[Floats, np.random.Generator], Lost]


def _without(wanted: Sequence[str]) -> Lose:
    places = [signals.QUANTITIES.index(name) for name in wanted]

    def lose(numbers: Floats, rng: np.random.Generator) -> Lost:
        numbers[:, places] = np.nan
        return numbers, np.ones(len(numbers), np.bool_)

    return lose


def _orientation_alone(numbers: Floats, rng: np.random.Generator) -> Lost:
    """No window, but face_up, face_down or upright where the phone plainly was so."""
    flat, tall = (signals.QUANTITIES.index(name) for name in ("flat", "tall"))
    lies, stands = numbers[:, flat] > 0.9, numbers[:, tall] > 0.7
    lost, heard = _without((*signals.OF_WINDOW, *signals.GRAVITY))(numbers, rng)
    lost[lies, flat], lost[lies, tall] = signals.ORIENTATION["face_up"]
    lost[stands, flat], lost[stands, tall] = signals.ORIENTATION["upright"]
    return lost, heard


def _seldom(numbers: Floats, rng: np.random.Generator) -> Lost:
    """A phone that tells of every tenth minute or so."""
    return numbers, rng.random(len(numbers)) < 0.1


_GYRO = tuple(name for name in signals.OF_WINDOW if name.startswith("gyro_"))
_ACC = tuple(n for n in (*signals.OF_WINDOW, *signals.GRAVITY) if n not in _GYRO)
_LENGTHY = tuple(name for name, column in signals.SUMMARIZED.items() if column in LENGTHY)
POOR: Mapping[str, Lose] = {
    "no gyroscope": _without(_GYRO),
    "short windows": _without(_LENGTHY),
    "orientation alone": _orientation_alone,
    "no motion": _without((*_ACC, *_GYRO)),
    "motion alone": _without(signals.OF_DEVICE),
    "seldom": _seldom,
}


def fit_label(
    source: Material, label: int, people: Flags, columns: Sequence[int] | None = None
) -> Binary:
    """Trees for one label on the minutes of some people (bool [n]) that say anything of it."""
    known = np.flatnonzero(people & (source.truth[:, label] >= 0))[::EVERY]
    truth = source.truth[known, label].astype(np.float32)
    weights = person_weights(source.minutes.users[known])
    learned = source.learned[known] if columns is None else source.learned[known][:, columns]
    return fit_binary(learned, truth, weights, settings_of(int(truth.sum())), SEED)


@dataclass(frozen=True, slots=True)
class Judged:
    """What models that never saw a person say of them; folds in rising order."""

    chances: Doubles  # [n, LABELS]: by the model of the three other folds, calibrated
    thresholds: Doubles  # [n, LABELS]: of the fold's training people
    base: Doubles  # [n, LABELS]: how often it was true among the fold's training people
    inner: Mapping[int, Doubles]  # fold → [n, LABELS]: of its training people, NaN in the fold
    folds: tuple[int, ...]


def cross_validate(
    source: Material,
    labels: Sequence[int] = tuple(range(len(LABELS))),
    columns: Sequence[int] | None = None,
    done: Callable[[str], None] = lambda label: None,
) -> Judged:
    """Every minute told by models without its person."""
    folds = tuple(np.unique(source.minutes.folds).tolist())
    shape = (len(source.rows), len(LABELS))
    judged = Judged(
        *(np.full(shape, np.nan) for _ in range(3)),
        {fold: np.full(shape, np.nan) for fold in folds},
        folds,
    )
    for label in labels:
        done(LABELS[label])
        _judge_label(source, label, columns, judged)
    return judged


def _judge_label(
    source: Material, label: int, columns: Sequence[int] | None, judged: Judged
) -> None:
    of_fold, truth = source.minutes.folds, source.truth[:, label]
    read = source.rows if columns is None else source.rows[:, columns]
    without: dict[tuple[int, int], Doubles] = {}
    for pair in itertools.combinations(judged.folds, 2):
        model = fit_label(source, label, ~np.isin(of_fold, pair), columns)
        told = np.full(len(truth), np.nan)
        told[np.isin(of_fold, pair)] = model.logits(read[np.isin(of_fold, pair)])
        without[pair] = told
    for fold in judged.folds:
        mine = of_fold == fold
        inner = np.full(len(truth), np.nan)
        for other in judged.folds:
            if other != fold:
                theirs = of_fold == other
                inner[theirs] = without[min(fold, other), max(fold, other)][theirs]
        known = ~mine & (truth >= 0)
        yes = truth[known] == 1
        platt = fit_platt(inner[known], yes, np.ones(len(yes)))
        judged.inner[fold][:, label] = platt.chances(inner)
        model = fit_label(source, label, ~mine, columns)
        judged.chances[mine, label] = platt.chances(model.logits(read[mine]))
        judged.thresholds[mine, label] = best_threshold(platt.chances(inner[known]), yes)
        judged.base[mine, label] = yes.mean()


def best_threshold(chances: Doubles, truth: Flags) -> float:
    """The chance from which on to say yes, for the best balanced accuracy."""
    order = np.argsort(-chances, kind="stable")
    right = truth[order]
    told = np.cumsum(right) / max(right.sum(), 1) - np.cumsum(~right) / max((~right).sum(), 1)
    # Between equal chances there is no threshold.
    ends = np.append(np.diff(chances[order]) < 0, True)
    best = int(np.argmax(np.where(ends, told, -np.inf)))
    return float(chances[order][best])


def fit(source: Material) -> ContextModel:
    """The model that serves, of everybody; calibrated on what models without a person's fold say.

    Raises NotEqual where the graph does not score as the trees.
    """
    everybody = np.ones(len(source.rows), np.bool_)
    fitted, platts = [], []
    for label in range(len(LABELS)):
        fitted.append(fit_label(source, label, everybody))
        platts.append(_platt_of_all(source, label))
    trees = [
        calibrated(m.trees(), p.slope, p.intercept) for m, p in zip(fitted, platts, strict=True)
    ]
    meta = ContextMeta(
        labels=list(LABELS), columns=list(signals.NAMES), trees=sum(len(of) for of in trees)
    )
    model = ContextModel(meta, trees_graph(trees, signals.COUNT), clock_table(source))
    check_parity(model, fitted, platts, source.rows[::50])
    return model


def _platt_of_all(source: Material, label: int) -> Platt:
    of_fold, truth = source.minutes.folds, source.truth[:, label]
    logits = np.full(len(truth), np.nan)
    for fold in np.unique(of_fold):
        mine = of_fold == fold
        logits[mine] = fit_label(source, label, ~mine).logits(source.rows[mine])
    known = truth >= 0
    return fit_platt(logits[known], truth[known] == 1, np.ones(int(known.sum())))


def check_parity(
    model: ContextModel, fitted: Sequence[Binary], platts: Sequence[Platt], told: Floats
) -> float:
    """The largest difference of a chance on these rows; raises NotEqual above PARITY."""
    ours = [p.chances(m.logits(told)) for m, p in zip(fitted, platts, strict=True)]
    worst = float(np.abs(model.chances(told) - np.stack(ours, axis=1)).max(initial=0.0))
    if not worst <= PARITY:
        raise NotEqual(f"context: a chance differs by {worst:.2g}, expected at most {PARITY}")
    return worst


def clock_table(source: Material) -> Floats:
    """float32 [24, LABELS]: how often each was true by the local hour, every person alike."""
    hour = source.minutes.hours.astype(np.int64)
    table = np.empty((HOURS, len(LABELS)), np.float32)
    for label in range(len(LABELS)):
        known = source.truth[:, label] >= 0
        table[:, label] = hourly(
            hour[known], source.truth[known, label] == 1, source.minutes.users[known]
        )
    return table


def hourly(hours: NDArray[np.int64], truth: Flags, users: NDArray[np.int64]) -> Doubles:
    """float64 [24]: rates by hour, smoothed over its neighbours and towards the overall rate."""
    weights = person_weights(users).astype(np.float64)
    every = np.bincount(hours, weights, HOURS)
    yes = np.bincount(hours, weights * truth, HOURS)
    every, yes = (x / 2 + (np.roll(x, 1) + np.roll(x, -1)) / 4 for x in (every, yes))
    prior = CLOCK_PRIOR * every.sum() / HOURS / max(len(np.unique(users)), 1)
    made: Doubles = (yes + prior * yes.sum() / every.sum()) / (every + prior)
    return made
