"""What the processes of a service cost: CPU, memory, descriptors and sockets, sampled from /proc.

Knows them by descent from the one that was started (`kairos up`); Linux only.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# What stands in /proc/PID/cmdline -> what the report calls it; the first that fits.
NAMES = {
    "ray::ServeReplica:decide": "decide replica",
    "ray::ServeReplica:ingest": "ingest replica",
    "ray::ServeReplica": "other replica",
    "ray::FolderWorker": "folder",
    "ray::ArchiverWorker": "archiver",
    "ray::ServeController": "Serve controller",
    "ray::Proxy": "proxy actor",
    "ray::HAProxy": "proxy actor",
    "haproxy": "HAProxy",
    "valkey-server": "store",
    "redis-server": "store",
    "loadtests/locustfile": "load generator",
    "cli.main up": "kairos up",
    "kairos up": "kairos up",
}
MACHINE = "whole machine"


class Sample(NamedTuple):
    """One process at one time."""

    at: float  # unix seconds
    pid: int
    name: str
    cpu_s: float  # since it started
    rss_mib: float
    descriptors: int
    sockets: int


class Watch:
    """Samples a process and its descendants, and others, every so often; a context manager."""

    def __init__(self, roots: list[int], every_s: float = 1.0) -> None:
        self.samples: list[Sample] = []
        self.roots = roots  # others may be added while it runs
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def save(self, file: Path) -> None:
        """As `load_samples` reads it."""
        file.write_text(json.dumps(self.samples), encoding="utf-8")

    def _run(self) -> None:
        while True:
            self.samples.append(whole_machine())
            for pid in descendants(self.roots):
                if (sample := sampled(pid)) is not None:
                    self.samples.append(sample)
            if self._over.wait(self._every_s):
                return


def load_samples(file: Path) -> list[Sample]:
    """What `Watch.save` wrote."""
    told: list[Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return [Sample(*row) for row in told]


def descendants(roots: list[int]) -> list[int]:
    """The processes and all that they started."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found = list(dict.fromkeys(roots))
    for pid in found:
        found += children.get(pid, [])
    return found


def sampled(pid: int) -> Sample | None:
    """None where it is gone, or not ours to look at."""
    fields = _stat(pid)
    if not fields or fields[0] == "Z":
        return None
    folder = Path(f"/proc/{pid}")
    try:
        line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        pages = int((folder / "statm").read_text().split()[1])
        descriptors = os.listdir(folder / "fd")
    except OSError:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / TICK
    mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    sockets = sum(_is_socket(folder / "fd" / name) for name in descriptors)
    return Sample(
        round(time.time(), 2), pid, name_of(line), cpu_s, round(mib, 2), len(descriptors), sockets
    )


def whole_machine() -> Sample:
    """All of the machine, whoever works on it, under pid 0: CPU of all cores, memory in use."""
    busy = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    # user, nice, system, irq, softirq, steal; not idle and not waiting for a disk.
    cpu_s = sum(int(busy[place]) for place in (0, 1, 2, 5, 6, 7)) / TICK
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    mib = (kib["MemTotal"] - kib["MemAvailable"]) / 1024
    return Sample(round(time.time(), 2), 0, MACHINE, cpu_s, round(mib, 2), 0, 0)


def name_of(line: str) -> str:
    """What the report calls a process."""
    return next((name for part, name in NAMES.items() if part in line), "Ray and others")


def _stat(pid: int) -> list[str]:
    """From the state on; empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_socket(link: Path) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except OSError:
        return False
