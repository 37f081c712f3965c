from __future__ import annotations

import pytest

from loadtests.saturation import ENOUGH, Step, narrow


@pytest.mark.parametrize(("most", "first"), [(137.0, 40.0), (137.0, 500.0), (2.0, 40.0)])
def test_the_search_ends_just_below_what_is_too_much(most: float, first: float) -> None:
    asked = []

    def try_at(rate: float) -> Step:
        asked.append(rate)
        return Step(rate, 1.0 if rate <= most else ENOUGH - 0.01, 10.0)

    found = narrow(try_at, first, within=0.1)

    assert most / 1.1 <= found.per_s <= most
    assert [step.per_s for step in found.steps] == asked
    assert len(asked) < 15


def test_a_service_that_holds_nothing_is_told_of() -> None:
    with pytest.raises(SystemExit, match="does not hold"):
        narrow(lambda rate: Step(rate, 0.0, None), 40.0, within=0.1)
