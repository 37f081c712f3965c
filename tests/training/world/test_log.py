"""The log: the contract of events, time order, repeatable to the byte, and what it leaves out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from engine import events as contract
from engine.actions import load_actions
from engine.catalog import Catalog
from engine.device import read_device
from engine.stamp import Stamper
from engine.times import to_ms
from training.world import LAWS, World, encode
from training.world.people import ANDROID, IOS, MOODS, PURPOSES, WEB

Log = list[dict[str, Any]]
FAR_AHEAD_MS = 4_000_000_000_000


@pytest.fixture(scope="module")
def log(lived: Callable[..., Any]) -> Log:
    _, events = lived("amber", "legacy")
    return [msgspec.json.decode(line) for line in encode(events).splitlines()]


def of(log: Log, kind: str) -> Log:
    return [event for event in log if event["type"] == kind]


@pytest.mark.parametrize("law", LAWS)
def test_every_event_is_accepted(lived: Callable[..., Any], law: str) -> None:
    _, events = lived(law, "legacy")
    stamper = Stamper(load_actions(None), Catalog(), partitions=4, imported=True)
    kinds = Counter[str]()
    for line in encode(events).splitlines():
        event = contract.decode_line(line)
        stamper.check(event, arrived=FAR_AHEAD_MS)
        kinds[type(event).__name__] += 1
        if isinstance(event, contract.DeviceEvent):
            assert read_device(event.device)[1] == []
    assert kinds.keys() >= {"Item", "User", "Interaction", "Impression", "Decision"}
    assert kinds.keys() >= {"DeviceEvent", "Push", "Alias"}


def test_a_seed_gives_the_same_bytes() -> None:
    def lines(seed: int, law: str = "amber") -> bytes:
        world = World(law, users=60, items=100, seed=seed)
        return encode(world.item_events() + world.user_events() + list(world.history(5)))

    assert lines(1) == lines(1)
    assert len({lines(1), lines(2), lines(1, "birch"), lines(1, "null_push")}) == 4


def test_time_order_within_the_days_asked_for(lived: Callable[..., Any], log: Log) -> None:
    world, _ = lived("amber", "legacy")
    first, last = world.core.start_s * 1000, (world.core.start_s + 14 * 86_400) * 1000
    times = [event["ts"] for event in log]
    assert times == sorted(times)
    assert first <= times[0]
    assert times[-1] < last
    assert all(to_ms(event["ts"], "ts") == event["ts"] for event in log)


def test_ids_are_used_once(log: Log) -> None:
    ids = [event["event_id"] for event in log if "event_id" in event]
    decisions = [event["decision_id"] for event in of(log, "decision")]
    assert len(set(ids)) == len(ids)
    assert len(set(decisions)) == len(decisions)


def test_what_is_done_was_decided_shown_and_available(log: Log) -> None:
    since = {event["item_id"]: event["available_from"] for event in of(log, "item")}
    decided = {e["decision_id"]: [s["item_id"] for s in e["slots"]] for e in of(log, "decision")}
    shown: dict[str, list[str]] = {}
    for event in log:
        if event["type"] == "impression":
            [module] = event["shown"]
            shown[event["decision_id"]] = module["item_ids"]
            assert decided[event["decision_id"]][: len(module["item_ids"])] == module["item_ids"]
        if event["type"] == "interaction" and "item_id" in event:
            assert since[event["item_id"]] <= event["ts"]
            if "decision_id" in event:
                assert event["item_id"] in shown[event["decision_id"]]
    assert any(when > log[0]["ts"] for when in since.values())


def test_a_cook_or_save_follows_a_click(log: Log) -> None:
    clicked = set()
    for event in of(log, "interaction"):
        key = (event.get("decision_id"), event.get("item_id"))
        if event["action"] == "click":
            clicked.add(key)
        if event["action"] in ("cook", "save", "add_to_cart"):
            assert key in clicked


def test_the_old_policy_kept_no_propensities_and_chance_kept_true_ones(
    lived: Callable[..., Any], log: Log
) -> None:
    assert all("propensity" not in slot for e in of(log, "decision") for slot in e["slots"])
    _, events = lived("amber", "random")
    decisions = [e for e in msgspec.to_builtins(events) if e["type"] == "decision"]
    for slots in (decision["slots"] for decision in decisions):
        assert len({slot["item_id"] for slot in slots}) == len(slots) == 8
        ways = [1 / slot["propensity"] for slot in slots]
        assert all(a - b == pytest.approx(1) for a, b in pairwise(ways))
        assert 300 < ways[0] <= 400


def test_an_alias_follows_the_visitors_events(log: Log) -> None:
    aliases = {event["previous_id"]: n for n, event in enumerate(log) if event["type"] == "alias"}
    assert len(aliases) > 10
    for visitor, at in aliases.items():
        of_visitor = [n for n, e in enumerate(log) if e.get("user_id") == visitor]
        of_user = [n for n, e in enumerate(log) if e.get("user_id") == log[at]["user_id"]]
        assert max(of_visitor) < min(of_user) == at


def test_some_opens_are_organic_and_some_finds_too(log: Log) -> None:
    pushed = {(e["user_id"], e["ts"] // 86_400_000) for e in of(log, "push")}
    opens = [e for e in of(log, "interaction") if e["action"] == "open"]
    organic = [e for e in opens if (e["user_id"], e["ts"] // 86_400_000) not in pushed]
    assert len(organic) > 0.4 * len(opens)
    assert any(e["action"] == "search" for e in of(log, "interaction"))
    assert any(e["action"] == "click" and "decision_id" not in e for e in of(log, "interaction"))


def test_ios_reports_neither_delivery_nor_dismissal(lived: Callable[..., Any], log: Log) -> None:
    world, _ = lived("amber", "legacy")
    told: dict[int, Counter[str]] = defaultdict(Counter)
    for event in of(log, "push"):
        platform = world.core.people.platform[int(event["user_id"].split("-")[1])]
        told[int(platform)][event["status"]] += 1
    assert WEB not in told
    assert {"delivered", "dismissed", "opened"} <= told[ANDROID].keys()
    assert not {"delivered", "dismissed"} & told[IOS].keys()
    assert told[IOS]["opened"] > 0


def test_nobody_is_pushed_between_off_and_on_again(log: Log) -> None:
    off: set[str] = set()
    seen = Counter[str]()
    for event in of(log, "push"):
        seen[event["status"]] += 1
        if event["status"] == "sent":
            assert event["user_id"] not in off
        elif event["status"] == "disabled":
            off.add(event["user_id"])
        elif event["status"] == "enabled":
            off.discard(event["user_id"])
    assert seen["disabled"] > 5


def test_the_hidden_is_told_nowhere(log: Log) -> None:
    tags = {tag for event in of(log, "item") for tag in event["attributes"]["tags"]}
    assert tags == {"vegan", "vegetarian", "quick", "hearty", "showy"}
    assert all("clickbait" not in str(event) for event in of(log, "item"))
    behaviour = b"".join(msgspec.json.encode(e) for e in log if e["type"] not in ("item", "user"))
    for word in (*MOODS, "guest", "lure", "goodwill", *(f'"{p}"' for p in PURPOSES if p != "cook")):
        assert word.encode() not in behaviour, word


def test_two_pieces_of_history_are_one(lived: Callable[..., Any]) -> None:
    world = World("amber", users=60, items=100, seed=5)
    whole = list(world.history(4))
    again = World("amber", users=60, items=100, seed=5)
    first, second = list(again.history(2)), list(again.history(2))
    assert encode(first) == encode(whole[: len(first)])
    assert [e.ts for e in first + second] == sorted(e.ts for e in first + second)


def test_a_volume_that_a_demo_can_import(lived: Callable[..., Any]) -> None:
    _, events = lived("amber", "legacy")
    a_user_day = (len(events) - 800) / 400 / 14
    assert 2_000 * 28 * a_user_day + 5_000 < 400_000
    assert 2_000 * 28 * a_user_day > 200_000


@pytest.mark.parametrize(("users", "items"), [(0, 5), (5, 0)])
def test_an_empty_world_is_refused(users: int, items: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        World("amber", users, items)


@pytest.mark.parametrize(("users", "items"), [(1, 1), (2, 3), (30, 9)])
def test_small_worlds(users: int, items: int) -> None:
    world = World("delta", users, items, seed=1)
    events = world.item_events() + list(world.history(6)) + list(world.history(1, "random"))
    assert sum(event.__class__.__name__ == "Item" for event in events) == items
