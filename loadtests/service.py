"""A `kairos up` of one's own: started, found in /proc, killed piece by piece, stopped.

Knows processes alone, and none but its own: descendants of the command it started, carriers of
its KAIROS_HOME, and what works in there. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READY_S = 180.0
STOP_S = 90.0
READY = "Kairos is ready at"
REPLACED = "every replica was replaced"

# What the parts are called in /proc/PID/cmdline.
PARTS = {
    "folder": "ray::FolderWorker",
    "archiver": "ray::ArchiverWorker",
    "ingest": "ray::ServeReplica:ingest",
    "decide": "ray::ServeReplica:decide",
    "haproxy": "/haproxy -",
    "proxy": "ray::ProxyActor",
    "controller": "ray::ServeController",
    "store": "valkey-server",
}


class Service:
    """`kairos up` under a home of its own; a context manager that leaves no process behind."""

    def __init__(self, home: Path, settings: Mapping[str, str], dev: bool = False) -> None:
        self.home = home.resolve()
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.home / "up.log"
        self.settings_file = self.home / "kairos.toml"  # none unless somebody writes it
        ours = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
        names = {"HOME": str(self.home), "PORT": str(self.port), **settings}
        self.environ = ours | {f"KAIROS_{name}": text for name, text in names.items()}
        self.environ["PYTHONPATH"] = str(ROOT)  # of every process that Ray starts
        self.command = [sys.executable, "-m", "cli.main", "up", *(["--dev"] if dev else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.clean()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> float:
        """Start and wait until it says that it is ready; returns the seconds that took."""
        self.home.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(
                self.command,
                cwd=self.home,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while READY not in self.log.read_bytes()[before:].decode(errors="replace"):
            if self._process.poll() is not None:
                raise RuntimeError(f"kairos up ended at once:\n{self.tail()}")
            if time.monotonic() - started > READY_S:
                raise RuntimeError(f"kairos up did not get ready:\n{self.tail()}")
            time.sleep(0.1)
        return time.monotonic() - started

    def stop(self) -> tuple[int, float]:
        """Ctrl-C; returns the exit code and the seconds until it was there."""
        assert self._process is not None, "not started"
        started = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(STOP_S)
        return code, time.monotonic() - started

    def hang_up(self) -> None:
        """SIGHUP: settings are read again, replicas replaced; returns when it says so."""
        before = self.log.stat().st_size
        os.kill(self.pid, signal.SIGHUP)
        end = time.monotonic() + READY_S
        while REPLACED not in self.log.read_bytes()[before:].decode(errors="replace"):
            if time.monotonic() > end:
                raise RuntimeError(f"the replicas were not replaced:\n{self.tail()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL the command itself: what it started has to notice."""
        assert self._process is not None, "not started"
        self._process.kill()
        self._process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def processes(self) -> dict[int, str]:
        """Every living process of this service: pid -> command line."""
        children: dict[int, list[int]] = {}
        lines: dict[int, str] = {}
        found: list[int] = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError, ValueError):
                state, parent = _read(pid, "stat").rpartition(b")")[2].split()[:2]
                if state == b"Z":
                    continue
                children.setdefault(int(parent), []).append(pid)
                lines[pid] = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")
                at_home = f"KAIROS_HOME={self.home}".encode() in _read(pid, "environ").split(b"\0")
                # Valkey writes its title over its environment, but works in its folder.
                if at_home or Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.home):
                    found.append(pid)
        if self._process is not None:
            found.append(self._process.pid)
        ours: dict[int, str] = {}
        while found:
            pid = found.pop()
            if pid in lines and pid not in ours:
                ours[pid] = lines[pid]
                found += children.get(pid, [])
        return ours

    def pids(self, part: str) -> list[int]:
        """The living processes of a part, as PARTS names them."""
        return sorted(pid for pid, line in self.processes().items() if PARTS[part] in line)

    def signal(self, part: str, number: signal.Signals) -> list[int]:
        """Send a signal to every process of a part; returns those that were there to get it."""
        reached = []
        for pid in self.pids(part):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                reached.append(pid)
        return reached

    def clean(self) -> None:
        """SIGKILL whatever is left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


def _read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
