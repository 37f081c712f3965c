"""HAProxy as Kairos runs it: Ray's configuration, closed to the outside and given limits.

Ray Serve renders `haproxy.cfg` from a template of its own, which opens the pages of statistics and
metrics to every network and writes each request's path to syslog; no setting changes that. What it
starts is whatever RAY_SERVE_HAPROXY_BINARY_PATH names: here a script that runs this file, which
mends the configuration and becomes HAProxy. A reload goes the same way.

The file is run by `python -I -S`, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PUBLIC_SECTION = "frontend http_frontend"
INGEST_SECTION = "ingest"  # what the name of ingest's backend holds
# Headers by which a client could give Ray orders, and what its own begin with.
ORDERS = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "x-request-id",
    "x-session-id",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
    "traceparent",
    "tracestate",
)
ROUTER = "x-serve-router-"
BATCHES = "/v1/events /v1/push/"  # paths that begin so take more
BODY_BYTES, BATCH_BYTES = 1 << 20, 8 << 20
ARRIVE_S = 10  # a head, and a body as far as HAProxy's buffer holds it
SILENT_S = 30  # nothing comes from a client that is to say something
QUEUE_MS = 35  # for a replica that has as much to do as it takes
LOOPBACK = "127.0.0.1"
MARK = "# mended by Kairos"
# What HAProxy says by itself: its status -> (status, slug, title, detail, Retry-After). What is not
# HTTP at all it answers with 400 and a page of its own, which no setting changes.
ERRORS = {
    500: (500, "internal", "Internal error", "the request could not be answered", None),
    408: (408, "slow-request", "Request timeout", "the request did not arrive in time", None),
    502: (503, "unavailable", "Temporarily unavailable", "no replica answered", 1),
    503: (503, "unavailable", "Temporarily unavailable", "no replica could take it", 1),
    504: (503, "unavailable", "Temporarily unavailable", "no replica answered in time", 1),
}  # fmt: skip


class Edge(NamedTuple):
    """What HAProxy is to be told."""

    public: str  # host:port, the one address that may be reached from elsewhere
    deciding: int  # requests that a replica is given at once …
    taking: int  # … and one that takes events
    folder: str  # of the answers to errors


def install(edge: Edge, binary: str) -> Path:
    """Write the script that Ray is to start in HAProxy's place, and the answers to errors."""
    folder = Path(edge.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for status in ERRORS:
        _error_file(edge, status).write_text(_error(status), newline="")
    for limit in (BODY_BYTES, BATCH_BYTES):
        _too_large_file(edge, limit).write_text(json.dumps(_too_large(limit)))
    script = folder / "haproxy"
    words = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *map(str, edge), binary]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o700)
    return script


def mended(configuration: str, edge: Edge) -> str:
    """The configuration with one listener that others reach, limits, and no log of paths.

    To mend what was mended changes nothing.
    """
    if MARK in configuration:
        return configuration
    return "".join(f"{line}\n" for line in [MARK, *_lines(configuration, edge)])


def _lines(configuration: str, edge: Edge) -> Iterator[str]:
    section = ""
    for line in configuration.splitlines():
        words = line.split()
        if words and not line[0].isspace():
            section = " ".join(words)
        match words:
            case ["bind", address, *options]:
                port = address.rpartition(":")[2]
                public = section == PUBLIC_SECTION
                address = edge.public if public else f"{LOOPBACK}:{port}"
                yield "    " + " ".join(["bind", address, *options])
                if public:
                    yield from _limits(edge)
            case ["server", _, _, *options] if "backup" not in options:
                most = edge.taking if INGEST_SECTION in section else edge.deciding
                yield f"{line} maxconn {most}"
            case ["stats", "socket", *_]:
                yield line.replace("mode 666", "mode 600")
            case ["log", target, *_] if section == "global" and target != "global":
                continue
            case ["errorfile", *_]:
                continue
            case ["defaults"]:
                yield line
                yield f"    timeout queue {QUEUE_MS}ms"
                for status in ERRORS:
                    yield f'    errorfile {status} "{_error_file(edge, status)}"'
            case _:
                yield line


def _limits(edge: Edge) -> Iterator[str]:
    """Of what clients may say, in the public frontend."""
    yield f"    timeout http-request {ARRIVE_S}s"
    yield f"    timeout client {SILENT_S}s"
    for name in ORDERS:
        yield f"    http-request del-header {name}"
    yield f"    http-request del-header {ROUTER} -m beg"
    yield f"    acl batches path_beg {BATCHES}"
    for limit, which in ((BODY_BYTES, " !batches"), (BATCH_BYTES, "")):
        told = f'content-type application/problem+json file "{_too_large_file(edge, limit)}"'
        yield f"    http-request return status 413 {told} if{which} {{ req.body_size gt {limit} }}"
    yield f"    http-request wait-for-body time {ARRIVE_S}s if METH_POST"
    # Whoever watches over the service is to hear from it when it is busiest.
    yield "    http-request set-priority-class int(-1) if { path /healthz /readyz /metrics }"


def _error_file(edge: Edge, status: int) -> Path:
    return Path(edge.folder) / f"error-{status}.http"


def _too_large_file(edge: Edge, limit: int) -> Path:
    return Path(edge.folder) / f"over-{limit}.json"


def _too_large(limit: int) -> dict[str, str | int]:
    """As serving/http.py says it."""
    return {
        "type": "urn:kairos:problem:too-large",
        "title": "Body too large",
        "status": 413,
        "detail": f"the body is larger than {limit} bytes",
        "limit": limit,
    }


def _error(by_haproxy: int) -> str:
    status, slug, title, detail, retry_after_s = ERRORS[by_haproxy]
    document = {
        "type": f"urn:kairos:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    head = [f"HTTP/1.1 {status} {title}", "content-type: application/problem+json"]
    if retry_after_s is not None:
        document["retry_after_s"] = retry_after_s
        head.append(f"retry-after: {retry_after_s}")
    body = json.dumps(document, separators=(",", ":"))
    head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", body])


def main(
    public: str, deciding: str, taking: str, folder: str, binary: str, *arguments: str
) -> None:
    """Mend the configuration that follows -f, then become HAProxy."""
    edge = Edge(public, int(deciding), int(taking), folder)
    file = Path(arguments[arguments.index("-f") + 1])
    writing = file.with_name(f".{file.name}.mended")
    writing.write_text(mended(file.read_text(), edge))
    writing.replace(file)
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
