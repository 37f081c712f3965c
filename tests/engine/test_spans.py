from __future__ import annotations

import asyncio
import time

import pytest

from engine.spans import recorded, span


@span("inner")
def inner(pause_s: float) -> str:
    """Says something."""
    time.sleep(pause_s)
    return "done"


@span("outer")
def outer() -> str:
    return inner(0.02) + inner(0.02)


@span("waits")
async def waits(pause_s: float) -> str:
    await asyncio.sleep(pause_s)
    return inner(0.0)


def test_nothing_is_noted_unless_asked() -> None:
    assert outer() == "donedone"
    assert asyncio.run(waits(0.0)) == "done"
    assert inner.__doc__ == "Says something."
    with recorded() as spans:
        pass
    outer()
    assert spans.seconds == {}


def test_a_stage_is_told_without_those_inside_it() -> None:
    started = time.perf_counter()
    with recorded() as spans:
        outer()
    took = time.perf_counter() - started

    assert list(spans.seconds) == ["inner", "outer"]
    assert spans.seconds["inner"] >= 0.04
    assert spans.seconds["outer"] >= 0
    assert spans.seconds["inner"] + spans.seconds["outer"] <= took


def test_requests_that_run_at_once_note_their_own() -> None:
    async def asked(pause_s: float) -> dict[str, float]:
        with recorded() as spans:
            await waits(pause_s)
        return spans.seconds

    async def both() -> list[dict[str, float]]:
        return list(await asyncio.gather(asked(0.03), asked(0.0), waits(0.0)))[:2]

    slow, fast = asyncio.run(both())

    assert slow["waits"] >= 0.03
    assert set(slow) == set(fast) == {"inner", "waits"}


def test_a_stage_that_fails_is_noted_too() -> None:
    @span("fails")
    def fails() -> None:
        raise ValueError("no")

    with recorded() as spans, pytest.raises(ValueError, match="no"):
        fails()

    assert list(spans.seconds) == ["fails"]
