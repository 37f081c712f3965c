"""Many callers at once, on a real Valkey, in invented worlds: nothing gets past a gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.push_fuzz import Plan, fuzz
from engine.settings import Settings
from serving import embedded


@pytest.fixture
def own_url(tmp_path: Path) -> Iterator[str]:
    """A server that nobody else folds on."""
    server = embedded.start(Settings(home=str(tmp_path), appendfsync="no"))
    yield server.url
    server.stop()


@pytest.mark.parametrize("seed", [11])
def test_gates_hold_for_sixteen_callers_at_once(own_url: str, seed: int) -> None:
    plan = Plan(decisions=2000, callers=16, processes=2, people=16, steps=4, each=6, seed=seed)

    figures = fuzz(plan, own_url)
    again = fuzz(Plan(decisions=1, people=16, steps=1, each=1, seed=seed), own_url)

    assert again["decisions"] >= 1  # the first let its partitions go

    assert figures["first"] == []
    assert set(figures["breaches"].values()) == {0}
    assert figures["decisions"] >= 2000
    assert min(figures[name] for name in ("send", "hold", "drop", "repeats", "went_out")) > 10
