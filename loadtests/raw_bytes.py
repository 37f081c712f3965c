"""`python -m loadtests.raw_bytes --url URL`: bytes that are almost HTTP, to every route.

Each case is a valid request to one route of `/openapi.json` with its bytes changed: flipped, cut,
doubled, framed twice, too long, of another protocol. It must be answered below 500 or be closed,
within HANG_S; a valid call after each lot must succeed. With `--pid` the growth of the memory of
that process and all below it is told as well. Prints JSON; exit code 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import random
import socket
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from loadtests.provenance import provenance
from loadtests.resident import resident_mb

PATIENCE_S = 1.0  # then the sender says that no more will come
HANG_S = 30.0
LOT = 250
THREADS = 8
BODIES: dict[str, Any] = {
    "/v1/events": [{"type": "device", "event_id": "raw", "user_id": "raw", "device": {"lux": 3}}],
    "/v1/recommend": {"user_id": "raw", "size": 3, "filter": {}, "device": {"battery": 0.5}},
    "/v1/page": {"user_id": "raw", "surface": "home", "modules": 2, "exclude": ["a"]},
    "/v1/push/score": {
        "requests": [{"user_id": "raw"}],
        "message": {"message_id": "m", "category": "news", "expires_at": "2099-01-01T00:00:00Z"},
    },
    "/v1/push/outbox": {"messages": []},
    "/v1/push/outbox/claim": {"max": 1, "lease_s": 1},
    "/v1/push/outbox/ack": {"claim_ids": ["x"]},
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, and to which route it was to go."""

    route: str
    data: bytes


@dataclass(slots=True)
class Found:
    """What came of it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, str]] = field(default_factory=list)


def requests(base: str) -> list[tuple[str, bytes, bytes]]:
    """Route, head without its end, and body, of one valid request for each route."""
    with urllib.request.urlopen(base + "/openapi.json", timeout=HANG_S) as answer:
        paths = json.load(answer)["paths"]
    paths |= {"/openapi.json": {"get": {}}, "/docs": {"get": {}}}
    found = []
    for path, methods in paths.items():
        for method in methods:
            target = path
            for name in ("user_id", "message_id", "decision_id", "receipt_id", "item_id"):
                target = target.replace("{" + name + "}", "raw%2Fid")
            body = json.dumps(BODIES.get(path, {})).encode() if method == "post" else b""
            head = f"{method.upper()} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            found.append((f"{method.upper()} {path}", head.encode(), body))
    return found


def cases(valid: list[tuple[str, bytes, bytes]], count: int, seed: int) -> Iterator[Case]:
    """So many cases, the routes in turn."""
    rng = random.Random(seed)
    for number in range(count):
        route, head, body = valid[number % len(valid)]
        yield Case(route, rng.choice(CHANGES)(rng, head, body))


def whole(head: bytes, body: bytes) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def flipped(rng: random.Random, data: bytes, most: int = 5) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(broken))
        match rng.randrange(4):
            case 0:
                broken[at] ^= 1 << rng.randrange(8)
            case 1:
                del broken[at : at + rng.randint(1, 4)]
            case 2:
                broken[at:at] = broken[at : at + rng.randint(1, 40)]
            case _:
                broken[at:at] = rng.randbytes(rng.randint(1, 8))
        broken = broken or bytearray(b"\n")
    return bytes(broken)


def anywhere(rng: random.Random, head: bytes, body: bytes) -> bytes:
    return flipped(rng, whole(head, body))


def in_body(rng: random.Random, head: bytes, body: bytes) -> bytes:
    return whole(head, flipped(rng, body or b"{}"))


def in_zipped(rng: random.Random, head: bytes, body: bytes) -> bytes:
    packed = flipped(rng, gzip.compress(body)) if rng.random() < 0.7 else gzip.compress(body)
    return whole(head + b"content-encoding: gzip\r\n", packed)


def cut(rng: random.Random, head: bytes, body: bytes) -> bytes:
    data = whole(head, body)
    return data[: rng.randrange(len(data))]


def noise(rng: random.Random, head: bytes, body: bytes) -> bytes:
    return rng.choice(
        [
            rng.randbytes(rng.randint(1, 3000)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),  # TLS
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(30),
            b"*1\r\n$4\r\nPING\r\n",
            b"\r\n" * rng.randint(1, 2000),
            b"GET / HTTP/0.9\r\n\r\n",
            head.replace(
                b"HTTP/1.1", rng.choice([b"HTTP/9.9", b"HTTP/1.0", b"http/1.1", b"", b"X"])
            )
            + b"\r\n",
            head.replace(b"\r\n", b"\n") + b"\n",
        ]
    )


def lengths(rng: random.Random, head: bytes, body: bytes) -> bytes:
    """Lengths that are not the body's, twice, or none."""
    told = rng.choice(
        [b"content-length: -1", b"content-length: +2", b"content-length: 0x10", b"content-length:",
         b"content-length: 99999999999999999999999", b"content-length: 1\r\ncontent-length: 2",
         b"content-length: %d" % (len(body) + 5), b"content-length: %d" % max(len(body) - 1, 0),
         b"content-length: %d\r\ntransfer-encoding: chunked" % len(body),
         b"transfer-encoding: chunked, chunked", b"transfer-encoding: gzip, chunked",
         b"transfer-encoding: xchunked", b"content-length: 1,1", b"content-length: 9000000"]
    )  # fmt: skip
    return head + told + b"\r\n\r\n" + body


