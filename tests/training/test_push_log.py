"""What the log tells of pushes: who was drawn, what came of it, and what may still come."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from engine.push_features import COUNT
from engine.push_message import Chance, PushDecision
from engine.records import DecidedMoment, PushDecisionRecord, decode_user_record, encode
from engine.times import DAY_MS, HOUR_MS
from training.push_log import Pushes, read_pushes
from training.push_world import SITUATIONS, START, PushWorld

PARTITIONS = 4


@pytest.fixture
def world(new_log: Any) -> PushWorld:
    return PushWorld(new_log())


def decided(world: PushWorld, user: str, at_ms: int, **told: Any) -> PushDecisionRecord:
    """One decision, drawn by a coin unless told otherwise."""
    world.number += 1
    message = world.message(at_ms)
    made: dict[str, Any] = {
        "action": "send",
        "chance": Chance(send=0.5, drop=0.5),
        "measured": True,
    } | told
    decision = PushDecision(
        f"d{world.number}",
        message.message_id,
        reasons=[],
        at_ms=at_ms,
        expires_ms=message.expires_ms,
        **made,
    )
    moment = DecidedMoment("at_work", 0.8, 9.0, 5, probabilities=[0.1, 0.1, 0.8])
    record = PushDecisionRecord(
        user_id=user,
        ts=at_ms,
        arrived=at_ms,
        message=message,
        decision=decision,
        moment=moment,
        row=world.row([], 10, 9, False),
    )
    world.log.add(record)
    return record


def pushes(world: PushWorld) -> Pushes:
    return read_pushes(world.log, PARTITIONS, 7 * DAY_MS).pushes(len(SITUATIONS))


def end(world: PushWorld, days: float) -> None:
    """The log goes on so long."""
    world.act("other", START + int(days * DAY_MS))


def test_goals_count_in_both_arms_and_within_their_window(world: PushWorld) -> None:
    for user, action in (("a", "send"), ("b", "drop"), ("c", "send"), ("d", "drop")):
        decided(world, user, START, action=action)
    world.act("a", START + HOUR_MS)
    world.act("b", START + 6 * HOUR_MS)
    world.act("c", START + 6 * HOUR_MS + 1)
    world.act("d", START - 1)
    end(world, 30)
    found = pushes(world)

    assert dict(zip(found.sent.tolist()[:2], found.goal.tolist()[:2], strict=True)) == {
        True: 1.0,
        False: 1.0,
    }
    assert found.goal.tolist() == [1, 1, 0, 0]
    assert found.propensity.tolist() == [0.5] * 4
    assert found.hour.tolist() == [24 + 9] * 4
    assert found.evidence.all()


def test_a_coin_that_was_not_fair_is_told_and_one_of_before_was_fair(world: PushWorld) -> None:
    record = decided(world, "a", START, coin=0.1)
    written = msgspec.json.decode(encode(decided(world, "b", START)))
    end(world, 30)

    assert "coin" not in written["decision"]
    assert pushes(world).propensity.tolist() == [0.1, 0.5]
    assert decode_user_record(encode(record)) == record


def test_what_may_still_come_is_not_known(world: PushWorld) -> None:
    record = decided(world, "a", START)
    world.push("a", START + HOUR_MS, "opened", record.message.message_id)
    world.push("a", START + 2 * DAY_MS, "disabled", "")
    found = pushes(world)
    assert (found.goal.tolist(), found.opened.tolist()) == ([0], [1])
    assert np.isnan(found.opted_out).all()
    end(world, 7)
    assert pushes(world).opted_out.tolist() == [1]

    # As of an earlier time, too.
    early = pushes(world).known_at(START + 5 * HOUR_MS)
    assert np.isnan([*early.goal, *early.opened, *early.opted_out]).all()
    assert not early.evidence.any()
    assert len(pushes(world).known_at(START)) == 0


def test_opens_that_came_soon_are_told_apart(world: PushWorld) -> None:
    for user, minutes in (("a", 20), ("b", 40), ("c", None)):
        record = decided(world, user, START)
        if minutes:
            world.push(user, START + minutes * 60_000, "opened", record.message.message_id)
    end(world, 2)
    found = pushes(world)
    by_user = dict(
        zip(found.user.tolist(), zip(found.opened, found.prompt, strict=True), strict=True)
    )
    assert sorted(by_user.values()) == [(0, 0), (1, 0), (1, 1)]
    assert np.isnan(found.known_at(START + HOUR_MS).prompt).all()


def test_a_row_of_before_is_read_as_far_as_it_goes(world: PushWorld) -> None:
    record = decided(world, "a", START)
    decision = msgspec.structs.replace(record.decision, decision_id="before")
    short = record.row[:-1]
    world.log.add(msgspec.structs.replace(record, user_id="b", row=short, decision=decision))
    end(world, 2)
    rows = pushes(world).rows
    assert rows.shape == (2, COUNT)
    assert np.isnan(rows[:, -1]).all()


def test_only_a_coin_is_evidence(world: PushWorld) -> None:
    decided(world, "a", START)
    decided(world, "b", START, forced="quiet_hours")
    decided(world, "c", START, measured=False)
    decided(world, "d", START, measured=False, action="drop")
    decided(world, "e", START, action="hold")
    # Among the measured the coin alone decided, however likely value had made this.
    decided(world, "f", START, chance=Chance(send=0.97, drop=0.025, hold=0.005))
    first = decided(world, "g", START, action="drop")
    decided(world, "g", START + HOUR_MS, first_id=first.decision.decision_id)
    end(world, 30)
    found = pushes(world)

    # Sends say whether messages are opened, whoever decided them; looks of a chain are one draw.
    assert found.sent.sum() == 5
    assert found.evidence.sum() == 3
    assert found.sent[found.evidence].sum() == 2
    assert (found.propensity[found.evidence] == 0.5).all()


def test_failed_sends_erased_people_and_aliases(world: PushWorld, make: Any) -> None:
    failed = decided(world, "a", START)
    world.push("a", START + 1000, "failed", failed.message.message_id)
    decided(world, "visitor", START)
    world.log.add(make.alias("visitor", "member", START + HOUR_MS))
    world.act("member", START + 2 * HOUR_MS)
    decided(world, "gone", START)
    world.log.add(make.erase("gone", START + HOUR_MS))
    world.log.add((0, b"no record"))
    end(world, 30)
    found = pushes(world)

    assert len(found) == 2
    assert found.readable.tolist() == (~found.failed).tolist()
    assert found.failed.sum() == 1
    assert found.goal[~found.failed].tolist() == [1]


def test_a_decision_without_its_row_is_left_out(world: PushWorld) -> None:
    record = decided(world, "a", START)
    world.log.add(msgspec.structs.replace(record, row=[], user_id="b"))
    world.log.add(msgspec.structs.replace(record, moment=None, user_id="c"))
    end(world, 30)
    assert len(pushes(world)) == 1
