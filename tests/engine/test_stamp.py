"""From events to log records: what is stamped, and what is refused at the door."""

from __future__ import annotations

from typing import Any

import pytest

from engine import records as log
from engine.actions import load_actions
from engine.catalog import Catalog
from engine.device import Device
from engine.errors import InvalidInput
from engine.events import (
    Alias,
    Decision,
    DeviceEvent,
    Event,
    Impression,
    Interaction,
    Item,
    Push,
    Shown,
    Slot,
    User,
)
from engine.ids import ITEMS, event_hash, partition_of
from engine.stamp import Stamper
from engine.times import DAY_MS

NOW = 1_770_000_000_000


class Stamp:
    """A stamper with numbers given as the store would."""

    def __init__(self, imported: bool = False) -> None:
        self.catalog = Catalog()
        self.stamper = Stamper(load_actions(), self.catalog, 16, imported=imported)
        self.numbers: dict[str, dict[str, int]] = {"item": {}, "category": {}, "action": {}}

    def __call__(self, event: Event, arrived: int = NOW, shift_ms: int = 0) -> tuple[int, Any]:
        ts = self.stamper.check(event, arrived, shift_ms)
        for space, names in self.stamper.missing([event]).items():
            known = self.numbers[space]
            numbers = [known.setdefault(name, len(known)) for name in names]
            self.stamper.learn(space, names, numbers)
        assert self.stamper.missing([event]) == {}
        return self.stamper.stamp(event, ts, arrived)


@pytest.fixture
def stamp() -> Stamp:
    return Stamp()


@pytest.fixture
def importing() -> Stamp:
    return Stamp(imported=True)


def act(**told: Any) -> Interaction:
    common = {"event_id": "e", "user_id": "u", "action": "view", "ts": NOW, "item_id": "soup"}
    return Interaction(**common | told)


def refused(stamp: Stamp, event: Event, field: str, **told: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        stamp(event, **told)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "event",
    [
        act(ts=NOW - 7 * DAY_MS),
        act(ts=(NOW - 7 * DAY_MS) / 1000),
        act(ts="2026-02-02T02:45:00Z"),  # 5 minutes ahead to the millisecond
        Item("i", NOW - 900 * DAY_MS),
        User("u", {}, 0),
    ],
)
def test_a_time_within_bounds(stamp: Stamp, event: Event) -> None:
    stamp(event)


@pytest.mark.parametrize(
    "event",
    [
        act(ts=NOW - 7 * DAY_MS - 1),
        act(ts=NOW + 300_001),
        act(ts=0),
        act(ts=-1),
        act(ts=float("nan")),
        act(ts="soon"),
        act(ts=10**400),
        act(ts=int("9" * 4000)),
        Item("i", NOW + 300_001),
        Item("i", 10**400),
        User("u", {}, NOW + 300_001),
        Alias("e", "a", "u", NOW - 8 * DAY_MS),
        Push("e", "u", "m", "sent", NOW - 8 * DAY_MS),
        DeviceEvent("e", "u", NOW - 8 * DAY_MS, {}),
    ],
)
def test_a_time_out_of_bounds(stamp: Stamp, event: Event) -> None:
    refused(stamp, event, "ts")


def test_a_clock_is_shifted_before_it_is_judged(stamp: Stamp) -> None:
    day_ahead = act(ts=NOW + DAY_MS)
    refused(stamp, day_ahead, "ts")

    _, record = stamp(day_ahead, shift_ms=-DAY_MS)

    assert record.ts == NOW
    refused(stamp, act(), "ts", shift_ms=DAY_MS)


def test_history_may_be_of_any_past_time(importing: Stamp) -> None:
    _, record = importing(act(ts="1999-12-31T00:00:00Z"))

    assert (record.ts, record.arrived, record.imported) == (946_598_400_000, NOW, True)
    assert record.known_ms == record.ts
    refused(importing, act(ts=NOW + 300_001), "ts")


def test_a_missing_time_is_the_arrival_or_for_history_the_beginning(
    stamp: Stamp, importing: Stamp
) -> None:
    for event in (Item("i"), User("u", {})):
        assert stamp(event)[1].ts == NOW
        assert importing(event)[1].ts == 0


def test_an_unknown_item_is_numbered_in_order_of_appearance(stamp: Stamp) -> None:
    _, first = stamp(act(item_id="soup"))
    _, second = stamp(act(item_id="stew"))
    _, again = stamp(act(item_id="soup"))

    assert (first.item, second.item, again.item) == (0, 1, 0)
    assert (first.term, second.term) == (0, 0)
    soup = stamp.catalog.get("soup")
    assert soup is not None
    assert not soup.known
    assert soup.why_not(NOW) == "unknown: no item event told of it"


