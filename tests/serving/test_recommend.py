"""`POST /v1/recommend` as a running service answers it, before any model is published."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Post = Callable[..., httpx.Response]
Make = Callable[..., dict[str, Any]]
Ask = Callable[..., httpx.Response]

SOUPS = [f"soup-{n}" for n in range(12)]
CAKES = [f"cake-{n}" for n in range(12)]


@pytest.fixture(scope="module")
def kitchen(service: Any, client: httpx.Client) -> str:
    """Two dozen recipes, marked so that a filter finds them among other tests' items."""
    day = 86_400_000
    now = int(time.time() * 1000)
    items: list[dict[str, Any]] = [
        {"type": "item", "item_id": item_id, "attributes": {
            "title": item_id.title(), "categories": [item_id.partition("-")[0]],
            "minutes": 10 * n, "vegan": n % 2 == 0, "kitchen": "test"}}
        for n, item_id in enumerate([*SOUPS, *CAKES])
    ]  # fmt: skip
    items += [
        {"type": "item", "item_id": "gone", "deleted": True, "attributes": {"kitchen": "test"}},
        {"type": "item", "item_id": "soon", "available_from": now + day,
         "attributes": {"kitchen": "test"}},
        {"type": "item", "item_id": "over", "available_until": now - day,
         "attributes": {"kitchen": "test"}},
    ]  # fmt: skip
    assert client.post("/v1/events?wait=folded", json=items).status_code == 202
    deadline = time.monotonic() + 30
    while True:  # new items are in the lists within two seconds
        body = {"user_id": "x", "size": 100, "filter": {"kitchen": "test"}, "dry_run": True}
        if len(client.post("/v1/recommend", json=body).json().get("items", ())) == 24:
            return "test"
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def ask(client: httpx.Client, kitchen: str) -> Ask:
    """Recommend among the kitchen's recipes."""

    def post(user_id: str, **fields: Any) -> httpx.Response:
        filter_ = {"kitchen": kitchen} | fields.pop("filter", {})
        return client.post("/v1/recommend", json={"user_id": user_id, "filter": filter_} | fields)

    return post


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_an_answer_is_whole(ask: Ask, fresh: Callable[[str], str]) -> None:
    answer = ask(fresh("u"), size=3, attributes=["title", "minutes"]).json()

    assert answer.keys() == {"decision_id", "release", "config_version", "situation", "items",
                             "next", "degraded"}  # fmt: skip
    assert (answer["release"], answer["degraded"]) == (None, "no_release")
    assert answer["situation"] == {"name": "unknown", "confidence": 0.0, "age_s": None}
    assert len(answer["items"]) == 3
    for item in answer["items"]:
        assert item["attributes"]["title"] == item["item_id"].title()
        assert 0 < item["propensity"] <= 1
        assert item["source"] in ("popular", "fresh")


def test_what_cannot_be_shown_never_is(ask: Ask, fresh: Callable[[str], str]) -> None:
    assert set(ids(ask(fresh("u"), size=100))) == {*SOUPS, *CAKES}


def test_what_the_user_acted_on_is_left_out_unless_asked_for(
    ask: Ask, post: Post, act: Make, fresh: Callable[[str], str]
) -> None:
    user = fresh("u")
    post([act(user, item_id="soup-1"), act(user, item_id="cake-1", action="save")])

    assert {"soup-1", "cake-1"}.isdisjoint(ids(ask(user, size=100)))
    assert {"soup-1", "cake-1"} <= set(ids(ask(user, size=100, include_seen=True)))


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"categories": "soup"}, set(SOUPS)),
        ({"categories": ["soup", "cake"], "vegan": True}, {*SOUPS[::2], *CAKES[::2]}),
        ({"minutes": {"lte": 20}}, {"soup-0", "soup-1", "soup-2"}),
        ({"minutes": {"gte": 220}}, {"cake-10", "cake-11"}),
        ({"minutes": {"gte": 100, "lte": 130, "not": 110}}, {"soup-10", "cake-0", "cake-1"}),
        ({"categories": {"not": ["soup", "cake"]}}, set()),
        ({"title": "Soup-3"}, {"soup-3"}),
        ({"vegan": 1}, set()),
    ],
)
def test_a_filter_holds_for_every_item(
    ask: Ask, fresh: Callable[[str], str], filter_: dict[str, Any], expected: set[str]
) -> None:
    assert set(ids(ask(fresh("u"), size=100, filter=filter_))) == expected


