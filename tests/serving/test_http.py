"""The ASGI toolkit behind real servers, with both of uvicorn's HTTP parsers."""

from __future__ import annotations

import asyncio
import gzip
import json
import queue
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import msgspec
import pytest
import uvicorn

from engine.errors import InvalidInput, NotFound, Overloaded, StoreUnavailable
from serving.http import (
    MIB,
    AsgiApp,
    Request,
    Response,
    Role,
    Route,
    decode,
    json_response,
    problem,
)
from serving.openapi import documentation

KEYS = {"i": Role.INGEST, "s": Role.SERVE, "a": Role.ADMIN}
SECRET = "redis://hidden-host:6379"


class Item(msgspec.Struct, forbid_unknown_fields=True):
    item_id: str
    score: Annotated[int, msgspec.Meta(ge=0)] = 0


class Basket(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]
    note: str | None = None
    anything: Any = None


async def echo(request: Request) -> Response:
    told = {name: getattr(request, name) for name in ("method", "path", "params", "query", "role")}
    return json_response(
        200, told | {"size": len(request.body), "tag": request.headers.get("x-tag")}
    )


async def echo_body(request: Request) -> Response:
    return Response(200, request.body, "application/octet-stream")


async def basket(request: Request) -> Response:
    return json_response(200, decode(request.body, Basket))


async def accepted(request: Request) -> Response:
    return Response(204, b"")


ERRORS: dict[str, Exception] = {
    "field": InvalidInput("size", "expected 1 to 100, got 0"),
    "whole": InvalidInput("", "expected something else"),
    "missing": NotFound("no user u1"),
    "overloaded": Overloaded("ingestion is full", retry_after_s=7),
    "store": StoreUnavailable(SECRET),
    "late": TimeoutError(SECRET),
    "deep": RecursionError(),
    "bug": KeyError(SECRET),
}


async def fail(request: Request) -> Response:
    raise ERRORS[request.params["name"]]


def authorize(key: str | None) -> Role | None:
    return KEYS.get(key or "")


def routes() -> list[Route]:
    serve = frozenset({Role.SERVE})
    query = {"wait": "when to answer", "size": "how many"}
    return [
        Route("GET", "/v1/users/{user_id}", echo, None, summary="A user", query=query),
        Route("DELETE", "/v1/users/{id}", accepted, None),
        Route("GET", "/v1/users/me", echo, None),
        Route("POST", "/v1/users/find", echo, None),
        Route("GET", "/v1/users/{user_id}/decisions", echo, None),
        Route("POST", "/v1/echo", echo_body, None, max_body=1000),
        Route("POST", "/v1/large", echo, None),
        Route("POST", "/v1/basket", basket, None, request_type=Basket, response_type=Item),
        Route("GET", "/v1/errors/{name}", fail, None),
        Route("GET", "/roles/ingest", echo, frozenset({Role.INGEST})),
        Route("GET", "/roles/serve", echo, serve),
        Route("GET", "/roles/both", echo, frozenset({Role.INGEST, Role.SERVE})),
        Route("GET", "/roles/admin", echo, frozenset()),
        Route("GET", "/roles/open", echo, None),
    ]


def build(**options: Any) -> AsgiApp:
    own = routes()
    elsewhere = [
        Route("POST", "/v1/events", echo, frozenset({Role.INGEST}), request_type=list[Item])
    ]
    return AsgiApp(
        [*own, *documentation([*own, *elsewhere], "Kairos", "1.2.3")], authorize, **options
    )


@contextmanager
def serving(app: Any, **config: Any) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", **config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # The socket already listens: a client that comes before the server is ready waits.
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module", params=["httptools", "h11"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with serving(build(), http=request.param) as number:
        yield number


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[httpx.Client]:
    with client_of(port) as opened:
        yield opened


def client_of(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)


