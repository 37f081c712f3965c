"""A message that was let go and not heard of, among callers whose clocks differ."""

from __future__ import annotations

import msgspec
import pytest

from engine.catalog import Catalog
from engine.push import PushParts, decide_known
from engine.push_file import Explore, load_push
from engine.push_history import PushHistory, hear
from engine.push_ledger import Ledger, mark_sent
from engine.push_look import Asked, Person
from engine.push_message import Message, PushDecision
from engine.push_value import Assumptions
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.state import UserState
from tests.engine.conftest import Make

MINUTE_MS = 60_000
NOON = 1_770_033_600_000  # 2026-02-02T12:00:00Z
EXPIRES = NOON + 300 * MINUTE_MS
SITUATIONS = Situations(load_situations())


class Somebody:
    """One person, asked about by callers who each have a clock; time in minutes after noon."""

    partitions = 1

    def __init__(self) -> None:
        file = load_push(SITUATIONS.names)
        file = msgspec.structs.replace(
            file, explore=Explore(0.0, 0.0, 0), holdout=0.0, reserve_min=2.0, caps=[]
        )
        self.state, self.ledger = UserState(push=PushHistory()), Ledger()
        told = SITUATIONS, file, Assumptions(file.assumed), Catalog(), b"k" * 32
        self._parts = PushParts(self, *told)  # type: ignore[arg-type]

    def ask(self, name: str, clock: float, expires_ms: int = EXPIRES) -> PushDecision:
        at_ms = NOON + round(clock * MINUTE_MS)
        people = {"u": Person("u", self.state, self.ledger)}
        asked = [Asked("u", Message(name, "news", expires_ms))]
        [found], changed = decide_known(asked, people, at_ms, self._parts)
        self.ledger = changed[0][1] if changed else self.ledger
        return found.decision

    def hear(self, name: str, status: str, at: float) -> None:
        assert self.state.push is not None
        ts = NOON + round(at * MINUTE_MS)
        hear(self.state.push, Make().push("u", status, name, ts=ts), 0)


@pytest.fixture
def somebody() -> Somebody:
    return Somebody()


def test_a_clock_that_is_ahead_keeps_the_gap_to_what_may_still_go_out(somebody: Somebody) -> None:
    # Regression: the reservation was over by the second clock, and both went out at once.
    first = somebody.ask("a", clock=-5, expires_ms=NOON - 3 * MINUTE_MS)
    assert first.reserved_until_ms == NOON - 3 * MINUTE_MS

    second = somebody.ask("b", clock=5)

    assert (second.action, second.forced) == ("hold", "gap")


def test_a_place_is_free_once_it_is_over_by_every_clock(somebody: Somebody) -> None:
    somebody.ask("a", clock=0)

    assert somebody.ask("b", clock=11.9).forced == "gap"
    assert somebody.ask("c", clock=12).action == "send"


def test_what_may_still_go_out_is_not_let_go_again(somebody: Somebody) -> None:
    first = somebody.ask("a", clock=-5)

    again = somebody.ask("a", clock=5)
    assert (again.action, again.forced) == ("hold", "reserved")
    assert again.hold_until_ms is not None
    assert again.hold_until_ms >= NOON + 7 * MINUTE_MS
    assert again.first_id == first.decision_id
    assert somebody.ask("a", clock=5.5) == again

    later = somebody.ask("a", clock=(again.hold_until_ms - NOON) / MINUTE_MS)
    assert later.action == "send"


@pytest.mark.parametrize("told", ["event", "acknowledgement"])
def test_what_went_out_late_is_not_let_go_again(somebody: Somebody, told: str) -> None:
    somebody.ask("a", clock=-5)
    somebody.ask("a", clock=5)
    if told == "event":
        somebody.hear("a", "sent", at=6)
    else:
        somebody.ledger = mark_sent(somebody.ledger, {"a"})

    assert [somebody.ask("a", clock).action for clock in (120, 200)] == ["drop", "drop"]
    assert somebody.ask("b", clock=30).forced == "gap"


def test_what_failed_is_let_go_again_at_once(somebody: Somebody) -> None:
    first = somebody.ask("a", clock=0)
    somebody.hear("a", "failed", at=1)

    again = somebody.ask("a", clock=5)

    assert again.action == "send"
    assert again.decision_id != first.decision_id
