"""`kairos train situation --refit`: the models themselves, with an app's labels beside public data.

A label that names an answer of posture, carriage or doing (`lying`, `on_table`, `cooking` …) is one
more minute to learn from: yes to that answer, no to the others of its axis. What is published has
to tell such labels of left-out people better than what serves: log loss, two halves of the people,
the lower limit of the paired gain above 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.senses import AXES, LABELS
from engine.situation import Situations
from engine.times import to_rfc3339
from models.context import ContextModel
from models.loading import CONTEXT
from models.registry import Registry
from models.release import Card, Metric, Span
from training import context
from training.context import Material
from training.labelled import LabelledLog
from training.over_people import log_loss, mean_over
from training.publishing import commit

FEWEST = 50  # labelled moments …
FEWEST_PEOPLE = 10
Floats = NDArray[np.float32]


class RefitReport(msgspec.Struct, frozen=True):
    """What came of it."""

    moments: int
    people: int
    gain: Metric | None = None  # of log loss, served − refitted
    better: bool = False
    reason: str = ""
    release_id: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Moments whose label answers an axis."""

    rows: Floats  # [n, signals.COUNT]
    hours: NDArray[np.float64]  # [n] local
    users: NDArray[np.int64]  # [n]
    truth: NDArray[np.int8]  # [n, LABELS]: 1, 0, −1 where the label says nothing of it

    def some(self, wanted: NDArray[np.bool_] | NDArray[np.intp]) -> Told:
        """These rows only."""
        return Told(self.rows[wanted], self.hours[wanted], self.users[wanted], self.truth[wanted])


def told_by(log: LabelledLog) -> Told:
    """The moments of a log whose label answers an axis."""
    found = [(user, glance) for user, glance in log.glances if glance.device.label in LABELS]
    truth = np.full((len(found), len(LABELS)), -1, np.int8)
    for row, (_, glance) in enumerate(found):
        for answers in AXES.values():
            if glance.device.label in answers:
                truth[row, [LABELS.index(answer) for answer in answers[:-1]]] = 0
        truth[row, LABELS.index(str(glance.device.label))] = 1
    rows = [glance.row for _, glance in found]
    return Told(
        np.array(rows, np.float32).reshape(len(found), -1),
        np.array([glance.hour for _, glance in found]),
        np.array([user for user, _ in found], np.int64),
        truth,
    )


def refit(
    log: LabelledLog, public: Material, situations: Situations, registry: Registry, publish: bool
) -> RefitReport:
    """Fit, judge and publish the context model; `situations` are those that serve."""
    told = told_by(log)
    report = RefitReport(len(told.rows), len(np.unique(told.users)))
    if report.moments < FEWEST or report.people < FEWEST_PEOPLE:
        reason = (
            f"expected {FEWEST} labels of {FEWEST_PEOPLE} people that name one of "
            f"{', '.join(LABELS)}, the log holds {report.moments} of {report.people}"
        )
        return msgspec.structs.replace(report, reason=reason)
    assert situations.models is not None
    served = situations.models.labels(told.rows)
    learned = np.empty_like(served)
    for half in range(2):
        out = told.users % 2 == half
        learned[out] = context.fit(beside(public, told.some(~out))).chances(told.rows[out])
    gain = mean_over(told.users, _losses(served, told.truth) - _losses(learned, told.truth))
    better = bool(gain.low is not None and gain.low > 0)
    reason = (
        f"log loss of left-out people falls by {gain.value:.3f} ({gain.low:.3f} to "
        f"{gain.high:.3f}): {'published' if better else 'not proved better'}"
    )
    report = msgspec.structs.replace(report, gain=gain, better=better, reason=reason)
    if not (better and publish):
        return report
    model = context.fit(beside(public, told))
    version = registry.add(CONTEXT, model.to_artifact().files(), _card(log, model, report))
    release = registry.publish({CONTEXT: version.version}, reason)
    return msgspec.structs.replace(report, release_id=release.release_id)


def beside(public: Material, told: Told) -> Material:
    """Public minutes and an app's moments, as one material to fit a model to."""
    # Public minutes are thinned, as their neighbours say the same; each of the app's has to count.
    told = told.some(np.repeat(np.arange(len(told.rows)), context.EVERY))
    count, minutes = len(told.rows), public.minutes
    people = told.users + int(minutes.users.max()) + 1
    folds = np.unique(minutes.folds)

    def blank(values: Any) -> Any:
        filler = np.full((count, *values.shape[1:]), np.nan).astype(values.dtype)
        return np.concatenate((values, filler))

    longer = replace(
        minutes,
        users=np.concatenate((minutes.users, people)),
        folds=np.concatenate((minutes.folds, folds[told.users % len(folds)])),
        hours=np.concatenate((minutes.hours, told.hours)),
        at_s=blank(minutes.at_s),
        weekdays=blank(minutes.weekdays),
        numbers=blank(minutes.numbers),
    )
    return Material(
        longer,
        np.concatenate((public.rows, told.rows)),
        np.concatenate((public.learned, told.rows)),
        np.concatenate((public.truth, told.truth)),
    )


def _losses(chances: Floats, truth: NDArray[np.int8]) -> NDArray[np.float64]:
    """float64 [n]: the mean over the labels that are known of a row."""
    known = truth >= 0
    losses = log_loss(truth == 1, chances.astype(np.float64))
    return np.asarray((losses * known).sum(axis=1) / known.sum(axis=1))


def _card(log: LabelledLog, model: ContextModel, report: RefitReport) -> Card:
    assert report.gain is not None
    return Card(
        data=Span("ExtraSensory, labels in the log", end=to_rfc3339(log.last_ms)),
        rows=report.moments,
        metrics={"gain": report.gain},
        settings={"trees": model.meta.trees},
        commit=commit(),
        notes=[report.reason, f"{report.people} people of the app beside ExtraSensory's 29"],
    )
