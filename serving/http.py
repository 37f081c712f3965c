"""HTTP at the edge: a bare ASGI app that turns bytes into a Request and a Response into bytes.

The way of a request is `AsgiApp._http` and `_answer`: match, authorize, count it against its key's
rate, look for room, read query and body, call the handler. Whatever goes wrong on that way becomes
a problem document (RFC 9457) in `as_problem`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from engine.errors import InvalidInput, NotFound, Overloaded, StoreUnavailable
from engine.nesting import MAX_DEPTH, too_deep
from serving.admission import Bodies, Lane

T = TypeVar("T")
Headers = tuple[tuple[str, str], ...]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Observe = Callable[[str, int], None]  # route template, status
Hook = Callable[[], Awaitable[object]]

log = logging.getLogger("kairos.http")

MIB = 1 << 20
PROBLEM_TYPE = "application/problem+json"
# A gzip member may be 20 bytes long, and each one costs an inflater and a copy of its slice.
MAX_GZIP_MEMBERS = 1_024
GZIP_SLICE = 64 * 1024


class Role(StrEnum):
    """What a key may do; `ADMIN` passes everywhere."""

    INGEST = "ingest"
    SERVE = "serve"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose path, query and body are decoded and within their limits.

    `headers` are in lower case; `role` is None where the route is open to all.
    """

    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    role: Role | None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, complete in memory."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Headers = ()


Handler = Callable[[Request], Awaitable[Response]]
Authorize = Callable[[str | None], Role | None]


class Allowance(Protocol):
    """What is left to a key with a rate; see serving.rates."""

    @property
    def taken(self) -> bool: ...
    @property
    def reset_s(self) -> int: ...
    @property
    def headers(self) -> Headers: ...


Rate = Callable[[str | None], Allowance | None]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `roles` None opens it to all, `query` names what it takes there.

    Its requests share a `lane`; one that is not answered `deadline_s` after its body was there is
    given up, with 503. `nests` where the handler itself looks how deep its body is.
    """

    method: str
    template: str
    handler: Handler
    roles: frozenset[Role] | None
    max_body: int = MIB
    lane: Lane | None = None
    deadline_s: float | None = None
    nests: bool = False
    summary: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    request_type: Any = None
    response_type: Any = None


def in_lane(lane: Lane, routes: Sequence[Route]) -> list[Route]:
    """The routes, sharing a lane."""
    return [replace(route, lane=lane) for route in routes]


class Refusal(Exception):
    """Ends a request with the response it carries."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class _Disconnected(Exception):
    """The client left before its body was complete: nobody waits for an answer."""


_encoder = msgspec.json.Encoder()


def json_response(status: int, obj: Any) -> Response:
    """`obj` as JSON."""
    return Response(status, _encoder.encode(obj))


