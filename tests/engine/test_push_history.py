"""Trials of a coin: what a person does with a message and without one, as their state counts it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.fold import untold
from engine.push_features import COLUMN, make_row
from engine.push_history import arms_at
from engine.push_message import COIN, Goal, Message, PushDecision
from engine.records import PushDecisionRecord
from engine.situation import Moment
from engine.state import UserState, decode_state, encode_state, fold, join
from engine.times import HOUR_MS

NOW = 1_770_000_000_000
GOAL = Goal("open", 2.0)


def decision(
    number: int, action: Any, at_ms: int = NOW, measured: bool = True, **fields: Any
) -> PushDecisionRecord:
    message = Message(f"m{number}", "news", at_ms + 24 * HOUR_MS, goal=GOAL)
    made = PushDecision(f"d{number}", f"m{number}", action, [], at_ms, message.expires_ms,
                        measured=measured, forced=fields.pop("forced", None),
                        coin=fields.pop("coin", COIN))  # fmt: skip
    return PushDecisionRecord(
        ts=at_ms, arrived=at_ms, user_id="u", message=message, decision=made, **fields
    )


def test_both_arms_are_counted_once_their_time_is_over(make: Any) -> None:
    state = UserState()
    fold(state, decision(1, "send"))
    fold(state, decision(2, "drop", NOW + HOUR_MS))
    fold(state, make.act("u", action="click", ts=NOW + HOUR_MS))  # not the goal
    fold(state, make.act("u", action="open", ts=NOW + HOUR_MS + 1000))
    fold(state, make.act("u", action="open", ts=NOW + HOUR_MS + 2000))  # counts once

    assert state.push is not None
    assert arms_at(state.push, NOW // 1000 + 7199) == [0] * 6
    assert arms_at(state.push, NOW // 1000 + 7201) == [1, 1, 0, 0, 0, 0]
    assert arms_at(state.push, NOW // 1000 + 4 * 3600) == [1, 1, 0, 1, 1, 1]
    fold(state, decision(3, "send", NOW + 10 * HOUR_MS))
    fold(state, make.act("u", action="open", ts=NOW + 13 * HOUR_MS))  # too late
    assert arms_at(state.push, NOW // 1000 + 20 * 3600) == [
        2,
        1,
        0,
        1,
        1,
        1,
    ]  # within an hour it was only the second


@pytest.mark.parametrize(
    "record",
    [
        decision(1, "hold"),
        decision(1, "send", measured=False),
        decision(1, "drop", forced="caps"),
        decision(1, "drop", measured=False, item=7),
        decision(1, "drop", coin=0.1),  # an unfair one
    ],
)
def test_what_no_coin_decided_changes_nothing(record: PushDecisionRecord) -> None:
    state = UserState()
    before = encode_state(state)
    fold(state, record)
    assert untold(record)
    state.arrived_s = 0
    assert encode_state(state) == before


def test_a_pushed_item_is_remembered_unless_it_is_measured() -> None:
    state = UserState()
    fold(state, decision(1, "send", measured=False, item=7))
    fold(state, decision(2, "send", item=8))
    assert state.push is not None
    assert state.push.pushed == [(7, NOW // 1000)]


def test_a_persons_own_effect_is_what_the_arms_say(make: Any) -> None:
    state = UserState()
    for number in range(40):
        at_ms = NOW + number * 24 * HOUR_MS
        fold(state, decision(number, "send" if number % 2 else "drop", at_ms))
        if number % 2:
            fold(state, make.act("u", action="open", ts=at_ms + HOUR_MS))
    kept = decode_state(encode_state(state))
    at_ms = NOW + 50 * 24 * HOUR_MS
    row = make_row(kept, [], Message("x", "news", at_ms + HOUR_MS), Moment(at_ms, 0, 0, None, 8, 0))

    # Each arm starts from twenty trials at the rate of both, 21/42.
    assert row[COLUMN["own_effect"]] == pytest.approx(30 / 40 - 10 / 40)
    assert row[COLUMN["own_base"]] == pytest.approx(0.25)


def test_two_states_of_a_person_add_their_trials() -> None:
    one, other = UserState(), UserState()
    fold(one, decision(1, "send"))
    fold(other, decision(2, "drop"))
    fold(other, decision(3, "drop", NOW + 5 * HOUR_MS))
    join(one, other)
    assert one.push is not None
    assert arms_at(one.push, NOW // 1000 + 10 * 3600) == [1, 0, 0, 2, 0, 0]


def test_opens_soon_after_a_message_went_out_are_counted_once(make: Any) -> None:
    state = UserState()
    told = [
        ("a", "sent", 0), ("a", "delivered", 1), ("a", "opened", 1800), ("a", "opened", 1801),
        ("b", "sent", 0), ("b", "opened", 1801),  # too late
        ("c", "opened", 60),  # nobody told when it went out
        ("d", "sent", 0), ("d", "dismissed", 5), ("d", "opened", 30),
    ]  # fmt: skip
    for message_id, status, at_s in sorted(told, key=lambda one: one[2]):
        fold(state, make.push("u", status, message=message_id, ts=NOW + at_s * 1000))
    kept = decode_state(encode_state(state))
    assert kept.push is not None
    assert kept.push.prompt == 2
    row = make_row(kept, [], Message("x", "news", NOW + HOUR_MS), Moment(NOW, 0, 0, None, 8, 0))
    assert row[COLUMN["prompt_rate"]] == pytest.approx((2 + 1) / (3 + 10))
    join(kept, kept)
    assert kept.push.prompt == 4
