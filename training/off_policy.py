"""What a new policy would have earned, from decisions another one logged with their propensities.

Every estimator of this file is a one-step estimator: it changes one decision and leaves the
states in which decisions are made as the logging policy made them. So it gives the *immediate*
value. A push sent today tires its receiver tomorrow, so the immediate value can lie far from what
the policy is worth in the long run. Claims about the long run need policies drawn per user and
kept for weeks, or weights over whole trajectories: `training/long_run.py`.

Intervals are clustered by user, since decisions of one person are not independent: each user is
left out once (the jackknife, Bell and McCaffrey 2002 call it CR3), and the degrees of freedom count
how many users really carry the variance (Satterthwaite 1946).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from engine.errors import InvalidInput, KairosError

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Method = Literal["ips", "snips", "dm", "dr", "switch"]
METHODS: tuple[Method, ...] = ("ips", "snips", "dm", "dr", "switch")
SURE = 0.95
LEAST_OVERLAP = 0.01  # effective rows, as a share of the rows
SWITCH_AT = 10.0  # weight above which switch-DR believes the model alone


class TooLittleOverlap(KairosError):
    """The logging policy hardly ever did what the new one would: the log cannot tell."""

    def __init__(self, effective: float, count: int, of: str = "rows") -> None:
        super().__init__(
            f"the effective sample size is {effective:.1f} of {count:,} {of} "
            f"({effective / max(count, 1):.2%}), expected at least {LEAST_OVERLAP:.0%}: the logged "
            "policy hardly ever did what this one would, so the log does not tell its value"
        )
        self.effective = effective
        self.count = count


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value in rewards (of a decision, or of a user where told so), with a 95 % interval."""

    value: float
    low: float
    high: float
    deviation: float  # standard error
    effective: float  # (Σw)²/Σw²: as many rows would tell as much if their weights were equal

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Logged:
    """Logged decisions; predictions must come from models that have not seen the row's user."""

    reward: Doubles  # [n]
    propensity: Doubles  # [n] in (0, 1]: of the action taken, under the policy that took it
    target: Doubles  # [n] in [0, 1]: of the same action, under the new policy
    users: Ints  # [n]
    predicted: Doubles | None = None  # [n]: reward of the action taken
    predicted_target: Doubles | None = None  # [n]: mean over the new policy's actions

    def __post_init__(self) -> None:
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise InvalidInput("propensity", "expected more than 0, at most 1")
        if not ((self.target >= 0) & (self.target <= 1)).all():
            raise InvalidInput("target", "expected 0 to 1")

    @property
    def weights(self) -> Doubles:
        """float64 [n]: how much likelier the new policy takes this action."""
        made: Doubles = self.target / self.propensity
        return made

    def predictions(self) -> tuple[Doubles, Doubles]:
        """Of the action taken, and of the new policy; raises InvalidInput where there are none."""
        if self.predicted is None or self.predicted_target is None:
            raise InvalidInput("predicted", "expected predicted rewards: this estimator needs them")
        return self.predicted, self.predicted_target


def estimate(logged: Logged, method: Method, switch_at: float = SWITCH_AT) -> Estimate:
    """The new policy's immediate value per decision.

    ips: Horvitz and Thompson 1952; snips: Swaminathan and Joachims 2015; dm (the model's word
    alone), dr: Dudík, Langford and Li 2011; switch: dr where the weight is at most `switch_at`,
    dm elsewhere, Wang, Agarwal and Dudík 2017. Raises TooLittleOverlap where the effective sample
    size is below 1 % of the rows, except for dm, which weighs nothing.
    """
    weights = logged.weights
    effective = effective_size(weights)
    if method != "dm" and effective < LEAST_OVERLAP * len(weights):
        raise TooLittleOverlap(effective, len(weights))
    if method == "snips":
        return ratio(weights * logged.reward, weights, logged.users, effective)
    values = _values(logged, method, switch_at)
    return ratio(values, np.ones(len(values)), logged.users, effective)


def _values(logged: Logged, method: Method, switch_at: float) -> Doubles:
    """float64 [n] whose mean is the estimate."""
    weights = logged.weights
    if method == "ips":
        made: Doubles = weights * logged.reward
        return made
    predicted, of_target = logged.predictions()
    if method == "dm":
        return of_target
    if method == "switch":
        weights = np.where(weights <= switch_at, weights, 0.0)
    corrected: Doubles = of_target + weights * (logged.reward - predicted)
    return corrected


def effective_size(weights: Doubles) -> float:
    """(Σw)²/Σw² (Kish 1965), 0 where no weight is above 0."""
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def ratio(parts: Doubles, wholes: Doubles, users: Ints, effective: float) -> Estimate:
    """Σ parts / Σ wholes of rows [n], its interval from leaving out each user once."""
    whole = float(wholes.sum())
    value = float(parts.sum()) / whole
    _, who = np.unique(users, return_inverse=True)
    others = whole - np.bincount(who, wholes)
    if not (others > 0).all():  # one user carries everything
        raise TooLittleOverlap(1.0, len(others), "users")
    return of_residuals(value, np.bincount(who, parts - value * wholes) / others, effective)


def of_residuals(value: float, residuals: Doubles, effective: float) -> Estimate:
    """An estimate whose error is the sum of users' independent residuals [users]."""
    count = len(residuals)
    if count < 2:
        raise InvalidInput("users", f"expected at least 2 users for an interval, got {count}")
    squares = np.square(residuals)
    deviation = float(np.sqrt(squares.sum() * count / (count - 1)))
    reach = deviation * float(student.ppf((1 + SURE) / 2, _freedom(squares)))
    return Estimate(value, value - reach, value + reach, deviation, effective)


def _freedom(squares: Doubles) -> float:
    """Degrees of freedom of a variance that is the sum of squares [users].

    2·mean²/variance of that sum, where the squares' own scatter tells the variance; at most
    users − 1, at least 1.
    """
    total, count = float(squares.sum()), len(squares)
    scatter = float(np.square(squares - total / count).sum())
    found = 2 * total**2 / scatter if scatter > 0 else count - 1.0
    return max(min(found, count - 1.0), 1.0)
