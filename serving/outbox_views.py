"""What clients are told of held messages."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from engine.push_message import PushDecision, Reason
from engine.push_outbox import LIVE, HandedOut, Kept
from engine.times import to_rfc3339


class OutboxDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last decision on a message."""

    decision_id: str
    action: str
    propensity: float
    reasons: list[Reason]
    reserved_until: str | UnsetType = UNSET
    hold_until: str | UnsetType = UNSET


class ClaimedMessage(msgspec.Struct, frozen=True):
    """A message that is its claimer's to send, before `send_before`.

    `attempt` counts from 1; from 2 on it was handed out before, under the same claim_id, and may
    have gone out.
    """

    claim_id: str
    user_id: str
    message_id: str
    payload: msgspec.Raw
    decision: OutboxDecision
    attempt: int
    send_before: str


class OutboxMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it stands."""

    user_id: str
    message_id: str
    state: str
    added_at: str
    expires_at: str
    attempts: int
    claim_id: str | UnsetType = UNSET  # once it was handed out
    decision: OutboxDecision | UnsetType = UNSET
    cancelling: bool = False  # it is being delivered, and will not be handed out again
    reason: str | UnsetType = UNSET
    ended_at: str | UnsetType = UNSET


def decision_view(decision: PushDecision) -> OutboxDecision:
    """A decision as it is answered."""
    return OutboxDecision(
        decision.decision_id,
        decision.action,
        decision.propensity,
        decision.reasons,
        _time(decision.reserved_until_ms),
        _time(decision.hold_until_ms),
    )


def claimed_view(one: HandedOut) -> ClaimedMessage:
    """What was handed out."""
    return ClaimedMessage(
        one.claim_id,
        one.user_id,
        one.message_id,
        msgspec.Raw(one.payload),
        decision_view(one.decision),
        one.attempt,
        to_rfc3339(one.until_ms),
    )


def kept_view(kept: Kept, now_ms: int) -> OutboxMessage:
    """A message; one that is past its expiry is expired, though nobody has looked yet."""
    over = kept.state in LIVE and kept.message.expires_ms <= now_ms
    return OutboxMessage(
        user_id=kept.user_id,
        message_id=kept.message.message_id,
        state="expired" if over else kept.state,
        added_at=to_rfc3339(kept.added_ms),
        expires_at=to_rfc3339(kept.message.expires_ms),
        attempts=kept.attempts,
        claim_id=kept.claim_id if kept.attempts else UNSET,
        decision=decision_view(kept.decision) if kept.decision else UNSET,
        cancelling=kept.cancelling,
        reason=kept.reason or UNSET,
        ended_at=_time(kept.ended_ms),
    )


def _time(ms: int | None) -> str | UnsetType:
    return UNSET if ms is None else to_rfc3339(ms)
