"""`POST /v1/push/score` as a running service answers it, before any model is published."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.ids import partition_of
from engine.redis_keys import keys_of
from engine.times import to_ms, to_rfc3339
from serving.http import Role
from serving.keys import create_key
from tests.serving.conftest import Service, running

Fresh = Callable[[str], str]
Eventually = Callable[..., Any]
Score = Callable[..., dict[str, Any]]

PUSH = """
quiet_hours: {from: "22:00", until: "08:00"}
caps: [{per: hour, most: 2}]
passes: {transactional: [quiet_hours, caps, gap]}
holdout: 0
explore: {share: 0.05, until: 0}
assumed: {fatigue_per_push: 0, opt_out: 0}
"""
NOON = "2027-03-10T12:00:00Z"
NIGHT = "2027-03-10T23:00:00Z"
HOUR_S = 3600


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path = tmp_path_factory.mktemp("configuration") / "push.yaml"
    path.write_text(PUSH, encoding="utf-8")
    with running(tmp_path_factory.mktemp("pushes") / "home", {"KAIROS_PUSH": str(path)}) as started:
        yield started
    log = started.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-6000:]


@pytest.fixture(scope="module")
def app(kitchen: Service) -> Iterator[httpx.Client]:
    with kitchen.client() as opened:
        yield opened


@pytest.fixture
def score(app: httpx.Client) -> Score:
    """The decision on one message, by value alone; `message` and `asked` say otherwise."""

    def ask(user_id: str, message_id: str, at: str = NOON, **asked: Any) -> dict[str, Any]:
        message = {
            "message_id": message_id,
            "category": "news",
            "expires_at": to_ms(at, "at") / 1000 + 24 * HOUR_S,
        } | asked.pop("message", {})
        body = {"requests": [{"user_id": user_id}], "message": message, "explore": False, "at": at}
        answer = app.post("/v1/push/score", json=body | asked)
        assert answer.status_code == 200, answer.text
        [decision] = answer.json()["decisions"]
        return dict(decision)

    return ask


def tell(app: httpx.Client, **event: Any) -> None:
    assert app.post("/v1/events?wait=folded", json=event).status_code == 202


def push(app: httpx.Client, fresh: Fresh, user_id: str, status: str, **fields: Any) -> None:
    event = {"message_id": fresh("m"), "ts": time.time()} | fields
    tell(app, type="push", event_id=fresh("e"), user_id=user_id, status=status, **event)


def codes(decision: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in decision["reasons"]]


def test_a_message_goes_out_once_and_the_answer_stays(score: Score, fresh: Fresh) -> None:
    user_id, message_id = fresh("u"), fresh("m")
    first = score(user_id, message_id)
    again = score(user_id, message_id, "2027-03-10T12:05:00Z")

    assert (first["action"], codes(first)) == ("send", ["best_now"])
    assert first["reserved_until"] == "2027-03-10T12:10:00.000Z"
    assert first["propensity"] == 1.0
    assert first["scores"]["net_value"] > 0
    assert again.pop("repeated")
    assert again["decision_id"] == first["decision_id"]
    assert (again["reserved_until"], again["scores"]) == (first["reserved_until"], first["scores"])


def test_quiet_hours_go_by_the_clock_where_the_person_is(
    app: httpx.Client, score: Score, fresh: Fresh
) -> None:
    user_id, message_id = fresh("u"), fresh("m")
    tell(app, type="user", user_id=user_id, attributes={"time_zone": "America/New_York"})

    assert score(user_id, fresh("m"), NIGHT)["action"] == "send"  # 18:00 in New York
    held = score(user_id, message_id, "2027-03-11T04:00:00Z")
    assert (held["action"], held["forced"]) == ("hold", "quiet_hours")
    assert held["hold_until"] == "2027-03-11T13:05:00.000Z"  # 08:05 there
    again = score(user_id, message_id, "2027-03-11T09:00:00Z")
    assert (again["decision_id"], again["repeated"]) == (held["decision_id"], True)
    sent = score(user_id, message_id, held["hold_until"])
    assert sent["action"] == "send"
    # A traveller's phone says where they are now.
    device = {"time_zone": "Europe/Berlin", "captured_at": "2027-03-12T21:30:00Z"}
    asked = {"requests": [{"user_id": user_id, "device": device}]}
    held = score(user_id, fresh("m"), "2027-03-12T21:30:00Z", **asked)
    assert (held["action"], held["forced"]) == ("hold", "quiet_hours")
    urgent = {"message": {"urgency": "transactional"}}
    assert score(user_id, fresh("m"), "2027-03-12T21:30:00Z", **asked, **urgent)["action"] == "send"


def test_nobody_who_switched_off_is_pushed(app: httpx.Client, score: Score, fresh: Fresh) -> None:
    user_id = fresh("u")
    push(app, fresh, user_id, "disabled", category="news")
    assert codes(score(user_id, fresh("m"))) == ["preferences"]
    assert score(user_id, fresh("m"), message={"category": "recipes"})["action"] == "send"
    push(app, fresh, user_id, "disabled")
    dropped = score(user_id, fresh("m"), message={"urgency": "transactional"})
    assert (dropped["action"], dropped["forced"]) == ("drop", "opted_out")
    inbox = score(user_id, fresh("m"), message={"channel": "in_app", "category": "recipes"})
    assert inbox["action"] == "send"


def test_caps_count_what_is_reserved_and_what_went_out(
    app: httpx.Client, score: Score, fresh: Fresh
) -> None:
    user_id, names = fresh("u"), [fresh("m") for _ in range(6)]
    at = ["2027-03-10T12:00:00Z", "2027-03-10T12:01:00Z"]
    assert [score(user_id, names[n], at[n])["action"] for n in range(2)] == ["send", "send"]
    held = score(user_id, names[2], "2027-03-10T12:02:00Z")
    assert (held["action"], held["forced"]) == ("hold", "caps")
    assert held["hold_until"] == "2027-03-10T13:00:00.000Z"
    assert "hourly cap of 2 reached" in held["reasons"][0]["text"]
    # One that failed gives its place back, one that went out keeps it after its reservation.
    push(app, fresh, user_id, "failed", message_id=names[1])
    assert score(user_id, names[3], "2027-03-10T12:03:00Z")["action"] == "send"
    push(app, fresh, user_id, "sent", message_id=names[0])
    push(app, fresh, user_id, "sent", message_id=names[3])
    assert score(user_id, names[4], "2027-03-10T12:40:00Z")["forced"] == "caps"
    # A reservation that nobody used is over with its time, by clocks that differ.
    other = fresh("u")
    assert [score(other, fresh("m"))["action"] for _ in range(2)] == ["send", "send"]
    assert score(other, fresh("m"), "2027-03-10T12:21:00Z")["action"] == "send"


def test_two_callers_never_both_get_the_last_place(kitchen: Service, fresh: Fresh) -> None:
    user_id = fresh("u")
    actions: list[str] = []

    def call(number: int) -> None:
        message = {"message_id": f"{user_id}-{number}", "category": "news",
                   "expires_at": "2027-03-10T12:30:00Z"}  # fmt: skip
        asked = {"requests": [{"user_id": user_id, "message": message}], "explore": False}
        with kitchen.client() as client:
            answer = client.post("/v1/push/score", json=asked | {"at": NOON}).json()
        actions.append(answer["decisions"][0]["action"])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(actions) == 12
    assert actions.count("send") <= 2


def test_a_wrong_request_spoils_no_other(app: httpx.Client, fresh: Fresh) -> None:
    user_id = fresh("u")
    message = {"message_id": fresh("m"), "category": "news", "expires_at": "2027-03-11T12:00:00Z"}
    requests: list[Any] = [
        {"user": user_id},
        {"user_id": user_id, "message": message | {"expires_at": "soon"}},
        {"user_id": user_id, "message": message | {"goal": {"action": "opn"}}},
        {"user_id": user_id, "message": message | {"not_before": "2027-03-12T12:00:00Z"}},
        7,
        {"user_id": user_id},
        {"user_id": user_id, "message": message},
    ]
    body = {"requests": requests, "explore": False, "at": NOON}
    decisions = app.post("/v1/push/score", json=body).json()["decisions"]

    assert [one["index"] for one in decisions] == list(range(7))
    assert [one["error"]["field"] for one in decisions[:6]] == [
        "user",
        "message.expires_at",
        "message.goal.action",
        "message.not_before",
        "",
        "message",
    ]
    assert "'open'" in decisions[2]["error"]["detail"]
    assert decisions[6]["action"] == "send"


@pytest.mark.parametrize(
    "body",
    [{}, {"requests": []}, {"requests": [{"user_id": "u"}] * 1001}, {"requests": [], "x": 1}],
)
def test_a_wrong_body_is_refused(app: httpx.Client, body: dict[str, Any]) -> None:
    assert app.post("/v1/push/score", json=body).status_code == 422


def test_only_admins_decide_as_if_it_were_another_time(
    another: Callable[..., Service], fresh: Fresh, eventually: Eventually
) -> None:
    started = another()
    store = started.store()
    key = create_key(store, "app", Role.SERVE)
    store.close()
    message = {"message_id": "m", "category": "news", "expires_at": time.time() + HOUR_S}
    body = {"requests": [{"user_id": fresh("u")}], "message": message}
    with started.client(headers={"Authorization": f"Bearer {key}"}) as client:
        told = body | {"at": NOON, "dry_run": True}
        eventually(lambda: client.post("/v1/push/score", json=told).status_code == 403)
        assert client.post("/v1/push/score", json=body).status_code == 200


def test_a_dry_run_reserves_and_logs_nothing(app: httpx.Client, score: Score, fresh: Fresh) -> None:
    user_id, message_id = fresh("u"), fresh("m")
    dry = score(user_id, message_id, dry_run=True)
    real = score(user_id, message_id)
    assert dry["action"] == real["action"] == "send"
    assert "repeated" not in real
    assert app.get(f"/v1/decisions/{dry['decision_id']}").status_code == 404


def test_a_decision_can_be_looked_at_with_what_came_of_it(
    app: httpx.Client, score: Score, fresh: Fresh, eventually: Eventually
) -> None:
    user_id, message_id = fresh("u"), fresh("m")
    now = to_rfc3339(int(time.time() * 1000))
    message = {"urgency": "transactional"}  # whatever hour it is now
    made = score(user_id, message_id, now, message=message)
    push(app, fresh, user_id, "opened", message_id=message_id)

    view = app.get(f"/v1/decisions/{made['decision_id']}").json()
    assert view["push"]["message_id"] == message_id
    assert (view["push"]["action"], view["push"]["chances"]) == (
        "send",
        {"send": 1, "hold": 0, "drop": 0},
    )
    assert view["push"]["features"]["sends_day"] == 0
    assert [one["status"] for one in view["outcomes"]] == ["opened"]
    listed = eventually(lambda: app.get(f"/v1/users/{user_id}/decisions").json()["decisions"])
    assert [one["decision_id"] for one in listed] == [made["decision_id"]]


def test_what_was_pushed_stands_last_on_the_page(
    app: httpx.Client, score: Score, fresh: Fresh, eventually: Eventually
) -> None:
    items, user_id = [fresh("i") for _ in range(6)], fresh("u")
    for item_id in items:
        tell(app, type="item", item_id=item_id, attributes={"title": item_id, "tags": [user_id]})
    asked = {"user_id": user_id, "filter": {"tags": user_id}, "explore": False}

    def shown() -> list[str]:
        return [one["item_id"] for one in app.post("/v1/recommend", json=asked).json()["items"]]

    first = eventually(lambda: shown(), lambda found: len(found) == 6)[0]
    now = to_rfc3339(int(time.time() * 1000))
    message = {"urgency": "transactional", "item_id": first}
    assert score(user_id, fresh("m"), now, message=message)["action"] == "send"
    assert eventually(shown, lambda found: found[-1] == first)[0] != first


def test_a_person_shows_caps_left_and_slots_to_come(
    app: httpx.Client, score: Score, fresh: Fresh
) -> None:
    user_id, now = fresh("u"), to_rfc3339(int(time.time() * 1000))
    around = [f"{(int(now[11:13]) + hours) % 24:02}:00" for hours in (-2, 3)]
    tell(app, type="user", user_id=user_id, attributes={"quiet_hours": "-".join(around)})
    urgent, waits = fresh("m"), fresh("m")
    assert score(user_id, urgent, now, message={"urgency": "transactional"})["action"] == "send"
    held = score(user_id, waits, now)
    assert held["forced"] == "quiet_hours"

    told = app.get(f"/v1/users/{user_id}").json()["push"]
    assert told["caps_left"] == [{"cap": "hourly cap of 2", "left": 1, "of": None}]
    assert told["reserved"] == [urgent]
    [slot] = told["slots_to_come"]
    assert (slot["message_id"], slot["at"]) == (waits, held["hold_until"])


def test_an_erased_person_leaves_no_ledger(
    kitchen: Service, app: httpx.Client, score: Score, fresh: Fresh, eventually: Eventually
) -> None:
    user_id = fresh("u")
    tell(app, type="user", user_id=user_id, attributes={"time_zone": "UTC"})
    score(user_id, fresh("m"))
    partition = partition_of(user_id, kitchen.settings.partitions)
    key = keys_of(partition).ledgers + user_id
    store = kitchen.store()
    try:
        assert store._state.exists(key)
        receipt = app.delete(f"/v1/users/{user_id}").json()["receipt_id"]
        eventually(
            lambda: app.get(f"/v1/erasures/{receipt}").json()["status"], lambda s: s == "done"
        )
        assert not store._state.exists(key)
    finally:
        store.close()


def test_without_the_store_nothing_is_let_go(another: Callable[..., Service]) -> None:
    started = another()
    message = {"message_id": "m", "category": "news", "expires_at": time.time() + HOUR_S}
    body = {"requests": [{"user_id": f"u{n}"} for n in range(3)], "message": message}
    with started.client() as client:
        assert client.post("/v1/push/score", json=body | {"dry_run": True}).status_code == 200
        started.kill_store()
        answer = client.post("/v1/push/score", json=body)
    assert answer.status_code == 200
    assert answer.json()["degraded"] == "store"
    for decision in answer.json()["decisions"]:
        assert (decision["action"], decision["forced"]) == ("hold", "store")


def test_a_wrong_file_names_its_line(tmp_path: Path) -> None:
    from engine.errors import SettingsError
    from engine.push_file import load_push

    path = tmp_path / "push.yaml"
    for text, told in {
        "caps:\n  - {per: day, most: 101}\n": "push.yaml:2: caps[0].most: ",
        "quiet_hours: {from: '25:00', until: '8:00'}\n": "push.yaml:1: quiet_hours.from: ",
        "hold_while: {flying: 0.5}\n": "push.yaml:1: hold_while.flying: expected one of",
        "\npasses: {transactional: [opted_out]}\n": "push.yaml:2: passes.transactional[0]: ",
        "explore: {share: 0.01}\n": "push.yaml:1: explore.share: ",
        "time_zone: Mars/Olympus\n": "push.yaml:1: time_zone: ",
    }.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError) as raised:
            load_push(("unknown", "in_bed"), path)
        assert told in str(raised.value)
