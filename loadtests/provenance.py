"""What a result says of itself: machine, commit, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def provenance() -> dict[str, str]:
    """Of the command that runs; addresses and process ids are left as they were given."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    module = f"loadtests.{Path(sys.argv[0]).stem}"
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "commit": commit,
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
