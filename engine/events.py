"""Events as apps send them: tagged structs, decoded once at the edge.

A list is decoded in one go; only when something in it is wrong is each event decoded alone,
so that one bad event loses nothing of its neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.errors import InvalidInput
from engine.spans import span
from engine.wire import MAX_DEPTH, decode, depth_of, from_validation, malformed

MAX_EVENTS = 1000
MAX_ATTRIBUTE_BYTES = 16_384
LISTS = {"categories": 64, "tags": 512}  # attributes that are lists of names

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Time = str | int | float
Attributes = dict[Id, Any]


class _Event(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    pass


class Item(_Event, frozen=True, tag="item"):
    """What an item is; attributes, dates and `deleted` merge: the newest `ts` wins each."""

    item_id: Id
    ts: Time | None = None
    attributes: Attributes = {}
    available_from: Time | UnsetType | None = UNSET
    available_until: Time | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class User(_Event, frozen=True, tag="user"):
    """Who a user is; attributes merge, null removes."""

    user_id: Id
    attributes: Attributes
    ts: Time | None = None


class Alias(_Event, frozen=True, tag="alias"):
    """An anonymous visitor logs in: previous_id's state joins user_id's, later events too."""

    event_id: Id
    previous_id: Id
    user_id: Id
    ts: Time


class Interaction(_Event, frozen=True, tag="interaction"):
    """What a person did; `action` is declared in actions.yaml."""

    event_id: Id
    user_id: Id
    action: Id
    ts: Time
    item_id: Id | None = None
    value: float | None = None
    decision_id: Id | None = None
    module_id: Id | None = None
    surface: Id | None = None
    query: Annotated[str, Meta(max_length=512)] | None = None
    device: dict[str, Any] | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module, or one plain list, that came into view."""

    position: Annotated[int, Meta(ge=0, le=1000)]
    item_ids: Annotated[list[Id], Meta(max_length=100)]
    module_id: Id | None = None


class Impression(_Event, frozen=True, tag="impression"):
    """What was really seen of a decision."""

    event_id: Id
    user_id: Id
    decision_id: Id
    ts: Time
    shown: Annotated[list[Shown], Meta(min_length=1, max_length=50)]


class DeviceEvent(_Event, frozen=True, tag="device"):
    """What a phone tells between requests."""

    event_id: Id
    user_id: Id
    ts: Time
    device: dict[str, Any]


class Push(_Event, frozen=True, tag="push"):
    """What became of a message."""

    event_id: Id
    user_id: Id
    message_id: Id
    status: Literal["sent", "delivered", "opened", "dismissed", "failed", "disabled", "enabled"]
    ts: Time
    category: Id | None = None
    decision_id: Id | None = None


