"""People from a real simulated log; bodies held against what the service decodes."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from engine.device import read_device
from engine.events import Impression, Interaction, decode_batch
from loadtests.people import DAY_S, Town, read_town
from loadtests.traffic import KINDS, MIX, PUSHED, Traffic
from serving.page import PageBody
from serving.push import DocumentedScoreBody
from serving.recommend import RecommendBody
from training.world import World, encode

BODIES = {"page": PageBody, "recommend": RecommendBody, "push": DocumentedScoreBody}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    world = World("amber", 150, 100, 1, datetime(2026, 2, 2, tzinfo=UTC), None)
    file: Path = tmp_path_factory.mktemp("town") / "people.jsonl"
    file.write_bytes(encode([*world.item_events(), *world.history(3)]))
    return read_town(file)


def test_a_day_passes_and_states_change_with_it(town: Town) -> None:
    rng = random.Random(1)
    night = Counter(town.someone(3600 * 2, rng).device.get("place") for _ in range(300))
    day = Counter(town.someone(3600 * 12, rng).device.get("place") for _ in range(300))

    assert night != day
    moved = {
        user: {json.dumps(m.device, sort_keys=True) for m in town.moments if m.user_id == user}
        for user in town.users
    }
    assert sum(len(states) > 1 for states in moved.values()) > len(town.users) / 2
    # Whoever is drawn has their moment about now, over midnight too.
    assert {town.someone(DAY_S - 1, rng).at_s > DAY_S / 2 for _ in range(300)} == {True, False}


def test_bodies_are_what_the_service_takes(town: Town) -> None:
    traffic = Traffic(town, seconds=600, seed=1)
    calls = [traffic.next(number) for number in range(600)]

    assert {call.kind for call in calls} == set(KINDS)
    for call in calls:
        if call.kind == "events":
            batch = decode_batch(call.body)
            assert batch.events
            assert not batch.rejected
            continue
        body = msgspec.json.decode(call.body, type=BODIES[call.kind])
        if isinstance(body, DocumentedScoreBody):
            assert len(body.requests) == min(PUSHED, len(town.users))
        else:
            assert read_device(body.device or {})[1] == []


def test_the_mix_is_as_asked(town: Town) -> None:
    traffic = Traffic(town, seconds=4000, seed=2)
    kinds = Counter(traffic.next(number).kind for number in range(4000))

    for kind, share in MIX.items():
        assert abs(kinds[kind] / 40 - share) < 4


def test_events_answer_to_what_was_shown(town: Town) -> None:
    traffic = Traffic(town, seconds=100, seed=3, mix={"page": 1.0})
    asked = traffic.next(50.0)
    modules = [
        {"module_id": "for_you", "items": [{"item_id": "i1"}, {"item_id": "i2"}]},
        {"module_id": "new", "items": []},
    ]
    traffic.learn(asked, json.dumps({"decision_id": "d1", "modules": modules}).encode())
    [moment] = [m for m in town.moments if m.user_id == asked.user_id][:1]

    told = decode_batch(json.dumps(traffic._events(moment)).encode())

    seen, *acts = [event for _, event in told.events]
    assert isinstance(seen, Impression)
    assert seen.decision_id == "d1"
    assert [list(module.item_ids) for module in seen.shown] == [["i1", "i2"]]
    for act in acts:
        assert isinstance(act, Interaction)
        assert (act.decision_id, act.module_id) == ("d1", "for_you")
        assert act.item_id in ("i1", "i2")
    # Once: the next event of the same person tells where they are.
    again = decode_batch(json.dumps(traffic._events(moment)).encode())
    assert {type(event).__name__ for _, event in again.events} == {"DeviceEvent", "Interaction"}


def test_a_log_without_people_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text('{"type":"item","item_id":"a"}\n')

    with pytest.raises(ValueError, match="device events"):
        read_town(tmp_path / "none.jsonl")
