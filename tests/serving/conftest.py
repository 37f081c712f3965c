"""The whole service as people start it: one process without Ray, its own home, a free port."""

from __future__ import annotations

import base64
import contextlib
import hmac
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from deltalake.exceptions import DeltaError

from engine.redis_store import RedisStore
from engine.settings import Settings, load_settings

READY_S = 60.0
STOP_S = 60.0
WEBHOOK_KEY = base64.b64encode(bytes(range(32))).decode()
WEBHOOK_TOLERANCE_S = 300
FAST = {
    "KAIROS_ARCHIVE_INTERVAL_S": "0.3",
    "KAIROS_LEASE_MS": "500",
    # A busy machine is not a dead store.
    "KAIROS_READ_TIMEOUT_MS": "10000",
    "KAIROS_DEADLINE_MS": "20000",
    "KAIROS_BATCH_DEADLINE_MS": "20000",
    "KAIROS_STORE_TIMEOUT_MS": "10000",
}

Event = dict[str, Any]


class Service:
    """A running service; `stop` as Ctrl-C does, `kill` as a power cut does, then `start` again."""

    def __init__(self, home: Path, environ: dict[str, str]) -> None:
        self.home = home
        self.port = free_port()
        self.environ = FAST | environ | {"KAIROS_HOME": str(home), "KAIROS_PORT": str(self.port)}
        self.log = home / "service.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ours = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up", "--dev"],
                cwd=self.home,  # no kairos.toml stands here
                env=ours | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended at once:\n{self.tail()}")
            with contextlib.suppress(httpx.HTTPError), self.client() as client:
                if client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the service did not get ready:\n{self.tail()}")

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    @property
    def settings(self) -> Settings:
        """As the service itself reads them, with the address of its store."""
        known = json.loads((self.home / "store" / "server.json").read_text())
        url = f"redis://:{known['password']}@127.0.0.1:{known['port']}/0"
        return load_settings(self.environ | {"KAIROS_REDIS_URL": url}, self.home / "none.toml")

    def store(self) -> RedisStore:
        """A client of its store, beside its own."""
        return RedisStore.connect(self.settings)

    def store_pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.home / "store" / "server.json").read_text())["pid"])
        return None

    def kill(self) -> None:
        """SIGKILL: nothing is put in order. Its store lives on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_S)

    def stop(self) -> None:
        """Ctrl-C: everything is put in order, its store stops with it."""
        assert self.process is not None
        pid = self.store_pid()
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGINT did not end the service:\n{self.tail()}") from None
        assert code == 0, f"exit {code}:\n{self.tail()}"
        assert pid is None or not alive(pid), "the store outlived the service"

    def archive(self) -> pl.DataFrame:
        """The archived log. Its first write may be to come; a vacuum may be under way."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                return pl.read_delta(str(self.home / "log"))
            except (OSError, pl.exceptions.ComputeError, DeltaError):
                assert time.monotonic() < deadline, "the archive cannot be read"
                time.sleep(0.05)

    def kill_store(self) -> None:
        pid = self.store_pid()
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                time.sleep(0.01)

    def clean(self) -> None:
        """Leave no process behind, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.kill_store()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            return not Path("/proc").exists()
        return False


_services: list[Service] = []  # those that run, for the logs of failed tests


@pytest.fixture(scope="session", name="running")
def _running() -> Callable[..., contextlib.AbstractContextManager[Service]]:
    """For services that the tests of one file share."""
    return running


@contextlib.contextmanager
def running(home: Path, environ: dict[str, str]) -> Iterator[Service]:
    service = Service(home, environ)
    _services.append(service)
    try:
        service.start()
        yield service
        if service.process is not None and service.process.poll() is None:
            service.stop()
    finally:
        _services.remove(service)
        service.clean()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.failed:
        for service in _services:
            report.sections.append((f"log of {service.url}", service.tail()))
    return report


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that leave it as it was; it must never log an error."""
    with running(tmp_path_factory.mktemp("kairos") / "home", {}) as started:
        yield started
    log = started.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-6000:]
    assert "unforeseen" not in log, log[-6000:]


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services of a test's own: they may be killed and started again."""
    with contextlib.ExitStack() as stack:
        count = itertools.count()

        def start(**environ: str) -> Service:
            return stack.enter_context(running(tmp_path / f"home{next(count)}", environ))

        yield start


class Receiver:
    """Takes webhooks as others would: it checks signatures, and knows messages by their ids.

    It listens until closed; `answer` gives the status for (webhook-id, how often it has come).
    """

    secret = f"whsec_{WEBHOOK_KEY}"

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []  # webhook-id, body
        self.refused: list[str] = []
        self.answer: Callable[[str, int], int] = lambda webhook_id, times: 204
        self.headers: dict[str, str] = {}
        self.signed = signed
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/push?from=kairos"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ids(self, user: str) -> list[str]:
        """The ids under which a person's messages came, each time one did."""
        return [id_ for id_, body in self.posts if body["data"]["user_id"] == user]

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        webhook_id = request.headers["webhook-id"]
        if not signed(request.headers, body, [WEBHOOK_KEY]) or request.path != "/push?from=kairos":
            self.refused.append(webhook_id)
            status = 401
        else:
            with self._lock:
                self.posts.append((webhook_id, json.loads(body)))
                times = sum(id_ == webhook_id for id_, _ in self.posts)
            status = self.answer(webhook_id, times)
        request.send_response(status)
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("content-length", "0")
        request.end_headers()


def signed(headers: Any, body: bytes, keys: list[str]) -> bool:
    """Whether one of the signatures is by one of the keys, and the time is about now."""
    webhook_id, at = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(at)) > WEBHOOK_TOLERANCE_S:
        return False
    told = [part.partition(",") for part in headers["webhook-signature"].split(" ")]
    for key in keys:
        digest = hmac.digest(base64.b64decode(key), f"{webhook_id}.{at}.".encode() + body, "sha256")
        wanted = base64.b64encode(digest).decode()
        if any(version == "v1" and hmac.compare_digest(wanted, one) for version, _, one in told):
            return True
    return False


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


_numbers = itertools.count(1)


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """An id that no other test of the session uses."""
    return lambda prefix: f"{prefix}-{next(_numbers)}"


@pytest.fixture
def act(fresh: Callable[[str], str]) -> Callable[..., Event]:
    """A valid interaction, with whatever a test wants otherwise; None leaves a field out."""

    def make(user_id: str, **fields: Any) -> Event:
        event = {
            "type": "interaction",
            "event_id": fresh("e"),
            "user_id": user_id,
            "action": "view",
            "item_id": "soup",
            "ts": time.time(),
        } | fields
        return {name: value for name, value in event.items() if value is not None}

    return make


@pytest.fixture
def post(client: httpx.Client) -> Callable[..., httpx.Response]:
    """Send events and wait until they count."""

    def send(content: Any, wait: bool = True, **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return client.post("/v1/events" + "?wait=folded" * wait, content=body, headers=headers)

    return send


@pytest.fixture
def metric(client: httpx.Client) -> Callable[[str], float]:
    """The value of a metric, given with its labels as /metrics writes it; 0 where it is missing."""

    def read(name: str) -> float:
        for line in client.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    return read


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Ask again until the answer is wanted (true, or as `want` says); fails after 30 s."""

    def ask(question: Callable[[], Any], want: Callable[[Any], Any] = bool) -> Any:
        deadline = time.monotonic() + 30
        while not want(answer := question()):
            assert time.monotonic() < deadline, f"it never came about; at last: {answer!r}"
            time.sleep(0.02)
        return answer

    return ask
