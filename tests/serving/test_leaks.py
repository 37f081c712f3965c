"""Nothing secret in logs, nothing of the inside in answers, whatever goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from engine.ids import partition_of
from engine.redis_keys import keys_of
from serving.http import Role
from serving.keys import create_key

WEBHOOK_SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS13ZWJob29rLTI0Kw=="
INSIDE = re.compile(
    r'Traceback|File "|site-packages|\.py\b|\b[A-Z]\w*(Error|Exception)\b|0x[0-9a-f]{6}|/root|/home'
)
ROOT = str(Path(__file__).resolve().parents[2])
LONG = "x" * 3000


def test_errors_tell_nothing_of_the_inside_and_logs_nothing_secret(
    another: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    service = another(
        KAIROS_LOG_LEVEL="debug",
        KAIROS_PUSH_WEBHOOK_URL="http://user:in-the-address@127.0.0.1:9/hook?token=in-the-query",
        KAIROS_PUSH_WEBHOOK_SECRET=WEBHOOK_SECRET,
    )
    store = service.store()
    admin, revoked = (create_key(store, name, Role.ADMIN) for name in ("admin", "gone"))
    secrets = {
        admin,
        revoked,
        WEBHOOK_SECRET,
        WEBHOOK_SECRET.removeprefix("whsec_"),
        "in-the-address",
        "in-the-query",
        json.loads((service.home / "store" / "server.json").read_text())["password"],
    }
    break_the_state(store, "broken")
    with service.client() as client:
        eventually(lambda: client.get("/v1/users/nobody").status_code == 401)
        client.headers["authorization"] = f"Bearer {admin}"
        answers = [*refused(client, revoked), client.get("/v1/users/broken")]
        message = {"message_id": "m", "category": "c", "expires_at": 4_000_000_000}
        client.post("/v1/push/outbox", json={"messages": [{"user_id": "u", **message}]})
        service.kill_store()
        answers += while_the_store_is_away(client)
    store.close()

    answers = [answer for answer in answers if answer.status_code >= 400]
    assert {400, 401, 404, 405, 422, 500, 503} == {answer.status_code for answer in answers}
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert not INSIDE.search(answer.text), answer.text
        for hidden in (*secrets, ROOT, str(service.home)):
            assert hidden not in answer.text
    log = service.log.read_text(errors="replace")
    assert "unforeseen error while answering" in log  # what is not told is written down …
    assert [hidden for hidden in secrets if hidden in log] == []  # … without what is secret
    service.kill()  # its store is gone already


def break_the_state(store: Any, user_id: str) -> None:
    """What a bug or another program might leave behind."""
    key = keys_of(partition_of(user_id, store.settings.partitions)).users + user_id
    store.run([("SET", key, b"\xff no state of ours")])


def refused(client: httpx.Client, revoked: str) -> list[httpx.Response]:
    """Of these, some are lists whose parts are refused one by one."""
    post = client.post
    return [
        client.get("/v1/users/u", headers={"authorization": f"Bearer {revoked}x"}),
        client.get("/v1/users/u", headers={"authorization": f"Basic {revoked}"}),
        client.get(f"/v1/items/u?key={revoked}"),
        client.get("/v1/users/%ff%fe"),
        client.get("/v1/users/u?limit=%ff"),
        client.get("/nowhere"),
        client.get("/v1/recommend"),
        post("/v1/recommend", content=b"{"),
        post("/v1/recommend", content=b"\xff\xfe"),
        post("/v1/recommend", content=b"[" * 5000),
        post("/v1/recommend", json={"user_id": LONG}),
        post("/v1/recommend", json={"user_id": "u", "filter": {"a": {"gte": []}}}),
        post("/v1/recommend", json={"user_id": "u", "at": "never"}),
        post("/v1/recommend", json={"user_id": "u", "cursor": "bm9uc2Vuc2U"}),
        post("/v1/events", content=b"\x1f\x8b\x08 no gzip", headers={"content-encoding": "gzip"}),
        post("/v1/events", json={"type": "interaction", "user_id": 7}),
        post("/v1/push/score", json={"requests": [{"user_id": "u"}]}),
        post("/v1/push/outbox", json={"messages": [{}]}),
        client.get("/v1/decisions/nonsense"),
        client.delete("/v1/push/outbox?campaign_id="),
    ]


def while_the_store_is_away(client: httpx.Client) -> list[httpx.Response]:
    """It is started again within a second, so that not all of these need fail."""
    event = {"type": "interaction", "event_id": "e", "user_id": "u", "action": "open", "ts": 1}
    return [
        client.post("/v1/events", json=event),
        client.get("/v1/users/u"),
        client.post("/v1/push/outbox/claim", json={"max": 1, "lease_s": 10}),
        client.get("/v1/users/u/decisions"),
        client.delete("/v1/users/u"),
    ]
