"""What counts of a person's sends: reserved, confirmed, failed, tried again, told of by others."""

from __future__ import annotations

import pytest

from engine.push_history import PushHistory, hear
from engine.push_ledger import (
    KEPT_MS,
    MOST_SENDS,
    Kept,
    Ledger,
    Send,
    confirmed,
    expires_ms,
    is_answer,
    keep,
    last_failure_s,
    prune,
    read_ledger,
    settled,
    write_ledger,
)
from engine.push_message import PushDecision
from engine.state import UserState
from engine.times import DAY_MS, HOUR_MS
from tests.engine.conftest import NOW, Make

MINUTE_MS = 60_000
UNTIL = NOW + 10 * MINUTE_MS


def told(*events: tuple[str, str, int], make: Make | None = None) -> UserState:
    """A state that heard of (message, status, seconds after NOW)."""
    make, state = make or Make(), UserState(push=PushHistory())
    assert state.push is not None
    for message, status, after_s in events:
        hear(state.push, make.push("u", status, message, ts=NOW + 1000 * after_s), 0)
    return state


def counted(ledger: Ledger, state: UserState, at_ms: int) -> list[str]:
    return [send.message_id for send in settled(ledger, state, at_ms)]


ONE = Ledger([Send("m", "news", NOW, UNTIL)])


@pytest.mark.parametrize(
    ("events", "at_ms", "counts"),
    [
        ([], UNTIL - 1, True),  # reserved
        ([], UNTIL, False),  # and over
        ([("m", "sent", 30)], UNTIL + DAY_MS, True),
        ([("m", "opened", 30)], UNTIL + DAY_MS, True),
        ([("m", "failed", 30)], NOW + MINUTE_MS, False),
        ([("m", "sent", 30), ("m", "failed", 40)], NOW + MINUTE_MS, False),
        ([("m", "failed", 30), ("m", "delivered", 40)], UNTIL + 1, True),
        ([("other", "failed", 30)], NOW + MINUTE_MS, True),
    ],
)
def test_a_reservation(events: list[tuple[str, str, int]], at_ms: int, counts: bool) -> None:
    assert counted(ONE, told(*events), at_ms) == (["m"] if counts else [])


def test_what_others_sent_counts() -> None:
    state = told(("theirs", "delivered", -60), ("failed", "failed", -30), ("m", "sent", 5))

    found = settled(ONE, state, NOW + MINUTE_MS)

    assert [(send.message_id, send.at_ms) for send in found] == [
        ("theirs", NOW - MINUTE_MS),
        ("m", NOW),
    ]


def test_a_second_try_is_reserved_though_the_first_is_known_to_have_failed() -> None:
    # Regression: it did not count, and a repeat let it go a third time.
    state = told(("m", "failed", 30))
    failed_s = last_failure_s(state, "m")
    again = Ledger([Send("m", "news", NOW + MINUTE_MS, UNTIL, failed_s=failed_s)])
    at_ms = NOW + 2 * MINUTE_MS
    said = PushDecision(
        "d2", "m", "send", [], NOW + MINUTE_MS, NOW + DAY_MS, reserved_until_ms=UNTIL
    )

    assert counted(again, state, at_ms) == ["m"]
    assert is_answer(again, state, said, at_ms)
    went = told(("m", "failed", 30), ("m", "sent", 65))
    assert counted(again, went, UNTIL + DAY_MS) == ["m"]
    assert is_answer(again, went, said, UNTIL + 1)
    twice = told(("m", "failed", 30), ("m", "failed", 70))
    assert counted(again, twice, at_ms) == []
    assert not is_answer(again, twice, said, at_ms)
    assert last_failure_s(went, "m") == 0


def test_an_answer_holds_as_long_as_its_reservation() -> None:
    said = PushDecision("d", "m", "send", [], NOW, NOW + DAY_MS, reserved_until_ms=UNTIL)

    assert is_answer(ONE, told(), said, UNTIL - 1)
    assert not is_answer(ONE, told(), said, UNTIL)
    assert is_answer(ONE, told(("m", "sent", 9)), said, UNTIL + HOUR_MS)
    assert is_answer(Ledger(), told(("m", "sent", 9)), said, UNTIL + HOUR_MS)  # long forgotten


def test_what_went_out_stays_known_whatever_is_told_afterwards() -> None:
    # Regression: a hundred messages of another channel made room under a monthly cap.
    state = told(("m", "sent", 30))
    kept = confirmed(ONE.sends, state)
    flood = told(("m", "sent", 30), *((f"inbox-{n}", "sent", 40 + n) for n in range(100)))

    assert counted(ONE, flood, UNTIL)[:1] == ["inbox-0"]
    assert counted(Ledger(kept), flood, UNTIL)[0] == "m"
    assert confirmed(ONE.sends, told()) == ONE.sends


def test_the_record_goes_round() -> None:
    said = PushDecision("d", "m", "hold", [], NOW, NOW + DAY_MS, hold_until_ms=UNTIL)
    ledger = Ledger([Send("m", "news", NOW, UNTIL, "spring", True, "in_app", 7)], {"m": keep(said)})

    found, version = read_ledger(write_ledger(ledger, 4))
    assert (found.sends, found.said("m"), version) == (ledger.sends, said, 5)
    assert found.said("another") is None
    assert write_ledger(found, 4) == write_ledger(ledger, 4)  # passed on as it came
    assert read_ledger(None) == (Ledger(), 0)


def test_pruning_keeps_what_may_be_asked_about() -> None:
    def said(expires: int) -> Kept:
        return keep(PushDecision("d", "m", "drop", [], NOW, expires))

    sends = [Send("old", "news", NOW - KEPT_MS), Send("m", "news", NOW)]
    decided = {
        "open": said(NOW + 1),
        "just over": said(NOW - 5 * MINUTE_MS),  # by a clock that is behind it is not
        "over": said(NOW - 2 * HOUR_MS),
    }
    found = prune(Ledger(sends, decided), NOW)

    assert [send.message_id for send in found.sends] == ["m"]
    assert set(found.decided) == {"open", "just over"}
    many = [Send(f"m{n}", "news", NOW + n) for n in range(MOST_SENDS + 3)]
    assert prune(Ledger(many), NOW).sends[0].message_id == "m3"
    assert expires_ms(Ledger(sends, decided), NOW) == NOW + KEPT_MS + DAY_MS
    assert expires_ms(Ledger(), NOW) == NOW + DAY_MS
