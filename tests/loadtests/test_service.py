"""`kairos up` as a process: with Ray's own proxy, and after the command itself was killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.service import PARTS, Service

# A busy machine is not a dead store.
SETTINGS = {
    "LEASE_MS": "1000",
    "ARCHIVE_INTERVAL_S": "1",
    "READ_TIMEOUT_MS": "5000",
    "DEADLINE_MS": "10000",
    "BATCH_DEADLINE_MS": "20000",
}
# Obeyed by Ray, the first would end each request with 408, the second with 500.
ORDERS = {"x-request-timeout-seconds": "0.000001", "x-request-id": b"\xff"}
pytestmark = pytest.mark.timeout(280)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "home", SETTINGS | {"PROXY": "python"}) as started:
        yield started


def post(service: Service, event_id: str) -> dict[str, Any]:
    event = {"type": "interaction", "action": "view", "item_id": "soup", "user_id": "ada"}
    answer = httpx.post(
        f"{service.url}/v1/events?wait=folded",
        json=event | {"event_id": event_id, "ts": time.time()},
        headers=ORDERS,
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text
    report: dict[str, Any] = answer.json()
    return report


def views(service: Service) -> int:
    answer = httpx.get(f"{service.url}/v1/users/ada", timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["counters"]["view"])


def test_rays_proxy_serves_and_a_killed_command_leaves_nothing_in_the_way(
    service: Service,
) -> None:
    service.start()
    assert post(service, "e1") == {"accepted": 1, "duplicates": 0, "rejected": [], "folded": True}
    assert views(service) == 1
    assert not [line for line in service.processes().values() if "haproxy" in line]

    (store,) = service.pids("store")
    service.kill()
    eventually(lambda: not any(service.pids(part) for part in PARTS if part != "store"), service)
    dying = set(service.processes())  # Ray's agents notice only after half a minute

    service.start()
    assert service.pids("store") == [store], "another store beside the one that was left behind"
    assert views(service) == 1
    service.signal("store", signal.SIGKILL)  # the one that was found is restarted as well …
    eventually(lambda: service.pids("store") not in ([], [store]), service)
    eventually(lambda: answers(service), service)
    assert post(service, "e2")["accepted"] == 1
    assert views(service) == 2
    code, _ = service.stop()
    assert code == 0, service.tail()
    assert set(service.processes()) <= dying - {store}  # … and stopped
    assert "graceful_shutdown" not in service.tail()


def answers(service: Service) -> bool:
    try:
        ready = httpx.get(f"{service.url}/readyz", timeout=5, trust_env=False).json()
    except httpx.HTTPError:
        return False
    return bool(ready["store"] == "ok")


def eventually(holds: Any, service: Service) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"{service.processes()}\n{service.tail()}"
        time.sleep(0.1)
