"""Events over HTTP at a fixed rate, open loop, and how soon one of them can be seen.

Knows HTTP alone. `python -m loadtests.ingest --url http://127.0.0.1:8300 --rate 10000` prints one
JSON object: what was sent and acknowledged, latencies, the fold's lag at the end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import threading
import time
import urllib.parse
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ITEMS = 5000
ACTIONS = ("view", "view", "view", "click", "click", "save", "cook")


@dataclass(slots=True)
class Counts:
    """What the senders saw."""

    acknowledged: int = 0
    refused: int = 0  # 503 and the like: events of the batch are not counted as sent
    late_s: float = 0.0  # the most by which a batch was sent after its time
    latencies_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def batch_body(number: int, size: int, users: Sequence[str], rng: random.Random) -> bytes:
    """One body of `size` interactions by random people on random items."""
    now = time.time()
    run = f"{number:08x}"
    events = [
        {
            "type": "interaction",
            "event_id": f"{run}-{i}-{rng.getrandbits(64):016x}",
            "user_id": rng.choice(users),
            "action": rng.choice(ACTIONS),
            "item_id": f"item-{int(ITEMS * rng.random() ** 3)}",
            "ts": round(now, 3),
        }
        for i in range(size)
    ]
    return json.dumps(events, separators=(",", ":")).encode()


class Sender(threading.Thread):
    """Sends every n-th batch at its own time, whatever became of the others."""

    def __init__(
        self, url: str, bodies: Sequence[bytes], times: Sequence[float], size: int, counts: Counts
    ) -> None:
        super().__init__(daemon=True)
        self._host = urllib.parse.urlsplit(url).netloc
        self._bodies, self._times, self._size, self._counts = bodies, times, size, counts

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=10)
        for body, due in zip(self._bodies, self._times, strict=True):
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            started = time.monotonic()
            status = self._post(connection, body)
            took_ms = (time.monotonic() - started) * 1000
            with self._counts.lock:
                self._counts.late_s = max(self._counts.late_s, started - due)
                self._counts.latencies_ms.append(took_ms)
                if status == 202:
                    self._counts.acknowledged += self._size
                else:
                    self._counts.refused += self._size
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> int:
        try:
            connection.request("POST", "/v1/events", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            connection.close()
            return 0


def load(
    url: str, rate: int, seconds: float, size: int, users: int, senders: int
) -> dict[str, Any]:
    """Send `rate` events/s in batches of `size` for so long; returns the figures."""
    rng = random.Random(1)
    ids = [f"user-{n}-{uuid.UUID(int=rng.getrandbits(128))}" for n in range(users)]
    batches = int(rate * seconds / size)
    bodies = [batch_body(n, size, ids, rng) for n in range(batches)]
    counts = Counts()
    start = time.monotonic() + 0.5
    times = [start + n * size / rate for n in range(batches)]
    threads = [
        Sender(url, bodies[i::senders], times[i::senders], size, counts) for i in range(senders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - start
    lag_s, waited_s = settle(url)
    return {
        "rate_asked": rate,
        "seconds": round(elapsed, 2),
        "batch": size,
        "acknowledged": counts.acknowledged,
        "refused": counts.refused,
        "acknowledged_per_s": round(counts.acknowledged / elapsed, 1),
        "latest_send_s": round(counts.late_s, 3),
        "request_ms": percentiles(counts.latencies_ms),
        "final_lag_s": lag_s,
        "drained_after_s": waited_s,
    }


def settle(url: str) -> tuple[float, float]:
    """The fold lag just after the last answer, and how long until nothing waits."""
    started = time.monotonic()
    first = ready(url)["fold_lag_s"]
    while ready(url)["fold_lag_events"] and time.monotonic() - started < 120:
        time.sleep(0.01)
    return first, round(time.monotonic() - started, 3)


def ready(url: str) -> Any:
    """`GET /readyz`."""
    return json.loads(get(url, "/readyz")[1])


def get(url: str, path: str) -> tuple[int, bytes]:
    """One GET on a connection of its own."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def visible(url: str, probes: int, pause_s: float) -> dict[str, float]:
    """From an event's acknowledgement until GET /v1/users shows it, in ms."""
    host = urllib.parse.urlsplit(url).netloc
    connection = http.client.HTTPConnection(host, timeout=10)
    found = []
    for number in range(probes):
        user = f"probe-{uuid.uuid4()}"
        event = {
            "type": "interaction",
            "event_id": str(number),
            "user_id": user,
            "action": "click",
            "item_id": "item-1",
            "ts": time.time(),
        }
        connection.request("POST", "/v1/events", json.dumps(event))
        answer = connection.getresponse()
        answer.read()
        acknowledged = time.monotonic()
        while True:
            connection.request("GET", f"/v1/users/{user}")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
        found.append((time.monotonic() - acknowledged) * 1000)
        time.sleep(pause_s)
    connection.close()
    return percentiles(found)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest."""
    ordered = sorted(values) or [0.0]
    at = {p: ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in (50, 95, 99)}
    return {f"p{p}": round(value, 2) for p, value in at.items()} | {"max": round(ordered[-1], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8300")
    parser.add_argument("--rate", type=int, default=10_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batch", type=int, default=100, help="events a request")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--probes", type=int, default=0, help="also measure visibility so often")
    args = parser.parse_args()
    probing: dict[str, Any] = {}
    pause_s = args.seconds / max(args.probes, 1) * 0.8
    prober = threading.Thread(
        target=lambda: probing.update(visible(args.url, args.probes, pause_s))
    )
    if args.probes:
        prober.start()
    figures = load(args.url, args.rate, args.seconds, args.batch, args.users, args.senders)
    if args.probes:
        prober.join()
        figures["acknowledged_to_visible_ms"] = probing
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
