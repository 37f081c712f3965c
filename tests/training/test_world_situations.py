"""Situations judged in a small world: the oracle knows more, and nobody is told the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.device import read_device
from engine.features import COLUMN, COUNT
from engine.objective import load_objective
from engine.recommending import load_recommending
from training.closed_loop import Decider, begin, make_log
from training.situation_gain import masked
from training.world import World
from training.world.people import CALLED
from training.world_situations import Readings, judge


def test_kairos_is_judged_beside_the_oracle(tmp_path: Path) -> None:
    world, log = World("amber", 60, 200, seed=5), make_log(tmp_path)
    begin(world, 5, log)
    decider = Decider(log, load_recommending(), load_objective(log.actions))
    found = judge(world, log, decider, 3)

    assert found.law == "amber"
    assert found.moments > 100
    assert found.oracle.right > found.kairos.right > 0.2
    assert found.oracle.right_where_sure > 0.75
    states = [state for state in log.states.values() if state.situated is not None]
    assert len(states) > 30
    assert any(state.situated and len(state.situated.routine) > 2 for state in states)


def test_few_say_what_they_do_and_no_request_does() -> None:
    world = World("birch", 150, 100, seed=5)
    labels = [
        line.device.get("label")
        for line in world.history(10)
        if type(line).__name__ == "DeviceState"
    ]
    told = [label for label in labels if label is not None]
    assert 0.01 < len(told) / len(labels) < 0.06
    assert set(told) <= set(CALLED)
    for visit in world.sessions(10):
        assert "label" not in visit.device
        assert read_device(visit.device)[1] == []
        assert world.situation(visit) in CALLED
        odds = world.oracle_situation(visit)
        assert sum(odds.values()) == pytest.approx(1)
        world.respond(visit, [world.core.recipes.ids[0]])


def test_the_surest_of_whom_nine_in_ten_are_right() -> None:
    readings = Readings([], [])
    for n in range(100):
        readings.take("a" if n < 45 or n % 2 else "b", 1 - n / 100, "a")
    told = readings.told()
    assert told.sure == pytest.approx(0.21)
    assert told.right_where_sure == 1
    assert 0.45 < told.sure_at_90 < 0.62


def test_a_blind_ranker_sees_the_hour_and_no_situation() -> None:
    rows = np.random.default_rng(0).random((5, COUNT)).astype(np.float32)
    seen, blind = masked(rows, False), masked(rows, True)

    for name in ("situation", "situation_confidence", "here", "affinity_here"):
        assert (blind[:, COLUMN[name]] == 0).all()
        assert (seen[:, COLUMN[name]] == rows[:, COLUMN[name]]).all()
    expected = rows[:, COLUMN["score_popular"]] / np.exp(rows[:, COLUMN["here"]])
    assert blind[:, COLUMN["score_popular"]] == pytest.approx(expected)
    others = [n for n in range(COUNT) if (seen[:, n] == blind[:, n]).all()]
    assert len(others) == COUNT - 6
    assert COLUMN["hour_sin"] in others
