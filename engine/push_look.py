"""One message looked at for one person: what it is worth in each hour to come, and what is open."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.device import Device
from engine.push_ahead import Ahead, look_ahead
from engine.push_choice import Draws, best
from engine.push_gates import Barrier, Gates
from engine.push_ledger import Ledger, Send
from engine.push_message import Message, PushDecision
from engine.push_value import Prospect
from engine.situation import Moment
from engine.state import UserState
from engine.times import HOUR_MS

Bools = NDArray[np.bool_]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One message for one person, to be decided on now."""

    user_id: str
    message: Message
    device: Device | None = None
    again: bool = False  # a hold is looked at anew before its time: the situation changed


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a call is about, as read; `version` of the ledger is what a swap has to find."""

    user_id: str  # that aliases lead to
    state: UserState
    ledger: Ledger = field(default_factory=Ledger)
    version: int = 0
    erasing: bool = False


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A look before any model was asked."""

    asked: Asked
    person: Person
    sends: list[Send]  # that count now, oldest first
    moment: Moment
    gates: Gates
    ahead: Ahead
    row: list[float]  # engine.push_features.NAMES
    drawn: Draws
    before: PushDecision | None  # the look before this one

    @property
    def message(self) -> Message:
        return self.asked.message


@dataclass(frozen=True, slots=True)
class Look:
    """All that a choice needs; arrays are [cells]."""

    glimpse: Glimpse
    gates: Gates
    prospect: Prospect
    likely: NDArray[np.float64]  # [cells, situations]
    opens_ms: Times  # the first open moment of each cell
    opened: Bools

    @property
    def message(self) -> Message:
        return self.glimpse.message

    @property
    def wish(self) -> int | None:
        """The best open cell, None where none is worth it."""
        return best(self.prospect.value, self.opened)

    @property
    def worth(self) -> float:
        """The value of that; 0 where none is worth it."""
        wish = self.wish
        return 0.0 if wish is None else float(self.prospect.value[wish])

    def send(self, until_ms: int = 0, failed_s: int = 0) -> Send:
        """What a ledger keeps of it where it goes out now, reserved until then.

        `failed_s` is when a try before failed; 0: it is the first.
        """
        message, at_ms = self.message, self.glimpse.moment.at_ms
        told = message.campaign_id, self.gates.digest_at is not None, message.channel, failed_s
        return Send(message.message_id, message.category, at_ms, until_ms, *told)

    def behind(self, barrier: Barrier) -> Look:
        """The same with one more thing to wait for."""
        gates = replace(self.gates, barriers=(*self.gates.barriers, barrier))
        opens_ms, opened = _behind(
            gates, self.glimpse.ahead, self.opens_ms, self.message.expires_ms
        )
        return replace(self, gates=gates, opens_ms=opens_ms, opened=opened)


@dataclass(slots=True)
class Days:
    """The cells ahead and when each opens by the clock alone, worked out once a call and zone."""

    at_ms: int
    _cells: dict[tuple[str, int], Ahead] = field(default_factory=dict)
    _opens: dict[Hashable, Times] = field(default_factory=dict)

    def ahead(self, zone: str, expires_ms: int) -> Ahead:
        """Cells until a message expires."""
        hours = max(1, -(-(expires_ms - self.at_ms) // HOUR_MS))
        key = zone, hours
        if key not in self._cells:
            self._cells[key] = look_ahead(zone, self.at_ms, hours)
        return self._cells[key]

    def look(self, glimpse: Glimpse, prospect: Prospect, likely: NDArray[np.float64]) -> Look:
        """A glimpse with what a model made of it."""
        gates, ahead = glimpse.gates, glimpse.ahead
        opens_ms = self._by_clocks(gates, ahead)
        opens_ms, opened = _behind(gates, ahead, opens_ms, glimpse.message.expires_ms)
        return Look(glimpse, gates, prospect, likely, opens_ms, opened)

    def _by_clocks(self, gates: Gates, ahead: Ahead) -> Times:
        key = gates.zone, len(ahead.start_ms), gates.quiet, gates.digest_at
        if key not in self._opens:
            clocks = replace(gates, barriers=(), never=None)
            found = [clocks.opens(at) for at in ahead.start_ms.tolist()]
            self._opens[key] = np.array(found, np.int64)
        return self._opens[key]


def _behind(gates: Gates, ahead: Ahead, opens_ms: Times, expires_ms: int) -> tuple[Times, Bools]:
    """When each cell opens, and whether it does before it ends: [cells] each."""
    start = ahead.start_ms
    if gates.never is not None:
        return opens_ms, np.zeros(len(start), np.bool_)
    if gates.open_ms > start[0]:
        opens_ms = np.maximum(opens_ms, gates.opens(gates.open_ms))
    ends = np.append(start[1:], max(int(start[-1]) + 1, expires_ms))
    opened = (opens_ms < ends) & (opens_ms < expires_ms)
    opened[0] &= opens_ms[0] == start[0]  # now, or it is another time
    return opens_ms, opened
