"""What is too much is turned away early: lanes, deadlines, rates and bodies of one application."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from engine.errors import Overloaded
from serving.admission import Bodies, Lane
from serving.http import AsgiApp, Request, Response, Role, Route, json_response
from serving.keys import KeyRecord, Keyring
from serving.rates import Rates


class Told:
    """An answer, as it was sent."""

    def __init__(self, messages: Sequence[Any]) -> None:
        self.status = messages[0]["status"]
        self.headers = {n.decode(): v.decode() for n, v in messages[0]["headers"]}
        self.json = json.loads(messages[1]["body"])


async def ask(
    app: AsgiApp, path: str = "/", key: str = "", body: Iterator[bytes] | None = None
) -> Told:
    """Call the application as a server does."""
    messages: list[Any] = []
    pieces = body or iter([b"{}"])

    async def receive() -> dict[str, Any]:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: Any) -> None:
        messages.append(message)

    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await app(scope, receive, send)
    return Told(messages)


def app_of(handler: Any, **options: Any) -> AsgiApp:
    return AsgiApp([Route("POST", "/", handler, None, **options)], lambda key: None)


def test_a_lane_takes_so_many_and_turns_the_others_away_before_their_bodies() -> None:
    async def run() -> tuple[list[Told], list[str], list[Told]]:
        refused: list[str] = []
        lane, go = Lane("decide", 3, refused.append), asyncio.Event()

        async def wait(request: Request) -> Response:
            await go.wait()
            return json_response(200, {})

        app = app_of(wait, lane=lane)
        taken = [asyncio.create_task(ask(app)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        unread = iter([b"never read"])
        turned = [await ask(app, body=unread) for _ in range(2)]
        assert next(unread) == b"never read"
        go.set()
        return [await one for one in taken], refused, [*turned, await ask(app)]

    taken, refused, (first, second, later) = asyncio.run(run())
    assert [one.status for one in taken] == [200] * 3
    assert refused == ["decide"] * 2
    for turned in (first, second):
        assert (turned.status, turned.headers["retry-after"]) == (503, "1")
        assert turned.json["type"] == "urn:kairos:problem:overloaded"
    assert later.status == 200


def test_a_place_is_free_again_whatever_became_of_its_request() -> None:
    lane = Lane("decide", 1)
    for error in (ValueError(), asyncio.CancelledError(), TimeoutError()):
        with pytest.raises(type(error)), lane.entered():
            raise error
    with lane.entered(), pytest.raises(Overloaded), lane.entered():
        pass
    with lane.entered():
        pass


def test_what_misses_its_deadline_is_given_up() -> None:
    async def run() -> tuple[Told, list[str]]:
        left: list[str] = []

        async def never(request: Request) -> Response:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                left.append("stopped")
                raise
            raise AssertionError

        return await ask(app_of(never, deadline_s=0.02)), left

    told, left = asyncio.run(run())
    assert (told.status, told.headers["retry-after"]) == (503, "1")
    assert told.json["type"] == "urn:kairos:problem:timeout"
    assert left == ["stopped"]


def test_a_slow_body_does_not_use_up_the_deadline() -> None:
    async def run() -> Told:
        async def at_once(request: Request) -> Response:
            await asyncio.sleep(0)
            return json_response(200, {})

        app = app_of(at_once, deadline_s=5.0)
        return await ask(app, body=iter([b"{", b"}"]))

    assert asyncio.run(run()).status == 200


def test_bodies_share_a_bounded_memory() -> None:
    bodies = Bodies(100)
    with ExitStack() as first:
        hold = first.enter_context(bodies.held())
        hold(60)
        with bodies.held() as other:
            other(40)
            with pytest.raises(Overloaded):
                other(1)
        hold(40)
        with pytest.raises(Overloaded):
            hold(1)
    with bodies.held() as hold:
        hold(100)


def test_json_that_is_too_deep_is_refused() -> None:
    async def echo(request: Request) -> Response:
        return json_response(200, {})

    deep = b"[" * 33 + b"]" * 33
    told = asyncio.run(ask(app_of(echo), body=iter([deep])))
    assert (told.status, told.json["type"]) == (400, "urn:kairos:problem:malformed-body")
    assert asyncio.run(ask(app_of(echo), body=iter([deep[1:-1]]))).status == 200
    assert asyncio.run(ask(app_of(echo, nests=True), body=iter([deep]))).status == 200


def test_a_key_that_has_spent_its_rate() -> None:
    keyring = Keyring({}, any_limited=True)
    for name, rate in (("slow", 0.001), ("free", 0.0)):
        keyring.by_hash[digest(name)] = KeyRecord(name, Role.SERVE, 0, rate, 2 * (rate > 0))

    async def echo(request: Request) -> Response:
        return json_response(200, {})

    routes = [
        Route("POST", "/", echo, frozenset({Role.SERVE})),
        Route("POST", "/ingest", echo, frozenset({Role.INGEST})),
        Route("POST", "/open", echo, None),
    ]
    app = AsgiApp(routes, keyring.authorize, rate=Rates(keyring).take)

    async def run() -> list[Told]:
        told = [await ask(app, key="slow") for _ in range(3)]
        told += [await ask(app, key="free"), await ask(app, "/open", key="slow")]
        return [*told, await ask(app, "/ingest", key="slow")]

    first, second, third, other, open_to_all, forbidden = asyncio.run(run())
    assert [first.status, second.status, third.status] == [200, 200, 429]
    assert first.headers["ratelimit"].startswith('"key";r=1;')
    assert first.headers["ratelimit-policy"] == '"key";q=2;w=2000'
    assert third.json["type"] == "urn:kairos:problem:too-many-requests"
    assert third.headers["retry-after"] == str(third.json["retry_after_s"]) == "1000"
    assert third.headers["ratelimit"] == '"key";r=0;t=1000'
    assert (other.status, open_to_all.status) == (200, 200)
    assert "ratelimit" not in other.headers
    assert forbidden.status == 403  # who may not call costs nothing


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
