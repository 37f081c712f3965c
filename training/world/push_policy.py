"""What a push policy is asked and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from training.world.arrays import Bools, Floats, Ints
from training.world.lines import Line
from training.world.moments import Moments, unused_device
from training.world.push_weeks import EXPIRES_S, PushWeeks
from training.world.pushes import CATEGORIES

DROP = np.nan


@dataclass(frozen=True)
class Looks:
    """Messages that are due at a tick, [n]: new ones, and those held until now.

    Whoever decides may read all but the hidden columns of `moments`.
    """

    weeks: PushWeeks
    at_s: float
    message: Ints  # numbers
    moments: Moments  # of the owners of accounts

    def __len__(self) -> int:
        return len(self.message)

    @property
    def account(self) -> Ints:
        return self.moments.person

    @property
    def created_s(self) -> Floats:
        return self.weeks.messages.created_s[self.message]

    @property
    def expires_s(self) -> Floats:
        return self.created_s + EXPIRES_S

    def user_id(self, row: int) -> str:
        """Whom it is for."""
        return f"user-{self.account[row]:05}"

    def message_id(self, row: int) -> str:
        """As the events of the push will call it."""
        return self.weeks.messages.id_of(int(self.message[row]))

    def category(self, row: int) -> str:
        """One of training.world.pushes.CATEGORIES."""
        return CATEGORIES[self.weeks.messages.category[self.message[row]]]

    def device(self, row: int) -> dict[str, object]:
        """What the phone tells now, which nobody need be looking at."""
        return unused_device(self.weeks.core.people, self.moments, row)


@dataclass(frozen=True)
class Verdicts:
    """Per look: sent, or held until a time (unix seconds), or dropped (NaN)."""

    send: Bools  # [n]
    until_s: Floats  # [n], not read where it is sent

    @classmethod
    def of(cls, each: Sequence[bool | float]) -> Verdicts:
        """True: send, False: drop, a number: hold until then."""
        send = np.array([one is True for one in each], np.bool_)
        return cls(send, np.array([DROP if isinstance(one, bool) else one for one in each]))


class Policy(Protocol):
    """Decides about pushes, and may read the events."""

    reads_events: bool  # whether `observe` is called at all

    def decide(self, looks: Looks) -> Verdicts:
        """What becomes of the messages that are due."""
        ...

    def observe(self, lines: Sequence[Line]) -> None:
        """What happened since the last tick, by time."""
        ...

    def week_over(self, at_s: float) -> None:
        """A week has passed: learn, if it is time."""
        ...
