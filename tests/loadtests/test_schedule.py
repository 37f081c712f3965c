from __future__ import annotations

import pytest

from loadtests.schedule import Stage, arrivals, read_plan, seconds_of, write_plan
from loadtests.shapes import SHAPES, SOAK, overload, soak

RAMP = [Stage("ramp", 100, 0, 200), Stage("rest", 10, 0, 0), Stage("calm", 50, 20, 20)]


def test_arrivals_follow_the_rate() -> None:
    due = list(arrivals(RAMP, seed=1))
    times = [at for at, _ in due]
    by_stage = [sum(number == stage for _, number in due) for stage in range(3)]

    # Poisson: within five standard deviations of 10,000, 0 and 1,000.
    assert abs(by_stage[0] - 10_000) < 500
    assert by_stage[1] == 0
    assert abs(by_stage[2] - 1_000) < 160
    assert times == sorted(times)
    # A quarter of a ramp's arrivals come in the first half of its time.
    first_half = sum(at < 50 for at in times) / by_stage[0]
    assert abs(first_half - 0.25) < 0.025


def test_every_arrival_lies_in_its_stage() -> None:
    ends = [(0, 100), (100, 110), (110, 160)]

    assert all(ends[stage][0] <= at < ends[stage][1] for at, stage in arrivals(RAMP, seed=2))


def test_a_falling_rate_thins_out() -> None:
    times = [at for at, _ in arrivals([Stage("down", 100, 100, 0)], seed=3)]

    assert abs(sum(at < 50 for at in times) / len(times) - 0.75) < 0.04


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert list(arrivals(RAMP, 1)) == list(arrivals(RAMP, 1))
    assert list(arrivals(RAMP, 1)) != list(arrivals(RAMP, 2))


def test_a_plan_is_read_as_it_is_written() -> None:
    plan = read_plan("ramp:30@10-100,steady:60.5@100")

    assert plan == [Stage("ramp", 30, 10, 100), Stage("steady", 60.5, 100, 100)]
    assert read_plan(write_plan(plan)) == plan
    assert seconds_of(plan) == 90.5


@pytest.mark.parametrize("text", ["", "ramp", "ramp:30", "ramp:x@3", ":3@3", "a:0@3", "a:3@-1"])
def test_a_plan_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_plan(text)


def test_shapes_are_told_from_saturation() -> None:
    assert {name: round(seconds_of(make(100, 200))) for name, make in SHAPES.items()} == {
        "short": 200,
        "soak": 240,
        "overload": 380,
    }
    assert soak(100)[-1] == Stage(SOAK, 3600, 70, 70)
    assert max(stage.end_per_s for stage in overload(100)) == 300
