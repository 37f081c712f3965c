"""Moments through the log: inferred once, appended behind, folded when they come round."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from engine.device import Device
from engine.fold import FoldRules, Loaded, Located, fold_records
from engine.observer import Observer
from engine.records import DeviceRecord, MomentRecord
from engine.situation import Situations, told_of
from engine.situation_rules import load_situations
from engine.state import UserState, encode_state, touches

SITUATIONS = Situations(load_situations())
SHOPPING = SITUATIONS.names.index("shopping")
SHOP = Device(device_id="phone", place="supermarket", activity={"walking": 0.9})
HOME = Device(device_id="phone", place="home", activity={"still": 0.9})
MINUTE = 60_000
NOW = 1_770_000_000_000


def folded(bench: Any) -> UserState:
    """The user's state once everything has come round."""
    bench.fold_all(situations=SITUATIONS)
    state: UserState = bench.state("u")
    return state


def test_a_device_event_becomes_a_moment_of_the_state(bench: Any, make: Any) -> None:
    bench.append(make.device("u", SHOP, ts=NOW))
    state = folded(bench)

    assert state.situated is not None
    assert state.situated.at_ms == NOW
    belief = np.frombuffer(state.situated.belief, np.float16)
    assert belief.argmax() == SHOPPING
    [(at_s, number, confidence)] = state.situated.timeline
    assert (at_s, number) == (NOW // 1000, SHOPPING)
    assert confidence == pytest.approx(float(belief[SHOPPING]), abs=1e-3)
    assert state.situated.activity["walking"] > 0.8
    assert state.situated.routine == {}  # an hour that is not over is no habit yet
    moment = SITUATIONS.read(state, None, NOW + MINUTE)
    assert (moment.name, moment.age_s) == ("shopping", 60)


def test_what_changes_is_marked_and_what_comes_late_changes_nothing(bench: Any, make: Any) -> None:
    for minute, device in ((0, SHOP), (1, SHOP), (240, HOME)):
        bench.append(make.device("u", device, ts=NOW + minute * MINUTE))
        state = folded(bench)
    assert state.situated is not None
    numbers = [number for _, number, _ in state.situated.timeline]
    assert numbers[0] == SHOPPING
    assert len(numbers) == 2
    [(hour, counts)] = state.situated.routine.items()
    assert hour == 2  # Monday 2:40 UTC
    assert np.frombuffer(counts, np.uint8).argmax() == SHOPPING

    before = encode_state(UserState(situated=state.situated))
    bench.append(make.device("u", SHOP, ts=NOW + 5 * MINUTE))
    late = folded(bench)
    assert encode_state(UserState(situated=late.situated)) == before


def test_an_act_belongs_to_the_moment_that_its_device_told_just_before(
    bench: Any, make: Any
) -> None:
    """The record of the moment stands in the log behind the acts of the same batch."""
    bench.append(
        make.act("u", 3, ts=NOW - MINUTE),
        make.device("u", SHOP, ts=NOW),
        make.act("u", 1, ts=NOW + MINUTE),
        make.act("u", 2, ts=NOW + 40 * MINUTE),
    )
    state = folded(bench)
    assert {touch.item: touch.situation for touch in touches(state)} == {3: 0, 1: SHOPPING, 2: 0}

    bench.append(make.act("u", 4, ts=NOW + 10 * MINUTE))  # a later batch
    assert touches(folded(bench))[-1].situation == SHOPPING


def test_moments_are_folded_as_they_stand_in_the_log() -> None:
    """Replay reads them back, and would give the same with any other model."""
    observer = Observer(SITUATIONS)
    device = _located(1, SHOP, NOW)
    loaded = Loaded({}, set())
    fold_records(0, 1, [device], loaded, FoldRules(), observer.watch)
    [record] = observer.records(loaded.states)
    assert isinstance(record, MomentRecord)
    assert record.changed
    live = fold_records(0, 2, [Located(2, 0, record)], loaded, FoldRules()).states["u"]

    replayed = Loaded({}, set())
    fold_records(0, 2, [device, Located(2, 0, record)], replayed, FoldRules())
    assert encode_state(replayed.states["u"]) == encode_state(live)

    twice = Loaded({}, set())
    again = [device, Located(2, 0, record), Located(2, 1, record)]
    assert encode_state(fold_records(0, 2, again, twice, FoldRules()).states["u"]) == encode_state(
        live
    )


def test_a_model_that_fails_stops_no_folding(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        version = "broken"

        def activity(self, motion: Any) -> None:
            raise ZeroDivisionError

        labels = usual = activity

    observer = Observer(Situations(load_situations(), Broken()))  # type: ignore[arg-type]
    loaded = Loaded({}, set())
    changes = fold_records(0, 1, [_located(1, SHOP, NOW)], loaded, FoldRules(), observer.watch)
    assert observer.records(loaded.states) == []
    assert changes.folded == 1
    assert "situations of 1 device states are not read" in caplog.text


def test_a_tablet_that_nobody_uses_tells_nothing_of_its_owner() -> None:
    idle = Device(device_id="tablet", device_type="tablet", place="home", charging=True)
    for device in (idle, Device(device_id="phone", app_version="7")):
        observer = Observer(SITUATIONS)
        loaded = Loaded({}, set())
        fold_records(0, 1, [_located(1, device, NOW)], loaded, FoldRules(), observer.watch)
        assert observer.records(loaded.states) == []


def test_a_request_without_a_signal_renews_no_belief(bench: Any, make: Any) -> None:
    """Its device says who asks, and its moment was read from what was believed before."""
    bench.append(make.device("u", SHOP, ts=NOW))
    state = folded(bench)
    empty = Device(device_id="phone", app_version="7")
    for minute, device in ((5, empty), (6, HOME)):
        at_ms = NOW + minute * MINUTE
        moment = told_of(SITUATIONS.read(state, device, at_ms))
        decision = make.decision("u", f"d{minute}", [1], ts=at_ms, arrived=at_ms, device=device)
        bench.append(msgspec.structs.replace(decision, moment=moment))
        state = folded(bench)
        assert state.situated is not None
        assert state.situated.at_ms == (NOW if device is empty else at_ms)
    assert SITUATIONS.read(state, None, NOW + 6 * MINUTE).age_s == 0


def _located(position: int, device: Device, ts: int) -> Located:
    record = DeviceRecord(
        ts=ts, arrived=ts, user_id="u", hash=position, event_id=f"e{position}", device=device
    )
    return Located(position, 0, record)
