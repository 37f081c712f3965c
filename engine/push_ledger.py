"""A person's ledger of pushes: what was promised, sent and held. One record, swapped as a whole.

The ledger is kept beside the state, under a key of its own, and is written by whoever decides:
read, decide, and swap it for the new one if nobody else has in the meantime; else read and decide
again. So two callers can never both take the last place under a cap, without a lock and in two
trips.

A reservation counts until its time is over by every clock: two may be `clocks_differ_min` off, one
ahead and one behind. Then it counts only if a `push` event told that the message went out, which
the state knows. One that failed counts no more.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from engine.push_history import Heard
from engine.push_message import PushDecision
from engine.state import UserState
from engine.times import DAY_MS, HOUR_MS

VERSION = struct.Struct(">Q")  # before the record, so that the store compares eight bytes
KEPT_MS = 35 * DAY_MS  # of sends: longer than any cap looks back
MOST_SENDS = 200
CLOCKS_MS = HOUR_MS  # another caller's clock may be so far behind
WENT_OUT = frozenset({"sent", "delivered", "opened", "dismissed"})


class Send(msgspec.Struct, array_like=True, frozen=True):
    """A message that was let go, or was reported as sent."""

    message_id: str
    category: str
    at_ms: int
    until_ms: int = 0  # reserved, by every clock; 0: it went out
    campaign_id: str | None = None
    digest: bool = False
    channel: str = "push"
    failed_s: int = 0  # when a try before this one failed, as it was told


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """A decision, unread: most are never asked about again, and are only passed on."""

    expires_ms: int
    raw: msgspec.Raw

    def read(self) -> PushDecision:
        """It."""
        return _decode_decision(self.raw)


class Ledger(msgspec.Struct, array_like=True):
    """What was promised to one person and has not been forgotten."""

    sends: list[Send] = []
    decided: dict[str, Kept] = {}  # by message, until it expires

    def said(self, message_id: str) -> PushDecision | None:
        """What was decided on a message last."""
        kept = self.decided.get(message_id)
        return None if kept is None else kept.read()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ledger).decode
_decode_decision = msgspec.msgpack.Decoder(PushDecision).decode


def keep(decision: PushDecision) -> Kept:
    """A decision as a ledger has it."""
    return Kept(decision.expires_ms, msgspec.Raw(_encode(decision)))


def read_ledger(raw: bytes | None) -> tuple[Ledger, int]:
    """The ledger and its version; an empty one of version 0 where there is none."""
    if not raw:
        return Ledger(), 0
    return _decode(raw[VERSION.size :]), int(VERSION.unpack_from(raw)[0])


def write_ledger(ledger: Ledger, version: int) -> bytes:
    """The bytes that are kept, of the version after `version`."""
    return VERSION.pack(version + 1) + _encode(ledger)


def settled(ledger: Ledger, state: UserState, at_ms: int) -> list[Send]:
    """Sends that count at a time, oldest first: reserved, gone out, or told of by others."""
    told = _told(state)
    found, known = [], set()
    for send in ledger.sends:
        known.add(send.message_id)
        heard = told.get(send.message_id)
        if counts(send, heard, at_ms):
            found.append(_confirmed(send, heard))
    for sent in told.values():
        if sent.message_id not in known and sent.status in WENT_OUT:
            found.append(Send(sent.message_id, sent.category or "", sent.at_s * 1000))
    return sorted(found, key=lambda send: send.at_ms)


def counts(send: Send, heard: Heard | None, at_ms: int) -> bool:
    """Whether a send is reserved at a time, or went out."""
    if heard is not None and heard.status in WENT_OUT:
        return True
    # A failure that was known when it was let go is of a try before.
    if heard is not None and heard.status == "failed" and heard.at_s != send.failed_s:
        return False
    return send.until_ms == 0 or send.until_ms > at_ms


def is_answer(ledger: Ledger, state: UserState, said: PushDecision, at_ms: int) -> bool:
    """Whether a message that was let go went out, or may still go out by the clock of who asks."""
    until_ms = said.reserved_until_ms or said.at_ms
    forgotten = Send(said.message_id, "", said.at_ms, until_ms)
    kept = (one for one in ledger.sends if one.message_id == said.message_id)
    send, heard = next(kept, forgotten), _told(state).get(said.message_id)
    if not counts(send, heard, at_ms):
        return False
    return at_ms < until_ms or _confirmed(send, heard).until_ms == 0


def last_failure_s(state: UserState, message_id: str) -> int:
    """When a message failed, as far as it was told; 0 where it did not."""
    heard = _told(state).get(message_id)
    return heard.at_s if heard is not None and heard.status == "failed" else 0


def _told(state: UserState) -> dict[str, Heard]:
    return {} if state.push is None else {one.message_id: one for one in state.push.recent}


def confirmed(sends: Sequence[Send], state: UserState) -> list[Send]:
    """Sends, of which those that went out stay so however much else is told afterwards."""
    if not any(send.until_ms for send in sends):
        return list(sends)
    told = _told(state)
    return [_confirmed(send, told.get(send.message_id)) for send in sends]


def _confirmed(send: Send, heard: Heard | None) -> Send:
    if send.until_ms and heard is not None and heard.status in WENT_OUT:
        return msgspec.structs.replace(send, until_ms=0)
    return send


def mark_sent(ledger: Ledger, message_ids: set[str]) -> Ledger:
    """The ledger with these messages no longer reserved but gone out."""
    sends = [
        msgspec.structs.replace(send, until_ms=0) if send.message_id in message_ids else send
        for send in ledger.sends
    ]
    return Ledger(sends, ledger.decided)


def prune(ledger: Ledger, at_ms: int) -> Ledger:
    """The ledger without what no decision will ask about again."""
    kept = [send for send in ledger.sends if send.at_ms > at_ms - KEPT_MS][-MOST_SENDS:]
    since = at_ms - CLOCKS_MS
    decided = {name: one for name, one in ledger.decided.items() if one.expires_ms > since}
    return Ledger(kept, decided)


def expires_ms(ledger: Ledger, at_ms: int) -> int:
    """When the record may be forgotten."""
    ends = [one.expires_ms for one in ledger.decided.values()]
    ends += [send.at_ms + KEPT_MS for send in ledger.sends]
    return max(ends, default=at_ms) + DAY_MS
