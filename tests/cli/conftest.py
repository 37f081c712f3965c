"""The command as people run it: processes of its own, a home of its own, a free port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.state import UserState
from serving import embedded

PATIENCE_S = 120.0
Event = dict[str, Any]


class Home:
    """A KAIROS_HOME in which commands are run, one after another or side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "KAIROS_HOME": str(folder / "home"),
            "KAIROS_PORT": str(self.port),
            "KAIROS_ARCHIVE_INTERVAL_S": "0.2",
            "KAIROS_LEASE_MS": "1000",
            "KAIROS_READ_TIMEOUT_MS": "5000",  # a busy machine is not a dead store
            "KAIROS_DEADLINE_MS": "10000",
            "KAIROS_BATCH_DEADLINE_MS": "20000",
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object, **environ: str) -> subprocess.Popen[str]:
        """Start a command; its output is read by whoever waits for it."""
        ours = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *map(str, arguments)],
            cwd=self.folder,
            env=ours | self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *arguments: object, code: int = 0, **environ: str) -> tuple[str, str]:
        """Run a command to its end; what it said, and what it said on standard error."""
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, f"exit {process.returncode}:\n{out}\n{err}"
        assert "Traceback" not in err, err
        return out, err

    def imported(self, *files: object, code: int = 0) -> Any:
        """The report of an import."""
        return json.loads(self.run("import", "--json", *files, code=code)[0])

    def write(self, name: str, events: Sequence[Event | bytes]) -> Path:
        """A file of JSON Lines."""
        path = self.folder / name
        lines = [e if isinstance(e, bytes) else json.dumps(e).encode() for e in events]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    @contextlib.contextmanager
    def up(self) -> Iterator[httpx.Client]:
        """`kairos up --dev`, ready; stopped as Ctrl-C does."""
        log = self.folder / "up.log"
        environ = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up", "--dev"],
                cwd=self.folder,
                env=environ | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )
        self._started.append(process)
        try:
            with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
                _until(lambda: _ready(client, process), f"no service: see {log}")
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0, log.read_text()[-4000:]
        assert "Traceback" not in log.read_text()

    @contextlib.contextmanager
    def store(self) -> Iterator[RedisStore]:
        """A client of the store, which is started where none runs."""
        settings = Settings(home=self.environ["KAIROS_HOME"])
        server = embedded.start(settings)
        store = RedisStore.connect(
            Settings(home=self.environ["KAIROS_HOME"], redis_url=server.url, store_timeout_ms=5000)
        )
        try:
            yield store
        finally:
            store.close()
            server.stop()

    def totals(self) -> dict[str, int]:
        """Interactions that count, by user."""
        with self.store() as store:
            partitions = range(store.settings.partitions)
            return {user: acts(state) for p in partitions for user, state in store.states(p)}

    def store_pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(Path(self.environ["KAIROS_HOME"], "store/server.json").read_text())
            return int(known["pid"])
        return None

    def clean(self) -> None:
        """Leave no process behind, whatever happened."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        pid = self.store_pid()
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)


def acts(state: UserState) -> int:
    return sum(counter.total for counter in state.actions.values())


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            return not Path("/proc").exists()
        return False


def _ready(client: httpx.Client, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, f"the service ended at once: {process.returncode}"
    with contextlib.suppress(httpx.HTTPError):
        return client.get("/readyz").status_code == 200
    return False


def _until(done: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < deadline, what
        time.sleep(0.03)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One for tests that need no more than users of their own."""
    made = Home(tmp_path_factory.mktemp("kairos"))
    yield made
    made.clean()


@pytest.fixture(scope="module")
def live(shared_home: Home) -> Iterator[httpx.Client]:
    """`kairos up --dev` in the shared home."""
    with shared_home.up() as client:
        yield client


@pytest.fixture
def until() -> Callable[[Callable[[], Any], str], Any]:
    """Ask again until the answer is true."""
    return _until


@pytest.fixture
def runs() -> Callable[[int], bool]:
    """Whether a process runs."""
    return alive
