"""`kairos up` as a process: Ray's own proxy, a killed command, HAProxy, and what others reach."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.redis_store import RedisStore
from engine.settings import Settings
from loadtests.outside import NoOtherNetwork, listening, reachable
from loadtests.service import PARTS, Service
from serving.http import Role
from serving.keys import create_key

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


def known(service: Service) -> dict[str, Any]:
    """Port and password of its store."""
    read: dict[str, Any] = json.loads((service.home / "store" / "server.json").read_text())
    return read


def admin(service: Service) -> str:
    """A key of the service, whose store runs."""
    url = f"redis://:{known(service)['password']}@127.0.0.1:{known(service)['port']}/0"
    store = RedisStore.connect(Settings(redis_url=url))
    key = create_key(store, "test", Role.ADMIN)
    store.close()
    return key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def post(service: Service, event_id: str, key: str = "") -> dict[str, Any]:
    event = {"type": "interaction", "action": "view", "item_id": "soup", "user_id": "ada"}
    answer = httpx.post(
        f"{service.url}/v1/events?wait=folded",
        json=event | {"event_id": event_id, "ts": time.time()},
        headers=bearer(key) | ORDERS,
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == 202, answer.text
    report: dict[str, Any] = answer.json()
    return report


def views(service: Service, key: str = "") -> int:
    url = f"{service.url}/v1/users/ada"
    answer = httpx.get(url, headers=bearer(key), timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["counters"]["view"])


def test_a_killed_command_leaves_nothing_in_the_way_and_others_reach_one_port_alone(
    service: Service,
) -> None:
    service.start()
    assert post(service, "e1") == {"accepted": 1, "duplicates": 0, "rejected": [], "folded": True}
    assert views(service) == 1
    assert not [line for line in service.processes().values() if "haproxy" in line]
    assert reached_from_elsewhere(service) == set()

    (store,) = service.pids("store")
    service.kill()
    eventually(lambda: not any(service.pids(part) for part in PARTS if part != "store"), service)
    dying = set(service.processes())  # Ray's agents notice only after half a minute

    key = admin(service)
    service.environ |= {"KAIROS_PROXY": "haproxy", "KAIROS_HOST": "0.0.0.0"}
    service.start()
    assert service.pids("store") == [store], "another store beside the one that was left behind"
    assert views(service, key) == 1
    assert reached_from_elsewhere(service, dying) == {service.port}
    service.signal("store", signal.SIGKILL)  # the one that was found is restarted as well …
    eventually(lambda: service.pids("store") not in ([], [store]), service)
    eventually(lambda: answers(service), service)
    assert post(service, "e2", key)["accepted"] == 1
    assert views(service, key) == 2
    written = logs(service)
    assert b"Kairos is ready" in written
    assert key.encode() not in written
    assert known(service)["password"].encode() not in written
    code, _ = service.stop()
    assert code == 0, service.tail()
    assert set(service.processes()) <= dying - {store}  # … and stopped
    assert "graceful_shutdown" not in service.tail()


def logs(service: Service) -> bytes:
    """All that the command and the processes of its Ray have written."""
    folders = re.findall(r"--log_dir=(\S+)", " ".join(service.processes().values()))
    files = [file for folder in set(folders) for file in Path(folder).rglob("*") if file.is_file()]
    assert len(files) > 10
    return b"".join(file.read_bytes() for file in [service.log, *files])


def reached_from_elsewhere(service: Service, but: Collection[int] = ()) -> set[int]:
    """Its ports that another network reaches: Ray's, HAProxy's, the store's, or its own."""
    ports = listening(set(service.processes()) - set(but))
    assert len(ports) > 10, "Ray alone listens on more"
    try:
        return reachable(ports)
    except NoOtherNetwork as error:
        pytest.skip(f"what others reach cannot be tried here: {error}")


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
