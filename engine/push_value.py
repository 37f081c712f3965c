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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.push_message import Message

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effects:
    """What a message does if it is sent now, [n] each."""

    p_open: Doubles  # chance that it is opened
    uplift: Doubles  # P(goal | sent) − P(goal | not sent), before fatigue
    opt_out: Doubles  # chance that pushes are switched off because of it


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
