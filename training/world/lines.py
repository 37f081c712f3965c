"""The events that the world writes: its own structs, in the shape that `kairos import` takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Line(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One event; `ts` is unix ms."""

    ts: int


class Item(Line, tag_field="type", tag="item"):
    item_id: str
    attributes: dict[str, Any]
    available_from: int


class User(Line, tag_field="type", tag="user"):
    user_id: str
    attributes: dict[str, Any]


class Alias(Line, tag_field="type", tag="alias"):
    event_id: str
    previous_id: str
    user_id: str


class Interaction(Line, tag_field="type", tag="interaction"):
    event_id: str
    user_id: str
    action: str
    item_id: str | None = None
    value: float | None = None
    decision_id: str | None = None
    module_id: str | None = None
    surface: str | None = None
    query: str | None = None


class Shown(msgspec.Struct, omit_defaults=True, gc=False):
    position: int
    item_ids: list[str]
    module_id: str | None = None


class Impression(Line, tag_field="type", tag="impression"):
    event_id: str
    user_id: str
    decision_id: str
    shown: list[Shown]


class DeviceState(Line, tag_field="type", tag="device"):
    event_id: str
    user_id: str
    device: dict[str, Any]


class Push(Line, tag_field="type", tag="push"):
    event_id: str
    user_id: str
    message_id: str
    status: str
    category: str | None = None


class Slot(msgspec.Struct, omit_defaults=True, gc=False):
    item_id: str
    position: int
    propensity: float | None = None


class Decision(Line, tag_field="type", tag="decision"):
    decision_id: str
    user_id: str
    surface: str
    slots: list[Slot]


_encoder = msgspec.json.Encoder()


def encode(events: Iterable[Line]) -> bytes:
    """JSON Lines."""
    return _encoder.encode_lines(events)
