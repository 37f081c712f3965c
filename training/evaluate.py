"""Evaluate releases on moments of the past, in one of two ways.

    then    the user's state just before an act goes through `engine.pipeline.recommend`, without
            exploration, and the slate is held against what that user then took up
    shown   what a user saw of a decision is put in order, and that is held against what they
            did with it; what stood low counts for more, as much as it was looked at less, and a
            decision as much as the best order of it was worth

Where a log has decisions the second is the one to believe: people take up what they are shown, so
that the first rewards whoever shows what was shown before. Every model sees the same moments, so
that two can be compared user by user: the intervals are those of a paired bootstrap that draws
users (Efron and Tibshirani 1993, chapter 8), since acts of one user are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.candidates import Candidates, Items, Mask
from engine.pipeline import Parts, Request, recommend_known
from engine.ranking import Rows, rank_by_retrieval
from engine.situation import Moment
from engine.state import UserState
from models.release import Metric
from training.datasets import rebuild
from training.item_history import ItemHistory
from training.moments import Case, States
from training.replay import Point

METRICS = ("ndcg@10", "recall@20", "mrr")
NDCG, RECALL = 10, 20
DISCOUNTS = 1 / np.log2(np.arange(2, NDCG + 2))
SEED = 1

Floats = NDArray[np.float64]


class Scored(msgspec.Struct, frozen=True):
    """How one model did."""

    metrics: dict[str, Metric]  # METRICS, with 95 % intervals; and coverage and novelty

    def value(self, metric: str) -> float:
        return self.metrics[metric].value


@dataclass(frozen=True, slots=True)
class Trial:
    """What one model showed, moment by moment."""

    users: NDArray[np.int64]  # [cases]
    hits: Floats  # [cases, len(METRICS)]
    coverage: float | None = None  # share of the catalogue that was shown to anybody
    novelty: float | None = None  # mean −log2 of the shown items' shares of all acts


@dataclass(frozen=True, slots=True)
class Judged:
    """What was seen of a decision, and what it was worth to the user."""

    user: int
    point: Point
    moment: Moment
    items: Items  # in slot order
    gains: NDArray[np.floating]  # some of them above 0, not all alike


def evaluate(
    cases: Sequence[Case],
    states: States,
    items: ItemHistory,
    contenders: Mapping[str, Parts],
    done: Callable[[int], None] = lambda cases: None,
    among: Mask | None = None,
) -> dict[str, Trial]:
    """Every contender on every moment; `cases` in time order. `done` hears how far it is.

    Where `among` bool [items] is given, those of them that are available then are put in order.
    """
    hits: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    shown: dict[str, list[list[int]]] = {name: [] for name in contenders}
    surprise: dict[str, list[float]] = {name: [] for name in contenders}
    for number, case in enumerate(cases):
        columns = items.at(case.point.at_ms).columns
        state = states.at(case.point)
        acts = columns.counts[:, 1:].sum(1) + 1.0
        bits = np.log2(acts.sum()) - np.log2(acts)
        only = None
        if among is not None:
            only = np.flatnonzero(among & columns.available(case.point.at_ms)).astype(np.int32)
        for name, parts in contenders.items():
            slate = slate_of(case, state, parts, only)
            hits[name].append(judge(slate, case))
            shown[name].append(slate[:NDCG])
            surprise[name].append(float(bits[slate[:NDCG]].mean()) if slate else 0.0)
        done(number + 1)
    users = np.array([case.user for case in cases], np.int64)
    size = max(items.catalog.columns.size, 1)
    return {
        name: Trial(
            users,
            np.array(hits[name], np.float64).reshape(len(cases), len(METRICS)),
            len({item for slate in shown[name] for item in slate}) / size,
            float(np.mean(surprise[name])) if cases else 0.0,
        )
        for name in contenders
    }


def evaluate_shown(
    judged: Sequence[Judged], states: States, items: ItemHistory, contenders: Mapping[str, Parts]
) -> dict[str, Trial]:
    """Every contender on what was seen of every decision; `judged` in time order."""
    hits: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    for one in judged:
        items.at(one.moment.at_ms)
        state = states.at(one.point)
        case = Case(one.user, one.point, one.items, one.gains)
        for name, parts in contenders.items():
            candidates, table = rebuild(state, one.moment, one.items.tolist(), parts)
            values = value_of(candidates, table, parts)
            at = {item: row for row, item in enumerate(candidates.items.tolist())}
            order = np.argsort(-values[[at[item] for item in one.items.tolist()]], kind="stable")
            hits[name].append(judge(one.items[order].tolist(), case))
    users = np.array([one.user for one in judged], np.int64)
    trials = {}
    for name in contenders:
        found = np.array(hits[name], np.float64).reshape(len(judged), len(METRICS))
        found[:, 0] *= stakes(judged)
        trials[name] = Trial(users, found)
    return trials


def stakes(judged: Sequence[Judged]) -> Floats:
    """float64 [judged], 1 on the mean: how much the best order of each is worth.

    NDCG alone takes the objective out of most decisions: where one item was acted on, opening it
    counts for as much as cooking it, and who lures people into opening things wins.
    """
    best = np.array([_discounted(np.sort(one.gains)[::-1]) for one in judged])
    return best / best.mean() if len(best) else best


def value_of(candidates: Candidates, table: Rows, parts: Parts) -> Rows:
    """float32 [n]: what each candidate is worth, by the ranker or by retrieval alone."""
    if parts.ranker is not None:
        return parts.ranker.chances(table) @ parts.outcome_weights
    ranked = rank_by_retrieval(candidates, len(candidates.items))
    values = np.full(len(candidates.items), -np.inf, np.float32)
    values[ranked.rows] = ranked.values
    return values


def slate_of(case: Case, state: UserState, parts: Parts, only: Items | None) -> list[int]:
    """What would be shown then, best first; of some items alone where these are given."""
    user_id, at_ms = case.point.user_id, case.point.at_ms
    asked = Request(user_id, at_ms, RECALL, seed=SEED, only=only, explore=False)
    return recommend_known(asked, state, parts).items()


def judge(slate: Sequence[int], case: Case) -> tuple[float, float, float]:
    """NDCG@10 with the case's gains, Recall@20, and the reciprocal rank of the first hit."""
    gain_of = dict(zip(case.truth.tolist(), case.gains.tolist(), strict=True))
    gains = [gain_of.get(item, 0.0) for item in slate]
    hits = [place for place, gain in enumerate(gains) if gain > 0]
    ndcg = _discounted(gains) / _discounted(np.sort(case.gains)[::-1])
    right = int((case.gains > 0).sum())
    recall = sum(place < RECALL for place in hits) / min(right, RECALL)
    return ndcg, recall, 1 / (1 + hits[0]) if hits else 0.0


