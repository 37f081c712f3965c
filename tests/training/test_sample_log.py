"""The sample log: repeatable, in time order, and within the contract of events."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.errors import InvalidInput
from training.sample_log import sample_events, uuid_events

END = datetime(2025, 3, 31, tzinfo=UTC)  # zones change their clocks within the last days
START_S = (END - timedelta(days=7)).timestamp()
REQUIRED = {
    "item": {"type", "item_id", "ts", "attributes", "available_from"},
    "user": {"type", "user_id", "ts", "attributes"},
    "alias": {"type", "event_id", "previous_id", "user_id", "ts"},
    "interaction": {"type", "event_id", "user_id", "action", "item_id", "ts"},
    "impression": {"type", "event_id", "user_id", "decision_id", "ts", "shown"},
    "device": {"type", "event_id", "user_id", "ts", "device"},
    "push": {"type", "event_id", "user_id", "message_id", "status", "ts", "category"},
}
OPTIONAL = {"decision_id", "module_id", "surface"}
Event = dict[str, Any]


def sample(seed: int = 1) -> list[Event]:
    return list(sample_events(users=60, items=200, days=7, seed=seed, end=END))


@pytest.fixture(scope="module")
def log() -> list[Event]:
    return sample()


def test_a_seed_gives_the_same_bytes(log: list[Event]) -> None:
    encode = msgspec.json.encode
    assert encode(sample()) == encode(log)
    assert encode(sample(seed=2)) != encode(log)


def test_definitions_then_everything_in_time_order(log: list[Event]) -> None:
    kinds = [event["type"] for event in log]
    assert kinds[:260] == ["item"] * 200 + ["user"] * 60
    assert set(kinds[260:]) == {"alias", "interaction", "impression", "device", "push"}
    times = [event["ts"] for event in log]
    assert times == sorted(times)
    assert times[0] >= START_S
    assert times[-1] < END.timestamp()


def test_every_event_keeps_the_contract(log: list[Event]) -> None:
    items = {event["item_id"] for event in log if event["type"] == "item"}
    for event in log:
        required = REQUIRED[event["type"]]
        assert required <= event.keys() <= required | OPTIONAL, event
        assert all(1 <= len(v) <= 128 for k, v in event.items() if k.endswith("_id"))
        assert msgspec.json.decode(msgspec.json.encode(event)) == event
        if event["type"] == "interaction":
            assert event["item_id"] in items
            assert event["action"] in {"view", "click", "save", "cook", "dismiss"}
        if event["type"] == "push":
            assert event["status"] in {"sent", "opened", "dismissed"}
        if event["type"] == "device":
            device = event["device"]
            assert {"device_id", "activity", "time_zone"} <= device.keys()
            assert device["place"] in {"home", "work", "supermarket"}
            assert device["screen"] in {"on", "off"}
            assert isinstance(device["charging"], bool)
            assert 0 <= device["battery"] <= 1
        if event["type"] == "impression":
            assert [module["position"] for module in event["shown"]] == [0, 1]
            assert all(set(module["item_ids"]) <= items for module in event["shown"])
    ids = [event["event_id"] for event in log if "event_id" in event]
    assert len(set(ids)) == len(ids)
    titles = {event["attributes"]["title"] for event in log if event["type"] == "item"}
    assert len(titles) == len(items)


def test_what_is_acted_on_was_shown_and_available(log: list[Event]) -> None:
    since = {
        event["item_id"]: datetime.fromisoformat(event["available_from"]).timestamp()
        for event in log
        if event["type"] == "item"
    }
    assert any(when > START_S for when in since.values())
    shown: dict[str, set[str]] = {}
    with_decision = Counter[bool]()
    for event in log:
        if event["type"] == "impression":
            shown[event["decision_id"]] = {i for m in event["shown"] for i in m["item_ids"]}
        if event["type"] == "interaction":
            assert since[event["item_id"]] <= event["ts"]
            with_decision["decision_id" in event] += 1
            if "decision_id" in event:
                assert event["item_id"] in shown[event["decision_id"]]
    assert with_decision[True] > with_decision[False] > 0


def test_an_alias_follows_the_visitors_events(log: list[Event]) -> None:
    aliases = {event["previous_id"]: n for n, event in enumerate(log) if event["type"] == "alias"}
    assert aliases
    for visitor, at in aliases.items():
        user_id = log[at]["user_id"]
        of_visitor = [n for n, event in enumerate(log) if event.get("user_id") == visitor]
        of_user = [n for n, e in enumerate(log) if e.get("user_id") == user_id and "event_id" in e]
        assert of_visitor
        assert max(of_visitor) < at
        assert min(of_user) == at


def test_an_answered_push_was_sent_before(log: list[Event]) -> None:
    statuses: dict[str, list[str]] = {}
    for event in log:
        if event["type"] == "push":
            statuses.setdefault(event["message_id"], []).append(event["status"])
    assert all(of_one[0] == "sent" and len(of_one) <= 2 for of_one in statuses.values())
    assert {status for of_one in statuses.values() for status in of_one[1:]} == {
        "opened",
        "dismissed",
    }


@pytest.mark.parametrize(("users", "items", "days"), [(0, 5, 2), (3, 1, 1), (2, 5, 0)])
def test_small_logs(users: int, items: int, days: int) -> None:
    log = list(sample_events(users, items, days, seed=1, end=END))
    assert sum(event["type"] == "item" for event in log) == items
    assert sum(event["type"] == "user" for event in log) == users


def test_an_end_without_a_zone_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        sample_events(1, 1, 1, seed=1, end=END.replace(tzinfo=None))
    with pytest.raises(InvalidInput, match="time zone"):
        uuid_events(1, 1, 1, seed=1, days=1, end=END.replace(tzinfo=None))


def test_uuid_events() -> None:
    def run(seed: int) -> list[Event]:
        return list(uuid_events(25_000, 7, items=500, seed=seed, days=7, end=END))

    log = run(3)
    assert log == run(3) != run(4)
    times = [event["ts"] for event in log]
    assert times == sorted(times)
    assert times[0] >= START_S
    assert times[-1] < END.timestamp()
    assert set(Counter(event["user_id"] for event in log).values()) == {7}
    assert len({event["user_id"] for event in log}) == 25_000
    assert len({event["event_id"] for event in log}) == len(log)
    for event in log[:100]:
        assert str(UUID(event["event_id"])) == event["event_id"]
        assert UUID(event["user_id"]).version == UUID(event["event_id"]).version == 4
    actions = Counter(event["action"] for event in log)
    for action, share in {"view": 0.70, "click": 0.20, "save": 0.07, "cook": 0.03}.items():
        assert actions[action] / len(log) == pytest.approx(share, abs=0.01)
    items = Counter(event["item_id"] for event in log)
    assert items["item-0"] > 1.7 * items["item-1"] > 3 * items["item-9"]
    assert len(items) == 500
