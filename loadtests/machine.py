"""Where a figure is from: the machine, the commit, the command, the day."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from loadtests.service import ROOT


def where(module: str) -> dict[str, str]:
    """Of this run of `python -m MODULE`, with the arguments as they were given."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "machine": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