def chunks(rng: random.Random, head: bytes, body: bytes) -> bytes:
    size = rng.choice(
        [b"%x" % len(body), b"zz", b"-1", b"ffffffffffffffffffff", b"", b"%x;a=\xff" % len(body),
         b"0x%x" % len(body), b"%x" % (len(body) + 3)]
    )  # fmt: skip
    end = rng.choice(
        [b"\r\n0\r\n\r\n", b"\r\n0\r\n", b"0\r\n\r\n", b"\r\n0\r\nx: \x00\r\n\r\n", b""]
    )
    return head + b"transfer-encoding: chunked\r\n\r\n" + size + b"\r\n" + body + end


def fields(rng: random.Random, head: bytes, body: bytes) -> bytes:
    """Header fields of all kinds, many, long, or not of ASCII."""
    name = rng.choice(
        [b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-request-id", b"expect",
         b"serve_multiplexed_model_id", b"x-session-id", b"x-serve-router-a", b"authorization",
         b"traceparent", b"content-type", b"content-encoding", b"accept-encoding", b"upgrade",
         b"cookie", b"x-forwarded-for", b"te", b"trailer", b"range", b"if-match", b"host"]
    )  # fmt: skip
    value = rng.choice(
        [b"0", b"-1", b"nan", b"?1", b"\xff\xfe", b"\x00", b"a" * 9_000, b"Bearer \xff", b"Bearer ",
         b"100-continue", b"websocket", b"h2c", b"gzip, br", b"," * 500, b"bytes=0-,0-,0-",
         b"\t \t", b"x\r\n y: folded", b"caf\xc3\xa9", b"{}", b"%s%n%x", b"a" * 70_000]
    )  # fmt: skip
    times = rng.choice([1, 1, 1, 2, 50, 400])
    return whole(head + (name + b": " + value + b"\r\n") * times, body)


def targets(rng: random.Random, head: bytes, body: bytes) -> bytes:
    method, _, rest = head.partition(b" ")
    target, _, rest = rest.partition(b" ")
    changed = rng.choice(
        [target + b"?" + rng.randbytes(5).hex().encode() + b"=1", target + b"%ff", target + b"%",
         target + b"/../../etc/passwd", b"/" + target, target + b"\x00", target + b"#x",
         target + b"/" + b"a" * 5_000, target + b"?" + b"a=1&" * 300, target.upper(), b"*",
         b"http://x" + target, b"//x" + target, target + b"?wait=folded&wait=x", target + b"\xff",
         target.replace(b"/v1", b"/v1/%2e%2e/v1"), b"", target + b" x", b"/" + b"%2F" * 2_000]
    )  # fmt: skip
    verb = rng.choice([method, method, b"PUT", b"TRACE", b"CONNECT", b"OPTIONS", b"HEAD", b"get"])
    return whole(verb + b" " + changed + b" " + rest, body)


