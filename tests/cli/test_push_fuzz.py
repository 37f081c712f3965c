"""Many callers at once, on a real Valkey, in invented worlds: nothing gets past a gate."""

from __future__ import annotations

import pytest

from cli.push_fuzz import Plan, fuzz


@pytest.mark.parametrize("seed", [11])
def test_gates_hold_for_sixteen_callers_at_once(valkey_url: str, seed: int) -> None:
    plan = Plan(decisions=2000, callers=16, processes=2, people=16, steps=4, each=6, seed=seed)

    figures = fuzz(plan, valkey_url)

    assert figures["first"] == []
    assert set(figures["breaches"].values()) == {0}
    assert figures["decisions"] >= 2000
    assert min(figures[name] for name in ("send", "hold", "drop", "repeats", "went_out")) > 10
