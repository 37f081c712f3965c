"""What a run learns from and is judged on: the log, cut by time, and moments drawn of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.actions import Actions
from engine.candidates import Sources
from engine.errors import KairosError
from engine.objective import Objective
from engine.pipeline import UNREAD, Parts
from engine.recommending import Recommending
from engine.rows import RowFiles
from engine.settings import Settings
from engine.situation import Situations
from engine.taste import weights_by_term
from training.cold import MOST_MOMENTS, Cold, cold_items, narrow
from training.datasets import (
    Rows,
    Seen,
    frozen_rows,
    join,
    moment_of,
    rebuilt_rows,
    sampled_rows,
    seen_decisions,
)
from training.evaluate import Judged, Trial, evaluate, evaluate_shown
from training.examination import Examined, examine
from training.history import Acts, History
from training.item_history import ItemHistory
from training.labels import Labeller
from training.moments import Case, NewActs, States, gains_by_term
from training.parallel import replay_points
from training.replay import Point
from training.settings import SplitSettings, TrainingSettings

FEWEST_ACTS = 1_000
FEWEST_DECISIONS = 200  # of which something was seen; with fewer the ranker's rows are sampled


FEWEST_JUDGED = 100  # decisions that show a preference; with fewer, acts that followed are judged
TEST_SHARE = 0.2  # of as many moments as the ranker learns from: enough for its calibration


class TooLittle(KairosError):
    """The log does not hold enough to learn from; says what was expected and what is there."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, and with what."""

    settings: Settings
    training: TrainingSettings
    actions: Actions
    objective: Objective
    recommending: Recommending
    situations: Situations
    names: tuple[str, ...]  # models to publish
    since_ms: int | None = None  # of the acts
    until_ms: int | None = None
    publish: bool = True
    search: int = 0  # tries beyond those of the settings


@dataclass(frozen=True, slots=True)
class Cuts:
    """Times, unix ms, at which the log is cut: up to `rows`, up to `test`, and below `end`."""

    rows: int
    test: int
    end: int


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where the ranker's rows of a part of the time come from."""

    labeller: Labeller
    decisions: list[Seen]  # of which something was seen
    frozen: Rows
    seen: list[Seen]  # those of the decisions that are not frozen
    cases: list[Case]  # moments to sample at, where there are no decisions

    def points(self) -> Iterator[Point]:
        """The states that are needed."""
        yield from (one.point for one in self.decisions)
        yield from (case.point for case in self.cases)


@dataclass(frozen=True)
class Material:
    """A log, ready to be learned from."""

    job: Job
    history: History
    cuts: Cuts
    items: ItemHistory
    base: Parts  # without any model
    states: States
    cold: Cold  # on the middle part
    validation: list[Case]
    test: list[Case]
    train_rows: RowSource
    test_rows: RowSource

    def acts_upto(self, at_ms: int) -> Acts:
        """What was done before a time."""
        return self.history.acts.rows(slice(0, self.history.acts.upto(at_ms)))

    def parts(self, sources: Sources) -> Parts:
        """What a request is answered with from these sources alone."""
        return replace(self.base, sources=sources)

    def judged(self, source: RowSource) -> list[Judged]:
        """Decisions of which the user preferred some to others, drawn by chance, in time order."""
        drawn = np.random.default_rng(self.job.training.seed).permutation(len(source.decisions))
        found = []
        for number in drawn.tolist():
            one = source.decisions[number]
            gains = self._gains(source, one)
            if gains.max() > gains.min():
                moment = moment_of(
                    self.history.decisions[one.row],
                    self.states.at(one.point),
                    self.base.situations,
                )
                shown = np.array([one.items[slot] for slot in one.seen], np.int32)
                weighed = gains / self.examined.at(one)
                found.append(Judged(one.user, one.point, moment, shown, weighed))
                if len(found) == self.job.training.evaluation.moments:
                    break
        return sorted(found, key=lambda one: one.point.at_ms)

    def _gains(self, source: RowSource, one: Seen) -> NDArray[np.float32]:
        """float32 [seen]: what came of each item by the objective, nothing below 0."""
        outcomes = self.job.objective.outcomes
        weights = self.job.objective.weights(self.outcomes)
        # A return is no item's own: it moves every item of a decision alike.
        weights[[outcomes[name].returns for name in self.outcomes]] = 0
        items = [one.items[slot] for slot in one.seen]
        labels = source.labeller.of_decision(one.row, one.user, one.point.at_ms, items)
        gains: NDArray[np.float32] = np.maximum(np.nan_to_num(labels) @ weights, 0)
        return gains

    @cached_property
    def examined(self) -> Examined:
        """How much is done with what stands lower, of what stands first."""
        source = self.train_rows
        acted = [self._gains(source, one) > 0 for one in source.decisions]
        return examine(source.decisions, acted)

    def believes_shown(self, judged: Sequence[Judged]) -> bool:
        """Whether there are decisions enough to judge by: see training.evaluate."""
        return len(judged) >= FEWEST_JUDGED

    def compare(
        self, contenders: Mapping[str, Parts], on_test: bool, after_ms: int = 0
    ) -> dict[str, Trial]:
        """The contenders on the middle part or the test, in the way to be believed there."""
        judged = self.judged(self.test_rows if on_test else self.train_rows)
        if self.believes_shown(judged):
            judged = [one for one in judged if one.point.at_ms > after_ms]
            return evaluate_shown(judged, self.states, self.items, contenders)
        cases = self.test if on_test else self.validation
        cases = [case for case in cases if case.point.at_ms > after_ms]
        return evaluate(cases, self.states, self.items, contenders)

    def rows(self, source: RowSource, sources: Sources) -> Rows:
        """The ranker's rows, the sources' scores from models fitted to what came before."""
        parts = self.parts(sources)
        rebuilt = rebuilt_rows(
            source.seen, self.history, self.states, self.items, parts, source.labeller
        )
        settings = self.job.training
        sampled = sampled_rows(
            source.cases,
            self.states,
            self.items,
            parts,
            source.labeller,
            settings.rows.negatives,
            settings.seed,
        )
        return join([source.frozen, rebuilt, sampled])

    @property
    def outcomes(self) -> list[str]:
        """The objective's, by column of the rows' labels."""
        return self.train_rows.labeller.names

    @property
    def basis(self) -> str:
        """Where the ranker's rows are from, for people."""
        source = self.train_rows
        if source.cases:
            return (
                "sampled, for want of impressions: acts against what else the sources brought; "
                "chances are those of such a draw, their order is what was learned"
            )
        frozen = len(np.unique(source.frozen.decision))
        return f"of {frozen:,} decisions as served and {len(source.seen):,} rebuilt by replay"


