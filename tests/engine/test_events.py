"""Events as apps send them: one that is wrong loses nothing of its neighbours."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from engine.errors import InvalidInput
from engine.events import (
    MAX_EVENTS,
    Alias,
    Batch,
    Decision,
    DeviceEvent,
    Impression,
    Interaction,
    Item,
    Push,
    Shown,
    Slot,
    User,
    check_attributes,
    decode_batch,
    decode_line,
)

ACT = {
    "type": "interaction",
    "event_id": "e",
    "user_id": "u",
    "action": "view",
    "item_id": "soup",
    "ts": 1_770_000_000,
}
KINDS: list[tuple[dict[str, Any], Any]] = [
    (
        {
            "type": "item",
            "item_id": "soup",
            "ts": "2026-02-02T02:40:00Z",
            "attributes": {"title": "Soup", "categories": ["warm"]},
            "available_from": 1,
            "available_until": None,
            "deleted": False,
        },
        Item(
            "soup",
            "2026-02-02T02:40:00Z",
            {"title": "Soup", "categories": ["warm"]},
            1,
            None,
            False,
        ),
    ),
    ({"type": "item", "item_id": "soup"}, Item("soup")),
    (
        {"type": "user", "user_id": "u", "attributes": {"locale": None}},
        User("u", {"locale": None}),
    ),
    (
        {"type": "alias", "event_id": "e", "previous_id": "a", "user_id": "u", "ts": 1.5},
        Alias("e", "a", "u", 1.5),
    ),
    (ACT, Interaction("e", "u", "view", 1_770_000_000, "soup")),
    (
        ACT
        | {"value": 4, "decision_id": "d", "module_id": "m", "surface": "s", "query": "q"}
        | {"device": {"screen": "on"}},
        Interaction(
            "e", "u", "view", 1_770_000_000, "soup", 4.0, "d", "m", "s", "q", {"screen": "on"}
        ),
    ),
    (
        {
            "type": "impression",
            "event_id": "e",
            "user_id": "u",
            "decision_id": "d",
            "ts": 1,
            "shown": [
                {"position": 0, "item_ids": ["a"]},
                {"position": 1, "item_ids": [], "module_id": "m"},
            ],
        },
        Impression(
            "e",
            "u",
            "d",
            1,
            [Shown(position=0, item_ids=["a"]), Shown(position=1, item_ids=[], module_id="m")],
        ),
    ),
    (
        {"type": "device", "event_id": "e", "user_id": "u", "ts": 1, "device": {"new": [1]}},
        DeviceEvent("e", "u", 1, {"new": [1]}),
    ),
    (
        {"type": "push", "event_id": "e", "user_id": "u", "message_id": "m", "status": "opened"}
        | {"ts": 1, "category": "c", "decision_id": "d"},
        Push("e", "u", "m", "opened", 1, "c", "d"),
    ),
    (
        {
            "type": "decision",
            "decision_id": "d",
            "user_id": "u",
            "ts": 1,
            "surface": "home",
            "slots": [{"item_id": "a", "position": 0, "propensity": 0.5}],
        },
        Decision("d", "u", 1, [Slot(item_id="a", position=0, propensity=0.5)], "home"),
    ),
]


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(("told", "event"), KINDS)
def test_every_kind_is_read(told: dict[str, Any], event: Any) -> None:
    assert decode_line(encode(told)) == event
    assert decode_batch(encode(told)) == Batch([(0, event)], [])


def test_one_a_list_or_an_envelope() -> None:
    events = [event for _, event in KINDS]
    told = [told for told, _ in KINDS]

    assert decode_batch(encode(told)) == Batch(list(enumerate(events)), [])
    assert decode_batch(encode({"events": told, "sent_at": 5})) == Batch(
        list(enumerate(events)), [], 5
    )
    assert decode_batch(b"  \n " + encode(told)).rejected == []
    assert decode_batch(b"[]") == Batch([], [])


BAD: list[tuple[Any, str]] = [
    (ACT | {"type": "purchase"}, "type"),
    ({k: v for k, v in ACT.items() if k != "type"}, "type"),
    ({k: v for k, v in ACT.items() if k != "user_id"}, "user_id"),
    (ACT | {"user_id": ""}, "user_id"),
    (ACT | {"user_id": "x" * 129}, "user_id"),
    (ACT | {"user_id": 5}, "user_id"),
    (ACT | {"event_id": None}, "event_id"),
    (ACT | {"itemid": "x"}, "itemid"),
    (ACT | {"ts": None}, "ts"),
    (ACT | {"ts": True}, "ts"),
    (ACT | {"ts": [1]}, "ts"),
    (ACT | {"value": "4"}, "value"),
    (ACT | {"value": 10**400}, "value"),
    (ACT | {"query": "x" * 513}, "query"),
    (ACT | {"device": []}, "device"),
    ({"type": "user", "user_id": "u"}, "attributes"),
    ({"type": "user", "user_id": "u", "attributes": []}, "attributes"),
    ({"type": "item", "item_id": "i", "deleted": "yes"}, "deleted"),
    (KINDS[8][0] | {"status": "seen"}, "status"),
    (KINDS[6][0] | {"shown": []}, "shown"),
    (KINDS[6][0] | {"shown": [{"position": -1, "item_ids": []}]}, "shown[0].position"),
    (KINDS[6][0] | {"shown": [{"position": 0, "item_ids": ["x"] * 101}]}, "shown[0].item_ids"),
    (KINDS[6][0] | {"shown": [{"position": 0, "item_ids": [], "x": 1}]}, "shown[0].x"),
    (KINDS[9][0] | {"slots": [{"item_id": "a", "position": 0, "propensity": 0}]}, "slots[0]."),
    (5, ""),
    ("event", ""),
    (None, ""),
    ([], ""),
]


@pytest.mark.parametrize(("bad", "field"), BAD)
def test_a_wrong_event_is_named_and_its_neighbours_stand(bad: Any, field: str) -> None:
    batch = decode_batch(encode([ACT, bad, ACT]))

    act = decode_line(encode(ACT))
    assert batch.events == [(0, act), (2, act)]
    (rejected,) = batch.rejected
    assert rejected.index == 1
    assert rejected.field.startswith(field)
    assert rejected.detail
    if isinstance(bad, dict):
        event_id, kind = bad.get("event_id"), bad.get("type")
        assert rejected.event_id == (event_id if isinstance(event_id, str) else None)
        assert rejected.type == kind


def in_attributes(raw: bytes) -> bytes:
    return b'{"type":"user","user_id":"u","attributes":{"x":' + raw + b"}}"


@pytest.mark.parametrize(
    "raw",
    [b"9" * 10_000, b"-" + b"9" * 10_000, b"1e999", b'"\xff"'],
    ids=["10k digits", "-10k digits", "1e999", "not UTF-8"],
)
def test_a_value_that_no_machine_holds_is_one_rejection(raw: bytes) -> None:
    act = encode(ACT)

    batch = decode_batch(b"[" + act + b"," + in_attributes(raw) + b"," + act + b"]")

    assert [index for index, _ in batch.events] == [0, 2]
    assert [rejected.index for rejected in batch.rejected] == [1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"null",
        b"5",
        b'"x"',
        b"[",
        b"{",
        b"[1,]",
        b"\xff\xfe",
        b"\xef\xbb\xbf[]",
        b"[" + encode(ACT),
        encode(ACT) + encode(ACT),
        encode(ACT) + b"," + encode(ACT),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" + in_attributes(b"[" * 100_000 + b"]" * 100_000) + b"]",
        b'{"events": 5}',
        b'{"events": [], "sent": 1}',
        b'{"events": [], "sent_at": []}',
    ],
)
def test_a_wrong_frame_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_batch(body)

    assert len(caught.value.detail) < 500


@pytest.mark.parametrize("bad", [b"NaN", b"Infinity", b'"\\ud800"', b'"\\udc00x"'])
def test_half_an_emoji_or_nan_is_refused_without_its_neighbours(bad: bytes) -> None:
    events = encode(ACT) + b"," + in_attributes(bad) + b"," + encode(ACT)
    for body in (b"[" + events + b"]", b'{"sent_at": 5, "events": [' + events + b"]}"):
        batch = decode_batch(body)

        assert [index for index, _ in batch.events] == [0, 2]
        assert [refused.index for refused in batch.rejected] == [1]
        assert msgspec.json.encode(batch.rejected)  # can be told


def test_a_list_has_an_end() -> None:
    assert len(decode_batch(encode([ACT] * MAX_EVENTS)).events) == MAX_EVENTS
    for events in ([ACT] * (MAX_EVENTS + 1), [5] * (MAX_EVENTS + 1)):
        with pytest.raises(InvalidInput, match="at most 1000"):
            decode_batch(encode(events))


def test_long_ids_are_cut_in_what_is_told_of_a_rejection() -> None:
    (rejected,) = decode_batch(
        encode([ACT | {"event_id": "e" * 9000, "type": "t" * 9000}])
    ).rejected

    assert (len(rejected.event_id or ""), len(rejected.type or "")) == (128, 128)
    assert len(rejected.detail) <= 256


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"categories": None, "tags": []},
        {"categories": ["c"] * 64, "tags": ["t" * 128]},
        {"x": "y" * 16_000},
        {"deep": nested(31)},
        {"least": -(2**63), "most": 2**64 - 1},
    ],
)
def test_attributes_within_bounds(attributes: dict[str, Any]) -> None:
    check_attributes(attributes)


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"categories": "warm"}, "attributes.categories"),
        ({"categories": ["c"] * 65}, "attributes.categories"),
        ({"categories": [""]}, "attributes.categories"),
        ({"tags": ["t" * 129]}, "attributes.tags"),
        ({"tags": [5]}, "attributes.tags"),
        ({"tags": {"a": 1}}, "attributes.tags"),
        ({"x": "y" * 17_000}, "attributes"),
        ({"deep": nested(32)}, "attributes"),
        ({"deep": nested(100)}, "attributes"),
        ({"deep": {"er": nested(100)}}, "attributes"),
        ({"huge": 2**64}, "attributes"),
        ({"huge": [{"er": -(2**63) - 1}]}, "attributes"),
    ],
)
def test_attributes_out_of_bounds(attributes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_attributes(attributes)

    assert caught.value.field == field


def test_attributes_that_pass_can_be_kept_in_a_state() -> None:
    deepest = {"deep": nested(31), "n": 2**64 - 1}
    check_attributes(deepest)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(deepest)) == deepest
