"""`python -m loadtests.recommend --url URL [--path /v1/page]`: how fast decisions come.

Drives wrk (Debian: `apt install wrk`) with recommend.lua: one connection for latency, sixteen for
throughput, against the service and, in the same run, against a bare uvicorn app. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("recommend.lua")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the service listens")
    parser.add_argument("--users", type=int, default=1000, help="users u0, u1, … it knows")
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement")
    parser.add_argument("--path", default="/v1/recommend", choices=ASKED)
    parser.add_argument("--extra", default="", help='more of the body, as ,"explore":false')
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian: apt install wrk)")
    figures = {name: wrk(asked.url, asked.path, c, asked) for name, c in CONNECTIONS.items()}
    with_bare, url = start_bare()
    try:
        bare = {name: wrk(url, "/", c, asked, seconds=5) for name, c in CONNECTIONS.items()}
    finally:
        with_bare.terminate()
        with_bare.wait()
    ratio = figures["c16"]["requests_per_s"] / bare["c16"]["requests_per_s"]
    print(json.dumps(figures | {"bare_uvicorn": bare, "ratio_c16": round(ratio, 4)}))


CONNECTIONS = {"c1": 1, "c16": 16}
# What is asked of each path.
ASKED = {
    "/v1/recommend": ',"size":20',
    "/v1/page": ',"modules":10,"items_per_module":10',
}


def wrk(
    url: str, path: str, connections: int, asked: argparse.Namespace, seconds: int = 0
) -> dict[str, Any]:
    """One run of wrk after a short one to warm up."""
    extra = ASKED.get(path, "") + asked.extra
    environ = os.environ | {"USERS": str(asked.users), "EXTRA": extra, "TARGET": path}
    found: dict[str, Any] = {}
    for length, seed in ((2, 1), (seconds or asked.seconds, 2)):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{length}s", "--timeout", "5s"]
        run = subprocess.run(
            [*command, "-s", str(SCRIPT), url],
            env=environ | {"SEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        )
        line = next(line for line in run.stdout.splitlines() if line.startswith("JSON "))
        found = json.loads(line.removeprefix("JSON "))
    return {
        "requests_per_s": round(found["requests"] / found["seconds"], 1),
        "p50_ms": found["p50_us"] / 1000,
        "p90_ms": found["p90_us"] / 1000,
        "p99_ms": found["p99_us"] / 1000,
        "max_ms": found["max_us"] / 1000,
        "answer_bytes": round(found["bytes"] / max(found["requests"], 1)),
        "errors": found["errors"],
    }


def start_bare() -> tuple[subprocess.Popen[bytes], str]:
    """A bare uvicorn app on a free port, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "loadtests.bare:app", "--port", str(port)]
    process = subprocess.Popen([*command, "--log-level", "warning", "--no-access-log"])
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=1).read()
            return process, url
        except OSError:
            time.sleep(0.05)
    process.terminate()
    raise SystemExit("the bare app did not start")


if __name__ == "__main__":
    main()
