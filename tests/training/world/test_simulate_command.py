"""`kairos simulate`: JSON Lines on standard output, everything else on standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.events import Interaction, decode_line

ARGUMENTS = ("--users", "40", "--items", "60", "--days", "3", "--seed", "2")
RUN = "import typer; from cli.simulate import simulate; typer.run(simulate)"


def simulate(*more: str) -> tuple[bytes, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *ARGUMENTS, *more],
        cwd=Path(__file__).parents[3], capture_output=True, check=False,
    )  # fmt: skip
    return done.stdout, f"exit {done.returncode}\n{done.stderr.decode()}"


def test_lines_out_and_progress_beside() -> None:
    out, err = simulate("--law", "birch")
    events = [decode_line(line) for line in out.splitlines()]
    assert sum(isinstance(event, Interaction) for event in events) > 40
    assert f"{len(events):,} events in" in err
    assert "law birch" in err
    assert err.startswith("exit 0")
    assert simulate("--law", "birch")[0] == out


def test_start_moves_the_clock() -> None:
    out, _ = simulate("--start", "2026-02-01")
    times = [decode_line(line).ts for line in out.splitlines()]
    assert all(isinstance(ts, int) for ts in times)
    assert min(int(str(ts)) for ts in times) == 1_769_904_000_000


def test_an_unknown_law_is_refused_with_the_known_ones() -> None:
    out, err = simulate("--law", "oak")
    assert out == b""
    assert err.startswith("exit 2")
    assert "amber, birch, cedar, delta" in " ".join(err.split())
