"""How much memory of their own a process and all below it hold, from /proc. Linux only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def resident_mb(pid: int) -> float:
    """Anonymous memory in MB: what they wrote.

    Pages of libraries are left out: their share grows as other processes that map them end.
    """
    return round(sum(_anonymous(one) for one in _below(pid)) / 1e6, 1)


def _below(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for one in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(stat[1]), []).append(one)
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def _anonymous(pid: int) -> int:
    """Bytes; 0 for a process that is gone."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Anonymous:")).split()[1])
    return 0
