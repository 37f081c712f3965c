"""What people are shown of a user's state: names in place of dense numbers, RFC 3339 times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.catalog import Catalog
from engine.push_file import Cap
from engine.push_gates import room
from engine.push_history import PushHistory
from engine.push_ledger import Send, settled
from engine.push_look import Person
from engine.push_message import Message
from engine.state import (
    DAY_HALF_LIFE_MS,
    MONTH_HALF_LIFE_MS,
    Counter,
    UserState,
    read_decayed,
    seen_items,
    touches,
)
from engine.times import to_rfc3339


class DecayedCounter(msgspec.Struct):
    """An exact total, and values that halve every day and every 30 days, as of now."""

    total: int
    day: float
    month: float


class Touch(msgspec.Struct):
    """One recent act on an item."""

    item_id: str
    action: str
    ts: str


class ShownThen(msgspec.Struct):
    """Items that came into view at one time."""

    ts: str
    item_ids: list[str]


class CapView(msgspec.Struct):
    """How many more messages a cap lets through now; of one category or campaign, by name."""

    cap: str
    left: int
    of: str | None = None


class SlotView(msgspec.Struct):
    """A message that is held, and until when."""

    message_id: str
    at: str
    reasons: list[str]


class PushView(msgspec.Struct):
    """What became of messages, what is switched off, and what is to come."""

    totals: dict[str, int]
    opens_by_hour_of_week: dict[int, int]  # 0 is Monday 00:00 in the user's time zone
    recent: list[dict[str, Any]]
    switched: dict[str, bool]  # category ("" is all) -> enabled
    caps_left: list[CapView] = []
    slots_to_come: list[SlotView] = []  # the next one first
    reserved: list[str] = []  # messages that were let go and not reported yet


class UserProfile(msgspec.Struct):
    """`GET /v1/users/{user_id}`."""

    user_id: str
    counters: dict[str, int]  # action -> exact total
    recent: list[str]  # item ids, newest first, each once
    devices: dict[str, dict[str, Any]]
    push: PushView
    attributes: dict[str, Any]
    actions: dict[str, DecayedCounter]
    categories: dict[str, DecayedCounter]
    touches: list[Touch]  # newest first
    impressions: int
    shown: list[ShownThen]  # newest first
    seen_items: int
    aliases: list[str]
    first_seen: str | None
    last_seen: str | None


def profile(person: Person, catalog: Catalog, caps: Sequence[Cap], at_ms: int) -> UserProfile:
    """State and ledger as people read them, decayed counters as of `at_ms`."""
    user_id, state = person.user_id, person.state
    recent = touches(state)[::-1]
    return UserProfile(
        user_id=user_id,
        counters={_name(catalog, "action", t): c.total for t, c in state.actions.items()},
        recent=list(dict.fromkeys(_item(catalog, item) for item, *_ in recent)),
        devices={
            name: {"ts": to_rfc3339(ts)} | msgspec.to_builtins(device)
            for name, (ts, device) in state.devices.items()
        },
        push=_push(person, caps, at_ms),
        attributes={n: value for n, (_, value) in state.attributes.items() if value is not None},
        actions={
            _name(catalog, "action", t): _decayed(state, c, at_ms) for t, c in state.actions.items()
        },
        categories={
            _name(catalog, "category", t): _decayed(state, c, at_ms)
            for t, c in state.categories.items()
        },
        touches=[
            Touch(_item(catalog, item), _name(catalog, "action", term), to_rfc3339(at_s * 1000))
            for item, term, at_s, _ in recent
        ],
        impressions=state.impressions,
        shown=[
            ShownThen(
                to_rfc3339(at_s * 1000),
                [_item(catalog, item) for item in items],
            )
            for at_s, items in reversed(state.shown)
        ],
        seen_items=len(seen_items(state)),
        aliases=state.aliases,
        first_seen=to_rfc3339(state.first_s * 1000) if state.first_s else None,
        last_seen=to_rfc3339(state.last_s * 1000) if state.last_s else None,
    )


def nameless(state: UserState, catalog: Catalog) -> bool:
    """Whether the catalogue has no name (yet) for one of the state's numbers."""
    return not (
        state.actions.keys() <= catalog.names["action"].keys()
        and state.categories.keys() <= catalog.names["category"].keys()
        and all(catalog.id_of(item) is not None for item, *_ in touches(state))
    )


def _decayed(state: UserState, counter: Counter, at_ms: int) -> DecayedCounter:
    return DecayedCounter(
        counter.total,
        read_decayed(state, counter.day, DAY_HALF_LIFE_MS, at_ms),
        read_decayed(state, counter.month, MONTH_HALF_LIFE_MS, at_ms),
    )


def _push(person: Person, caps: Sequence[Cap], at_ms: int) -> PushView:
    push = person.state.push or PushHistory()
    sends = settled(person.ledger, person.state, at_ms)
    decided = (kept.read() for kept in person.ledger.decided.values())
    held = [one for one in decided if one.action == "hold"]
    coming = sorted((one.hold_until_ms or 0, one.message_id, one) for one in held)
    return PushView(
        push.totals,
        dict(sorted(push.opens.items())),
        [
            {"message_id": one.message_id, "category": one.category, "status": one.status}
            | {"ts": to_rfc3339(one.at_s * 1000)}
            for one in reversed(push.recent)
        ],
        {category: enabled for category, (_, enabled) in push.switched.items()},
        [view for cap in caps for view in _cap(cap, sends, at_ms)],
        [
            SlotView(message_id, to_rfc3339(until_ms), [reason.text for reason in one.reasons])
            for until_ms, message_id, one in coming
            if one.expires_ms > at_ms
        ],
        [send.message_id for send in sends if send.until_ms > at_ms],
    )


def _cap(cap: Cap, sends: Sequence[Send], at_ms: int) -> list[CapView]:
    """Of a cap on categories or campaigns, those that have used some of it."""
    alike = [send for send in sends if send.channel == "push"]
    if cap.of == "all":
        of: list[str | None] = [None]
    else:
        named = (send.category if cap.of == "category" else send.campaign_id for send in alike)
        of = list(dict.fromkeys(name for name in named if name is not None))
    views = []
    for name in of:
        message = Message("", name or "", 0, campaign_id=name if cap.of == "campaign" else None)
        left = room(alike, message, cap, at_ms)
        if left is not None:
            views.append(CapView(cap.says(), max(left, 0), name))
    return views


def _item(catalog: Catalog, item: int) -> str:
    return catalog.id_of(item) or f"#{item}"


def _name(catalog: Catalog, space: str, term: int) -> str:
    return catalog.names[space].get(term, f"#{term}")