def _discounted(gains: Sequence[float] | NDArray[np.floating]) -> float:
    """DCG@10 of gains in the order shown."""
    return float(np.dot(gains[:NDCG], DISCOUNTS[: len(gains[:NDCG])]))


def summary(trial: Trial, resamples: int) -> Scored:
    """A trial's means and their intervals."""
    found = {
        name: interval(trial.users, trial.hits[:, column], resamples)
        for column, name in enumerate(METRICS)
        if trial.coverage is not None or name != METRICS[1]  # all that was shown is recalled
    }
    for name, value in (("coverage", trial.coverage), ("novelty", trial.novelty)):
        if value is not None:
            found[name] = Metric(value)
    return Scored(found)


def difference(of: Trial, over: Trial, resamples: int, metric: str = METRICS[0]) -> Metric:
    """How much better one trial is than another on the same moments, with its interval."""
    column = METRICS.index(metric)
    return interval(of.users, of.hits[:, column] - over.hits[:, column], resamples)


def interval(users: NDArray[np.int64], values: Floats, resamples: int) -> Metric:
    """The mean of values float64 [n] and its 95 % interval, drawing whole users."""
    if not len(values):
        return Metric(0.0, 0.0, 0.0)
    _, of_user = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(of_user, values), np.bincount(of_user)
    rng = np.random.default_rng(SEED)
    means = np.empty(resamples)
    for number in range(resamples):
        drawn = rng.integers(0, len(sums), len(sums))
        means[number] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return Metric(float(values.mean()), float(low), float(high))


def better(found: Metric) -> bool:
    """Whether a difference is proved: its whole interval lies above zero."""
    return found.low is not None and found.low > 0
