"""A decision on a push as the log keeps it."""

from __future__ import annotations

import math

from engine.catalog import Catalog
from engine.ids import event_hash
from engine.push import Decided
from engine.records import PushDecisionRecord
from engine.situation import told_of


def push_record(decided: Decided, arrived_ms: int, catalog: Catalog) -> PushDecisionRecord:
    """The record, in the partition of its person; appended twice, it counts once."""
    decision, message = decided.decision, decided.asked.message
    return PushDecisionRecord(
        ts=decision.at_ms,
        arrived=arrived_ms,
        user_id=decided.user_id,
        hash=event_hash(decided.user_id, f"decision {decision.decision_id}"),
        message=message,
        decision=decision,
        moment=told_of(decided.moment),
        row=[None if math.isnan(value) else value for value in decided.row],
        release=decided.release,
        config_version=decided.config_version,
        state_position=decided.position,
        item=None if message.item_id is None else catalog.by_id.get(message.item_id),
        device=decided.asked.device,
    )
