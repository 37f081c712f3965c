"""The way of a push: send now, hold for a better moment, or drop. Many messages are decided at once.

read the people and their ledgers ─► moments ─► what each message is worth now and later
─► gates ─► messages of a person against each other ─► draws ─► swap the ledgers
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.device import Device
from engine.push_message import Message, PushDecision
from engine.situation import Moment


@dataclass(frozen=True, slots=True)
class Asked:
    """One message for one person, to be decided on now."""

    user_id: str
    message: Message
    device: Device | None = None
    again: bool = False  # a hold is looked at anew before its time: the situation changed


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision with all that it was made from, as the log keeps it."""

    asked: Asked
    user_id: str  # that aliases lead to
    decision: PushDecision
    moment: Moment
    position: int  # in the log, at which the state stood
    row: list[float | None]  # engine.push_features.NAMES
    release: str | None
    config_version: str
    repeated: bool = False  # an answer that was given before
