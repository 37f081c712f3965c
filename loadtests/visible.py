"""How soon an acknowledged event can be seen, probed beside a load; knows HTTP alone."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loadtests.ingest import percentiles

PATIENCE_S = 10.0


@contextmanager
def probed(url: str, every_s: float, key: str = "") -> Iterator[dict[str, Any]]:
    """Probe while the block runs; afterwards the dict holds p50 … max in ms, probes and failed."""
    found: dict[str, Any] = {}
    over = threading.Event()

    def run() -> None:
        seen, failed = [], 0
        while not over.wait(every_s):
            took_ms = probe(url, key)
            if took_ms is None:
                failed += 1
            else:
                seen.append(took_ms)
        found.update(percentiles(seen) if seen else {"p99": None})
        found.update(probes=len(seen) + failed, failed=failed)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def probe(url: str, key: str = "") -> float | None:
    """From the 202 of somebody's first event until GET /v1/users shows them, in ms.

    None where the event was not taken, or not seen within PATIENCE_S. The key is an admin's.
    """
    host = urllib.parse.urlsplit(url).netloc
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    user = f"probe-{uuid.uuid4()}"
    event = {"type": "interaction", "event_id": "1", "user_id": user, "action": "open",
             "ts": time.time()}  # fmt: skip
    try:
        if _status(connection, "POST", "/v1/events", json.dumps(event), headers) != 202:
            return None
        acknowledged = time.monotonic()
        while time.monotonic() - acknowledged < PATIENCE_S:
            if _status(connection, "GET", f"/v1/users/{user}", None, headers) == 200:
                return (time.monotonic() - acknowledged) * 1000
            time.sleep(0.002)
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return None


def _status(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: str | None,
    headers: dict[str, str],
) -> int:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status
