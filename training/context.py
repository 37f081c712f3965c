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
from engine.senses import LABELS
from engine.window_summary import LENGTHY
from models.boosting import Binary, BinarySettings, fit_binary
from models.context import HOURS, ContextMeta, ContextModel
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
# True in fewer than 6,000 minutes: smaller trees.
RARE = frozenset({"in_vehicle", "in_hand", "in_bag", "driving", "cooking", "shopping"})
POORER = 0.4  # share of the learned rows as a phone that tells less would have made them
SEED = 1
EVIDENCE = 20.0  # independent minutes that a person is worth in a calibration
PULL = 4.0  # of a slope towards 1, in the same measure
FLATTEST = 0.2  # of slopes: a model is never turned round
CLOCK_PRIOR = 5.0  # people's hours: how much of the overall rate is mixed into each hour's


def truths(minutes: Minutes) -> Labels:
    """int8 [n, LABELS]: 1, 0, −1 where unknown."""
    return np.stack([minutes.labels[OF_LABEL[label]] for label in LABELS], axis=1)


def settings_of(label: str) -> BinarySettings:
    """How the trees of a label grow."""
    if label in RARE:
        return BinarySettings(trees=80, leaves=4, l2=50.0, columns=0.2)
    return BinarySettings(trees=60)


@dataclass(frozen=True, slots=True)
class Platt:
    """A chance is the sigmoid of slope × logit + intercept (Platt 1999)."""

    slope: float = 1.0
    intercept: float = 0.0

    def chances(self, logits: Doubles) -> Doubles:
        made: Doubles = 1 / (1 + np.exp(-(self.slope * logits + self.intercept)))
        return made


def fit_platt(logits: Doubles, truth: Flags, users: NDArray[np.int64]) -> Platt:
    """By Newton's method, as if every person were EVIDENCE minutes; the slope drawn to 1.

    Minutes of one person are hardly independent: without the pull a few people's habits turn the
    slope, and with it the order of the chances of two folds.
    """
    weights = np.full(len(truth), EVIDENCE * len(np.unique(users)) / max(len(truth), 1))
    slope, intercept = 1.0, 0.0
    for _ in range(50):
        chance = 1 / (1 + np.exp(-(slope * logits + intercept)))
        off, spread = weights * (chance - truth), weights * chance * (1 - chance)
        gradient = np.array([off @ logits + PULL * (slope - 1), off.sum()])
        cross = float(spread @ logits)
        hessian = np.array([[spread @ logits**2 + PULL, cross], [cross, spread.sum() + 1e-3]])
        step = np.clip(np.linalg.solve(hessian, gradient), -0.5, 0.5)
        slope, intercept = slope - float(step[0]), intercept - float(step[1])
        if np.abs(step).max() < 1e-6:
            break
    return Platt(max(slope, FLATTEST), intercept)


def person_weights(users: NDArray[np.int64]) -> Floats:
    """float32 [n], 1 on the mean: every person counts the same."""
    counts = np.bincount(users)
    weights = 1.0 / counts[users]
    made: Floats = (weights / weights.mean()).astype(np.float32)
    return made


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


def _first_sight(numbers: Floats, rng: np.random.Generator) -> Lost:
    """A phone of which nothing is remembered: new, or unheard of for hours."""
    return numbers, np.zeros(len(numbers), np.bool_)


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
    "first sight": _first_sight,
}


def fit_label(
    source: Material,
    label: int,
    people: Flags,
    columns: Sequence[int] | None = None,
    every: int = EVERY,
) -> Binary:
    """Trees for one label on the minutes of some people (bool [n]) that say anything of it."""
    known = np.flatnonzero(people & (source.truth[:, label] >= 0))[::every]
    truth = source.truth[known, label].astype(np.float32)
    weights = person_weights(source.minutes.users[known])
    learned = source.learned[known] if columns is None else source.learned[known][:, columns]
    return fit_binary(learned, truth, weights, settings_of(LABELS[label]), SEED)


@dataclass(frozen=True, slots=True)
class Judged:
    """What models that never saw a person say of them; folds in rising order."""

    chances: Doubles  # [n, LABELS]: by the model of the three other folds, calibrated
    base: Doubles  # [n, LABELS]: how often it was true among the fold's training people, which
    # is also where a calibrated chance becomes a yes for the best balanced accuracy
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
        np.full(shape, np.nan),
        np.full(shape, np.nan),
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
        platt = fit_platt(inner[known], yes, source.minutes.users[known])
        judged.inner[fold][:, label] = platt.chances(inner)
        model = fit_label(source, label, ~mine, columns)
        judged.chances[mine, label] = platt.chances(model.logits(read[mine]))
        judged.base[mine, label] = yes.mean()


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
    return fit_platt(logits[known], truth[known] == 1, source.minutes.users[known])


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
    told, true = (
        _with_neighbours(np.bincount(hours, of, HOURS).astype(np.float64))
        for of in (weights, weights * truth)
    )
    prior = CLOCK_PRIOR * told.sum() / HOURS / max(len(np.unique(users)), 1)
    made: Doubles = (true + prior * true.sum() / told.sum()) / (told + prior)
    return made


def _with_neighbours(by_hour: Doubles) -> Doubles:
    made: Doubles = by_hour / 2 + (np.roll(by_hour, 1) + np.roll(by_hour, -1)) / 4
    return made
