"""Held messages: they wait, are looked at when due, and are handed out once they may go.

    waiting ─► ready ─► delivering ─► delivered        and from any of the first three:
       ▲         │          │                          dropped, cancelled, expired
       └─────────┴──────────┘ the reservation ran out: decided on again

Who takes a message holds it for a while only: if they are killed it is taken again. A message has
one id for all its life, by which those it is handed to twice can tell. The scripts and keys are in
engine/push_outbox_scripts.py.
"""

from __future__ import annotations

import base64
import random
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import msgspec

from engine.ids import partition_of
from engine.push_message import Message, PushDecision
from engine.push_outbox_scripts import (
    ACK,
    ADD,
    CANCEL_CAMPAIGN,
    FIND,
    FORGET,
    HAND_OUT,
    JOIN,
    LATER,
    PEEK,
    SETTLE,
    TAKE,
)
from engine.redis_keys import keys_of
from engine.redis_store import AsyncRedisStore, RedisStore

CAMPAIGN_STEP = 100  # messages cancelled by one script: the store answers nobody meanwhile
LIVE = ("waiting", "ready", "delivering")
ENDS = ("delivered", "dropped", "cancelled", "expired")

_PREFIX = "msg_"
_ID = struct.Struct(">H14s")  # partition, random: 22 characters in base64
_encode = msgspec.json.Encoder().encode
_message = msgspec.json.Decoder(Message).decode
_decision = msgspec.json.Decoder(PushDecision).decode

Command = tuple[Any, ...]


class Added(IntEnum):
    """What became of a message that was handed over."""

    KNOWN = 0
    TAKEN = 1
    TOO_MANY = 2
    ERASING = 3


@dataclass(frozen=True, slots=True)
class Held:
    """A message for one person and what to send them: JSON of any kind, kept as it came."""

    user_id: str
    message: Message
    payload: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """A message to be decided on; `rev` lets the decision be written if nothing else was."""

    claim_id: str
    rev: int
    user_id: str
    message: Message
    again: bool  # before its time: the situation changed, or a reservation ran out
    at_ms: int  # by the store's clock


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message; `sent`: it went out before it was asked about."""

    due: Due
    action: Literal["send", "hold", "drop", "sent"]
    decision: PushDecision
    reason: str = ""  # of a drop


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A message that may go out now, until `until_ms`."""

    claim_id: str
    rev: int
    user_id: str
    message_id: str
    payload: bytes
    decision: PushDecision
    attempt: int  # from 2 on it may have gone out before
    until_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a message; live ones past their expiry are expired, looked at or not."""

    claim_id: str
    user_id: str
    message: Message
    state: str
    added_ms: int
    attempts: int
    cancelling: bool
    decision: PushDecision | None
    reason: str | None
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Of a campaign: those that will not go out, and those that may have."""

    cancelled: int = 0
    delivering: int = 0


