"""The situation as a running service reads it: from requests, from events, and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import polars as pl
import pytest

Post = Callable[..., httpx.Response]
Fresh = Callable[[str], str]

SHOP = {"device_id": "phone", "place": "supermarket", "activity": "walking", "network": "cellular"}
WALK = [
    [0.3 * math.sin(0.5 * n), 9.81 + 3 * math.sin(0.25 * n), 2 * math.cos(0.25 * n)]
    for n in range(500)
]  # two steps a second, at 50 Hz


def event(fresh: Fresh, user: str, device: dict[str, Any], ts: float | None = None) -> Any:
    at = time.time() if ts is None else ts
    return {"type": "device", "event_id": fresh("e"), "user_id": user, "ts": at, "device": device}


@pytest.fixture
def situation(client: httpx.Client, eventually: Callable[..., Any]) -> Callable[..., Any]:
    """A user's situation, once the newest change in its timeline is the one waited for."""

    def read(user: str, name: str | None = None) -> Any:
        def ask() -> Any:
            return client.get(f"/v1/situation/{user}").json()

        def there(told: Any) -> bool:
            changes = told.get("timeline") or [{"name": None}]
            return name is None or changes[0]["name"] == name

        return eventually(ask, there)

    return read


def test_a_device_event_is_the_situation_of_what_follows(
    client: httpx.Client, post: Post, fresh: Fresh, situation: Any
) -> None:
    user = fresh("u")
    post(event(fresh, user, SHOP))
    told = situation(user, "shopping")

    assert told["confidence"] == told["probabilities"]["shopping"] > 0.8
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert 0 <= told["age_s"] < 60
    assert told["activity"]["walking"] > 0.8
    assert told["wants"]
    assert told["models"].startswith("shipped ")
    assert [change["name"] for change in told["timeline"]] == ["shopping"]
    by_signal = {one["signal"]: one for one in told["signals"]}
    assert set(by_signal) == {"place", "activity", "network"}
    assert told["signals"][0]["signal"] == "place"
    assert by_signal["place"]["value"] == "supermarket"
    assert by_signal["place"]["contribution"] > 0.5
    answer = client.post("/v1/recommend", json={"user_id": user, "dry_run": True}).json()
    assert answer["situation"]["name"] == "shopping"


def test_an_inference_is_a_record_and_a_change_is_marked(
    service: Any, post: Post, fresh: Fresh, situation: Any, eventually: Callable[..., Any]
) -> None:
    user, now = fresh("u"), time.time()
    for ago, device in (
        (7200, SHOP),
        (7100, SHOP),
        (10, {"place": "transit", "activity": "in_vehicle", "network": "cellular"}),
    ):
        post(event(fresh, user, device, now - ago))
    told = situation(user, "commuting")
    assert [change["name"] for change in told["timeline"]] == ["commuting", "shopping"]

    def moments() -> list[dict[str, Any]]:
        frame = service.archive()
        rows = frame.filter(pl.col("user_id") == user, pl.col("type") == "moment")
        return [msgspec.json.decode(raw) for raw in rows.sort("position")["record"].to_list()]

    found = eventually(moments, lambda rows: len(rows) == 3)
    assert [one.get("changed", False) for one in found] == [True, False, True]
    assert all(one["moment"]["models"].startswith("shipped ") for one in found)


def test_the_tablet_at_home_does_not_overwrite_the_phone_in_the_shop(
    post: Post, fresh: Fresh, situation: Any
) -> None:
    user = fresh("u")
    post(event(fresh, user, SHOP))
    situation(user, "shopping")
    tablet = {"device_id": "tablet", "device_type": "tablet", "place": "home", "charging": True}
    post(event(fresh, user, tablet))
    assert situation(user)["name"] == "shopping"

    # Somebody who takes it up at home is not in the shop any more.
    for _ in range(3):
        post(event(fresh, user, tablet | {"screen": "on", "activity": "still"}))
    assert situation(user)["probabilities"]["shopping"] < 0.2


def test_a_raw_window_tells_the_activity(
    post: Post, fresh: Fresh, situation: Any, eventually: Callable[..., Any]
) -> None:
    user = fresh("u")
    window = {"rate_hz": 50, "acc": WALK}
    post(event(fresh, user, {"motion": window, "network": "cellular"}))
    told = eventually(lambda: situation(user), lambda found: found["activity"])
    activity = told["activity"]
    assert sum(activity.values()) == pytest.approx(1, abs=1e-2)
    assert activity["walking"] + activity["stairs"] + activity["running"] > 0.5


