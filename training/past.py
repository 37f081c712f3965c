"""Decisions of the past with the states that they were made from: what a what-if starts at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.fold import FoldRules
from engine.records import DecisionRecord, decode_user_record
from engine.state import UserState, decode_state
from training.replay import Log, Point, replay


@dataclass(frozen=True, slots=True)
class Past:
    """One decision of ours, and the state as it stood then."""

    record: DecisionRecord
    state: UserState


def past_decisions(
    log: Log, partitions: int, rules: FoldRules, since_ms: int, most: int
) -> list[Past]:
    """The last `most` decisions since a time, oldest first; imported ones are not ours."""
    records = sorted(_decided(log, range(partitions), since_ms), key=lambda record: record.arrived)
    points = {
        record.decision_id: Point(record.user_id, record.ts, record.state_position)
        for record in records[-most:]
    }
    answers = replay(log, range(partitions), partitions, rules, points.values()).answers
    found = []
    for record in records[-most:]:
        packed = answers.get(points[record.decision_id])
        found.append(Past(record, UserState() if packed is None else decode_state(packed)))
    return found


def _decided(log: Log, partitions: Sequence[int], since_ms: int) -> Iterator[DecisionRecord]:
    seen: set[str] = set()
    for _, entries in log.read(partitions):
        for entry in entries:
            for raw in entry.records:
                if b'"type":"decision"' not in raw:
                    continue
                record = decode_user_record(raw)
                if not isinstance(record, DecisionRecord) or record.imported or record.hops:
                    continue
                if record.arrived >= since_ms and record.decision_id not in seen:
                    seen.add(record.decision_id)
                    yield record
