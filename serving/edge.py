"""HAProxy as Kairos runs it: Ray's configuration, closed to the outside before HAProxy reads it.

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

PUBLIC_SECTION = "frontend http_frontend"
LOOPBACK = "127.0.0.1"
# What HAProxy says by itself: its status -> (status, slug, title, detail, Retry-After). What is not
# HTTP at all it answers with 400 and a page of its own, which no setting changes.
ERRORS = {
    500: (500, "internal", "Internal error", "the request could not be answered", None),
    502: (503, "unavailable", "Temporarily unavailable", "no replica answered", 1),
    503: (503, "unavailable", "Temporarily unavailable", "no replica answered", 1),
    504: (503, "unavailable", "Temporarily unavailable", "no replica answered in time", 1),
}  # fmt: skip


def install(folder: Path, public: str, binary: str) -> Path:
    """Write the script that Ray is to start in HAProxy's place, and the answers to errors.

    `public` is the one address, host:port, that may be reached from elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for status in ERRORS:
        _error_file(folder, status).write_text(_error(status), newline="")
    script = folder / "haproxy"
    words = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(folder), public, binary]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o700)
    return script


def closed(configuration: str, public: str, errors: Path) -> str:
    """The configuration with one listener that others reach, `public`, and no log of paths.

    `errors` is the folder of error files. To mend what was mended changes nothing.
    """
    return "".join(f"{line}\n" for line in _lines(configuration, public, errors))


def _lines(configuration: str, public: str, errors: Path) -> Iterator[str]:
    section = ""
    for line in configuration.splitlines():
        words = line.split()
        if words and not line[0].isspace():
            section = " ".join(words)
        match words:
            case ["bind", address, *options]:
                port = address.rpartition(":")[2]
                address = public if section == PUBLIC_SECTION else f"{LOOPBACK}:{port}"
                yield "    " + " ".join(["bind", address, *options])
            case ["stats", "socket", *_]:
                yield line.replace("mode 666", "mode 600")
            case ["log", target, *_] if section == "global" and target != "global":
                continue
            case ["errorfile", *_]:
                continue
            case ["defaults"]:
                yield line
                for status in ERRORS:
                    yield f'    errorfile {status} "{_error_file(errors, status)}"'
            case _:
                yield line


def _error_file(folder: Path, status: int) -> Path:
    return folder / f"error-{status}.http"


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


def main(folder: str, public: str, binary: str, *arguments: str) -> None:
    """Mend the configuration that follows -f, then become HAProxy."""
    file = Path(arguments[arguments.index("-f") + 1])
    mended = file.with_name(f".{file.name}.mended")
    mended.write_text(closed(file.read_text(), public, Path(folder)))
    mended.replace(file)
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
