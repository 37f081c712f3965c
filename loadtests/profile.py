"""`python -m loadtests.profile --url URL --people FILE`: where one request's time goes.

Asks one request after the other on one connection, each with X-Kairos-Timing, and puts the stages
that the service tells of (Server-Timing) beside what the caller waited. Needs an admin's key where
there are keys. Prints JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.people import read_town
from loadtests.traffic import KINDS, Call, Traffic

WARM = 0.2  # of the requests, not counted
WAY = "transport"  # proxy, HTTP parsing, routing, and the way there and back


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the service listens")
    parser.add_argument("--people", required=True, type=Path, help="of `kairos simulate`")
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    parser.add_argument("--key", default="", help="an admin's API key")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    town = read_town(asked.people)
    host = urllib.parse.urlsplit(asked.url).netloc
    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {"content-type": "application/json", "x-kairos-timing": "1"}
    if asked.key:
        headers["authorization"] = f"Bearer {asked.key}"
    figures = {}
    for kind in KINDS:
        traffic = Traffic(town, asked.requests, asked.seed, {kind: 1.0})
        calls = (traffic.next(number) for number in range(asked.requests))
        timed = [ask(connection, call, headers) for call in calls]
        figures[kind] = table(timed[int(WARM * len(timed)) :])
    print(json.dumps(figures))


def ask(
    connection: http.client.HTTPConnection, call: Call, headers: dict[str, str]
) -> dict[str, float]:
    """Milliseconds by stage, `total` as the caller saw it."""
    started = time.perf_counter()
    connection.request("POST", call.path, call.body, headers)
    answer = connection.getresponse()
    raw = answer.read()
    took_ms = (time.perf_counter() - started) * 1000
    told = answer.getheader("server-timing")
    if answer.status >= 300 or told is None:
        raise SystemExit(
            f"expected an answer with Server-Timing, got {answer.status}: {raw[:300]!r}"
        )
    stages = read_timing(told)
    inside = stages.pop("total")
    return stages | {WAY: took_ms - inside, "total": took_ms}


def read_timing(header: str) -> dict[str, float]:
    """`read;dur=0.3, rank;dur=1.1` as milliseconds by name."""
    parts = (part.strip().partition(";dur=") for part in header.split(","))
    return {name: float(ms) for name, _, ms in parts}


def table(timed: list[dict[str, float]]) -> list[dict[str, Any]]:
    """A row a stage, the costliest first, `total` last; shares are of the mean."""
    names = list(dict.fromkeys(name for one in timed for name in one))
    values = {name: np.array([one.get(name, 0.0) for one in timed]) for name in names}
    whole = float(values["total"].mean())
    rows = [
        {
            "stage": name,
            "mean_ms": round(float(of.mean()), 4),
            "p50_ms": round(float(np.percentile(of, 50)), 4),
            "p99_ms": round(float(np.percentile(of, 99)), 4),
            "share": round(float(of.mean()) / whole, 4),
        }
        for name, of in values.items()
    ]
    return sorted(rows, key=lambda row: (row["stage"] == "total", -float(str(row["mean_ms"]))))


if __name__ == "__main__":
    main()
