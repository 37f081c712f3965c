"""Fold a batch of one partition's records into states: the same code live and in replay.

In: stream entries. Out: Changes, to be committed as one. Nothing here touches a store; what the
batch needs from one (states, which event ids were folded before) comes in as Loaded.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from engine.errors import KairosError
from engine.ids import event_hash
from engine.module_counts import Cell
from engine.push_ledger import WENT_OUT
from engine.records import (
    AliasRecord,
    CarryRecord,
    Entry,
    EraseRecord,
    ImpressionRecord,
    InteractionRecord,
    MomentRecord,
    PushDecisionRecord,
    PushRecord,
    UserLogRecord,
    decode_user_record,
)
from engine.state import UserState, encode_state, fold
from engine.times import DAY_MS

MAX_HOPS = 64  # of a record sent on after aliases
IMPRESSION_TERM = -1  # the item counter of impressions; interactions count under their term


class Located(NamedTuple):
    """A record and where it stands in the log: its entry, and its place in that."""

    position: int
    place: int
    record: UserLogRecord


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that the fold could not take, set aside."""

    position: int
    index: int
    reason: str
    raw: bytes


class Poisoned(KairosError):
    """The fold failed on one record; nothing of the batch was committed."""

    def __init__(self, position: int, index: int, raw: bytes, reason: str) -> None:
        super().__init__(f"record {position}:{index}: {reason}")
        self.letter = DeadLetter(position, index, reason, raw)


@dataclass(frozen=True, slots=True)
class FoldRules:
    """What of the settings the fold depends on."""

    late_days: int = 7
    idle_ms: int = 0  # 0: never forget


@dataclass(slots=True)
class Loaded:
    """What the store knew before the batch."""

    states: dict[str, UserState]
    known: set[int]  # of the batch's hashes, those folded before


@dataclass(slots=True)
class Changes:
    """What one commit writes, all or nothing."""

    offset: int  # the position folded up to, inclusive
    states: dict[str, UserState] = field(default_factory=dict)
    hashes: dict[int, list[int]] = field(default_factory=dict)  # arrival day -> new hashes
    counters: Tally[tuple[int, int]] = field(default_factory=Tally)  # (item, term) -> increase
    modules: Tally[Cell] = field(default_factory=Tally)  # looks and acts by module -> increase
    outbox: list[UserLogRecord] = field(default_factory=list)  # to append to other partitions
    erased: dict[str, int] = field(default_factory=dict)  # user -> erased up to, unix ms
    dead: list[DeadLetter] = field(default_factory=list)
    stirred: list[str] = field(default_factory=list)  # whose situation is another now
    told: list[tuple[str, str, str]] = field(default_factory=list)  # user, message_id, status
    folded: int = 0
    duplicates: int = 0
    forgotten: int = 0  # dated before their user's erasure


Watch = Callable[[Located, UserState], None]


