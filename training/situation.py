"""`kairos train situation`: labelled moments → what situations look like → a release.

What is published has to tell held-out people's labels better than what serves now: log loss by
five folds of people, the lower limit of the paired gain (bootstrap over people) above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.situation import Situations
from engine.situation_rules import Looks
from engine.times import to_rfc3339
from models import looks as learning
from models.loading import SITUATION
from models.looks import Labelled
from models.registry import Registry
from models.release import Card, Metric, Span
from training.labelled import LabelledLog
from training.over_people import mean_over
from training.publishing import commit

FOLDS = 5
FEWEST = 50  # labelled moments, and people behind them …
FEWEST_PEOPLE = 10
Floats = NDArray[np.float32]


class SituationReport(msgspec.Struct, frozen=True):
    """What came of it."""

    moments: int
    people: int
    by_situation: dict[str, int]
    labels_without_situation: dict[str, int]
    log_loss: dict[str, float] = {}  # served, learned: of held-out people
    right: dict[str, float] = {}  # share of moments whose likeliest situation is the label
    gain: Metric | None = None  # of log loss, served − learned
    better: bool = False
    reason: str = ""
    release_id: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Chances given to people that were left out."""

    served: Floats
    learned: Floats


def learn_looks(
    log: LabelledLog, looks: Looks, situations: Situations, registry: Registry, publish: bool
) -> SituationReport:
    """Fit, judge and publish; `looks` are those that serve, `situations` the operator's file's."""
    labelled = log.labelled()
    people = len(np.unique(labelled.user))
    counts = np.bincount(labelled.situation, minlength=len(situations.names))
    report = SituationReport(
        moments=len(labelled),
        people=people,
        by_situation=dict(zip(situations.names, counts.tolist(), strict=True)),
        labels_without_situation=dict(log.other.most_common(20)),
    )
    if len(labelled) < FEWEST or people < FEWEST_PEOPLE:
        reason = (
            f"expected {FEWEST} labelled moments of {FEWEST_PEOPLE} people at least, the log holds "
            f"{len(labelled)} of {people}: send `label` in device events"
        )
        return msgspec.structs.replace(report, reason=reason)
    held = hold_out(labelled, looks, situations)
    gain = paired_gain(labelled, held)
    better = bool(gain.low is not None and gain.low > 0)
    report = msgspec.structs.replace(
        report,
        log_loss={name: _loss(of, labelled) for name, of in _named(held)},
        right={name: _right(of, labelled) for name, of in _named(held)},
        gain=gain,
        better=better,
        reason=f"log loss of held-out people falls by {gain.value:.3f} "
        f"({gain.low:.3f} to {gain.high:.3f}): {'published' if better else 'not proved better'}",
    )
    if not better:
        return report
    learned = learning.fit(labelled, situations.looks, situations.names)
    version = registry.add(SITUATION, learned.to_artifact().files(), _card(log, report))
    if not publish:
        return report
    release = registry.publish({SITUATION: version.version}, report.reason)
    return msgspec.structs.replace(report, release_id=release.release_id)


def hold_out(labelled: Labelled, served: Looks, situations: Situations) -> Held:
    """Each fold of people by what the others said, on top of the operator's file."""
    learned = np.zeros((len(labelled), len(situations.names)), np.float32)
    fold = labelled.user % FOLDS
    for number in np.unique(fold):
        out = fold == number
        made = learning.fit(labelled.rows(~out), situations.looks, situations.names)
        fitted = made.on(situations.looks, situations.names)
        learned[out] = learning.chances(fitted, labelled.rows(out))
    return Held(learning.chances(served, labelled), learned)


def paired_gain(labelled: Labelled, held: Held) -> Metric:
    """Log loss served − learned, with a 95 % interval over people."""
    of_rows = learning.log_loss(held.served, labelled.situation) - learning.log_loss(
        held.learned, labelled.situation
    )
    return mean_over(labelled.user, of_rows)


def _named(held: Held) -> Sequence[tuple[str, Floats]]:
    return ("served", held.served), ("learned", held.learned)


def _loss(given: Floats, labelled: Labelled) -> float:
    return float(learning.log_loss(given, labelled.situation).mean())


def _right(given: Floats, labelled: Labelled) -> float:
    return float((given.argmax(axis=1) == labelled.situation).mean())


def _card(log: LabelledLog, report: SituationReport) -> Card:
    assert report.gain is not None
    return Card(
        data=Span("labels in the log", to_rfc3339(log.first_ms), to_rfc3339(log.last_ms)),
        rows=report.moments,
        metrics={
            "log_loss": Metric(report.log_loss["learned"]),
            "right": Metric(report.right["learned"]),
            "gain": report.gain,
        },
        baselines={
            "served": {
                "log_loss": Metric(report.log_loss["served"]),
                "right": Metric(report.right["served"]),
            }
        },
        commit=commit(),
        notes=[report.reason, f"{report.people} people, left out by fives"],
    )
