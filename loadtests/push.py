"""`python -m loadtests.push --url URL --people FILE`: how fast decisions on pushes come.

Drives wrk (Debian: `apt install wrk`) with push.lua: calls of 1,000 people at one connection and at
two, and calls about one person, against the service; and one connection against a bare uvicorn app
that takes the same bodies. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from loadtests.recommend import start_bare

SCRIPT = Path(__file__).with_name("push.lua")
MANY = 1000
# name -> people in a call, connections
MEASURED = {"many_c1": (MANY, 1), "many_c2": (MANY, 2), "one_c1": (1, 1), "one_c2": (1, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the service listens")
    parser.add_argument("--people", required=True, help="a file of user ids, one a line")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian: apt install wrk)")
    figures = {
        name: wrk(asked.url, asked.people, batch, connections, asked.seconds)
        for name, (batch, connections) in MEASURED.items()
    }
    with_bare, url = start_bare()
    try:
        bare = wrk(url, asked.people, 1, 1, 3)
    finally:
        with_bare.terminate()
        with_bare.wait()
    ratio = figures["one_c1"]["p50_ms"] / bare["p50_ms"]
    told = {"bare_uvicorn": bare, "one_p50_over_bare": round(ratio, 1)}
    print(json.dumps(figures | told))


def wrk(url: str, people: str, batch: int, connections: int, seconds: int) -> dict[str, Any]:
    """One run of wrk after a short one to warm up; every call is about a message of its own."""
    found: dict[str, Any] = {}
    for length, run in ((2, "warm"), (seconds, "timed")):
        name = f"{run}-{batch}-{connections}-{time.time_ns()}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{length}s", "--timeout", "30s"]
        told = subprocess.run(
            [*command, "-s", str(SCRIPT), url],
            env=os.environ | {"PEOPLE": people, "BATCH": str(batch), "RUN": name},
            check=True,
            capture_output=True,
            text=True,
        )
        line = next(line for line in told.stdout.splitlines() if line.startswith("JSON "))
        found = json.loads(line.removeprefix("JSON "))
    calls_per_s = found["requests"] / found["seconds"]
    return {
        "decisions_per_s": round(batch * calls_per_s, 1),
        "p50_ms": found["p50_us"] / 1000,
        "p99_ms": found["p99_us"] / 1000,
        "max_ms": found["max_us"] / 1000,
        "calls": found["requests"],
        "answer_bytes": round(found["bytes"] / max(found["requests"], 1)),
        "errors": found["errors"],
    }


if __name__ == "__main__":
    main()
