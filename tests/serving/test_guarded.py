"""Heads that are too long, too many or too slow, and headers that are orders to Ray."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from serving import guarded
from serving.ahead import MOST_BYTES, Ahead
from serving.edge import ORDERS
from serving.guarded import HEAD_BYTES, HEAD_FIELDS, GuardedProtocol
from serving.http import AsgiApp, Request, Response, Route, json_response


async def echo(request: Request) -> Response:
    return json_response(200, {"body": len(request.body), "headers": request.headers})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = AsgiApp([Route("POST", "/", echo, None), Route("GET", "/", echo, None)], lambda key: None)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Ahead(app), log_level="critical", http=GuardedProtocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()
    listener.close()


def sent(port: int, *pieces: bytes) -> tuple[int, Any]:
    """Status and JSON of what answers these pieces, one by one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            if select.select([connection], [], [], 0.02 * (len(pieces) > 3))[0]:
                break  # it is answered already: what is sent now would take the answer along
            connection.sendall(piece)
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, json.loads(stream.read(int(headers["content-length"])))


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


def test_a_head_of_usual_size(port: int) -> None:
    status, told = sent(
        port, HEAD, b"x-a: " + b"y" * 20_000, b"\r\ncontent-length: 2\r\n\r\n{", b"}"
    )
    assert (status, told["body"]) == (200, 2)
    assert len(told["headers"]["x-a"]) == 20_000


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((b"x-a: " + b"y" * HEAD_BYTES + b"\r\n\r\n",), id="a long field"),
        pytest.param((b"x-a: ", *[b"y" * 4096] * 12), id="a field without end"),
        pytest.param((b"x-a: 1\r\n" * (HEAD_FIELDS + 1) + b"\r\n",), id="many fields"),
        pytest.param((b"x-a: " + b"y" * 9_000 + b"\r\n",) * 4 + (b"\r\n",), id="some long fields"),
    ],
)
def test_a_head_that_is_too_large(port: int, pieces: tuple[bytes, ...]) -> None:
    status, told = sent(port, HEAD, *pieces)
    assert (status, told["type"]) == (431, "urn:kairos:problem:head-too-large")


def test_a_body_may_be_longer_than_a_head(port: int) -> None:
    body = b" " * (4 * HEAD_BYTES)
    for cut in (1, HEAD_BYTES, len(body) - 1):
        first = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body[:cut]
        assert sent(port, first, body[cut:])[0] == 200
    one = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    assert sent(port, one, HEAD[:5], HEAD[5:] + b"\r\n")[0] == 200


def test_a_head_that_does_not_come(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "HEAD_S", 0.1)
    for start in (b"", b"GET", HEAD, HEAD + b"x-a: "):
        status, told = sent(port, start)
        assert (status, told["type"]) == (408, "urn:kairos:problem:slow-head")


def test_what_is_no_http(port: int) -> None:
    for data in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n"):
        status, told = sent(port, data)
        assert (status, told["type"]) == (400, "urn:kairos:problem:malformed-request")


def test_orders_to_ray_do_not_arrive(port: int) -> None:
    orders = b"".join(f"{name.title()}: \xff\r\n".encode("latin-1") for name in ORDERS)
    status, told = sent(port, HEAD + orders + b"X-Serve-Router-Pick: 1\r\nx-mine: 2\r\n\r\n")
    assert (status, told["headers"]) == (200, {"host": "x", "x-mine": "2"})


def test_a_body_without_end_is_left() -> None:
    """Ray reads as fast as bytes come, whatever the application wants."""
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    async def reader(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run() -> None:
        scope = {"type": "http", "headers": []}
        await asyncio.wait_for(Ahead(reader)(scope, receive, lambda message: None), 30)  # type: ignore[arg-type,return-value]

    asyncio.run(run())
    assert asked == MOST_BYTES // 65_536 + 1
