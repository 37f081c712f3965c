"""Prequential evaluation: each act is predicted from all earlier ones, then told to the model.

Acts of one user at one time are predicted together, since nothing says which came first. All
contenders walk through the same acts and are asked at the same ones, so that two are compared case
by case: the intervals are those of a bootstrap that draws users (training.evaluate). After Vinagre,
Jorge and Gama, "Evaluation of recommender systems in streaming environments", REDD 2014.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.release import Metric
from training.evaluate import interval

AT = 20
DEPTH = AT  # of a ranking, as of a slate that is asked for: what lies below has no reciprocal rank
METRICS = ("recall@20", "ndcg@20", "mrr")
DISCOUNTS = 1 / np.log2(np.arange(2, AT + 2))

Ranking = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Group:
    """What one user took up at one time; items are rows of the catalogue, each once."""

    user: int
    at_s: int
    items: tuple[int, ...]


class Contender(Protocol):
    """A recommender that hears of every act after it was asked to predict it."""

    def rank(self, user: int) -> Ranking:
        """Items that the user has not touched, best first; at most DEPTH count."""

    def tell(self, group: Group) -> None:
        """These acts are history now."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How one contender did, case by case."""

    users: NDArray[np.int64]  # [cases]
    hits: NDArray[np.float64]  # [cases, METRICS]

    def means(self) -> dict[str, float]:
        """Over all cases, and over users: the mean of each user's own mean."""
        of_cases = dict(zip(METRICS, self.hits.mean(0).tolist(), strict=True))
        of_users = {f"{m} by user": v for m, v in _by_user(self).items()}
        return {name: round(value, 4) for name, value in (of_cases | of_users).items()}


def groups(
    users: NDArray[np.int64], items: NDArray[np.int64], at_s: NDArray[np.int64]
) -> list[Group]:
    """Acts [n] in time order, those of one user at one time together."""
    found: dict[tuple[int, int], dict[int, None]] = {}
    order = np.argsort(at_s, kind="stable")
    columns = (column[order].tolist() for column in (at_s, users, items))
    for at, user, item in zip(*columns, strict=True):
        found.setdefault((at, user), {})[item] = None
    return [Group(user, at, tuple(acts)) for (at, user), acts in found.items()]


def draw_cases(
    acts: Sequence[Group], of_user: int, seed: int, among: Collection[int] | None = None
) -> list[bool]:
    """Which groups are predicted: at most `of_user` of each user's, drawn by chance.

    With `among`, only groups that hold one of these items.
    """
    wanted = None if among is None else frozenset(among)
    places: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(acts):
        if wanted is None or wanted.intersection(group.items):
            places[group.user].append(place)
    rng = np.random.default_rng(seed)
    drawn = [False] * len(acts)
    for of_one in places.values():
        for place in rng.permutation(of_one)[:of_user].tolist():
            drawn[place] = True
    return drawn


def walk(
    acts: Sequence[Group],
    predicted: Sequence[bool],
    contenders: Mapping[str, Contender],
    hidden: Collection[int] = (),
    done: Callable[[int], None] = lambda groups: None,
) -> dict[str, Trial]:
    """Ask and tell every contender, in time order.

    `hidden` items are what is predicted and never told; with none, a group's items are both.
    """
    secret = frozenset(hidden)
    users: list[int] = []
    hits: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contenders}
    for number, (group, asked) in enumerate(zip(acts, predicted, strict=True)):
        if asked:
            wanted = secret.intersection(group.items) if secret else group.items
            users.append(group.user)
            for name, contender in contenders.items():
                hits[name].append(judge(contender.rank(group.user), wanted))
        if told := tuple(item for item in group.items if item not in secret):
            for contender in contenders.values():
                contender.tell(Group(group.user, group.at_s, told))
        done(number + 1)
    of_case = np.array(users, np.int64)
    return {name: Trial(of_case, np.array(rows).reshape(-1, 3)) for name, rows in hits.items()}


def judge(ranking: Ranking, wanted: Collection[int]) -> tuple[float, float, float]:
    """Recall@20 and NDCG@20 with the ideal over min(20, wanted), and the first hit's 1/rank."""
    found = np.isin(np.asarray(ranking, np.int64)[:DEPTH], list(wanted))
    most = min(len(wanted), AT)
    top = found[:AT]
    first = int(found.argmax()) if found.any() else None
    return (
        float(top.sum() / most),
        float(DISCOUNTS[: len(top)][top].sum() / DISCOUNTS[:most].sum()),
        0.0 if first is None else 1 / (first + 1),
    )


def compare(of: Trial, over: Trial, resamples: int) -> dict[str, Metric]:
    """How much better one is than the other on the same cases, with 95 % intervals.

    The bootstrap draws users; `… by user` lets each user count the same.
    """
    paired = Trial(of.users, of.hits - over.hits)
    found = {
        metric: interval(paired.users, paired.hits[:, column], resamples)
        for column, metric in enumerate(METRICS)
    }
    once = np.unique(of.users)
    for column, metric in enumerate(METRICS):
        found[f"{metric} by user"] = interval(once, _user_means(paired)[:, column], resamples)
    return found


def _by_user(trial: Trial) -> dict[str, float]:
    return dict(zip(METRICS, _user_means(trial).mean(0).tolist(), strict=True))


def _user_means(trial: Trial) -> NDArray[np.float64]:
    """float64 [users, METRICS], users rising."""
    _, of_user = np.unique(trial.users, return_inverse=True)
    counts = np.bincount(of_user)
    sums = [np.bincount(of_user, trial.hits[:, column]) for column in range(len(METRICS))]
    return np.stack([column / counts for column in sums], axis=1)