class Outbox:
    """The operations, one trip each unless told otherwise; all raise StoreUnavailable."""

    def __init__(self, store: AsyncRedisStore) -> None:
        self._store = store
        self._partitions = store.settings.partitions

    async def add(self, messages: Sequence[Held]) -> list[Added]:
        """Take messages over, in their order; one that a person was handed before is known."""
        places: dict[int, list[int]] = {}
        for place, held in enumerate(messages):
            places.setdefault(partition_of(held.user_id, self._partitions), []).append(place)
        commands = [
            _command(ADD, partition, *(p for at in some for p in _parts(partition, messages[at])))
            for partition, some in places.items()
        ]
        found = [Added.KNOWN] * len(messages)
        replies = await self._store.run(commands)
        for some, reply in zip(places.values(), replies, strict=True):
            for at, code in zip(some, reply, strict=True):
                found[at] = Added(code)
        return found

    async def waiting(self) -> tuple[list[int], list[int]]:
        """The partitions in which something is due, and those in which something is ready."""
        commands = [_command(PEEK, partition) for partition in range(self._partitions)]
        replies = await self._store.run(commands)
        due = [partition for partition, reply in enumerate(replies) if reply[0]]
        return due, [partition for partition, reply in enumerate(replies) if reply[1]]

    async def take(self, partitions: Sequence[int], count: int, lease_ms: int) -> list[Due]:
        """About `count` messages that are due, with what else is due of their people.

        They are due again after the lease, unless `settle` says otherwise.
        """
        share = max(count // max(len(partitions), 1), 1)
        commands = [_command(TAKE, partition, share, lease_ms) for partition in partitions]
        replies = await self._store.run(commands)
        return [
            Due(id_.decode(), int(rev), user.decode(), _message(message), bool(again), int(now))
            for now, *told in replies
            for id_, rev, user, message, again in _rows(told, 5)
        ]

    async def settle(self, verdicts: Iterable[Verdict]) -> int:
        """Write down what becomes of messages taken; returns of how many, others having changed."""
        parts: dict[int, list[Any]] = {}
        for verdict in verdicts:
            due, one = verdict.due, verdict.decision
            partition = partition_of(due.user_id, self._partitions)
            until_ms = one.reserved_until_ms if verdict.action == "send" else one.hold_until_ms
            told = due.claim_id, due.rev, verdict.action, until_ms or 0, _encode(one)
            parts.setdefault(partition, []).extend((*told, verdict.reason))
        commands = [_command(SETTLE, partition, *some) for partition, some in parts.items()]
        return sum(sum(reply) for reply in await self._store.run(commands))

    async def join(self, messages: Sequence[tuple[Due, str]]) -> list[bool]:
        """Whether each may go to the person its id leads to: not what they have from elsewhere."""
        commands = [
            _command(
                *(JOIN, partition_of(owner, self._partitions), owner, due.message.message_id),
                *(due.claim_id, due.message.expires_ms),
            )
            for due, owner in messages
        ]
        return [bool(reply) for reply in await self._store.run(commands)]

    async def hand_out(self, count: int, lease_ms: int) -> list[HandedOut]:
        """Up to `count` messages that may go out now, theirs for so long; a few trips."""
        _, ready = await self.waiting()
        random.shuffle(ready)
        given: list[HandedOut] = []
        while ready and len(given) < count:
            left = count - len(given)
            share = max(left // len(ready), 1)
            asked = ready[:left]
            commands = [_command(HAND_OUT, partition, share, lease_ms) for partition in asked]
            replies = await self._store.run(commands)
            found = [_handed_out(reply) for reply in replies]
            given += (one for some in found for one in some)
            full = [p for p, some in zip(asked, found, strict=True) if len(some) == share]
            ready = full + ready[left:]
        return given

    async def later(self, message: HandedOut, delay_ms: int) -> None:
        """It could not be delivered: hand it out again, not before the delay is over."""
        partition = partition_of_claim(message.claim_id) or 0
        command = _command(LATER, partition, message.claim_id, message.rev, delay_ms)
        await self._store.run([command])

    async def ack(self, claim_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """These went out: they are handed out no more.

        Returns the user and message of those that were handed out, by claim.
        """
        by_partition: dict[int, list[str]] = {}
        for claim_id in dict.fromkeys(claim_ids):
            partition = partition_of_claim(claim_id)
            if partition is not None and partition < self._partitions:
                by_partition.setdefault(partition, []).append(claim_id)
        commands = [_command(ACK, partition, *ids) for partition, ids in by_partition.items()]
        replies = await self._store.run(commands)
        return {
            claim_id: (known[0].decode(), known[1].decode())
            for ids, reply in zip(by_partition.values(), replies, strict=True)
            for claim_id, known in zip(ids, reply, strict=True)
            if known
        }

    async def find(self, user_id: str, message_id: str, cancel: bool = False) -> Kept | None:
        """A message as it stands, or stood up to a day ago; with `cancel`, after that."""
        partition = partition_of(user_id, self._partitions)
        command = _command(FIND, partition, user_id, message_id, int(cancel))
        (reply,) = await self._store.run([command])
        return _kept({k.decode(): v for k, v in _rows(reply, 2)}) if reply else None

    async def cancel_campaign(self, campaign_id: str) -> Cancelled:
        """Cancel all messages of a campaign that have not ended; many trips, others in between."""
        cancelled = delivering = 0
        for partition in range(self._partitions):
            command = _command(CANCEL_CAMPAIGN, partition, campaign_id, CAMPAIGN_STEP)
            seen = CAMPAIGN_STEP
            while seen == CAMPAIGN_STEP:
                ((seen, ended, out),) = await self._store.run([command])
                cancelled, delivering = cancelled + ended, delivering + out
        return Cancelled(cancelled, delivering)


def forget(store: RedisStore, partition: int, user_id: str) -> int:
    """Forget a person's messages, whatever their state; returns how many."""
    (count,) = store.run([_command(FORGET, partition, user_id)])
    return int(count)


def totals(store: RedisStore, partitions: Iterable[int]) -> tuple[dict[str, int], int, int]:
    """How many came to each state ever; how many have not ended, and of these are ready."""
    outboxes = [keys_of(partition).outbox for partition in partitions]
    counts: dict[str, int] = {}
    for reply in store.run([("HGETALL", o + "n") for o in outboxes]):
        for name, n in reply.items():
            counts[name.decode()] = counts.get(name.decode(), 0) + int(n)
    live = sum(store.run([("ZCARD", o + "due") for o in outboxes]))
    return counts, live, sum(store.run([("ZCARD", o + "ready") for o in outboxes]))


def partition_of_claim(claim_id: str) -> int | None:
    """The partition that an id of ours carries; None for any other id."""
    try:
        raw = base64.b64decode(claim_id.removeprefix(_PREFIX) + "==", b"-_", validate=True)
        partition, _ = _ID.unpack(raw)
    except (ValueError, struct.error):
        return None
    return int(partition) if claim_id.startswith(_PREFIX) else None


def _new_id(partition: int) -> str:
    raw = _ID.pack(partition, secrets.token_bytes(14))
    return _PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parts(partition: int, held: Held) -> Command:
    message = held.message
    return (
        *(_new_id(partition), held.user_id, message.message_id, _encode(message), held.payload),
        *(message.expires_ms, message.not_before_ms, message.campaign_id or ""),
    )


def _command(script: str, partition: int, *parts: Any) -> Command:
    keys = keys_of(partition)
    return ("EVAL", script, 2, keys.outbox, keys.forgotten, *parts)


def _rows(flat: Sequence[Any], width: int) -> list[Sequence[Any]]:
    return [flat[at : at + width] for at in range(0, len(flat), width)]


def _handed_out(reply: Sequence[Any]) -> list[HandedOut]:
    return [
        HandedOut(
            id_.decode(), int(rev), user.decode(), name.decode(), payload, _decision(raw),
            int(tries), int(until),
        )
        for id_, rev, user, name, payload, raw, tries, until in _rows(reply, 8)
    ]  # fmt: skip


def _kept(told: dict[str, bytes]) -> Kept:
    raw, ended = told.get("decision"), told.get("ended")
    reason = told.get("reason")
    return Kept(
        claim_id=told["id"].decode(),
        user_id=told["user"].decode(),
        message=_message(told["message"]),
        state=told["state"].decode(),
        added_ms=int(told["added"]),
        attempts=int(told["tries"]),
        cancelling="cancel" in told,
        decision=_decision(raw) if raw else None,
        reason=reason.decode() if reason else None,
        ended_ms=int(ended) if ended else None,
    )