def decode_entries(
    entries: Iterable[Entry], skip: dict[tuple[int, int], DeadLetter]
) -> list[Located]:
    """All records of the entries but the skipped; raises Poisoned for one that can't be read."""
    located = []
    for entry in entries:
        for index, raw in enumerate(entry.records):
            if skip and (entry.position, index) in skip:
                continue
            try:
                located.append(Located(entry.position, index, decode_user_record(raw)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Poisoned(entry.position, index, raw, str(error)) from error
    return located


def fold_records(
    partition: int,
    offset: int,
    located: Sequence[Located],
    loaded: Loaded,
    rules: FoldRules,
    watch: Watch | None = None,
) -> Changes:
    """Fold the records in order; `watch` sees each state just before its record."""
    changes = Changes(offset)
    states, known = loaded.states, loaded.known
    for at in located:
        record = at.record
        if record.hash is not None:
            if record.hash in known:
                changes.duplicates += 1
                continue
            known.add(record.hash)
            if _may_come_again(record, rules):
                changes.hashes.setdefault(record.arrived // DAY_MS, []).append(record.hash)
        if untold(record):
            changes.folded += 1
            continue
        state = states.get(record.user_id)
        if state is None or _idle(state, record, rules):
            state = UserState() if state is None else _emptied(state)
            states[record.user_id] = state
        if watch is not None:
            watch(at, state)
        try:
            changed = _fold_one(partition, at, state, changes)
        except Exception as error:  # whatever it is, one record must not stop the log
            reason = f"{type(error).__name__}: {error}"
            raise Poisoned(at.position, at.place, msgspec.json.encode(record), reason) from error
        if changed is not None:
            changed.position = at.position
            states[record.user_id] = changes.states[record.user_id] = changed
            changes.folded += 1
    return changes


def _fold_one(partition: int, at: Located, state: UserState, changes: Changes) -> UserState | None:
    """The owner's state after the record; None where the record changes nothing."""
    record = at.record
    if record.ts < state.erased_ms:
        changes.forgotten += 1
        return None
    if isinstance(record, EraseRecord):
        changes.erased[record.user_id] = record.ts
        return UserState(erased_ms=record.ts)
    if isinstance(record, AliasRecord):
        return _alias(partition, at, record, state, changes)
    _tell_outbox(record, changes)
    if state.alias_to is not None:
        if not _cuts_circle(record, state.alias_to):
            changes.outbox.append(_forwarded(partition, at, state.alias_to))
            return state
        state.alias_to = None
    for cell in fold(state, record):
        changes.modules[cell] += 1
    _count_items(record, changes)
    return state


def _alias(
    partition: int, at: Located, record: AliasRecord, state: UserState, changes: Changes
) -> UserState:
    if record.into == record.user_id:
        return state
    if state.alias_to == record.into:
        return state
    carry = CarryRecord(
        ts=record.ts,
        arrived=record.arrived,
        imported=record.imported,
        user_id=record.into,
        hash=_source_hash(partition, at),
        hops=1,
        previous_id=record.user_id,
        via=[record.user_id],
        state=encode_state(state),
    )
    changes.outbox.append(carry)
    return UserState(alias_to=record.into, erased_ms=state.erased_ms)


def _forwarded(partition: int, at: Located, to: str) -> UserLogRecord:
    record = at.record
    moved: dict[str, Any] = {"user_id": to, "hash": _source_hash(partition, at)}
    moved["hops"] = record.hops + 1
    if isinstance(record, CarryRecord):
        moved["via"] = [*record.via, record.user_id]
    return msgspec.structs.replace(record, **moved)


def _cuts_circle(record: UserLogRecord, alias_to: str) -> bool:
    """Whether the aliases form a circle, to be cut at the record's owner.

    A carry that comes round cuts it, and only at its smallest id: with two carries under way in
    one circle, each would otherwise cut it elsewhere and divide the person. Should the carry be
    lost (to an erasure dated later), whatever went round too often cuts.
    """
    if record.hops >= MAX_HOPS:
        return True
    if not isinstance(record, CarryRecord) or alias_to not in record.via:
        return False
    round_ = record.via[-1 - record.via[::-1].index(alias_to) :]
    return record.user_id <= min(round_)


def untold(record: UserLogRecord) -> bool:
    """Whether no state is changed by it, so that none need be read: most decisions on pushes."""
    return isinstance(record, PushDecisionRecord) and not record.tells


def _may_come_again(record: UserLogRecord, rules: FoldRules) -> bool:
    """Whether its hash must be kept: old imported events are known by the archive, but what a
    fold sent on may be appended twice, however old it is."""
    late_ms = (rules.late_days + 1) * DAY_MS
    return not record.imported or record.hops > 0 or record.arrived - record.ts <= late_ms


def _source_hash(partition: int, at: Located) -> int:
    """The identity of what one record gives rise to: no user has an empty id."""
    return event_hash("", f"{partition}:{at.position}:{at.place}")


def _count_items(record: UserLogRecord, changes: Changes) -> None:
    if isinstance(record, InteractionRecord):
        if record.item is not None:
            changes.counters[record.item, record.term] += 1
    elif isinstance(record, ImpressionRecord):
        for shown in record.shown:
            for item in shown.items:
                changes.counters[item, IMPRESSION_TERM] += 1


def _tell_outbox(record: UserLogRecord, changes: Changes) -> None:
    """What held messages have to know of: engine.push_outbox_scripts."""
    if isinstance(record, MomentRecord) and record.changed:
        changes.stirred.append(record.user_id)
    elif isinstance(record, PushRecord) and (
        record.status in WENT_OUT or record.status == "failed"
    ):
        changes.told.append((record.user_id, record.message_id, record.status))


def _idle(state: UserState, record: UserLogRecord, rules: FoldRules) -> bool:
    return bool(
        rules.idle_ms
        and not record.imported
        and state.arrived_s
        and record.arrived - state.arrived_s * 1000 >= rules.idle_ms
    )


def _emptied(state: UserState) -> UserState:
    return UserState(alias_to=state.alias_to, erased_ms=state.erased_ms)
