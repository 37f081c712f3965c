"""The test: contenders on the latest part of the log, and what each stage has proved there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from engine.candidates import Sources
from engine.pipeline import Parts
from models.loading import Models
from models.release import Metric
from training.evaluate import (
    METRICS,
    Scored,
    Trial,
    better,
    difference,
    evaluate,
    evaluate_shown,
    summary,
)
from training.material import Material

POPULAR, RECENT, FACTORS, SIMILAR = "popular", "popular lately", "factors", "item-item"
RETRIEVAL, RANKED, PUBLISHED = "retrieval", "retrieval + ranker", "published release"
WITH_HYBRID, WITHOUT_HYBRID = "cold items: with hybrid", "cold items: without"
TOO_FEW_COLD = f"{WITHOUT_HYBRID} (too few cold moments)"
BASELINES = (POPULAR, RECENT)
BY_SHOWN = "by the order of what was shown, against what was done with it"
BY_THEN = "by what was recommended, against what was then taken up"
FEWEST_MOMENTS = 100  # later than what the published release learned from


class Verdict(msgspec.Struct, frozen=True):
    """Whether one thing is better than another on later data, by the first metric."""

    what: str
    over: str
    difference: Metric
    proved: bool
    moments: int


@dataclass(frozen=True, slots=True)
class Published:
    """The release that serves now, and until when it has seen what happened."""

    release_id: str
    models: Models
    saw_until_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the test went."""

    then: Mapping[str, Scored]  # against what users then took up
    scores: Mapping[str, Scored]  # in the way that decides
    verdicts: Sequence[Verdict]
    judged_by: str
    candidate: str
    better: bool
    reason: str

    @property
    def ranker_earned(self) -> bool:
        """Whether the ranker has its place in the release."""
        return self.candidate == RANKED


def contest(
    material: Material, sources: Sources, ranked: Models | None, published: Published | None
) -> Outcome:
    """Everyone on the test part; `sources` were fitted to what came before it."""
    contenders = _contenders(material, sources, ranked)
    resamples = material.job.training.evaluation.resamples
    then = evaluate(material.test, material.states, material.items, contenders)
    judged = material.judged(material.test_rows)
    shown = evaluate_shown(judged, material.states, material.items, contenders)
    by_shown = material.believes_shown(judged)
    trials = shown if by_shown else then
    verdicts = [_verdict(trials, FACTORS, over, resamples) for over in (*BASELINES, SIMILAR)]
    candidate = RETRIEVAL
    if ranked is not None:
        verdicts.append(_verdict(trials, RANKED, RETRIEVAL, resamples))
        candidate = RANKED if verdicts[-1].proved else RETRIEVAL
    decisive = [_verdict(trials, candidate, over, resamples) for over in BASELINES]
    if published is not None:
        served = with_models(material, published.models)
        later = material.compare(
            {candidate: contenders[candidate], PUBLISHED: served},
            on_test=True,
            after_ms=published.saw_until_ms,
        )
        trials = {**trials, PUBLISHED: later[PUBLISHED]}
        decisive.append(_verdict(later, candidate, PUBLISHED, resamples))
    return Outcome(
        {name: summary(trial, resamples) for name, trial in then.items()},
        {name: summary(trial, resamples) for name, trial in trials.items() if len(trial.users)},
        [*verdicts, *decisive],
        BY_SHOWN if by_shown else BY_THEN,
        candidate,
        *_decide(decisive),
    )


def hybrid_verdict(material: Material, sources: Sources) -> Verdict:
    """Whether the hybrid puts cold items in a better order, on the middle part.

    `sources` were fitted to what came before it. What the factors know they rank, so that only
    among items that they don't know, as they were available then, can the hybrid earn its place.
    """
    contenders = {
        WITH_HYBRID: material.parts(sources),
        WITHOUT_HYBRID: material.parts(replace(sources, hybrid=None)),
    }
    cold, resamples = material.cold, material.job.training.evaluation.resamples
    trials = evaluate(cold.cases, material.states, material.items, contenders, among=cold.items)
    verdict = _verdict(trials, WITH_HYBRID, WITHOUT_HYBRID, resamples)
    if cold.enough:
        return verdict
    return msgspec.structs.replace(verdict, over=TOO_FEW_COLD, proved=False)


def _contenders(material: Material, sources: Sources, ranked: Models | None) -> dict[str, Parts]:
    alone = {
        POPULAR: Sources(),
        RECENT: Sources(popular=sources.popular),
        FACTORS: Sources(factors=sources.factors),
        SIMILAR: Sources(factors=sources.similar),
        RETRIEVAL: sources,
    }
    found = {name: material.parts(of) for name, of in alone.items()}
    if ranked is not None:
        found[RANKED] = with_models(material, ranked)
    return found


def with_models(material: Material, models: Models) -> Parts:
    """What a request is answered with from these models, the operator's weights applied."""
    return models.within(material.base, material.job.objective, material.base.release)


def _verdict(trials: Mapping[str, Trial], what: str, over: str, resamples: int) -> Verdict:
    found = difference(trials[what], trials[over], resamples)
    return Verdict(what, over, found, better(found), len(trials[what].users))


def _decide(decisive: Sequence[Verdict]) -> tuple[bool, str]:
    """Whether to publish, and why or why not, in a sentence."""
    for verdict in decisive:
        if verdict.over == PUBLISHED and verdict.moments < FEWEST_MOMENTS:
            return False, (
                f"only {verdict.moments} moments are later than what the published release "
                f"learned from: nothing can be proved on fewer than {FEWEST_MOMENTS}"
            )
        if not verdict.proved:
            return False, f"not proved better than {verdict.over} ({told(verdict.difference)})"
    over = " and ".join(verdict.over for verdict in decisive)
    return True, f"better than {over}"


def told(metric: Metric) -> str:
    """A difference in NDCG and its interval, for a sentence."""
    return f"{METRICS[0]} {metric.value:+.4f}, interval {metric.low:+.4f} to {metric.high:+.4f}"
