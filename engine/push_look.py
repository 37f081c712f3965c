"""One message looked at for one person: what it is worth in each hour to come, and what is open."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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
    wish: int | None  # the best open cell, None where none is worth it

    @property
    def message(self) -> Message:
        return self.glimpse.message

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
        ends = [self.message.expires_ms]
        [opens_ms], [opened] = _behind([gates], self.glimpse.ahead, self.opens_ms[None], ends)
        wish = best(self.prospect.value, opened)
        return replace(self, gates=gates, opens_ms=opens_ms, opened=opened, wish=wish)


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

    def looks(
        self, glimpses: Sequence[Glimpse], prospect: Prospect, likely: NDArray[np.float64]
    ) -> list[Look]:
        """Glimpses of the same cells with what a model made of them, [n, cells] each."""
        ahead = glimpses[0].ahead
        by_clocks = np.stack([self._by_clocks(one.gates, ahead) for one in glimpses])
        expires_ms = [one.message.expires_ms for one in glimpses]
        opens_ms, opened = _behind([one.gates for one in glimpses], ahead, by_clocks, expires_ms)
        values = np.where(opened, prospect.value, -np.inf)
        cells = values.argmax(axis=1)
        worth_it = (values.max(axis=1) > 0).tolist()
        return [
            Look(one, one.gates, prospect.of(n), likely[n], opens_ms[n], opened[n], wish)
            for n, (one, cell) in enumerate(zip(glimpses, cells.tolist(), strict=True))
            for wish in (cell if worth_it[n] else None,)
        ]

    def _by_clocks(self, gates: Gates, ahead: Ahead) -> Times:
        key = gates.zone, len(ahead.start_ms), gates.quiet, gates.digest_at
        if key not in self._opens:
            clocks = replace(gates, barriers=(), never=None)
            found = [clocks.opens(at) for at in ahead.start_ms.tolist()]
            self._opens[key] = np.array(found, np.int64)
        return self._opens[key]


def _behind(
    gates: Sequence[Gates], ahead: Ahead, opens_ms: Times, expires_ms: Sequence[int]
) -> tuple[Times, Bools]:
    """When each cell opens behind barriers, and whether it does before it ends: [n, cells] each.

    `opens_ms` [n, cells] is when it opens by the clock alone.
    """
    start, last_ms = ahead.start_ms, int(ahead.start_ms[-1])
    free_ms = [
        one.opens(one.open_ms) if one.never is None and one.open_ms > start[0] else 0
        for one in gates
    ]
    upto_ms = [
        0 if one.never is not None else ms for one, ms in zip(gates, expires_ms, strict=True)
    ]
    found = np.maximum(opens_ms, np.array(free_ms, np.int64)[:, None])
    ends = np.empty(found.shape, np.int64)
    ends[:, :-1] = start[1:]
    ends[:, -1] = np.maximum(expires_ms, last_ms + 1)
    opened = (found < ends) & (found < np.array(upto_ms, np.int64)[:, None])
    opened[:, 0] &= found[:, 0] == start[0]  # now, or it is another time
    return found, opened