def test_excluded_items_stay_away(ask: Ask, fresh: Callable[[str], str]) -> None:
    assert set(ids(ask(fresh("u"), size=100, exclude=[*SOUPS, "nobody-knows-this"]))) == set(CAKES)


def test_pages_follow_each_other_until_nothing_is_left(
    ask: Ask, fresh: Callable[[str], str]
) -> None:
    user, seen, cursor = fresh("u"), list[str](), None
    for page in itertools.count():
        body = {"size": 7} if cursor is None else {"size": 7, "cursor": cursor}
        answer = ask(user, **body)
        seen += ids(answer)
        cursor = answer.json().get("next")
        if cursor is None:
            break
        assert page < 4
    assert sorted(seen) == sorted([*SOUPS, *CAKES])


@pytest.mark.parametrize("cursor", ["", "nonsense", "AAAA", "é"])
def test_a_cursor_that_is_none_of_ours_is_refused(
    ask: Ask, fresh: Callable[[str], str], cursor: str
) -> None:
    answer = ask(fresh("u"), cursor=cursor)
    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


def test_a_cursor_belongs_to_its_request(ask: Ask, fresh: Callable[[str], str]) -> None:
    cursor = ask(fresh("u"), size=3).json()["next"]
    answer = ask(fresh("u"), size=3, cursor=cursor)
    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


def test_candidates_are_all_that_is_ranked_and_unknown_ones_come_last(
    client: httpx.Client, kitchen: str, fresh: Callable[[str], str]
) -> None:
    named = ["nobody-1", "cake-3", "gone", "soup-3", "nobody-2"]
    body = {"user_id": fresh("u"), "candidates": named, "size": 10}
    answer = client.post("/v1/recommend", json=body)

    assert set(ids(answer)[:2]) == {"cake-3", "soup-3"}
    assert ids(answer)[2:] == ["nobody-1", "nobody-2"]
    assert [item["score"] for item in answer.json()["items"][2:]] == [None, None]


def test_more_like_this_leaves_this_out(ask: Ask, fresh: Callable[[str], str]) -> None:
    assert "soup-4" not in ids(ask(fresh("u"), size=100, item_id="soup-4"))