def test_nobody_known_is_not_found_and_nothing_known_is_unknown(
    client: httpx.Client, post: Post, fresh: Fresh, situation: Any
) -> None:
    assert client.get("/v1/situation/nobody-at-all").status_code == 404
    user = fresh("u")
    post({"type": "user", "user_id": user, "attributes": {"time_zone": "Asia/Tokyo"}})
    told = situation(user)
    assert (told["name"], told["confidence"], told["age_s"]) == ("unknown", 0.0, None)
    assert (told["signals"], told["timeline"]) == ([], [])


@pytest.mark.parametrize(
    "motion",
    [
        {"rate_hz": 50, "acc": []},
        {"rate_hz": 50, "acc": [[0, 0, 0]]},
        {"rate_hz": 0, "acc": WALK},
        {"rate_hz": -50, "acc": WALK},
        {"rate_hz": 1e300, "acc": WALK},
        {"rate_hz": 50, "acc": [[0, 0, 0]] * 500},
        {"rate_hz": 50, "acc": [[9.81, 0, 0]] * 500},
        {"rate_hz": 50, "acc": WALK, "unit": "g"},
        {"rate_hz": 50, "acc": [[x / 9.81 for x in sample] for sample in WALK]},
        {"rate_hz": 50, "acc": [[1e38, -1e38, 1e38]] * 500},
        {"rate_hz": 50, "acc": WALK, "gyro": [[0, 0, 0]]},
        {"rate_hz": 50, "acc": WALK, "gyro": []},
        {"rate_hz": 50, "acc": WALK, "gravity": "removed"},
        {"rate_hz": 50, "acc": [[1, 2]] * 500},
        {"rate_hz": 50, "acc": [["a", "b", "c"]] * 500},
        {"rate_hz": 50, "acc": {"x": 1}},
        {"rate_hz": 50, "acc": WALK * 20},
        {"rate_hz": "fast", "acc": WALK},
        [],
        "window",
    ],
    ids=lambda motion: str(motion)[:40],
)
def test_a_hostile_window_is_answered(
    client: httpx.Client, post: Post, fresh: Fresh, motion: Any
) -> None:
    user = fresh("u")
    body = {"user_id": user, "device": {"motion": motion, "place": "home"}, "dry_run": True}
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code == 200
    assert "degraded" not in answer.json() or answer.json()["degraded"] == "no_release"
    assert post(event(fresh, user, {"motion": motion, "place": "home"})).status_code == 202
    told = client.get(f"/v1/situation/{user}")
    assert told.status_code == 200
    assert all(math.isfinite(p) for p in told.json()["probabilities"].values())


def test_a_million_samples_are_too_much_or_nothing(client: httpx.Client, fresh: Fresh) -> None:
    acc = "[" + ",".join(["[0,0,9.8]"] * 1_000_000) + "]"
    device = '{"motion":{"rate_hz":50,"acc":' + acc + "}}"
    recommend = client.post(
        "/v1/recommend", content='{"user_id":"u","device":' + device + "}", timeout=30
    )
    assert recommend.status_code == 413
    sent = client.post(
        "/v1/events",
        content=f'{{"type":"device","event_id":"{fresh("e")}","user_id":"u","ts":{time.time()},'
        f'"device":{device}}}',
        timeout=30,
    )
    assert sent.status_code in (202, 413)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused_or_unknown(
    client: httpx.Client, fresh: Fresh, value: str
) -> None:
    sample = f"[{value},0,9.8]"
    acc = "[" + ",".join([sample] * 200) + "]"
    body = f'{{"user_id":"u","device":{{"motion":{{"rate_hz":50,"acc":{acc}}}}}}}'
    answer = client.post("/v1/recommend", content=body)
    assert answer.status_code in (200, 400, 422)
    if answer.status_code == 200:
        assert answer.json()["situation"]["name"] == "unknown"


def test_times_may_run_backwards(post: Post, fresh: Fresh, situation: Any) -> None:
    user, now = fresh("u"), time.time()
    for ago in (0, 60, 30, 7200, 5):
        assert post(event(fresh, user, SHOP, now - ago)).status_code == 202
    assert situation(user, "shopping")["age_s"] < 60
