"""Why a moment is read as it is: what each signal of the device adds to its situation."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from engine.device import Device
from engine.situation import SIGNALS, Situations
from engine.state import UserState

HABIT = "habit"  # what is usual for the person at that hour


class Contribution(msgspec.Struct, frozen=True):
    """One signal: what it said, and how much it adds to the named situation's log odds."""

    signal: str
    value: Any
    contribution: float


def contributions(
    situations: Situations, state: UserState, device: Device, at_ms: int, situation: int
) -> list[Contribution]:
    """Every signal of a device state, the most telling first.

    Each is what would be lost without it (leave one out), all else as it is; they need not add up.
    """
    fields = [name for name in SIGNALS if getattr(device, name) is not None]
    without = [msgspec.structs.replace(device, **{name: None}) for name in fields]
    glances = [situations.glance(state, one, at_ms, None, at_ms) for one in (device, *without)]
    stranger = UserState(devices=state.devices, signals=state.signals, attributes=state.attributes)
    glances.append(situations.glance(stranger, device, at_ms, None, at_ms))
    odds = [_log_odds(float(seen.belief[situation])) for seen in situations.see(glances)]
    told = [
        Contribution(name, _short(getattr(device, name)), round(odds[0] - less, 3))
        for name, less in zip(fields, odds[1:-1], strict=True)
    ]
    if state.situated is not None and state.situated.routine:
        told.append(Contribution(HABIT, None, round(odds[0] - odds[-1], 3)))
    return sorted(told, key=lambda one: -abs(one.contribution))


def _log_odds(chance: float) -> float:
    chance = min(max(chance, 1e-6), 1 - 1e-6)
    return math.log(chance / (1 - chance))


def _short(value: Any) -> Any:
    return msgspec.to_builtins(value) if not isinstance(value, msgspec.Struct) else "window"