def test_categories_are_those_known_on_arrival(stamp: Stamp) -> None:
    _, before = stamp(act())
    _, item = stamp(Item("soup", NOW, {"categories": ["warm", "cheap"]}))
    stamp.catalog.apply([item])
    _, after = stamp(act())

    assert (before.categories, after.categories) == ([], [0, 1])


@pytest.mark.parametrize(("action", "weight"), [("cook", 8), ("dismiss", -3), ("search", 0)])
def test_an_interaction_carries_its_signed_weight(stamp: Stamp, action: str, weight: float) -> None:
    device = {"screen": "on", "battery": 2, "screen_size": 6}
    event = act(action=action, value=2.5, decision_id="d", module_id="m", query="q", device=device)

    partition, record = stamp(event)

    assert partition == partition_of("u", 16)
    assert record == log.InteractionRecord(
        ts=NOW,
        arrived=NOW,
        user_id="u",
        hash=event_hash("u", "e"),
        event_id="e",
        action=action,
        term=0,
        weight=weight,
        item_id="soup",
        item=0,
        value=2.5,
        decision_id="d",
        module_id="m",
        query="q",
        device=Device(screen="on"),
    )
    assert stamp.stamper.ignored_device_fields == {"battery": 1, "unknown field": 1}
    assert log.decode_user_record(log.encode(record)) == record


def test_an_action_must_be_declared_and_have_its_item(stamp: Stamp) -> None:
    refused(stamp, act(action="viewed"), "action")
    refused(stamp, act(item_id=None), "item_id")
    _, record = stamp(act(action="open", item_id=None))
    assert (record.item, record.item_id) == (None, None)


def test_every_other_kind_becomes_its_record(stamp: Stamp) -> None:
    shown = [
        Shown(position=2, item_ids=["c"]),
        Shown(position=0, item_ids=["a", "b"], module_id="m"),
    ]
    _, impression = stamp(Impression("e", "u", "d", NOW, shown))
    assert impression.shown == [log.ShownItems(0, [1, 2], "m"), log.ShownItems(2, [0])]

    _, push = stamp(Push("e", "u", "m", "opened", NOW, "c", "d"))
    assert (push.message_id, push.status, push.category) == ("m", "opened", "c")

    _, device = stamp(DeviceEvent("e", "u", NOW, {"screen": "off"}))
    assert device.device == Device(screen="off")

    _, user = stamp(User("u", {"city": None}, NOW))
    assert (user.attributes, user.hash) == ({"city": None}, None)

    partition, alias = stamp(Alias("e", "anonymous", "u", NOW))
    assert partition == partition_of("anonymous", 16)
    assert (alias.user_id, alias.into) == ("anonymous", "u")
    assert alias.hash == event_hash("anonymous", "e")


def test_an_item_goes_to_the_item_stream(stamp: Stamp) -> None:
    attributes = {"categories": ["warm"], "title": "Soup"}
    partition, item = stamp(Item("soup", NOW, attributes, "2026-02-02T02:40:00Z", None, True))

    assert partition == ITEMS
    assert item == log.ItemRecord(
        ts=NOW,
        arrived=NOW,
        item_id="soup",
        item=0,
        attributes=attributes,
        available_from=NOW,
        available_until=None,
        deleted=True,
    )
    assert log.decode_item_record(log.encode(item)) == item
    _, bare = stamp(Item("soup", NOW))
    assert b"available" not in log.encode(bare)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Item("i", NOW, {"categories": "warm"}), "attributes.categories"),
        (Item("i", NOW, {}, "then"), "available_from"),
        (Item("i", NOW, {}, 1, -5), "available_until"),
        (User("u", {"n": 2**70}), "attributes"),
        (Alias("e", "u", "u", NOW), "previous_id"),
        (Decision("d", "u", NOW, []), "type"),
    ],
)
def test_what_a_struct_cannot_tell_is_refused(stamp: Stamp, event: Event, field: str) -> None:
    refused(stamp, event, field)


def test_decisions_of_another_system_come_by_import_only(stamp: Stamp, importing: Stamp) -> None:
    event = Decision("d", "u", NOW - 90 * DAY_MS, [Slot(item_id="a", position=3, propensity=0.5)])
    refused(stamp, event, "type")

    _, record = importing(event)

    assert record.slots == [log.DecidedSlot(0, 3, 0.5)]
    assert record.hash == event_hash("u", "decision d")
    assert record.imported


def test_one_event_id_of_one_user_is_one_event(stamp: Stamp) -> None:
    hashes = [
        stamp(act(user_id=user, event_id=event))[1].hash
        for user, event in [
            ("u", "e"),
            ("u", "f"),
            ("v", "e"),
            ("ue", ""),
            ("", "ue"),
            ("1:u", "e"),
        ]
    ]

    assert len(set(hashes)) == len(hashes)
    assert stamp(act(ts=NOW - 1000), arrived=NOW + 5)[1].hash == hashes[0]
    assert all(-(2**63) <= h < 2**63 for h in hashes)
