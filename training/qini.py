"""How well scores of an effect rank people: the Qini curve, judged on decisions made at random.

The curve (Radcliffe 2007) is what treating the best-scored share of all would have added, per
decision: treated outcomes in that share less the control ones, scaled to as many. The Qini value is
the area between it and the straight line to its end, which is what treating people in any order
gives. It is 0 for scores that know nothing, however large the average effect. Decisions of unequal
propensity count by its inverse; where it is the same for all this is Radcliffe's formula.

Cross-fitted scores are judged more strictly than scores of a model made before. Their folds judge
each other: what chance made two folds share counts twice, once for each as the judge, so that under
scores that know nothing the value scatters √2 times as far as it does with the scores held fixed
(the variance of a degenerate U-statistic; that cross-validation understates its own is known since
Bengio and Grandvalet 2004). Left out, a gate of 2.5 % lets some 8 % of useless models pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.release import Metric

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
RESAMPLES = 500
SURE = 1.959963984540054  # standard errors to either side: 95 %
CROSS_FITTED = 2**0.5
TOP = 0.1


@dataclass(frozen=True, slots=True)
class Qini:
    """Outcomes per decision; the 95 % intervals come from drawing users."""

    value: float
    low: float
    high: float
    deviation: float  # standard error, of which the gate makes an interval at its own level
    points: Doubles  # [p, 2]: share treated from 0 to 1, what it adds per decision
    average: Metric  # effect over all
    top: Metric  # effect in the best-scored tenth


def qini(
    effect_scores: Doubles,
    treated: Flags,
    propensity: Doubles,
    outcome: Doubles,
    users: Ints,
    cross_fitted: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Qini:
    """Judge effect scores [n] of decisions whose users the scores were not learned from.

    `cross_fitted` is false where one model, made before, scored them all. Ties in the scores are
    treated together. The interval is value ± 1.96 standard errors of a
    bootstrap that draws users (Efron and Tibshirani 1993): levels of a few in a million, as looks
    at the beginning of many have, cannot be read off quantiles.
    """
    sums = _Sums.of(effect_scores, treated, propensity, outcome)
    _, who = np.unique(users[sums.order], return_inverse=True)
    people = int(who.max()) + 1
    rng = np.random.default_rng(seed)
    points = sums.curve(None)
    figures = np.array(sums.figures(None))
    drawn = [
        sums.figures(rng.multinomial(people, np.full(people, 1 / people))[who])
        for _ in range(resamples)
    ]
    deviations = _deviations(np.array(drawn))
    if cross_fitted:
        deviations[[0, 2]] *= CROSS_FITTED  # the average effect needs no scores
    value, reach = float(figures[0]), SURE * deviations
    average, top = (
        Metric(float(figures[n]), float(figures[n] - reach[n]), float(figures[n] + reach[n]))
        for n in (1, 2)
    )
    low, high = value - float(reach[0]), value + float(reach[0])
    return Qini(value, low, high, float(deviations[0]), points, average, top)


def _deviations(drawn: Doubles) -> Doubles:
    """float64 [figures] of those draws [n, figures] that have them, infinite where hardly any."""
    found = np.full(drawn.shape[1], np.inf)
    for figure, values in enumerate(drawn.T):
        told = values[np.isfinite(values)]
        if len(told) > len(values) / 2:
            found[figure] = told.std(ddof=1)
    return found


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the curve adds up, of decisions sorted by score, the best first."""

    order: Ints  # [n]
    ends: Ints  # [p]: last row of each run of equal scores
    rows: Doubles  # [5, n]: 1, weights and weighted outcomes of the treated, the same of the others

    @classmethod
    def of(cls, scores: Doubles, treated: Flags, propensity: Doubles, outcome: Doubles) -> _Sums:
        order = np.argsort(-scores, kind="stable")
        told = scores[order]
        ends = np.flatnonzero(np.append(told[1:] != told[:-1], True))
        of_treated = (treated / propensity)[order]
        of_others = (~treated / (1 - propensity))[order]
        result = outcome[order]
        rows = np.stack(
            (np.ones(len(order)), of_treated, of_treated * result, of_others, of_others * result)
        )
        return cls(order, ends, rows)

    def curve(self, times: Ints | None) -> Doubles:
        """float64 [p + 1, 2], each decision counted so many times [n]."""
        return self._curve(self._so_far(times))

    def figures(self, times: Ints | None) -> tuple[float, float, float]:
        """The Qini value, the effect over all and in the best-scored tenth."""
        so_far = self._so_far(times)
        if not so_far[1, -1] > 0:  # nobody treated was drawn
            return (float("nan"),) * 3
        share, gain = self._curve(so_far).T
        area = float(np.trapezoid(gain, share)) - float(gain[-1]) / 2
        # The tenth of everybody's scores, so that a draw of users is judged on the same rule.
        top = int(np.searchsorted(self.ends + 1, TOP * len(self.order)))
        return area, _effect(so_far[:, -1]), _effect(so_far[:, top])

    def _so_far(self, times: Ints | None) -> Doubles:
        rows = self.rows if times is None else self.rows * times
        return np.cumsum(rows, axis=1)[:, self.ends]

    @staticmethod
    def _curve(so_far: Doubles) -> Doubles:
        count, of_treated, treated, of_others, others = so_far
        # Before the first control decision there is nothing to take away.
        scale = np.divide(of_treated, of_others, out=np.zeros(len(count)), where=of_others > 0)
        gain = (treated - others * scale) / of_treated[-1]
        points = np.stack((count / count[-1], gain), axis=1)
        return np.concatenate((np.zeros((1, 2)), points))


def _effect(so_far: Doubles) -> float:
    _, of_treated, treated, of_others, others = so_far.tolist()
    if not (of_treated > 0 and of_others > 0):
        return float("nan")
    return float(treated / of_treated - others / of_others)