def gather_material(job: Job, history: History) -> Material:
    """Cut the log, draw moments, and fold up to each of them; raises TooLittle."""
    cuts = cut(history.acts, job.training.split)
    weights = weights_by_term(job.actions, history.catalog)
    new = NewActs(history, gains_by_term(job.objective, history.catalog.terms["action"]))
    middle, latest = (cuts.rows, cuts.test), (cuts.test, cuts.end)
    train_rows = _decided(job, history, middle) or _sampled(job, history, new, middle, 1)
    sampled = bool(train_rows.cases)
    test_rows = None if sampled else _decided(job, history, latest)
    test_rows = test_rows or _sampled(job, history, new, latest, TEST_SHARE)
    evaluation, seed = job.training.evaluation, job.training.seed
    validation, test = (
        new.draw(span, evaluation.moments, evaluation.of_user, evaluation.horizon_ms, seed)
        for span in (middle, latest)
    )
    unknown = cold_items(history, cuts.rows)
    drawn = new.draw(middle, MOST_MOMENTS, evaluation.of_user, evaluation.horizon_ms, seed, unknown)
    points = [case.point for case in (*validation, *test, *drawn)]
    points += [*train_rows.points(), *test_rows.points()]
    packed, _ = replay_points(job.settings, points, workers=1)
    base = Parts(
        UNREAD,
        history.catalog,
        job.recommending,
        weights,
        job.situations,
        release="trial",
        clock=lambda: 0.0,
    )
    items = ItemHistory(history, weights)
    cold = Cold(unknown, list(narrow(drawn, unknown, history.catalog.columns)))
    return Material(
        job,
        history,
        cuts,
        items,
        base,
        States(packed),
        cold,
        validation,
        test,
        train_rows,
        test_rows,
    )


def cut(acts: Acts, split: SplitSettings) -> Cuts:
    """The times that part the acts as the settings say; raises TooLittle."""
    if len(acts) < FEWEST_ACTS:
        raise TooLittle(f"expected at least {FEWEST_ACTS:,} acts, the log holds {len(acts):,}")
    at = [int(len(acts) * share) for share in (split.retrieval, split.retrieval + split.rows)]
    rows, test = (int(acts.at_ms[row]) for row in at)
    first, last = int(acts.at_ms[0]), int(acts.at_ms[-1])
    if not first < rows < test < last:
        raise TooLittle("expected acts at four different times at least: nothing to split by time")
    return Cuts(rows, test, last + 1)


def _decided(job: Job, history: History, span: tuple[int, int]) -> RowSource | None:
    """What was shown and chosen in a span of time; None where there is too little of it."""
    files = RowFiles(job.settings.rows_path)
    labeller = Labeller(history, job.objective, span[1])
    most, seed = job.training.rows.decisions, job.training.seed
    seen = seen_decisions(history, labeller, span, most, seed)
    if len(seen) < FEWEST_DECISIONS:
        return None
    frozen, rest = frozen_rows(files, history, seen, labeller)
    return RowSource(labeller, seen, frozen, rest, [])


def _sampled(
    job: Job, history: History, new: NewActs, span: tuple[int, int], share: float
) -> RowSource:
    """Moments before acts in a span of time, where there are no decisions."""
    rows = job.training.rows
    labeller = Labeller(history, job.objective, span[1])
    nothing, _ = frozen_rows(RowFiles(job.settings.rows_path), history, [], labeller)
    horizon_ms = job.training.evaluation.horizon_ms
    cases = new.draw(
        span, int(rows.decisions * share), rows.of_user, horizon_ms, job.training.seed + 1
    )
    return RowSource(labeller, [], nothing, [], cases)
