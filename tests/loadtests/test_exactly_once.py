"""The short form of the kill test; the full one is `python -m loadtests.exactly_once`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(280)
def test_each_event_counts_once_while_everything_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.exactly_once", "--home", str(tmp_path / "home")]
    size = ["--events", "1500", "--kills", "2", "--senders", "20", "--zombies", "1"]

    done = subprocess.run([*command, *size], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-6000:] + _log(tmp_path / "home")
    report = json.loads(done.stdout)
    assert report["holds"]
    figures = report["figures"]
    assert figures["events_acknowledged"] == figures["events"] > 1500
    assert figures["copies_sent"] > 4500
    assert figures["killed"] == {"folder": 2, "ingest": 2, "store": 2, "decide": 1, "archiver": 1}
    assert len(figures["zombies_replaced_after_s"]) == 1
    assert figures["nothing_pending_after_s"] < 60
    assert figures["worst_decayed_error"] < 1e-9
    assert figures["states_equal_to_replay"] == figures["people_compared"]
    assert figures["log"]["events_forgotten"] > 0
    assert figures["log"]["events_dead"] == 0


def _log(home: Path) -> str:
    log = home / "up.log"
    return log.read_text(errors="replace")[-6000:] if log.exists() else ""