def raw(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send exactly these bytes; the answer's status, headers and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, stream.read(int(headers.get("content-length", "0")))


def get(port: int, target: bytes) -> tuple[int, Any]:
    status, _, body = raw(port, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    return status, json.loads(body)


def is_problem(answer: httpx.Response, status: int, slug: str, field: str | None = None) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (answer.status_code, told["status"]) == (status, status), told
    assert told["type"] == f"urn:kairos:problem:{slug}"
    assert told["title"]
    assert told["detail"]
    assert told.get("field") == field


# Paths


@pytest.mark.parametrize(
    ("encoded", "user_id"),
    [
        ("u1", "u1"),
        ("a%2Fb", "a/b"),
        ("%C3%A9t%C3%A9%F0%9F%8D%B2", "été🍲"),
        ("100%25", "100%"),
        ("%252F", "%2F"),
        ("a+b%20c", "a+b c"),
        ("find", "find"),
    ],
)
def test_a_path_parameter_is_decoded_once(port: int, encoded: str, user_id: str) -> None:
    status, told = get(port, b"/v1/users/" + encoded.encode())
    assert (status, told["params"]) == (200, {"user_id": user_id})
    assert get(port, b"/v1/users/" + encoded.encode() + b"/decisions")[1]["params"] == {
        "user_id": user_id
    }


@pytest.mark.parametrize("encoded", [b"%ff", b"%C3", b"a%2", b"%zz", b"%ED%A0%80"])
def test_a_segment_that_is_no_utf8_is_refused(port: int, encoded: bytes) -> None:
    status, told = get(port, b"/v1/users/" + encoded)
    assert (status, told["type"]) == (400, "urn:kairos:problem:malformed-path")


def test_a_static_path_wins_over_a_template(client: httpx.Client) -> None:
    assert client.get("/v1/users/me").json()["params"] == {}


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/users", "/v1/users/", "/v1/users/a/b", "/v1/echo/"]
)
def test_an_unknown_path_is_404(client: httpx.Client, path: str) -> None:
    is_problem(client.get(path), 404, "no-route")


def test_a_wrong_method_is_405_and_told_the_right_ones(client: httpx.Client) -> None:
    answer = client.put("/v1/users/u1")
    is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"
    answer = client.get("/v1/echo")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_head_is_a_get_without_its_body(client: httpx.Client) -> None:
    full, head = client.get("/v1/users/u1"), client.head("/v1/users/u1")
    assert (head.status_code, head.content) == (200, b"")
    assert (
        head.headers["content-length"] == full.headers["content-length"] == str(len(full.content))
    )
    missing = client.head("/v1/errors/missing")
    assert (missing.status_code, missing.content) == (404, b"")


def test_an_answer_without_content(client: httpx.Client) -> None:
    answer = client.delete("/v1/users/u1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers


def test_two_routes_cannot_answer_the_same_request() -> None:
    twice = [Route("GET", "/a/{x}", echo, None), Route("GET", "/a/{y}", echo, None)]
    with pytest.raises(ValueError, match="two routes answer GET"):
        AsgiApp(twice, authorize)


def under(root: str, app: AsgiApp, change: Callable[[str], str]) -> Any:
    """The app as a server would call it that mounts it under `root`."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raw_path = change(scope["raw_path"].decode()).encode()
            scope = {**scope, "root_path": root, "raw_path": raw_path}
        await app(scope, receive, send)

    return mounted


def without_raw_path(app: AsgiApp) -> Any:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await app({k: v for k, v in scope.items() if k != "raw_path"}, receive, send)

    return bare


@pytest.mark.parametrize(
    ("root", "change"),
    [
        ("/api", lambda path: "/api" + path),
        ("/api", lambda path: path),
        ("/api/", lambda path: "/api" + path),
        ("/a b", lambda path: "/a%20b" + path),
        # A mount at the routes' own first segments, as for an app that is served at /v1/users.
        ("/v1/users", lambda path: path),
        ("/api/v1", lambda path: "/api" + path),
    ],
)
def test_a_mounted_app_finds_its_routes(root: str, change: Callable[[str], str]) -> None:
    with serving(under(root, build(), change)) as port, client_of(port) as client:
        told = client.get("/v1/users/a%2Fb").json()
        assert (told["params"], told["path"]) == ({"user_id": "a/b"}, "/v1/users/a/b")
        assert client.put("/v1/users/u1").status_code == 405
        assert client.get("/nothing").status_code == 404


def test_uvicorn_mounts_it_too() -> None:
    with serving(build(), root_path="/api") as port:
        assert get(port, b"/v1/users/u1")[0] == 200


def test_a_server_that_gives_no_raw_path() -> None:
    with serving(without_raw_path(build())) as port:
        assert get(port, b"/v1/users/100%25")[1]["params"] == {"user_id": "100%"}


# Query


def test_known_query_parameters_are_decoded(client: httpx.Client) -> None:
    told = client.get("/v1/users/u1?wait=a%26b+%C3%A9&size=").json()
    assert told["query"] == {"wait": "a&b é", "size": ""}


@pytest.mark.parametrize(
    ("query", "status", "slug", "field"),
    [
        ("wait=1&wait=2", 400, "malformed-query", "wait"),
        ("wiat=1", 422, "invalid-input", "wiat"),
        ("wait=%ff", 400, "malformed-query", None),
        ("&".join(f"a{i}=1" for i in range(101)), 400, "malformed-query", None),
    ],
)
def test_other_queries_are_refused(
    client: httpx.Client, query: str, status: int, slug: str, field: str | None
) -> None:
    is_problem(client.get(f"/v1/users/u1?{query}"), status, slug, field)


# Bodies


def test_a_body_up_to_the_limit(client: httpx.Client) -> None:
    assert client.post("/v1/echo", content=b"x" * 1000).content == b"x" * 1000
    assert client.post("/v1/echo", content=iter([b"ab", b"", b"c"])).content == b"abc"
    assert client.post("/v1/echo").content == b""


def test_a_declared_length_over_the_limit_is_refused_before_the_body(port: int) -> None:
    head = b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n"
    status, _, body = raw(port, head)
    assert status == 413
    assert json.loads(body)["limit"] == 1000


def test_actual_bytes_over_the_limit_are_refused(client: httpx.Client) -> None:
    is_problem(client.post("/v1/echo", content=iter([b"x" * 600] * 2)), 413, "too-large")


def zipped(client: httpx.Client, path: str, content: bytes, coding: str = "gzip") -> httpx.Response:
    return client.post(path, content=content, headers={"content-encoding": coding})


def test_gzip_bodies(client: httpx.Client) -> None:
    assert zipped(client, "/v1/echo", gzip.compress(b"hello")).content == b"hello"
    assert zipped(client, "/v1/echo", gzip.compress(b"x" * 1000), "GZIP").content == b"x" * 1000
    assert zipped(client, "/v1/echo", b"plain", "identity").content == b"plain"


def test_gzip_members_follow_each_other_at_any_chunk_border(client: httpx.Client) -> None:
    whole = gzip.compress(b"one,") + gzip.compress(b"") + gzip.compress(b"two")
    bytewise = (whole[at : at + 1] for at in range(len(whole)))
    headers = {"content-encoding": "gzip"}
    assert zipped(client, "/v1/echo", whole).content == b"one,two"
    assert client.post("/v1/echo", content=bytewise, headers=headers).content == b"one,two"


@pytest.mark.parametrize("size", [MIB + 1, 20_000_000])
def test_a_gzip_bomb_is_refused(client: httpx.Client, size: int) -> None:
    is_problem(zipped(client, "/v1/large", gzip.compress(bytes(size))), 413, "too-large")


def test_many_members_together_stay_below_the_limit(client: httpx.Client) -> None:
    is_problem(zipped(client, "/v1/echo", gzip.compress(bytes(300)) * 4), 413, "too-large")
    is_problem(zipped(client, "/v1/large", gzip.compress(b"") * 2000), 400, "malformed-body")


def test_the_compressed_size_is_limited_too(client: httpx.Client) -> None:
    noise = gzip.compress(random.Random(1).randbytes(1000))
    assert len(noise) > 1000
    is_problem(zipped(client, "/v1/echo", noise), 413, "too-large")


WHOLE = gzip.compress(b"hello world")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE[:-1], id="truncated in its trailer"),
        pytest.param(WHOLE[:-10], id="truncated in its data"),
        pytest.param(WHOLE[:5], id="truncated in its header"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"a": 1}', id="not gzip"),
        pytest.param(WHOLE[:-8] + bytes([WHOLE[-8] ^ 1]) + WHOLE[-7:], id="wrong checksum"),
        pytest.param(WHOLE + b"x", id="trailing garbage"),
        pytest.param(WHOLE + bytes(8), id="trailing zeros"),
        pytest.param(WHOLE + b"\x1f", id="half a second member"),
    ],
)
def test_a_broken_gzip_body_is_refused(client: httpx.Client, content: bytes) -> None:
    is_problem(zipped(client, "/v1/echo", content), 400, "malformed-body")


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "nonsense"])
def test_other_encodings_are_refused(client: httpx.Client, coding: str) -> None:
    answer = zipped(client, "/v1/echo", b"x", coding)
    is_problem(answer, 415, "unsupported-encoding", "Content-Encoding")
    assert answer.headers["accept-encoding"] == "gzip"


def test_a_body_that_does_not_come_is_given_up() -> None:
    with serving(build(body_timeout_s=0.2)) as port:
        head = b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc"
        status, headers, body = raw(port, head)
    assert (status, headers["connection"]) == (408, "close")
    assert json.loads(body)["type"] == "urn:kairos:problem:slow-body"


def test_a_client_that_leaves_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    app, ended, sent = build(), queue.Queue[BaseException | None](), []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            sent.append(message)
            await send(message)

        try:
            await app(scope, receive, counted if scope["type"] == "http" else send)
        except BaseException as error:
            ended.put(error)
            raise
        if scope["type"] == "http":
            ended.put(None)

    with serving(watched) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab")
        assert ended.get(timeout=30) is None
    assert sent == []
    assert caplog.records == []


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n",
        b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_the_server_outlives_malformed_requests(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)
    assert get(port, b"/v1/users/u1")[0] == 200


def test_repeated_headers_are_joined(port: int) -> None:
    head = b"GET /v1/users/u1 HTTP/1.1\r\nhost: x\r\nX-Tag: a\r\nx-tag: b\r\n\r\n"
    assert json.loads(raw(port, head)[2])["tag"] == "a, b"


# JSON


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "items"),
        (b"[]", None),
        (b'{"items": 1}', "items"),
        (b'{"items": [{"item_id": "a"}, {}]}', "items[1].item_id"),
        (b'{"items": [{"item_id": "a", "score": -1}]}', "items[0].score"),
        (b'{"items": [], "note": 3}', "note"),
        (b'{"items": [], "more": 3}', "more"),
        (b'{"items": [], "a` - at b": 3}', "a` - at b"),
    ],
)
def test_wrong_json_names_the_field(client: httpx.Client, body: bytes, field: str | None) -> None:
    answer = client.post("/v1/basket", content=body)
    is_problem(answer, 422, "invalid-input", field)
    assert "$" not in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"items": []} x',
        b'{"items": [], "anything": NaN}',
        b'{"items": [], "note": "\xff"}',
        b'{"items": [], "anything": ' + b"[" * 100_000,
    ],
)
def test_malformed_json_is_400(client: httpx.Client, body: bytes) -> None:
    is_problem(client.post("/v1/basket", content=body), 400, "malformed-body")


# Roles


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        # no key, unknown key, ingest, serve, admin
        ("/roles/open", (200, 200, 200, 200, 200)),
        ("/roles/ingest", (401, 401, 200, 403, 200)),
        ("/roles/serve", (401, 401, 403, 200, 200)),
        ("/roles/both", (401, 401, 200, 200, 200)),
        ("/roles/admin", (401, 401, 403, 403, 200)),
    ],
)
def test_who_may_call_what(client: httpx.Client, path: str, statuses: tuple[int, ...]) -> None:
    keys = (None, "?", "i", "s", "a")
    answers = [
        client.get(path, headers={"authorization": f"Bearer {k}"} if k else {}) for k in keys
    ]
    assert tuple(answer.status_code for answer in answers) == statuses


def test_a_missing_key_is_challenged(client: httpx.Client) -> None:
    for value in ("", "Bearer", "Basic a", "a"):
        answer = client.get("/roles/admin", headers={"authorization": value})
        is_problem(answer, 401, "unauthorized", "Authorization")
        assert answer.headers["www-authenticate"] == 'Bearer realm="kairos"'
    answer = client.get("/roles/admin", headers={"authorization": "bearer wrong"})
    assert answer.headers["www-authenticate"] == 'Bearer realm="kairos", error="invalid_token"'


def test_the_handler_knows_the_role(client: httpx.Client) -> None:
    told = client.get("/roles/both", headers={"authorization": "bearer i"}).json()
    assert told["role"] == "ingest"


def test_two_keys_are_no_key(port: int) -> None:
    twice = b"authorization: Bearer a\r\n" * 2
    assert raw(port, b"GET /roles/admin HTTP/1.1\r\nhost: x\r\n" + twice + b"\r\n")[0] == 401


# Errors


@pytest.mark.parametrize(
    ("name", "status", "slug", "field", "retry_after"),
    [
        ("field", 422, "invalid-input", "size", None),
        ("whole", 422, "invalid-input", None, None),
        ("missing", 404, "not-found", None, None),
        ("overloaded", 503, "overloaded", None, "7"),
        ("store", 503, "store-unavailable", None, "1"),
        ("late", 503, "timeout", None, "1"),
        ("deep", 400, "malformed-body", None, None),
        ("bug", 500, "internal", None, None),
    ],
)
def test_every_error_has_its_answer(
    client: httpx.Client,
    name: str,
    status: int,
    slug: str,
    field: str | None,
    retry_after: str | None,
) -> None:
    answer = client.get(f"/v1/errors/{name}")
    is_problem(answer, status, slug, field)
    assert answer.headers.get("retry-after") == retry_after
    assert "hidden-host" not in answer.text


def test_an_unforeseen_error_is_logged(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/v1/errors/bug")
    logged = [record.exc_info for record in caplog.records if record.name == "kairos.http"]
    assert [info[1] for info in logged if info] == [ERRORS["bug"]]


def test_a_problem_carries_members_of_its_own() -> None:
    told = problem(409, "taken", "Taken", "it is", field="id", retry_after_s=2, holder="h")
    assert json.loads(told.body)["holder"] == "h"
    assert told.headers == (("retry-after", "2"),)


def test_cancellation_passes_through() -> None:
    async def cancelled() -> None:
        entered = asyncio.Event()

        async def wait(request: Request) -> Response:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        app = AsgiApp([Route("GET", "/", wait, None)], authorize)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(app(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sent == []

    asyncio.run(cancelled())


# Start and stop


def hook(calls: list[str], name: str, error: Exception | None = None) -> Callable[[], Any]:
    async def call() -> None:
        calls.append(name)
        if error:
            raise error

    return call


def test_the_lifespan_starts_in_order_and_stops_in_reverse() -> None:
    calls: list[str] = []
    starts = [hook(calls, "start a"), hook(calls, "start b")]
    stops = [hook(calls, "stop a"), hook(calls, "stop b", ValueError("stuck"))]
    with serving(build(on_start=starts, on_stop=stops), lifespan="on") as port:
        assert get(port, b"/v1/users/u1")[0] == 200
        assert calls == ["start a", "start b"]
    assert calls[2:] == ["stop b", "stop a"]


def test_start_and_stop_count_once() -> None:
    calls: list[str] = []
    app = build(on_start=[hook(calls, "start")], on_stop=[hook(calls, "stop")])

    async def run() -> None:
        await app.stop()
        await asyncio.gather(app.start(), app.start())
        await app.start()
        await asyncio.gather(app.stop(), app.stop())

    asyncio.run(run())
    assert calls == ["start", "stop"]


def test_a_failed_start_keeps_the_server_down() -> None:
    app = build(on_start=[hook([], "start", ValueError("no store"))])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    with pytest.raises(SystemExit):
        server.run(sockets=[listener])
    listener.close()
    assert not server.started


# Documentation


def test_the_description_follows_the_routes(client: httpx.Client) -> None:
    told = client.get("/openapi.json").json()
    assert (told["openapi"], told["info"]) == ("3.1.0", {"title": "Kairos", "version": "1.2.3"})
    user = told["paths"]["/v1/users/{user_id}"]["get"]
    assert [(p["name"], p["in"]) for p in user["parameters"]] == [
        ("user_id", "path"),
        ("wait", "query"),
        ("size", "query"),
    ]
    posted = told["paths"]["/v1/basket"]["post"]
    body = posted["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Basket"}
    assert "security" not in posted
    schemas = told["components"]["schemas"]
    assert schemas["Item"]["properties"]["score"]["minimum"] == 0
    assert schemas["Problem"]["required"] == ["type", "title", "status", "detail"]
    events = told["paths"]["/v1/events"]["post"]
    assert (events["x-roles"], events["security"]) == (["admin", "ingest"], [{"key": []}])


def test_every_reference_in_the_description_resolves(client: httpx.Client) -> None:
    told = client.get("/openapi.json").json()
    names = {part.split('"')[0] for part in json.dumps(told).split("#/components/schemas/")[1:]}
    assert names
    assert names <= told["components"]["schemas"].keys()


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    assert 'fetch("openapi.json")' in page.text
