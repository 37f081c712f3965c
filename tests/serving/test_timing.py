"""Server-Timing: told to an admin who asks, of a running service."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from loadtests.profile import read_timing, table
from serving.http import Request, Response, Role
from serving.timing import ASKED, timed

ASK = {ASKED: "1"}
STAGES = {
    "/v1/recommend": {"decode", "read", "situation", "eligible", "taste", "candidates",
                      "features", "rank", "slate", "encode", "log"},
    "/v1/page": {"decode", "read", "situation", "eligible", "taste", "candidates", "features",
                 "rank", "modules", "slate", "encode", "log"},
    "/v1/push/score": {"decode", "read", "decide", "reserve", "encode"},
    "/v1/events": {"decode", "check", "number", "stamp", "append", "encode"},
}  # fmt: skip


def body(path: str) -> Any:
    if path == "/v1/events":
        return {"type": "interaction", "event_id": f"t{time.time_ns()}", "user_id": "timed",
                "action": "open", "ts": time.time()}  # fmt: skip
    if path == "/v1/push/score":
        message = {"message_id": "t", "category": "c", "expires_at": time.time() + 3600}
        return {"requests": [{"user_id": "timed"}], "message": message}
    return {"user_id": "timed", "device": {"place": "home"}}


@pytest.mark.parametrize("path", STAGES)
def test_every_stage_tells_its_time(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=body(path), headers=ASK)

    assert answer.status_code in (200, 202), answer.text
    told = read_timing(answer.headers["server-timing"])
    total = told.pop("total")
    assert set(told) >= STAGES[path]
    assert min(told.values()) >= 0
    assert sum(told.values()) == pytest.approx(total, abs=0.01)
    assert "server-timing" not in client.post(path, json=body(path)).headers


@pytest.mark.parametrize("role", [Role.SERVE, Role.INGEST, None])
def test_only_an_admin_is_told(role: Role | None) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, b"{}")

    def asked(by: Role | None) -> Response:
        request = Request("POST", "/", {}, {}, ASK, b"", by)
        return asyncio.run(timed(handler)(request))  # type: ignore[arg-type]

    assert asked(role).headers == ()
    assert [name for name, _ in asked(Role.ADMIN).headers] == ["server-timing"]


def test_a_table_of_stages() -> None:
    rows = table([{"read": 1.0, "rank": 3.0, "total": 4.0}, {"rank": 4.0, "total": 4.0}])

    assert [row["stage"] for row in rows] == ["rank", "read", "total"]
    assert [row["mean_ms"] for row in rows] == [3.5, 0.5, 4.0]
    assert [row["share"] for row in rows] == [0.875, 0.125, 1.0]
