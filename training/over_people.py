"""How good chances are for people they were not learned from, with intervals that draw people.

Every figure is pooled: over all rows of all left-out people whose label is known. Minutes of one
person are not independent, so the intervals are those of a bootstrap that draws whole people (Efron
and Tibshirani 1993, chapter 8). All that a draw needs is summed by person once; of the AUC (Hanley
and McNeil 1982) that is, for each pair of people, how often a yes of the one lies above a no of the
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.release import Metric

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
RESAMPLES = 2000
SEED = 1
LEAST = 1e-6  # of a chance, where its logarithm is taken


def draws(people: int, resamples: int = RESAMPLES) -> Doubles:
    """float64 [1 + resamples, people]: how often each counts; first everybody once."""
    drawn = np.random.default_rng(SEED).multinomial(people, np.full(people, 1 / people), resamples)
    made: Doubles = np.concatenate((np.ones((1, people)), drawn.astype(np.float64)))
    return made


@dataclass(frozen=True, slots=True)
class Cases:
    """Rows of left-out people whose truth is known."""

    users: NDArray[np.int64]  # [n], from 0
    truth: Flags  # [n]
    people: int

    def with_yes(self) -> int:
        """How many people stand behind the yes."""
        return len(np.unique(self.users[self.truth]))

    def by_person(self, values: NDArray[np.number[Any]] | Flags) -> Doubles:
        """float64 [people]: sums of values [n]."""
        return np.bincount(self.users, values.astype(np.float64), self.people).astype(np.float64)

    def drawn_sum(self, drawn: Doubles, values: NDArray[np.number[Any]] | Flags) -> Doubles:
        """float64 [draws]: sums of values [n] over the people of each draw."""
        made: Doubles = drawn @ self.by_person(values)
        return made


def auc(cases: Cases, scores: Doubles, drawn: Doubles) -> Doubles:
    """float64 [draws]: how often a yes stands above a no, ties half; NaN where one is lacking."""
    above = np.zeros((cases.people, cases.people))
    yes = scores[cases.truth]
    whose = cases.users[cases.truth]
    for person in range(cases.people):
        no = np.sort(scores[(cases.users == person) & ~cases.truth])
        below = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
        above[:, person] = np.bincount(whose, below / 2, cases.people)
    won = np.einsum("di,ij,dj->d", drawn, above, drawn, optimize=True)
    return _share(won, cases.drawn_sum(drawn, cases.truth) * cases.drawn_sum(drawn, ~cases.truth))


def _share(part: Doubles, whole: Doubles) -> Doubles:
    """part / whole, NaN where there is none."""
    made: Doubles = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return made


def balanced_accuracy(cases: Cases, said: Flags, drawn: Doubles) -> Doubles:
    """float64 [draws]: the mean of the shares of yes and of no that were told right."""
    shares = [
        _share(
            cases.drawn_sum(drawn, of_kind & (said == cases.truth)),
            cases.drawn_sum(drawn, of_kind),
        )
        for of_kind in (cases.truth, ~cases.truth)
    ]
    made: Doubles = (shares[0] + shares[1]) / 2
    return made


def skill(cases: Cases, chances: Doubles, base: Doubles, drawn: Doubles) -> Doubles:
    """float64 [draws]: 1 − log loss / log loss of the base rates, which are as long."""
    ours, theirs = (cases.drawn_sum(drawn, log_loss(cases.truth, told)) for told in (chances, base))
    return 1 - _share(ours, theirs)


def log_loss(truth: Flags, chances: Doubles) -> Doubles:
    """float64 [n], in nats."""
    told = np.clip(np.where(truth, chances, 1 - chances), LEAST, 1.0)
    made: Doubles = -np.log(told)
    return made


def calibration_error(truth: Flags, chances: Doubles, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass (Nixon et al. 2019)."""
    order = np.argsort(chances, kind="stable")
    found = 0.0
    for rows in np.array_split(order, bins):
        if len(rows):
            found += len(rows) * abs(float(truth[rows].mean() - chances[rows].mean()))
    return found / max(len(truth), 1)


def interval(values: Doubles) -> Metric:
    """The first draw's value and the middle 95 % of the others."""
    told = values[1:][~np.isnan(values[1:])]
    if not len(told):
        return Metric(float(values[0]))
    low, high = np.quantile(told, (0.025, 0.975))
    return Metric(float(values[0]), float(low), float(high))


def mean_over(people: ArrayLike, values: NDArray[np.floating]) -> Metric:
    """The mean of values [n], with a 95 % interval from drawing people."""
    _, who = np.unique(people, return_inverse=True)
    count = int(who.max()) + 1
    sums, sizes = np.bincount(who, values, count), np.bincount(who, minlength=count)
    drawn = draws(count)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means[1:], (0.025, 0.975)).tolist()
    return Metric(float(values.mean()), low, high)
