"""`kairos benchmark load` as `make load` runs it, on the smallest of worlds; takes a minute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WORLD = ("--users", 100, "--items", 100, "--days", 4)


def test_a_load_from_an_empty_folder_to_its_report(home: Any, tmp_path: Path) -> None:
    out = tmp_path / "report" / "load"
    plan = "ramp:3@1-10,soak:6@10"

    said, _ = home.run("benchmark", "load", *WORLD, "--plan", plan, "--out", out)

    told = json.loads(out.with_suffix(".json").read_text())
    figures = told["figures"]
    assert {"machine", "commit", "command", "date", "release"} <= set(told)
    assert str(tmp_path) not in out.with_suffix(".json").read_text()
    assert figures["requests"] == sum(stage["requests"] for stage in figures["stages"])
    assert all(not stage["failed"] for stage in figures["stages"])
    assert {"decide replica", "ingest replica", "folder", "store", "HAProxy"} <= {
        process["process"] for process in figures["processes"]
    }
    assert "soak: 5xx and no answers" in said
    assert out.with_suffix(".html").read_text().count("<svg") == 4
