"""What a push service asks about, and what it is told: messages and decisions on them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Channel = Literal["push", "in_app"]
Urgency = Literal["low", "normal", "high", "transactional"]
Action = Literal["send", "hold", "drop"]
SLOT_MS = 15 * 60_000  # a person is decided about anew in each of these
COIN = 0.5  # a fair one: its chance of sending


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a message is for: an action within so many hours, by whatever way it came about."""

    action: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "open"
    within_h: Annotated[float, msgspec.Meta(gt=0, le=720)] = 24.0


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message to one person or to many; times are unix ms."""

    message_id: str
    category: str
    expires_ms: int
    campaign_id: str | None = None
    channel: Channel = "push"
    item_id: str | None = None
    goal: Goal = Goal()
    value: float = 1.0  # of one goal
    not_before_ms: int = 0
    urgency: Urgency = "normal"


class Reason(msgspec.Struct, frozen=True):
    """Why, for programs and for people."""

    code: str
    text: str


class Scores(msgspec.Struct, frozen=True):
    """What the decision was weighed by; costs and net value in goals × `value`."""

    p_open_now: float
    p_open_best: float
    uplift: float  # P(goal | sent) − P(goal | not sent), at the moment chosen
    fatigue_cost: float
    net_value: float  # of the moment chosen, opt-out risk taken off


class Chance(msgspec.Struct, frozen=True):
    """How likely each action was, by the policy that chose; they sum to 1."""

    send: float = 0.0
    hold: float = 0.0
    drop: float = 0.0

    def of(self, action: Action) -> float:
        """The chance of one."""
        return float(getattr(self, action))


class PushDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """Send now, hold until a time, or drop, and why."""

    decision_id: str
    message_id: str
    action: Action
    reasons: list[Reason]
    at_ms: int
    expires_ms: int  # of the message
    scores: Scores | None = None
    chance: Chance = Chance()
    hold_until_ms: int | None = None
    reserved_until_ms: int | None = None
    forced: str | None = None  # the gate, or what else left no choice: no evidence of anything
    measured: bool = False  # drawn by chance alone: what it brings is evidence
    first_id: str | None = None  # of the chain of looks that this one belongs to
    degraded: str | None = None
    coin: float = COIN  # chance that the coin sent it, where one was tossed (engine.push_choice)

    @property
    def propensity(self) -> float:
        """The probability of this action, by the policy that chose."""
        return self.chance.of(self.action)