class Slot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place of a slate that another system decided."""

    item_id: Id
    position: Annotated[int, Meta(ge=0, le=1000)]
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None


class Decision(_Event, frozen=True, tag="decision"):
    """A slate that another system decided; import only."""

    decision_id: Id
    user_id: Id
    ts: Time
    slots: Annotated[list[Slot], Meta(max_length=1000)]
    surface: Id | None = None


Event = Item | User | Alias | Interaction | Impression | DeviceEvent | Push | Decision


class Rejection(msgspec.Struct, frozen=True, omit_defaults=False):
    """Why one event of a list was not taken."""

    index: int
    event_id: str | None
    type: str | None
    field: str
    detail: str


class Batch(msgspec.Struct, frozen=True):
    """Decoded events by their index in the request, and what was refused."""

    events: list[tuple[int, Event]]
    rejected: list[Rejection]
    sent_at: Time | None = None


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: msgspec.Raw
    sent_at: Time | None = None


_event = msgspec.json.Decoder(Event)
_events = msgspec.json.Decoder(list[Event])


@span("decode")
def decode_batch(body: bytes) -> Batch:
    """One event, a list, or {sent_at, events}; raises InvalidInput where the frame is wrong."""
    try:
        return _decode_strictly(body)
    except InvalidInput as error:
        return _decode_leniently(body, error)


def _decode_strictly(body: bytes) -> Batch:
    if body.lstrip()[:1] == b"{":
        keys = decode(body, dict[str, msgspec.Raw])
        if "events" not in keys:
            return _decode_list(b"[" + body + b"]", None)
        envelope = decode(body, _Envelope)
        return _decode_list(bytes(envelope.events), envelope.sent_at)
    return _decode_list(body, None)


def _decode_leniently(body: bytes, error: InvalidInput) -> Batch:
    """The standard library reads half an emoji, which JavaScript's JSON.stringify writes, and NaN:
    an event that holds one is refused alone. Raises `error` where nothing can be told apart."""
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise error from None
    sent_at = None
    if isinstance(found, dict) and found.keys() <= {"events", "sent_at"}:
        sent_at, found = found.get("sent_at"), found.get("events")
    elif isinstance(found, dict) and "events" not in found:
        found = [found]
    if not isinstance(found, list) or not isinstance(sent_at, str | int | float | None):
        raise error
    return _decode_each([json.dumps(event).encode() for event in found], sent_at)


def decode_line(line: bytes) -> Event:
    """One event of an import file; raises InvalidInput."""
    try:
        return cast(Event, _event.decode(line))
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("", malformed(error)) from None


def _decode_list(body: bytes, sent_at: Time | None) -> Batch:
    try:
        events = _events.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raws = decode(body, list[msgspec.Raw])
        return _decode_each([bytes(raw) for raw in raws], sent_at)
    _check_length(len(events))
    return Batch(list(enumerate(events)), [], sent_at)


def _decode_each(raws: Sequence[bytes], sent_at: Time | None) -> Batch:
    _check_length(len(raws))
    batch = Batch([], [], sent_at)
    for index, raw in enumerate(raws):
        try:
            batch.events.append((index, decode_line(raw)))
        except InvalidInput as error:
            batch.rejected.append(rejection(index, raw, error))
    return batch


def _check_length(count: int) -> None:
    if count > MAX_EVENTS:
        raise InvalidInput("events", f"expected at most {MAX_EVENTS} events, got {count}")


def rejection(index: int, raw: bytes, error: InvalidInput) -> Rejection:
    """Tell the sender which event it was, as far as its bytes can be read."""
    try:
        seen = json.loads(raw)
    except (ValueError, RecursionError):
        seen = None
    known = seen if isinstance(seen, dict) else {}
    event_id, kind = _told(known.get("event_id")), _told(known.get("type"))
    return Rejection(index, event_id, kind, error.field, error.detail)


def _told(value: object) -> str | None:
    """What can be said back of a value that was refused."""
    return value[:128].encode(errors="replace").decode() if isinstance(value, str) else None


def check_attributes(attributes: Attributes) -> None:
    """Attributes are JSON of bounded size; categories and tags are lists of short strings."""
    for name, most in LISTS.items():
        values = attributes.get(name)
        if values is not None and not _short_strings(values, most):
            raise InvalidInput(
                f"attributes.{name}",
                f"expected a list of at most {most} strings of 1–128 characters",
            )
    if depth_of(attributes) > MAX_DEPTH:
        raise InvalidInput("attributes", f"expected at most {MAX_DEPTH} levels")
    if len(msgspec.json.encode(attributes)) > MAX_ATTRIBUTE_BYTES:
        raise InvalidInput("attributes", f"expected at most {MAX_ATTRIBUTE_BYTES} bytes")
    try:
        msgspec.msgpack.encode(attributes)  # as states keep them
    except OverflowError:
        raise InvalidInput("attributes", "expected integers of at most 64 bits") from None


def _short_strings(values: object, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(isinstance(value, str) and 1 <= len(value) <= 128 for value in values)
    )
