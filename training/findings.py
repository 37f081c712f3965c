"""What a run found."""

from __future__ import annotations

import msgspec
import numpy as np

from engine.times import to_rfc3339
from training.contest import Outcome, Verdict, told
from training.datasets import Rows, balance
from training.evaluate import Scored
from training.material import Material
from training.ranking import Calibration, Fitted
from training.search import Try
from training.stages import Stage


class RowsReport(msgspec.Struct, frozen=True):
    """The ranker's rows."""

    basis: str  # where they are from
    count: int
    outcomes: dict[str, tuple[int, int]]  # ripe rows, and how many of them came true


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `kairos train`."""

    start: str
    rows_from: str  # where the earliest part ends …
    test_from: str  # … and the latest begins
    end: str
    users: int
    items: int
    acts: int
    decisions: int
    moments: int  # of the test
    tries: list[Try]  # at factors, the best first
    judged_by: str  # how contenders were judged, in a sentence
    scores: dict[str, Scored]  # by contender, on the test part, in the way that decided
    then: dict[str, Scored]  # … and by what users then took up
    verdicts: list[Verdict]
    rows: RowsReport | None
    calibration: dict[str, Calibration]  # by outcome, on the test part
    importance: dict[str, float]  # of features: shares of the trees' gain
    parity: float | None  # largest difference of the fitted and the exported ranker
    candidate: str  # the contender that a release would be
    better: bool
    reason: str
    notes: list[str]
    versions: dict[str, str] = {}
    release_id: str | None = None
    stages: list[Stage] = []


def make_report(
    material: Material,
    tries: list[Try],
    earlier: list[Verdict],
    rows: Rows | None,
    fitted: Fitted | None,
    outcome: Outcome,
    calibration: dict[str, Calibration],
) -> Report:
    """What is known before anything is published; `earlier` verdicts are those on validation."""
    history, cuts = material.history, material.cuts
    return Report(
        start=to_rfc3339(int(history.acts.at_ms[0])),
        rows_from=to_rfc3339(cuts.rows),
        test_from=to_rfc3339(cuts.test),
        end=to_rfc3339(history.end_ms),
        users=len(np.unique(history.acts.user)),
        items=history.catalog.columns.size,
        acts=len(history.acts),
        decisions=len(history.decisions),
        moments=len(material.test),
        tries=tries,
        judged_by=outcome.judged_by,
        scores=dict(outcome.scores),
        then=dict(outcome.then),
        verdicts=[*earlier, *outcome.verdicts],
        rows=_rows(material, rows),
        calibration=calibration,
        importance={} if fitted is None else fitted.boosted.importance(),
        parity=None if fitted is None else fitted.parity,
        candidate=outcome.candidate,
        better=outcome.better,
        reason=outcome.reason,
        notes=[] if rows is None else _notes(material, earlier, fitted, outcome),
    )


def _rows(material: Material, rows: Rows | None) -> RowsReport | None:
    if rows is None:
        return None
    return RowsReport(material.basis, len(rows), dict(balance(rows, material.outcomes)))


def _notes(
    material: Material, earlier: list[Verdict], fitted: Fitted | None, outcome: Outcome
) -> list[str]:
    notes = [f"the ranker's rows are {material.basis}"]
    for verdict in earlier:
        if not verdict.proved:
            notes.append(f"{verdict.what} has not earned its place ({told(verdict.difference)})")
    if unnamed := _unnamed(material):
        notes.append(f"liked by these acts, which no outcome names: {', '.join(unnamed)}")
    if fitted is None:
        notes.append("no ranker: no outcome of the objective came true often enough to be learned")
        return notes
    if missing := sorted(set(material.outcomes) - set(fitted.boosted.outcomes)):
        notes.append(f"not learned, for want of examples: {', '.join(missing)}")
    if not outcome.ranker_earned:
        notes.append("no ranker: it has not proved better than retrieval alone")
    return notes


def _unnamed(material: Material) -> list[str]:
    """Actions that say that an item was liked, and that the ranker cannot learn, by name."""
    acts = material.history.acts
    liked = set(acts.term[(acts.item >= 0) & (acts.weight > 0)].tolist())
    named = {name for one in material.job.objective.outcomes.values() for name in one.actions}
    terms = material.history.catalog.terms["action"]
    return sorted(name for name, term in terms.items() if term in liked and name not in named)
