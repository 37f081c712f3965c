"""The applications as deploy/rayservice.yaml names them, on a Ray that runs already."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from engine.redis_store import RedisStore
from engine.settings import Settings
from serving import embedded
from serving.http import Role
from serving.keys import create_key
from serving.up import own_ports

ROOT = Path(__file__).resolve().parents[2]
READY_S = 180.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Cluster:
    """A Ray head as KubeRay starts one, with a token, under ports and a folder of its own."""

    def __init__(self, folder: Path, environ: dict[str, str], ports: range) -> None:
        self.dashboard, self.agent, self.http = ports[0], ports[1], ports[2]
        self.token = secrets.token_hex(16)
        self.environ = environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[3]),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[4]),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[5]),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports[20]),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports[-1]),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        flags = {
            "port": ports[6],
            "node-ip-address": "127.0.0.1",
            "dashboard-host": "127.0.0.1",
            "dashboard-port": self.dashboard,
            "dashboard-agent-listen-port": self.agent,
            "dashboard-agent-grpc-port": ports[7],
            "metrics-export-port": ports[8],
            "ray-client-server-port": ports[9],
            "num-cpus": 8,
            "object-store-memory": 100_000_000,
            "temp-dir": folder / "r",
        }
        options = [f"--{name}={value}" for name, value in flags.items()]
        self.log = folder / "ray.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                ["ray", "start", "--head", "--block", "--disable-usage-stats", *options],
                cwd=folder, env=self.environ, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def get(self, port: int, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of an answer; 0 where nobody listens."""
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(
                f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10, trust_env=False
            )
            return answer.status_code, answer.text
        return 0, ""

    def serve(self, *arguments: str) -> str:
        """Run Ray's `serve` command against this head."""
        address = f"http://127.0.0.1:{self.dashboard}"
        return subprocess.run(
            ["serve", *arguments, "--address", address],
            env=self.environ, text=True, capture_output=True, check=True,
        ).stdout  # fmt: skip

    def stop(self) -> None:
        """SIGTERM, as a pod's end is; then whatever is left of its process group."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def manifest() -> Iterator[dict[str, Any]]:
    return (part for part in yaml.safe_load_all((ROOT / "deploy/rayservice.yaml").read_text()))


def serve_config(port: int) -> dict[str, Any]:
    """serveConfigV2 of the manifest, on one machine: one replica each, on a port of its own."""
    (service,) = (part for part in manifest() if part["kind"] == "RayService")
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    for application in config["applications"]:
        for deployment in application["deployments"]:
            deployment["num_replicas"] = 1
    return config


def pod_environment() -> dict[str, str]:
    """The plain variables of the manifest's pods."""
    (service,) = (part for part in manifest() if part["kind"] == "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    return {v["name"]: v["value"] for v in container["env"] if "value" in v}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Cluster, str, RedisStore]]:
    settings = Settings(home=str(tmp_path / "home"))
    server = embedded.start(settings)
    store = RedisStore.connect(Settings(redis_url=server.url, home=settings.home))
    key = create_key(store, "test", Role.ADMIN)
    clean = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
    environ = clean | pod_environment() | {
        "KAIROS_HOME": settings.home,
        "KAIROS_REDIS_URL": server.url,
        "KAIROS_READ_TIMEOUT_MS": "5000",  # a busy machine is not a dead store
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="k-", dir="/tmp") as folder, own_ports() as ports:
        started = Cluster(Path(folder), environ, ports)
        try:
            yield started, key, store
        finally:
            started.stop()
            store.close()
            server.stop()


def until(holds: Callable[[], object], why: Callable[[], object]) -> None:
    deadline = time.monotonic() + READY_S
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(0.5)


def test_the_manifests_applications_serve_and_fold(
    cluster: tuple[Cluster, str, RedisStore], tmp_path: Path
) -> None:
    ray, key, store = cluster
    config = tmp_path / "serve.yaml"
    config.write_text(yaml.safe_dump(serve_config(ray.http)))

    # What the manifest's startup and liveness probes ask, without a token.
    until(lambda: ray.get(ray.agent, "/api/healthz")[0] == 200, ray.log.read_text)
    assert ray.get(ray.dashboard, "/api/serve/applications/")[0] == 401

    ray.serve("deploy", str(config))
    until(lambda: "DEPLOYING" not in ray.serve("status"), lambda: ray.serve("status"))
    assert "DEPLOY_FAILED" not in ray.serve("status"), ray.serve("status")
    # … and its readiness probe.
    until(lambda: ray.get(ray.http, "/readyz")[0] == 200, lambda: ray.serve("status"))
    until(lambda: ray.get(ray.http, "/v1/events")[0] == 405, lambda: ray.serve("status"))
    address = f"http://127.0.0.1:{ray.http}"
    event = {"type": "interaction", "action": "view", "item_id": "soup", "user_id": "ada"}
    body = json.dumps(event | {"event_id": "e1", "ts": time.time()})
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        assert client.post("/v1/events", content=body).status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        folded = client.post("/v1/events?wait=folded", content=body)
        assert (folded.status_code, folded.json()["folded"]) == (202, True), folded.text
        assert client.get("/v1/users/ada").json()["counters"] == {"view": 1}

        ray.serve("shutdown", "-y")
        # The folders gave their leases up, and the archiver took what was folded.
        until(lambda: not any(p.owner for p in store.progress(range(16))), ray.log.read_text)
        assert sum(p.archived_position > 0 for p in store.progress(range(16))) == 1


def test_a_cluster_without_a_store_says_so() -> None:
    environ = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
    asked = subprocess.run(
        [sys.executable, "-c", "from serving.ray_cluster import decide; decide({})"],
        cwd=ROOT, env=environ, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert "redis_url: a cluster needs a store that every node reaches" in asked.stderr
    assert asked.returncode != 0
