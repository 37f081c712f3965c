"""The draws that make decisions evidence, and the choice between send, hold and drop.

The unit of chance is (user, message, 15-minute slot): its draw is a keyed hash of them, so asking
again gives the same answer. A message that is *measured* goes to an hour drawn from those that are
open until it expires, and there a coin says whether it is sent or never. The others go by value.
The coin is fair but where enough is known to say that sending is worth nothing (`Odds`): what such
sends bring to light is seldom worth what they spoil. Every look has its chances of send, hold and
drop, exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.push_message import COIN, SLOT_MS, Action, Chance
from engine.push_value import Doubles

MOST_EXACT = 10


@dataclass(frozen=True, slots=True)
class Draws:
    """Three draws of one look, each uniform in [0, 1)."""

    measure: float
    hour: float
    coin: float


@dataclass(frozen=True, slots=True)
class Odds:
    """How likely a message is measured, and how its coin falls."""

    share: float = 0.0  # measured, at the first look
    unwanted: float = COIN  # chance that the coin sends where sending is worth nothing

    def coin(self, value: float) -> float:
        """Chance that the coin sends, where sending now is worth so much."""
        return COIN if value > 0 else self.unwanted


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with one message; `cell` is where it stands: now is 0."""

    action: Action
    cell: int
    chance: Chance
    measured: bool = False
    coin: float = COIN  # chance that the coin sent it, where one was tossed


def draws(key: bytes, user_id: str, message_id: str, at_ms: int) -> Draws:
    """Those of a user, a message and the slot that a time lies in."""
    text = f"{len(user_id)}:{user_id}{message_id}\n{at_ms // SLOT_MS}".encode()
    raw = hashlib.blake2b(text, digest_size=24, key=key).digest()
    return Draws(*(int.from_bytes(raw[at : at + 8], "big") / 2**64 for at in (0, 8, 16)))


def held_out(key: bytes, user_id: str, share: float) -> bool:
    """Whether a user is one of the share that gets no messages, for good."""
    raw = hashlib.blake2b(f"holdout {user_id}".encode(), digest_size=8, key=key).digest()
    return int.from_bytes(raw, "big") / 2**64 < share


def best(values: Doubles, opened: NDArray[np.bool_]) -> int | None:
    """The open cell of the highest value above 0, the earliest of equals; None: there is none."""
    cell = int(np.where(opened, values, -np.inf).argmax())
    return cell if opened[cell] and values[cell] > 0 else None


def choose(values: Doubles, opened: NDArray[np.bool_], odds: Odds, drawn: Draws) -> Choice:
    """By value, or measured; [cells] values and whether gates are open."""
    wish = best(values, opened)
    wanted: Action = "drop" if wish is None else ("send" if wish == 0 else "hold")
    hours = np.flatnonzero(opened)
    if not len(hours):
        return Choice("drop", 0, Chance(drop=1.0))
    share, coin = odds.share, odds.coin(float(values[0]))
    now = share / len(hours) if opened[0] else 0.0
    by_chance = {"send": now * coin, "drop": now * (1 - coin), "hold": share - now}
    by_chance[wanted] += 1.0 - share
    chance = Chance(**by_chance)
    if drawn.measure >= share:
        return Choice(wanted, wish or 0, chance)
    cell = int(hours[min(int(drawn.hour * len(hours)), len(hours) - 1)])
    if cell > 0:
        return Choice("hold", cell, chance, measured=True)
    return Choice(_tossed(drawn, coin), 0, chance, measured=True, coin=coin)


def flip(value: float, odds: Odds, drawn: Draws) -> Choice:
    """The coin of a measured message whose hour has come; sending it now is worth `value`."""
    coin = odds.coin(value)
    chance = Chance(send=coin, drop=1 - coin)
    return Choice(_tossed(drawn, coin), 0, chance, measured=True, coin=coin)


def _tossed(drawn: Draws, coin: float) -> Action:
    return "send" if drawn.coin < coin else "drop"


def best_set(
    values: Sequence[float], groups: Sequence[set[int]], rooms: Sequence[int]
) -> list[int]:
    """The messages, by place, of the highest sum of values that caps have room for.

    `groups` are the places that each cap counts together, `rooms` how many each has room for. Exact
    up to MOST_EXACT messages, by value beyond.
    """
    count = len(values)
    if count > MOST_EXACT:
        return _greedy(values, groups, rooms)
    taken = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1  # every set
    allowed = np.ones(len(taken), np.bool_)
    for group, room in zip(groups, rooms, strict=True):
        allowed &= taken[:, sorted(group)].sum(axis=1) <= room
    sums = np.where(allowed, taken @ np.maximum(values, 0.0), -1.0)
    return [int(place) for place in np.flatnonzero(taken[int(np.argmax(sums))])]


def _greedy(values: Sequence[float], groups: Sequence[set[int]], rooms: Sequence[int]) -> list[int]:
    left, found = list(rooms), []
    for place in sorted(range(len(values)), key=lambda place: -values[place]):
        counting = [number for number, group in enumerate(groups) if place in group]
        if all(left[number] > 0 for number in counting):
            found.append(place)
            for number in counting:
                left[number] -= 1
    return sorted(found)
