"""What a message is worth at each moment until it expires.

    value(t) = uplift(t) · worth − fatigue cost − opt-out risk

    uplift(t) = what a model says of now × shape(t) / shape(now) × (1 − fatigue)
    shape(t) = Σ P(situation at t) · lift of the situation × lift of the hour, the person's own

Fatigue recovers (Yancey and Settles, "A Sleeping, Recovering Bandit Algorithm for Optimizing
Recurring Notifications", KDD 2020): each message sent takes a share of what the next ones bring,
and that share halves every `half_life_h`. The same share of what is still to come is what a message
costs, where as many come as came lately.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.push_features import COLUMN
from engine.push_file import Assumed, Costs
from engine.push_message import Message
from engine.times import HOUR_MS

OWN_HOUR = 30.0  # opens until a person's own hours weigh as much as everyone's
AROUND_H = 1  # hours on either side that tell of one
FULL_LOAD = 3.0  # messages; more do not cost more
Doubles = NDArray[np.float64]
# float64 [24, 24]: whether one hour of the day tells of another
NEAR: Doubles = np.array([[(a - b + AROUND_H) % 24 <= 2 * AROUND_H for a in range(24)]
                          for b in range(24)], np.float64)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effects:
    """What a message does if it is sent now, [n] each."""

    p_open: Doubles  # chance that it is opened
    uplift: Doubles  # P(goal | sent) − P(goal | not sent), before fatigue
    opt_out: Doubles  # chance that pushes are switched off because of it

    def of(self, places: Sequence[int]) -> Effects:
        """Those of some."""
        some = np.array(places, np.intp)
        return Effects(self.p_open[some], self.uplift[some], self.opt_out[some])


class PushModel(Protocol):
    """What a release knows of pushes; engine.push_file has what holds where there is none."""

    @property
    def version(self) -> str:
        """Of the model; empty for the operator's assumptions."""

    @property
    def situation_lift(self) -> Mapping[str, float]:
        """Situation -> how many times the mean effect; a missing one is 1."""

    @property
    def hour_lift(self) -> Doubles:
        """float64 [168]: by hour of the local week from Monday on, for everyone; mean 1."""

    @property
    def fatigue_per_push(self) -> float:
        """Share of the effect that one push just sent takes from the next, 0–1."""

    @property
    def half_life_h(self) -> float:
        """Hours until half of that has recovered."""

    @property
    def random_decisions(self) -> Mapping[str, int]:
        """Category -> decisions drawn by chance that it learned from."""

    def effects(
        self,
        rows: Sequence[Sequence[float | None]],
        messages: Sequence[Message],
        probabilities: Sequence[Sequence[float]],
    ) -> Effects:
        """Of messages, with the rows of engine.push_features and P(situation) by number."""


class Assumptions:
    """The operator's, in place of a model; see PushModel."""

    version = ""
    random_decisions: Mapping[str, int] = {}

    def __init__(self, assumed: Assumed) -> None:
        self._assumed = assumed
        self.situation_lift: Mapping[str, float] = assumed.situations
        self.hour_lift: Doubles = np.ones(168)
        self.fatigue_per_push = assumed.fatigue_per_push
        self.half_life_h = assumed.half_life_h

    def effects(
        self,
        rows: Sequence[Sequence[float | None]],
        messages: Sequence[Message],
        probabilities: Sequence[Sequence[float]],
    ) -> Effects:
        """The same of everyone, but that those who get many sooner switch off."""
        told = self._assumed.p_open, self._assumed.uplift, self._assumed.opt_out
        p_open, uplift, opt_out = (np.full(len(rows), value) for value in told)
        load = np.array([row[COLUMN["load"]] for row in rows], np.float64)
        return Effects(p_open, uplift, opt_out * (1.0 + load))


@dataclass(frozen=True, slots=True)
class Prospect:
    """Messages over the cells ahead, [cells] of one or [n, cells]; in goals × a message's value."""

    value: Doubles
    uplift: Doubles
    p_open: Doubles
    fatigue_cost: Doubles

    def of(self, number: int) -> Prospect:
        """That of one message."""
        return Prospect(
            self.value[number], self.uplift[number], self.p_open[number], self.fatigue_cost[number]
        )


@dataclass(frozen=True, slots=True)
class Prospects:
    """What turns effects now into prospects: lifts by situation number, and costs."""

    model: PushModel
    lift: Doubles  # [situations]
    costs: Costs

    def of(
        self,
        effects: Effects,
        messages: Sequence[Message],
        likely: Doubles,
        own_hours: Doubles,
        loads: Doubles,
        hours_of_week: NDArray[np.intp],
        away_ms: NDArray[np.int64],
    ) -> Prospect:
        """[n, cells] of messages with those effects [n] now.

        `likely` [n, cells, situations] sums to 1, `own_hours` [n, 24] is a person's share of
        everyone's lift, `away_ms` [cells] from now, `loads` [n] of the messages that people got.
        """
        uplift, per_push = effects.uplift[:, None], self.model.fatigue_per_push
        load, worth = loads[:, None], np.array([[one.value] for one in messages])
        hours = self.model.hour_lift[hours_of_week] * own_hours[:, hours_of_week % 24]
        shape = (likely @ self.lift) * hours
        shape /= np.maximum(shape[:, :1], 1e-3)
        tired = load * np.exp2(-away_ms / (self.model.half_life_h * HOUR_MS))
        rises = np.where(uplift > 0, uplift * shape, uplift)
        changes = rises * np.maximum(1.0 - per_push * tired, 0.0)
        cost = np.maximum(rises, 0.0) * (per_push * np.minimum(load, FULL_LOAD)) * worth
        waiting = 1.0 - np.minimum(self.costs.wait_per_h * away_ms / HOUR_MS, 1.0)
        wakes = np.array([one.channel == "push" for one in messages])
        hazard = np.where(wakes, effects.opt_out, 0.0)[:, None]
        risk = hazard * self.costs.opt_out * (1.0 + tired) / (1.0 + load)
        # An opt-out costs goals of any message, so it is not a matter of this one's value.
        value = (changes * worth - cost) * waiting - risk
        return Prospect(value, changes, np.minimum(effects.p_open[:, None] * shape, 1.0), cost)

    def load(self, ages_h: Sequence[float]) -> float:
        """Messages that somebody got so long ago, each halved every half-life."""
        return sum([math.exp2(-age / self.model.half_life_h) for age in ages_h])


def own_hours(opens: Sequence[Mapping[int, int]]) -> Doubles:
    """float64 [n, 24]: how many times as readily as others people open at each local hour.

    Shrunk to one (an empirical Bayes estimate of a share under a Dirichlet prior of OWN_HOUR).
    """
    counts = np.zeros((len(opens), 24))
    for row, of_one in enumerate(opens):
        for hour, count in of_one.items():
            counts[row, hour % 24] += count
    share = (2 * AROUND_H + 1) / 24
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray((counts @ NEAR + OWN_HOUR * share) / ((total + OWN_HOUR) * share))


def lifts(model: PushModel, situations: Sequence[str]) -> Doubles:
    """float64 [situations] by number."""
    return np.array([model.situation_lift.get(name, 1.0) for name in situations])