def pipelined(rng: random.Random, head: bytes, body: bytes) -> bytes:
    """Several requests at once, the last one broken."""
    one = whole(head.replace(b"connection: close\r\n", b""), body)
    return one * rng.randint(1, 8) + flipped(rng, whole(head, body))


def deep(rng: random.Random, head: bytes, body: bytes) -> bytes:
    levels = rng.choice([33, 200, 5_000, 100_000])
    start, end = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nested = start * levels + b"1" + rng.choice([end * levels, b""])
    wrapped = rng.choice([nested, body[:-1] + b',"device":' + nested + b"}", b"[" + nested])
    return whole(head, wrapped)


CHANGES: list[Callable[[random.Random, bytes, bytes], bytes]] = [
    anywhere, anywhere, in_body, in_body, in_zipped, cut, noise, lengths, chunks, fields, fields,
    targets, pipelined, deep,
]  # fmt: skip


def outcome(address: tuple[str, int], data: bytes, patience_s: float = PATIENCE_S) -> str:
    """The status that came first, `closed`, or `hang`."""
    deadline = time.monotonic() + HANG_S
    with socket.create_connection(address, timeout=patience_s) as connection:
        first = b""
        with contextlib.suppress(OSError):  # it was answered, or closed, before all was sent
            connection.sendall(data)
        while time.monotonic() < deadline and b"\r\n" not in first:
            try:
                came = connection.recv(65536)
            except TimeoutError:
                with_no_more(connection)
                continue
            except OSError:
                break
            if not came:
                break
            first += came
        else:
            if b"\r\n" not in first:
                return "hang"
    words = first.split(b" ", 2)
    return words[1].decode("latin-1") if len(words) > 2 else "closed"


def with_no_more(connection: socket.socket) -> None:
    """Say that nothing more will be sent."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    connection.settimeout(HANG_S)


def works(base: str) -> bool:
    """Whether a valid call of each kind succeeds."""
    for path in ("/v1/recommend", "/v1/page", "/v1/push/score"):
        body = json.dumps(BODIES[path]).encode()
        try:
            with urllib.request.urlopen(base + path, data=body, timeout=HANG_S) as answer:
                json.load(answer)
        except OSError:
            return False
    return True


def run(base: str, count: int, seed: int) -> Found:
    """Send all cases, some at once."""
    told = urllib.parse.urlsplit(base)
    address = (told.hostname or "127.0.0.1", told.port or 80)
    found = Found()
    every = list(cases(requests(base), count, seed))
    with ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(every), LOT):
            lot = every[start : start + LOT]
            for case, came in zip(
                lot, threads.map(lambda case: outcome(address, case.data), lot), strict=True
            ):
                found.outcomes[came] += 1
                found.routes[case.route] += 1
                if came == "hang" or came.startswith("5"):
                    shown = case.data[:300].decode("latin-1")
                    found.wrong.append({"outcome": came, "route": case.route, "data": shown})
            if not works(base):
                found.wrong.append({"outcome": "a valid call failed", "route": "", "data": ""})
    return found


def main() -> None:
    """Send them and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the service listens, without keys")
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pid", type=int, help="of the service, for its memory")
    asked = parser.parse_args()
    run(asked.url, 3 * LOT, asked.seed + 1)  # what every process allocates once
    before = resident_mb(asked.pid) if asked.pid else 0.0
    found = run(asked.url, asked.cases, asked.seed)
    figures = {
        "cases": asked.cases,
        "routes": len(found.routes),
        "outcomes": dict(sorted(found.outcomes.items())),
        "wrong": found.wrong,
    }
    if asked.pid:
        after = resident_mb(asked.pid)
        figures["memory_mb"] = {"before": before, "after": after, "grew": round(after - before, 1)}
    print(json.dumps({"benchmark": "raw_bytes", "figures": figures} | provenance(), indent=2))
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
