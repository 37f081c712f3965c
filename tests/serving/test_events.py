"""`POST /v1/events`: what is taken, what is refused and why, and what becomes of it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from engine.events import LISTS
from engine.events import Event as AnyEvent
from engine.ids import partition_of

Event = dict[str, Any]
Make = Callable[..., Event]
Post = Callable[..., httpx.Response]
Fresh = Callable[[str], str]
Eventually = Callable[..., Any]


@pytest.fixture
def user_of(client: httpx.Client) -> Callable[[str], Any]:
    return lambda user_id: client.get(f"/v1/users/{encoded(user_id)}").json()


@pytest.fixture
def item_of(client: httpx.Client) -> Callable[[str], Any]:
    return lambda item_id: client.get(f"/v1/items/{encoded(item_id)}").json()


def encoded(id_: str) -> str:
    # Clients remove the segments `.` and `..` before they send.
    return quote(id_, safe="").replace(".", "%2E")


def taken(answer: httpx.Response, accepted: int, duplicates: int = 0, rejected: int = 0) -> Any:
    told = answer.json()
    assert answer.status_code == 202, told
    assert (told["accepted"], told["duplicates"], len(told["rejected"])) == (
        accepted,
        duplicates,
        rejected,
    ), told
    return told


def refused(answer: httpx.Response, field: str | None) -> Any:
    told = answer.json()
    assert answer.status_code == 422, told
    assert answer.headers["content-type"] == "application/problem+json"
    assert told.get("field") == field, told
    assert told["detail"]
    return told


def of_day(days_ago: float) -> str:
    return datetime.fromtimestamp(time.time() - days_ago * 86400, UTC).isoformat()


# Every kind


def test_an_interaction_shows_in_user_and_item(
    act: Make, post: Post, user_of: Any, item_of: Any, fresh: Fresh, eventually: Eventually
) -> None:
    user, soup, stew = fresh("u"), fresh("soup"), fresh("stew")
    told = taken(post([act(user, item_id=soup), act(user, item_id=stew, action="cook")]), 2)
    assert told["folded"] is True
    seen = user_of(user)
    assert (seen["user_id"], seen["counters"]) == (user, {"view": 1, "cook": 1})
    assert seen["recent"] == [stew, soup]
    assert [touch["action"] for touch in seen["touches"]] == ["cook", "view"]
    assert seen["first_seen"].endswith("Z")
    shown = item_of(soup)
    assert (shown["known"], shown["available"]) == (False, False)
    assert "unknown" in shown["why_not"]
    eventually(lambda: item_of(soup)["counters"], lambda counters: counters == {"view": 1})


def test_without_waiting_the_answer_does_not_speak_of_folding(
    act: Make, post: Post, fresh: Fresh
) -> None:
    assert "folded" not in taken(post(act(fresh("u")), wait=False), 1)


def test_an_interaction_with_everything(act: Make, post: Post, user_of: Any, fresh: Fresh) -> None:
    user = fresh("u")
    full = act(
        user,
        action="rate",
        value=4.5,
        decision_id="d1",
        module_id="m1",
        surface="home",
        query="soup with bread",
        device={"device_id": "phone", "battery": 0.5},
    )
    taken(post([full, act(user, action="search", item_id=None, query="bread")]), 2)
    assert user_of(user)["counters"] == {"rate": 1, "search": 1}
    assert user_of(user)["devices"]["phone"]["battery"] == 0.5


def test_categories_known_on_arrival_are_counted(
    act: Make, post: Post, user_of: Any, fresh: Fresh
) -> None:
    user, soup = fresh("u"), fresh("soup")
    item = {"type": "item", "item_id": soup, "attributes": {"categories": ["warm", "quick"]}}
    # The item stands last in the list and still counts for the acts before it.
    taken(post([act(user, item_id=soup), act(user, item_id=soup, action="like"), item]), 3)
    assert {name: c["total"] for name, c in user_of(user)["categories"].items()} == {
        "warm": 2,
        "quick": 2,
    }


def test_a_users_attributes_merge_and_null_removes(post: Post, user_of: Any, fresh: Fresh) -> None:
    user, now = fresh("u"), time.time()

    def told(attributes: Event, ts: float) -> Event:
        return {"type": "user", "user_id": user, "ts": ts, "attributes": attributes}

    taken(
        post([told({"diet": "vegan", "time_zone": "Europe/Berlin", "x": [1, {"y": None}]}, now)]), 1
    )
    taken(post([told({"diet": None}, now + 1), told({"x": 2, "time_zone": "UTC"}, now - 1)]), 2)
    assert user_of(user)["attributes"] == {"time_zone": "Europe/Berlin", "x": [1, {"y": None}]}


def test_an_items_attributes_merge_and_dates_say_why_not(
    post: Post, item_of: Any, fresh: Fresh
) -> None:
    item, now = fresh("soup"), time.time()

    def told(**fields: Any) -> None:
        taken(post({"type": "item", "item_id": item} | fields), 1)

    told(attributes={"title": "Soup", "tags": ["hot"]})
    assert (item_of(item)["known"], item_of(item)["available"]) == (True, True)
    assert item_of(item)["why_not"] is None
    told(attributes={"tags": None, "kcal": 300})
    assert item_of(item)["attributes"] == {"title": "Soup", "kcal": 300}
    told(available_from=now + 60)
    assert item_of(item)["why_not"] == "not available yet"
    told(available_from=now - 120, available_until=of_day(0))
    assert item_of(item)["why_not"] == "no longer available"
    assert item_of(item)["available_until"].endswith("Z")
    told(available_until=None)
    assert (item_of(item)["available"], item_of(item)["available_until"]) == (True, None)
    told(deleted=True)
    assert (item_of(item)["why_not"], item_of(item)["deleted"]) == ("deleted", True)
    told(deleted=False, ts=now - 3600)  # older than the deletion: it stays
    assert item_of(item)["deleted"] is True
    told(deleted=False)
    assert item_of(item)["available"] is True


def test_old_attributes_of_items_and_users_are_taken(
    post: Post, user_of: Any, item_of: Any, fresh: Fresh
) -> None:
    user, item = fresh("u"), fresh("soup")
    old = [
        {"type": "item", "item_id": item, "ts": of_day(400), "attributes": {"title": "Old"}},
        {"type": "user", "user_id": user, "ts": of_day(400), "attributes": {"diet": "old"}},
    ]
    taken(post(old), 2)
    assert item_of(item)["attributes"] == {"title": "Old"}
    assert user_of(user)["attributes"] == {"diet": "old"}


def test_an_impression_counts_for_user_and_items(
    post: Post, user_of: Any, item_of: Any, fresh: Fresh, eventually: Eventually
) -> None:
    user, items = fresh("u"), [fresh("soup"), fresh("stew"), fresh("pie")]
    shown = [
        {"module_id": "later", "position": 1, "item_ids": items[2:]},
        {"position": 0, "item_ids": items[:2]},
    ]
    taken(
        post(
            {
                "type": "impression",
                "event_id": fresh("e"),
                "user_id": user,
                "decision_id": "d",
                "ts": time.time(),
                "shown": shown,
            }
        ),
        1,
    )
    seen = user_of(user)
    assert seen["impressions"] == 3
    assert [s["item_ids"] for s in seen["shown"]] == [items]  # by position
    for item in items:
        eventually(lambda: item_of(item)["counters"], lambda found: found == {"impression": 1})  # noqa: B023


def test_push_outcomes_and_switches(post: Post, user_of: Any, fresh: Fresh) -> None:
    user, now = fresh("u"), time.time()

    def push(status: str, category: str | None = "news") -> Event:
        return {
            "type": "push",
            "event_id": fresh("e"),
            "user_id": user,
            "message_id": "m1",
            "status": status,
            "ts": now,
        } | ({"category": category} if category else {})

    statuses = ["sent", "delivered", "opened", "dismissed", "failed", "disabled"]
    taken(post([*map(push, statuses), push("sent"), push("enabled", None)]), 8)
    seen = user_of(user)["push"]
    assert seen["totals"] == dict.fromkeys(statuses, 1) | {"sent": 2, "enabled": 1}
    assert sum(seen["opens_by_hour_of_week"].values()) == 1
    assert seen["switched"] == {"news": False, "": True}
    [message] = seen["recent"]
    assert (message["message_id"], message["status"]) == ("m1", "opened")


def test_the_last_state_of_each_device_is_kept(post: Post, user_of: Any, fresh: Fresh) -> None:
    user, now = fresh("u"), time.time()

    def device(ts: float, **fields: Any) -> Event:
        return {
            "type": "device",
            "event_id": fresh("e"),
            "user_id": user,
            "ts": ts,
            "device": fields,
        }

    motion = {"rate_hz": 50, "acc": [[0, 0, 9.81]] * 10}
    sent = [
        device(now, device_id="phone", place="home", charging=True, motion=motion),
        device(now - 60, device_id="phone", place="work"),
        device(now, device_id="watch", activity={"walking": 80, "still": 20}),
        device(now, device_id="ios", activity={"name": "walking", "confidence": "high"}),
        device(now, screen="on"),
    ]
    taken(post(sent), 5)
    devices = user_of(user)["devices"]
    assert set(devices) == {"phone", "watch", "ios", ""}
    assert (devices["phone"]["place"], devices["phone"]["charging"]) == ("home", True)
    assert "motion" not in devices["phone"]
    assert devices["watch"]["activity"] == {"walking": 0.8, "still": 0.2}
    assert devices["ios"]["activity"] == {"walking": 1.0}


def test_unknown_device_fields_are_ignored_and_counted(
    act: Make,
    post: Post,
    user_of: Any,
    fresh: Fresh,
    metric: Callable[[str], float],
    eventually: Eventually,
) -> None:
    battery = 'kairos_ignored_device_fields_total{field="battery"}'
    unknown = 'kairos_ignored_device_fields_total{field="unknown field"}'
    before = metric(battery), metric(unknown)
    user = fresh("u")
    device = {"battery": 7, "smell": "soup", "mood|": {"a": 1}, "place": "home", "lux": None}
    taken(post(act(user, device=device)), 1)
    assert set(user_of(user)["devices"][""]) == {"ts", "place"}
    eventually(
        lambda: (metric(battery), metric(unknown)),
        lambda now: now == (before[0] + 1, before[1] + 2),
    )


# Frames


def test_a_list_an_envelope_and_gzip(act: Make, post: Post, user_of: Any, fresh: Fresh) -> None:
    user = fresh("u")
    taken(post([act(user)]), 1)
    taken(post({"events": [act(user)]}), 1)
    taken(post({"sent_at": time.time(), "events": [act(user), act(user)]}), 2)
    zipped = gzip.compress(json.dumps([act(user)] * 2).encode())
    taken(post(zipped, **{"content-encoding": "gzip"}), 1, duplicates=1)
    taken(post(b" \n\t" + json.dumps(act(user)).encode() + b"\n"), 1)
    assert user_of(user)["counters"] == {"view": 6}


def test_sent_at_shifts_a_wrong_clock(act: Make, post: Post, user_of: Any, fresh: Fresh) -> None:
    user, wrong = fresh("u"), time.time() - 40 * 86400  # this phone lives 40 days ago
    taken(post({"sent_at": wrong, "events": [act(user, ts=wrong - 3600)]}), 1)
    happened = datetime.fromisoformat(user_of(user)["first_seen"])
    ago_s = time.time() - happened.timestamp()
    assert 3599 < ago_s < 3660
    refused(post({"sent_at": wrong, "events": [act(user, ts=time.time())]}), "ts")
    refused(post({"sent_at": "yesterday", "events": [act(user)]}), "sent_at")
    refused(post({"sent_at": time.time(), "events": [act(user)], "more": 1}), "more")


def test_times_in_every_notation(act: Make, post: Post, user_of: Any, fresh: Fresh) -> None:
    at = float(int(time.time()) - 60)
    local = datetime.fromtimestamp(at, UTC)
    for ts in (at, int(at), int(at * 1000), local.isoformat(), local.isoformat()[:-6] + "Z",
               local.isoformat()[:-6] + ".000+00:00"):  # fmt: skip
        user = fresh("u")
        taken(post(act(user, ts=ts)), 1)
        assert datetime.fromisoformat(user_of(user)["last_seen"]).timestamp() == at


@pytest.mark.parametrize("content", [[], {"events": []}, {"sent_at": 1, "events": []}])
def test_an_empty_list_is_refused(post: Post, content: Any) -> None:
    refused(post(content), "events")


def test_a_thousand_events_and_no_more(act: Make, post: Post, user_of: Any, fresh: Fresh) -> None:
    user = fresh("u")
    refused(post([act(user) for _ in range(1001)]), "events")
    refused(post([act(user) for _ in range(1001)] + [{}]), "events")
    taken(post([act(user) for _ in range(1000)]), 1000)
    assert user_of(user)["counters"] == {"view": 1000}


def test_only_one_thing_can_be_waited_for(client: httpx.Client, act: Make) -> None:
    for query in ("wait=yes", "wait=", "hold=folded"):
        told = refused(client.post(f"/v1/events?{query}", json=act("u")), query.split("=")[0])
        assert told["type"] == "urn:kairos:problem:invalid-input"


# What is refused, and its neighbours


def test_bad_events_lose_nothing_of_their_neighbours(
    act: Make, post: Post, user_of: Any, fresh: Fresh
) -> None:
    user = fresh("u")
    good = [act(user) for _ in range(4)]
    bad = [
        act(user, event_id="no item", item_id=None),
        act(user, event_id="odd", colour="red"),
        {"type": "nonsense", "event_id": "kind"},
        "text",
        None,
        {"event_id": "no kind"},
        act(user, event_id="number", item_id=7),
        {"type": "user", "user_id": user, "attributes": [1]},
    ]
    told = taken(post([good[0], *bad[:4], good[1], *bad[4:], good[2], good[3]]), 4, 0, len(bad))
    assert [(r["index"], r["event_id"], r["type"], r["field"]) for r in told["rejected"]] == [
        (1, "no item", "interaction", "item_id"),
        (2, "odd", "interaction", "colour"),
        (3, "kind", "nonsense", "type"),
        (4, None, None, ""),
        (6, None, None, ""),
        (7, "no kind", None, "type"),
        (8, "number", "interaction", "item_id"),
        (9, None, "user", "attributes"),
    ]
    assert all(r["detail"] for r in told["rejected"])
    assert user_of(user)["counters"] == {"view": 4}


def test_nothing_accepted_is_422_and_lists_what_was_wrong(act: Make, post: Post) -> None:
    told = refused(post([act("u", action="vieww"), {"type": "user"}]), "action")
    assert told["type"] == "urn:kairos:problem:nothing-accepted"
    assert (told["accepted"], told["duplicates"]) == (0, 0)
    assert [r["index"] for r in told["rejected"]] == [0, 1]


@pytest.mark.parametrize(
    ("written", "meant"), [("vieww", "view"), ("buy_purchase", "purchase"), ("Like", "like")]
)
def test_an_undeclared_action_names_the_nearest(
    act: Make, post: Post, written: str, meant: str
) -> None:
    told = refused(post(act("u", action=written)), "action")
    assert told["rejected"][0]["detail"] == f"{written!r} is not declared; the nearest is {meant!r}"


def test_late_and_early_events(act: Make, post: Post, user_of: Any, fresh: Fresh) -> None:
    user, now = fresh("u"), time.time()
    bounds = [now - 7 * 86400 + 60, now + 290]
    outside = [now - 7 * 86400 - 60, now + 360, of_day(8), 0, "1970-01-01T00:00:00Z"]
    batch = [act(user, ts=ts) for ts in [*bounds, *outside]]
    told = taken(post(batch), 2, rejected=5)
    assert {r["field"] for r in told["rejected"]} == {"ts"}
    assert "import" in told["rejected"][0]["detail"]
    assert "ahead" in told["rejected"][1]["detail"]
    assert user_of(user)["counters"] == {"view": 2}


def test_decisions_of_another_system_come_by_import_only(post: Post) -> None:
    decision = {
        "type": "decision",
        "decision_id": "d",
        "user_id": "u",
        "ts": time.time(),
        "slots": [{"item_id": "soup", "position": 0, "propensity": 0.5}],
    }
    told = refused(post(decision), "type")
    assert "kairos import" in told["detail"]


KINDS = [kind.__struct_config__.tag for kind in AnyEvent.__args__]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_its_missing_and_its_unknown_fields(post: Post, kind: str) -> None:
    missing = post({"type": kind}).json()
    assert missing["field"].endswith("_id")
    assert missing["rejected"][0]["type"] == kind
    refused(post({"type": kind, "nonsense": 1}), "nonsense")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"event_id": "x" * 129}, "event_id"),
        ({"item_id": ""}, "item_id"),
        ({"value": "3"}, "value"),
        ({"value": True}, "value"),
        ({"query": "x" * 513}, "query"),
        ({"device": []}, "device"),
        ({"ts": True}, "ts"),
        ({"ts": "2026-01-31"}, "ts"),
        ({"ts": "2026-01-31T08:00:00"}, "ts"),
        ({"ts": "31.01.2026"}, "ts"),
        ({"ts": -1}, "ts"),
        ({"ts": 1e300}, "ts"),
        ({"ts": 10**400}, "ts"),
    ],
)
def test_the_field_at_fault_is_named(act: Make, post: Post, fields: Event, field: str) -> None:
    refused(post(act("u") | fields), field)


@pytest.mark.parametrize(
    ("shown", "field"),
    [
        ([], "shown"),
        ([{"position": -1, "item_ids": []}], "shown[0].position"),
        ([{"position": 0, "item_ids": ["a", ""]}], "shown[0].item_ids[1]"),
        ([{"position": 0, "item_ids": ["a"] * 101}], "shown[0].item_ids"),
        ([{"position": 0, "item_ids": []}] * 51, "shown"),
        ([{"position": 0, "item_ids": [], "x": 1}], "shown[0].x"),
    ],
)  # fmt: skip
def test_the_place_within_an_impression_is_named(post: Post, shown: Any, field: str) -> None:
    event = {
        "type": "impression",
        "event_id": "e",
        "user_id": "u",
        "decision_id": "d",
        "ts": time.time(),
    }
    refused(post(event | {"shown": shown}), field)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("kind", ["item", "user"])
def test_attributes_are_bounded_in_depth_and_size(post: Post, fresh: Fresh, kind: str) -> None:
    def sent(attributes: Any) -> httpx.Response:
        return post({"type": kind, f"{kind}_id": fresh(kind), "attributes": attributes})

    taken(sent({"a": nested(31)}), 1)
    refused(sent({"a": nested(32)}), "attributes")
    refused(sent({"a": nested(400)}), "attributes")
    taken(sent({"a": "x" * 16_000}), 1)
    refused(sent({"a": "x" * 16_400}), "attributes")
    refused(sent({"a": "é" * 8_200}), "attributes")
    taken(sent({"a": [2**63, -(2**63), 2**64 - 1, 1e308, -0.0, None, True, "\x00"]}), 1)
    refused(sent({"a": 10**30}), "attributes")
    refused(sent({"": 1}), "attributes")
    refused(sent({"x" * 129: 1}), "attributes")
    refused(sent({"categories": "warm"}), "attributes.categories")
    refused(sent({"tags": [1]}), "attributes.tags")
    for name, most in LISTS.items():
        taken(sent({name: ["x"] * most}), 1)
        refused(sent({name: ["x"] * (most + 1)}), f"attributes.{name}")
    taken(sent({"tags": None, "categories": None}), 1)


# Duplicates


def test_an_event_id_of_a_user_counts_once(
    act: Make, post: Post, user_of: Any, fresh: Fresh
) -> None:
    user, other = fresh("u"), fresh("u")
    event = act(user)
    taken(post([event, event]), 1, duplicates=1)  # in one request
    taken(post(event), 0, duplicates=1)  # in a later one
    taken(post([act(user), event, {"type": "nonsense"}]), 1, duplicates=1, rejected=1)
    taken(post([event, {"type": "nonsense"}]), 0, duplicates=1, rejected=1)
    taken(post(event | {"action": "like", "ts": time.time() - 60}), 0, duplicates=1)
    taken(post(event | {"user_id": other}), 1)  # another user's is another event
    assert user_of(user)["counters"] == {"view": 2}
    assert user_of(other)["counters"] == {"view": 1}


def test_copies_in_a_new_process_are_dropped_by_the_fold(
    act: Make, another: Callable[..., Any], eventually: Eventually
) -> None:
    """The edge has forgotten them, the store has not."""
    service = another()
    events = [act("u") for _ in range(20)]
    with service.client() as client:
        taken(client.post("/v1/events", json=events), 20)
    service.stop()
    service.start()
    with service.client() as client:
        taken(client.post("/v1/events?wait=folded", json=[*events, act("u")]), 21)
        assert client.get("/v1/users/u").json()["counters"] == {"view": 21}
        metrics = client.get("/metrics").text
    assert "kairos_events_duplicate_total 20.0" in metrics
    assert "kairos_events_appended_total 41.0" in metrics


# Aliases


def alias(previous: str, user: str, event_id: str) -> Event:
    return {
        "type": "alias",
        "event_id": event_id,
        "previous_id": previous,
        "user_id": user,
        "ts": time.time(),
    }


def elsewhere(user: str, fresh: Fresh) -> str:
    """An id that lives in another partition than the user."""
    while partition_of(found := fresh("anon"), 16) == partition_of(user, 16):
        continue
    return found


def test_an_alias_joins_across_partitions_and_later_events_follow(
    act: Make, post: Post, user_of: Any, fresh: Fresh, eventually: Eventually
) -> None:
    user = fresh("u")
    anon = elsewhere(user, fresh)
    taken(post([act(user, item_id="mine"), act(anon, item_id="theirs", action="like")]), 2)
    joined = alias(anon, user, fresh("e"))
    taken(post([joined, joined]), 1, duplicates=1)
    eventually(lambda: user_of(user)["counters"], lambda c: c == {"view": 1, "like": 1})
    assert set(user_of(user)["recent"]) == {"mine", "theirs"}
    assert user_of(user)["aliases"] == [anon]
    late = act(anon, action="cook")
    taken(post([late, late | {"event_id": fresh("e")}]), 2)
    taken(post(late), 0, duplicates=1)
    eventually(lambda: user_of(user)["counters"], lambda c: c == {"view": 1, "like": 1, "cook": 2})
    told = user_of(anon)  # the old id leads to the person
    assert (told["user_id"], told["aliases"]) == (user, [anon])


def test_aliases_in_a_row_and_in_a_circle(
    act: Make, post: Post, user_of: Any, fresh: Fresh, eventually: Eventually
) -> None:
    a, b, c = (fresh("u") for _ in range(3))
    taken(post([act(a), act(b), act(c)]), 3)
    taken(post([alias(a, b, fresh("e")), alias(b, c, fresh("e"))]), 2)
    eventually(lambda: user_of(c)["counters"], lambda found: found == {"view": 3})
    taken(post(alias(c, a, fresh("e"))), 1)
    taken(post([act(user) for user in (a, b, c)]), 3)
    for user in (a, b, c):
        eventually(
            lambda: user_of(user).get("counters"),  # noqa: B023
            lambda found: found == {"view": 6},
        )


def test_nobody_is_their_own_alias(post: Post, fresh: Fresh) -> None:
    refused(post(alias("same", "same", fresh("e"))), "previous_id")


# Ids


ODD = [
    "a/b", "/", "//", "..", "../..", ".", "a b", "a+b", "100%", "%2F", "?x=1#y", "é", "e\u0301",
    "🍲", "日本語", "'", '"', "\\", "'; DROP TABLE users; --", "{k0}", "*", "[a]", "\x00", "\x01",
    "\n", "\r\n", "\u2028", "\ufeff", "a:b", "a|b", "x" * 128, "é" * 128, "🍲" * 128,
]  # fmt: skip


def test_any_string_is_an_id(
    act: Make, post: Post, user_of: Any, item_of: Any, eventually: Eventually
) -> None:
    acts = [
        act(odd, item_id=odd, event_id=odd, decision_id=odd, module_id=odd, surface=odd)
        for odd in ODD
    ]
    items = [
        {"type": "item", "item_id": odd, "attributes": {odd: odd, "tags": [odd]}} for odd in ODD
    ]
    taken(post([*acts, *acts, *items]), 2 * len(ODD), duplicates=len(ODD))
    for odd in ODD:
        seen, shown = user_of(odd), item_of(odd)
        assert (seen["user_id"], seen["recent"], seen["counters"]) == (odd, [odd], {"view": 1})
        assert (shown["item_id"], shown["attributes"]) == (odd, {odd: odd, "tags": [odd]})
    for odd in ODD:
        eventually(
            lambda: item_of(odd)["counters"],  # noqa: B023
            lambda counters: counters == {"view": 1},
        )