def test_without_exploration_an_answer_repeats_itself(
    ask: Ask, fresh: Callable[[str], str]
) -> None:
    answers = [ask("somebody", size=10, explore=False).json()["items"] for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert {item["propensity"] for item in answers[0]} == {1.0}


def test_live_device_state_makes_the_situation(ask: Ask, fresh: Callable[[str], str]) -> None:
    device = {"place": "supermarket", "activity": {"name": "WALKING", "confidence": 80}, "x": 1}
    told = ask(fresh("u"), device=device).json()["situation"]
    assert (told["name"], told["age_s"]) == ("shopping", 0.0)


def test_explaining_says_what_was_dropped_by_which_rule(
    ask: Ask, post: Post, act: Make, fresh: Callable[[str], str]
) -> None:
    user = fresh("u")
    post(act(user, item_id="soup-1"))
    answer = ask(user, size=2, explain=True, exclude=["soup-2"]).json()

    rules = {gone["item_id"]: gone["rule"] for gone in answer["explanation"]["dropped"]}
    assert rules["soup-1"] == "the user acted on it"
    assert rules["soup-2"] == "excluded by the request"
    assert answer["explanation"]["candidates"] == 22
    assert len(answer["explanation"]["considered"]) == 10
    assert all(item["reasons"][0]["code"] == item["source"] for item in answer["items"])


def test_a_decision_can_be_looked_at_and_a_dry_run_leaves_none(
    ask: Ask, client: httpx.Client, fresh: Callable[[str], str], eventually: Callable[..., Any]
) -> None:
    user = fresh("u")
    dry = ask(user, size=2, dry_run=True).json()["decision_id"]
    answer = ask(user, size=2, surface="home").json()

    told = client.get(f"/v1/decisions/{answer['decision_id']}").json()
    shown = [(item["item_id"], item["propensity"]) for item in answer["items"]]
    assert [(slot["item_id"], slot["propensity"]) for slot in told["slots"]] == shown
    assert (told["user_id"], told["surface"]) == (user, "home")
    listed = eventually(lambda: client.get(f"/v1/users/{user}/decisions").json()["decisions"])
    assert [decision["decision_id"] for decision in listed] == [answer["decision_id"]]
    assert client.get(f"/v1/decisions/{dry}").status_code == 404


def test_as_if_it_were_another_time(ask: Ask, fresh: Callable[[str], str]) -> None:
    in_two_days = time.time() + 2 * 86_400
    assert "soon" in ids(ask(fresh("u"), size=100, at=in_two_days))
    assert "over" in ids(ask(fresh("u"), size=100, at=time.time() - 2 * 86_400))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u", "size": 0}, "size"),
        ({"user_id": "u", "size": 101}, "size"),
        ({"user_id": "u", "sise": 3}, "sise"),
        ({"user_id": "u", "candidates": ["a"] * 1001}, "candidates"),
        ({"user_id": "u", "filter": {"no-such-attribute": 1}}, "filter.no-such-attribute"),
        ({"user_id": "u", "filter": {"minutes": {"gt": 1}}}, "filter.minutes"),
        ({"user_id": "u", "filter": {"minutes": {"gte": "x"}}}, "filter.minutes.gte"),
        ({"user_id": "u", "item_id": "nobody-knows-this"}, "item_id"),
        ({"user_id": "u", "at": "yesterday"}, "at"),
        ({"user_id": "u", "exclude": [1]}, "exclude[0]"),
    ],
)
def test_bad_input_names_the_field(
    client: httpx.Client, kitchen: str, body: dict[str, Any], field: str
) -> None:
    answer = client.post("/v1/recommend", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_new_item_is_shown_and_counters_make_it_popular(
    client: httpx.Client, post: Post, act: Make, fresh: Callable[[str], str],
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    item, mark = fresh("new"), fresh("mark")
    post({"type": "item", "item_id": item, "attributes": {"mark": mark}})
    body = {"user_id": fresh("u"), "filter": {"mark": mark}, "explore": False}

    eventually(lambda: client.post("/v1/recommend", json=body).json().get("items"))
    post([act(fresh("u"), item_id=item, action="save") for _ in range(3)])
    score = "/v1/recommend"
    first = {"user_id": fresh("u"), "candidates": [item, "soup-9"], "explore": False}
    eventually(lambda: ids(client.post(score, json=first))[0] == item)


def test_without_its_store_it_answers_popular_items_and_still_obeys(
    another: Callable[..., Any], act: Make
) -> None:
    service = another(KAIROS_READ_TIMEOUT_MS="200")
    with service.client() as client:
        items = [{"type": "item", "item_id": f"i{n}", "attributes": {"nuts": n % 2 == 0}}
                 for n in range(20)]  # fmt: skip
        client.post("/v1/events?wait=folded", json=[*items, act("u", item_id="i3")])
        time.sleep(1.5)  # the follower's round
        service.kill_store()
        body = {"user_id": "u", "size": 20, "filter": {"nuts": False}, "exclude": ["i1"]}
        answer = client.post("/v1/recommend", json=body)
        assert answer.json()["degraded"] == "store"
        assert set(ids(answer)) == {f"i{n}" for n in range(3, 20, 2)}
