"""`/v1/push/outbox` as its callers see it, and what becomes of messages when processes die."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

Eventually = Callable[..., Any]
PATH = "/v1/push/outbox"
PAYLOAD = '{"title": "Soup ☺",  "n": 1.50, "deep": [null, {"a": "\\u00e9"}]}'


def held(user: str, name: str = "m", payload: str = PAYLOAD, **told: Any) -> str:
    """JSON of a message that no gate holds up, unless told otherwise; the payload as it is."""
    message = {
        "user_id": user,
        "message_id": name,
        "category": "receipt",
        "urgency": "transactional",
        "value": 100.0,
        "expires_at": time.time() + 3600,
    } | told
    given = {key: value for key, value in message.items() if value is not None}
    return f'{json.dumps(given)[:-1]}, "payload": {payload}}}'


def hand_over(client: httpx.Client, *messages: str) -> Any:
    body = '{"messages": [' + ",".join(messages) + "]}"
    answer = client.post(PATH, content=body.encode())
    assert answer.status_code == 202, answer.text
    return answer.json()


def state(client: httpx.Client, user: str, name: str = "m") -> Any:
    return client.get(f"{PATH}/{user}/{name}").json()["state"]


def claim(client: httpx.Client, **body: Any) -> Any:
    answer = client.post(f"{PATH}/claim", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"]


def test_a_message_is_handed_over_claimed_and_acknowledged(
    client: httpx.Client, fresh: Any, eventually: Eventually, metric: Any
) -> None:
    user = fresh("held")
    before = metric('kairos_outbox_messages_total{what="delivered"}')
    assert hand_over(client, held(user)) == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert hand_over(client, held(user), held(user))["duplicates"] == 2
    eventually(lambda: state(client, user), lambda found: found == "ready")
    raw = client.post(f"{PATH}/claim", json={"max": 5, "lease_s": 30}).text
    assert PAYLOAD in raw  # untouched
    [given] = [one for one in json.loads(raw)["messages"] if one["user_id"] == user]
    assert (given["message_id"], given["attempt"]) == ("m", 1)
    assert given["decision"]["action"] == "send"
    assert given["send_before"] <= given["decision"]["reserved_until"]
    kept = client.get(f"{PATH}/{user}/m").json()
    assert (kept["state"], kept["claim_id"]) == ("delivering", given["claim_id"])
    assert claim(client) == []
    acked = client.post(f"{PATH}/ack", json={"claim_ids": [given["claim_id"], "nonsense"]})
    assert acked.json() == {"acked": 1, "unknown": ["nonsense"]}
    kept = client.get(f"{PATH}/{user}/m").json()
    assert (kept["state"], kept["reason"]) == ("delivered", "acknowledged")
    assert metric('kairos_outbox_messages_total{what="delivered"}') == before + 1


def test_what_was_acknowledged_keeps_its_place_under_the_caps(
    client: httpx.Client, fresh: Any, eventually: Eventually
) -> None:
    user = fresh("u")
    hand_over(client, held(user))
    [given] = eventually(lambda: [one for one in claim(client) if one["user_id"] == user])
    client.post("/v1/events?wait=folded", json={"type": "user", "user_id": user, "attributes": {}})
    reserved = client.get(f"/v1/users/{user}").json()["push"]
    assert reserved["reserved"] == ["m"]
    assert client.post(f"{PATH}/ack", json={"claim_ids": [given["claim_id"]]}).json()["acked"] == 1
    went_out = client.get(f"/v1/users/{user}").json()["push"]
    assert went_out["reserved"] == []
    assert went_out["caps_left"] == reserved["caps_left"]


def test_wrong_messages_are_told_and_spoil_no_others(client: httpx.Client, fresh: Any) -> None:
    user = fresh("held")
    told = hand_over(
        client,
        held(user, expires_at=time.time() - 1),
        held(user, payload=json.dumps("x" * 4095)),
        held(user, category=None),
        held(user, not_before=time.time() + 7200),
        held(user, goal={"action": "no such"}),
        held(user, urgency="shouting"),
        "7",
        held(user, payload=json.dumps("x" * 4094)),
    )
    fields = [(one["index"], one["field"]) for one in told["rejected"]]
    wrong = ["expires_at", "payload", "category", "not_before", "goal.action", "urgency", ""]
    assert fields == list(enumerate(wrong))
    assert told["accepted"] == 1
    client.delete(f"{PATH}/{user}/m")


def test_a_wrong_call_is_refused_as_a_whole(client: httpx.Client) -> None:
    assert client.post(PATH, content=b"{").status_code == 400
    assert client.post(PATH, json={"messages": [{}] * 1001}).status_code == 422
    assert client.post(f"{PATH}/claim", json={"max": 0}).status_code == 422
    assert client.delete(PATH).status_code == 422
    assert client.get(f"{PATH}/nobody/nothing").status_code == 404
    assert client.delete(f"{PATH}/nobody/nothing").status_code == 404


def test_a_held_message_can_be_looked_up_and_cancelled(
    client: httpx.Client, fresh: Any, eventually: Eventually
) -> None:
    user, campaign = fresh("held"), fresh("campaign")
    later = time.time() + 600
    messages = [held(user, f"m{n}", not_before=later, campaign_id=campaign) for n in range(3)]
    hand_over(client, *messages)
    assert state(client, user, "m0") == "waiting"
    assert client.delete(f"{PATH}/{user}/m0").json()["state"] == "cancelled"
    cancelled = client.delete(PATH, params={"campaign_id": campaign})
    assert cancelled.json() == {"cancelled": 2, "delivering": 0}
    assert state(client, user, "m2") == "cancelled"


def test_a_message_that_expires_is_told(
    client: httpx.Client, fresh: Any, eventually: Eventually, metric: Any
) -> None:
    user = fresh("held")
    before = metric('kairos_outbox_messages_total{what="expired"}')
    hand_over(client, held(user, expires_at=time.time() + 1, not_before=time.time() + 0.9))
    eventually(lambda: state(client, user), lambda found: found == "expired")
    name = 'kairos_outbox_messages_total{what="expired"}'
    eventually(lambda: metric(name), lambda n: n == before + 1)


def test_a_changed_situation_is_looked_at(
    client: httpx.Client, fresh: Any, post: Any, eventually: Eventually
) -> None:
    users = [fresh("held") for _ in range(3)]  # few of a hundred are held out for good
    quiet = (f"{(time.gmtime().tm_hour + hours) % 24:02d}:00" for hours in (-1, 3))
    attributes = {"quiet_hours": "-".join(quiet)}
    people = [{"type": "user", "user_id": user, "attributes": attributes} for user in users]
    assert post(people).status_code == 202
    soon = {"urgency": "normal", "expires_at": time.time() + 6 * 3600}
    hand_over(client, *(held(user, **soon) for user in users))

    def decided(user: str) -> Any:
        return client.get(f"{PATH}/{user}/m").json().get("decision", {})

    found = {user: eventually(lambda user=user: decided(user)) for user in users}
    user, first = next((user, one) for user, one in found.items() if one["action"] == "hold")
    device = {"label": "cooking", "device_id": "phone"}  # the person's own word
    event = {"type": "device", "event_id": fresh("e"), "user_id": user, "ts": time.time()}
    assert post(event | {"device": device}).status_code == 202
    again = eventually(
        lambda: decided(user), lambda found: found["decision_id"] != first["decision_id"]
    )
    assert again["action"] == "hold"


def test_one_message_under_two_ids_of_a_person_goes_out_once(
    client: httpx.Client, fresh: Any, post: Any, eventually: Eventually
) -> None:
    before, after = fresh("visitor"), fresh("held")
    alias = {"type": "alias", "event_id": fresh("e"), "previous_id": before, "user_id": after}
    assert post([alias | {"ts": time.time()}]).status_code == 202
    hand_over(client, held(before), held(after))

    def states() -> Any:
        return sorted(state(client, user) for user in (before, after))

    assert eventually(states, lambda found: "waiting" not in found) == ["dropped", "ready"]
    given = [one for one in claim(client) if one["user_id"] in (before, after)]
    assert len(given) == 1


def test_an_erased_person_has_no_messages(
    client: httpx.Client, fresh: Any, eventually: Eventually
) -> None:
    user = fresh("held")
    hand_over(client, held(user, "now"), held(user, "later", not_before=time.time() + 600))
    eventually(lambda: state(client, user, "now"), lambda found: found == "ready")
    receipt = client.delete(f"/v1/users/{user}").json()
    assert all(one["user_id"] != user for one in claim(client))

    def done() -> Any:
        return client.get(f"/v1/erasures/{receipt['receipt_id']}").json()

    told = eventually(done, lambda found: found["status"] == "done")
    assert told["removed"]["held messages"] == 2
    assert client.get(f"{PATH}/{user}/later").status_code == 404


def test_it_is_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"post", "delete"} <= set(paths[PATH])
    assert set(paths[PATH + "/{user_id}/{message_id}"]) == {"get", "delete"}