def problem(
    status: int,
    slug: str,
    title: str,
    detail: str,
    *,
    field: str | None = None,
    retry_after_s: int | None = None,
    headers: Headers = (),
    **extra: Any,
) -> Response:
    """Problem details (RFC 9457); `slug` is the stable end of `type`, `extra` its own members."""
    document: dict[str, Any] = {
        "type": f"urn:kairos:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if field:
        document["field"] = field
    if retry_after_s is not None:
        document["retry_after_s"] = retry_after_s
        headers = (*headers, ("retry-after", str(retry_after_s)))
    return Response(status, _encoder.encode(document | extra), PROBLEM_TYPE, headers)


@lru_cache(maxsize=256)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


def decode(body: bytes, type: type[T]) -> T:
    """`body` as strict JSON of `type`; raises what `as_problem` answers with 400 or 422."""
    wanted: Any = type
    return cast(T, _decoder(wanted).decode(body))


_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_NAMED_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`", re.DOTALL)


def fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """The plain path of the field at fault, such as `items[2].score`, and what is wrong with it."""
    detail = str(error)
    path = ""
    if place := _PLACE.search(detail):
        path, detail = place[1], detail[: place.start()]
    if named := _NAMED_FIELD.fullmatch(detail):
        path = f"{path}.{named[1]}" if path else named[1]
    return path, detail


def as_problem(error: Exception) -> Response:
    """The answer to an exception; one that nobody foresaw is logged and tells nothing."""
    match error:
        case Refusal():
            return error.response
        case InvalidInput():
            return problem(422, "invalid-input", "Invalid input", error.detail, field=error.field)
        case msgspec.ValidationError():
            path, detail = fault(error)
            return problem(422, "invalid-input", "Invalid input", detail, field=path)
        case msgspec.DecodeError() | UnicodeDecodeError():
            return problem(400, "malformed-body", "Malformed body", str(error))
        case RecursionError():
            return problem(400, "malformed-body", "Malformed body", "JSON is nested too deeply")
        case NotFound():
            return problem(404, "not-found", "Not found", str(error))
        case Overloaded():
            wait_s = error.retry_after_s
            return problem(503, "overloaded", "Overloaded", str(error), retry_after_s=wait_s)
        case StoreUnavailable() | TimeoutError():
            return _unavailable(error)
        case _:
            log.error("unforeseen error while answering a request", exc_info=error)
            return problem(500, "internal", "Internal error", "the error was logged")


def _unavailable(error: Exception) -> Response:
    # The text may name hosts, so it goes to the log only.
    log.warning("answered 503: %r", error)
    late = isinstance(error, TimeoutError)
    slug, detail = (
        ("timeout", "the answer was not ready in time")
        if late
        else ("store-unavailable", "the store did not answer")
    )
    return problem(503, slug, "Temporarily unavailable", detail, retry_after_s=1)


_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def _segment(raw: bytes) -> str:
    if b"%" not in raw and raw.isascii():
        return raw.decode("ascii")
    try:
        if _BAD_ESCAPE.search(raw):
            raise ValueError("a % is not followed by two hexadecimal digits")
        return unquote_to_bytes(raw).decode("utf-8")
    except ValueError as error:
        detail = f"a path segment is not percent-encoded UTF-8: {error}"
        raise Refusal(problem(400, "malformed-path", "Malformed path", detail)) from None


def _segments(scope: Scope) -> tuple[str, ...]:
    """The path's segments, decoded one by one, so that an id may hold an encoded slash."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return tuple(scope["path"].split("/")[1:])
    return tuple(_segment(part) for part in raw.split(b"/")[1:])


def _mounted(scope: Scope) -> Iterator[tuple[str, ...]]:
    """The segments a route may be written in, likeliest first.

    `root_path` is part of the path in ASGI, was not in older servers, and an app mounted under
    the first segments of its own templates still writes these segments in them.
    """
    segments = _segments(scope)
    root = tuple(part for part in scope.get("root_path", "").split("/") if part)
    inside = len(root) if segments[: len(root)] == root else 0
    for cut in range(inside, -1, -1):
        yield segments[cut:] or ("",)


def _bind(template: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    params = {}
    for name, value in zip(template, segments, strict=True):
        if name.startswith("{") and value:
            params[name[1:-1]] = value
        elif name != value:
            return None
    return params


class _Routes:
    """Routes by path: static ones in one look-up, templated ones by their number of segments."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._static: dict[tuple[str, ...], list[Route]] = {}
        self._templated: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        seen: set[tuple[str, str]] = set()
        for route in routes:
            key = (route.method, re.sub(r"\{[^}/]*\}", "{}", route.template))
            if key in seen:
                raise ValueError(f"two routes answer {route.method} {route.template}")
            seen.add(key)
            self._add(route)

    def _add(self, route: Route) -> None:
        template = tuple(route.template.split("/")[1:])
        if "{" not in route.template:
            self._static.setdefault(template, []).append(route)
            return
        same_length = self._templated.setdefault(len(template), [])
        same_length.append((template, route))
        same_length.sort(key=lambda entry: [part.startswith("{") for part in entry[0]])

    def _at(self, segments: tuple[str, ...]) -> Iterator[tuple[Route, dict[str, str]]]:
        for route in self._static.get(segments, ()):
            yield route, {}
        for template, route in self._templated.get(len(segments), ()):
            params = _bind(template, segments)
            if params is not None:
                yield route, params

    def match(self, scope: Scope) -> tuple[Route, dict[str, str], str]:
        """The route, its path parameters and the path inside the mount; refuses with 404 or 405."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        for segments in _mounted(scope):
            allowed: set[str] = set()
            for route, params in self._at(segments):
                if route.method == method:
                    return route, params, "/" + "/".join(segments)
                allowed.add(route.method)
            if allowed:
                raise Refusal(_not_allowed(scope["method"], allowed))
        raise Refusal(problem(404, "no-route", "Not found", "no such path"))


def _not_allowed(method: str, allowed: set[str]) -> Response:
    names = ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))
    detail = f"{method} is not allowed here; allowed: {names}"
    headers = (("allow", names),)
    return problem(405, "method-not-allowed", "Method not allowed", detail, headers=headers)


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _query(raw: bytes, known: Mapping[str, str]) -> dict[str, str]:
    query: dict[str, str] = {}
    if not raw:
        return query
    try:
        text = raw.decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        refused = problem(400, "malformed-query", "Malformed query", str(error))
        raise Refusal(refused) from None
    for name, value in pairs:
        if name not in known:
            raise InvalidInput(name, "unknown query parameter")
        if name in query:
            detail = "given more than once"
            raise Refusal(problem(400, "malformed-query", "Malformed query", detail, field=name))
        query[name] = value
    return query


def _too_large(limit: int) -> Refusal:
    detail = f"the body is larger than {limit} bytes"
    return Refusal(problem(413, "too-large", "Body too large", detail, limit=limit))


def _bad_gzip(detail: str) -> Refusal:
    return Refusal(problem(400, "malformed-body", "Malformed body", detail))


class _Gunzip:
    """Inflates a body as it arrives, all its members together to at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._members = 0
        self._open: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        starts = range(0, len(data), GZIP_SLICE)
        return b"".join(piece for at in starts for piece in self._slice(data[at : at + GZIP_SLICE]))

    def finish(self) -> None:
        if self._open or not self._members:
            raise _bad_gzip("the gzip body is truncated")

    def _slice(self, data: bytes) -> Iterator[bytes]:
        while data:
            member = self._open or self._next_member()
            try:
                piece = member.decompress(data, self._left + 1)
            except zlib.error as error:
                raise _bad_gzip(f"the gzip body is corrupt: {error}") from None
            self._left -= len(piece)
            if self._left < 0:
                raise _too_large(self._limit)
            yield piece
            self._open = None if member.eof else member
            data = member.unused_data

    def _next_member(self) -> zlib._Decompress:
        self._members += 1
        if self._members > MAX_GZIP_MEMBERS:
            raise _bad_gzip(f"the gzip body has more than {MAX_GZIP_MEMBERS} members")
        return zlib.decompressobj(wbits=31)


def _gunzip(headers: dict[str, str], limit: int) -> _Gunzip | None:
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return _Gunzip(limit)
    detail = f"expected gzip or no encoding, got {coding}"
    accept = (("accept-encoding", "gzip"),)
    title = "Unsupported content encoding"
    refused = problem(
        415, "unsupported-encoding", title, detail, field="Content-Encoding", headers=accept
    )
    raise Refusal(refused)


def _too_fast(allowance: Allowance) -> Refusal:
    told = problem(
        429,
        "too-many-requests",
        "Too many requests",
        "this key has spent its rate",
        field="Authorization",
        retry_after_s=allowance.reset_s,
        headers=allowance.headers,
    )
    return Refusal(told)


def _check_depth(body: bytes) -> None:
    if too_deep(body):
        detail = f"JSON is nested in more than {MAX_DEPTH} levels"
        raise Refusal(problem(400, "malformed-body", "Malformed body", detail))


async def _read_body(
    receive: Receive, headers: dict[str, str], limit: int, hold: Callable[[int], None]
) -> bytes:
    gunzip = _gunzip(headers, limit)
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        chunk: bytes = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        piece = gunzip.feed(chunk) if gunzip else chunk
        hold(len(piece))
        pieces.append(piece)
        more = message.get("more_body", False)
    if gunzip:
        gunzip.finish()
    return b"".join(pieces)


def _bearer(headers: dict[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _role(route: Route, headers: dict[str, str], authorize: Authorize) -> Role | None:
    """The caller's role, asked for only where the route needs one."""
    if route.roles is None:
        return None
    key = _bearer(headers)
    role = authorize(key)
    if role is None:
        raise Refusal(_unauthorized(key))
    if role is not Role.ADMIN and role not in route.roles:
        needed = sorted(route.roles | {Role.ADMIN})
        detail = f"this key's role is {role}; needed: {' or '.join(needed)}"
        raise Refusal(problem(403, "forbidden", "Forbidden", detail, field="Authorization"))
    return role


def _unauthorized(key: str | None) -> Response:
    # RFC 6750, section 3: no error code where no key came.
    challenge = 'Bearer realm="kairos"' + (', error="invalid_token"' if key else "")
    detail = "this key is not known" if key else "expected Authorization: Bearer <key>"
    headers = (("www-authenticate", challenge),)
    return problem(
        401, "unauthorized", "Unauthorized", detail, field="Authorization", headers=headers
    )


async def _handled(route: Route, request: Request) -> Response:
    """Through the lane, before the deadline; raises Overloaded or TimeoutError otherwise."""
    with nullcontext() if route.lane is None else route.lane.entered():
        if route.deadline_s is None:
            return await route.handler(request)
        async with asyncio.timeout(route.deadline_s):
            return await route.handler(request)


async def _send(send: Send, response: Response, *, head_only: bool) -> None:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
    ]
    if response.status not in (204, 304):
        headers.append((b"content-type", response.content_type.encode("latin-1")))
        headers.append((b"content-length", b"%d" % len(response.body)))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head_only else response.body})


class AsgiApp:
    """The routes as one ASGI application.

    `on_start` runs in order and `on_stop` in reverse, once each: through the lifespan protocol,
    or through `start` and `stop` where a server does not speak it.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        authorize: Authorize,
        on_start: Sequence[Hook] = (),
        on_stop: Sequence[Hook] = (),
        *,
        body_timeout_s: float = 10.0,
        observe: Observe | None = None,
        rate: Rate | None = None,
    ) -> None:
        self.routes = tuple(routes)
        self._routes = _Routes(routes)
        self._authorize = authorize
        self._on_start = on_start
        self._on_stop = on_stop
        self._body_timeout_s = body_timeout_s
        self._observe = observe
        self._rate = rate
        self._bodies = Bodies()
        self._switching = asyncio.Lock()
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close"})

    async def start(self) -> None:
        """Run `on_start` unless it has run already."""
        async with self._switching:
            if not self._started:
                for hook in self._on_start:
                    await hook()
                self._started = True

    async def stop(self) -> None:
        """Run `on_stop` if started; a hook that fails is logged and the others still run."""
        async with self._switching:
            if not self._started:
                return
            self._started = False
            for hook in reversed(self._on_stop):
                try:
                    await hook()
                except Exception:
                    log.exception("a stop hook failed")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        template, rated = "none", None
        try:
            route, params, path = self._routes.match(scope)
            template = route.template
            headers = _headers(scope)
            role = _role(route, headers, self._authorize)
            rated = self._count(route, headers)
            query = _query(scope.get("query_string", b""), route.query)
            request = Request(route.method, path, params, query, headers, b"", role)
            response = await self._answer(route, request, receive)
        except _Disconnected:
            return
        except Exception as error:
            response = as_problem(error)
        if rated is not None:
            response = replace(response, headers=(*response.headers, *rated.headers))
        if self._observe is not None:
            self._observe(template, response.status)
        await _send(send, response, head_only=scope["method"] == "HEAD")

    def _count(self, route: Route, headers: dict[str, str]) -> Allowance | None:
        """What is left to the key, this request taken off; refuses with 429."""
        if self._rate is None or route.roles is None:
            return None
        allowance = self._rate(_bearer(headers))
        if allowance is not None and not allowance.taken:
            raise _too_fast(allowance)
        return allowance

    async def _answer(self, route: Route, request: Request, receive: Receive) -> Response:
        if route.lane is not None:
            route.lane.check()  # a body need not come if nobody has time for it
        # A GET's body means nothing (RFC 9110, 9.3.1): the server discards it.
        if route.method == "GET":
            return await _handled(route, request)
        with self._bodies.held() as hold:
            body = await self._body(route, request.headers, receive, hold)
            if not route.nests:
                _check_depth(body)
            return await _handled(route, replace(request, body=body))

    async def _body(
        self, route: Route, headers: dict[str, str], receive: Receive, hold: Callable[[int], None]
    ) -> bytes:
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await _read_body(receive, headers, route.max_body, hold)
        except TimeoutError:
            detail = f"the body did not arrive within {self._body_timeout_s:g} s"
            close = (("connection", "close"),)
            late = problem(408, "slow-body", "Request timeout", detail, headers=close)
            raise Refusal(late) from None

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.startup":
                try:
                    await self.start()
                except Exception as error:
                    log.exception("start failed")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
