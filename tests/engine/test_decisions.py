"""A decision's id finds its record; the record says what was decided, and folds as before."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.decisions import (
    CONSIDERED,
    FILTER_BYTES,
    new_decision_id,
    not_shown,
    place_of,
    record_of,
)
from engine.device import Device
from engine.ids import event_hash
from engine.pipeline import Slate
from engine.records import DecisionRecord, decode_user_record, encode
from engine.slate import Choice
from engine.times import LATEST_MS

NOW = 1_770_000_000_000

Decide = Callable[..., Slate]


def record(slate: Slate, decision_id: str = "d") -> DecisionRecord:
    """As it comes back from the log."""
    raw = encode(record_of(slate, decision_id, NOW + 5))
    found = decode_user_record(raw)
    assert isinstance(found, DecisionRecord)
    assert encode(found) == raw
    return found


@pytest.mark.parametrize("place", [(0, 0), (15, NOW), (1023, LATEST_MS)])
def test_an_id_says_where_its_record_lies(place: tuple[int, int]) -> None:
    ids = {new_decision_id(*place) for _ in range(1000)}
    assert len(ids) == 1000
    assert {place_of(decision_id) for decision_id in ids} == {place}
    assert all(len(decision_id) == 28 and decision_id.isascii() for decision_id in ids)


OURS = "AQADAAABnBw4pABTrQuo_HCCIbS2"  # made once: workers have to agree on what there is to test


def altered(position: int, byte: int) -> str:
    raw = bytearray(base64.urlsafe_b64decode(OURS))
    raw[position] = byte
    return base64.urlsafe_b64encode(bytes(raw)).decode()


@pytest.mark.parametrize(
    "foreign",
    ["", "d", "order-4711", "é" * 28, "=" * 28, "\ud800", "A" * 28, "AQ" * 20, " " * 28]
    + [OURS + end for end in ("=", "\n", "A", "AAAA")]
    + [altered(0, 2), altered(1, 0xFF), altered(3, 0xFF)],
)
def test_an_id_of_another_system_has_no_place(foreign: str) -> None:
    assert place_of(foreign) is None


def test_the_other_alphabet_is_another_id() -> None:
    ours = next(i for i in iter(lambda: new_decision_id(3, NOW), "") if "-" in i or "_" in i)
    assert place_of(ours) == (3, NOW)
    assert place_of(ours.replace("-", "+").replace("_", "/")) is None


def test_the_record_is_what_was_decided(decide: Decide) -> None:
    device = Device(place="supermarket", activity={"walking": 1.0}, device_type="phone")
    slate = decide("u", surface="home", module_id="m", like=3, device=device, size=4)
    told = record(slate)
    assert [slot.item for slot in told.slots] == slate.items()
    assert [slot.position for slot in told.slots] == [0, 1, 2, 3]
    assert [slot.propensity for slot in told.slots] == [c.propensity for c in slate.choices]
    assert [slot.score for slot in told.slots] == [round(c.value, 6) for c in slate.choices]
    sources = [slate.candidates.source(slate.candidate(choice)) for choice in slate.choices]
    assert [slot.source for slot in told.slots] == sources
    assert (told.user_id, told.ts, told.arrived) == ("u", NOW, NOW + 5)
    assert (told.surface, told.module_id, told.candidates) == ("home", "m", 199)
    assert (told.release, told.config_version, told.state_position) == ("r1", "c1", 77)
    assert told.asked is not None
    assert told.moment is not None
    assert (told.asked.like, told.asked.size, told.asked.given) == (3, 4, None)
    assert (told.moment.situation, told.moment.number) == ("shopping", 1)
    assert told.moment.confidence == told.moment.probabilities[1] > 0.7
    assert (told.moment.hour, told.moment.weekday) == (slate.moment.hour, slate.moment.weekday)
    assert told.moment.device_type == "phone"


def test_what_was_not_shown_is_named_best_first(decide: Decide) -> None:
    slate = decide("u", size=3)
    told = record(slate)
    best = [int(slate.candidates.items[row]) for row in slate.ranked.rows]
    others = [item for item in best if item not in slate.items()]
    assert [found.item for found in told.considered] == others[:CONSIDERED]
    assert len(not_shown(slate)) == len(best) - 3


def test_seed_and_state_decide_again(decide: Decide) -> None:
    """All that a replay needs beside the log and the release stands in the record."""
    for seed in range(40):
        told = record(decide("u", seed=seed, size=10, explore=True))
        again = decide("u", told.ts, seed=told.seed, size=told.asked.size if told.asked else 0)
        assert again.items() == [slot.item for slot in told.slots]


def test_the_candidates_of_the_request(decide: Decide) -> None:
    told = record(decide("u", only=np.array([5, 6, 7], np.int32), size=2))
    assert told.asked is not None
    assert told.asked.given == 3
    assert {slot.source for slot in told.slots} == {"given"}
    assert len(told.considered) == 1


def test_an_empty_slate(decide: Decide) -> None:
    told = record(decide("u", only=np.zeros(0, np.int32)))
    assert (told.slots, told.considered, told.candidates) == ([], [], 0)


def test_values_that_are_no_numbers(decide: Decide) -> None:
    """JSON has no NaN; the record must be readable all the same."""
    slate = decide("u", size=2)
    values = slate.ranked.values.copy()
    values[5:] = np.nan
    told = record(replace(slate, ranked=replace(slate.ranked, values=values)))
    assert [found.value for found in told.considered][-1] is None


def test_a_filter_is_kept_unless_it_is_long(decide: Decide) -> None:
    short = {"categories": ["c1", "c2"]}
    told = record(decide("u", filter=short)).asked
    assert told is not None
    assert (told.filter, told.filter_bytes) == (short, 0)
    long = {"categories": [f"c{n}" for n in range(FILTER_BYTES)]}
    slate = decide("u")
    slate = replace(slate, request=replace(slate.request, filter=long))
    cut = record(slate).asked
    assert cut is not None
    assert (cut.filter, cut.filter_bytes) == ({}, len(json.dumps(long, separators=(",", ":"))))


def test_a_record_is_small(decide: Decide) -> None:
    assert len(encode(record_of(decide("u", size=10), new_decision_id(1, NOW), NOW))) < 2000


# ---- in the fold


def test_a_decision_counts_once_and_is_known_as_an_imported_one(
    memory: Any, decide: Decide
) -> None:
    slate = decide("u")
    told = record_of(slate, "d", NOW)
    assert told.hash == event_hash("u", "decision d")
    memory.append(told)
    memory.append(told)
    assert [c.duplicates for c in memory.fold_all()] == [1]
    assert [kept.items for kept in memory.state("u").slates] == [slate.items()]


def test_acting_on_a_slot_says_what_was_seen(memory: Any, make: Any, decide: Decide) -> None:
    slate = decide("u", size=5)
    memory.append(record_of(slate, "d", NOW))
    memory.append(make.act("u", slate.items()[2], decision_id="d", ts=NOW + 1))
    memory.fold_all()
    assert [items for _, items in memory.state("u").shown] == [slate.items()[:3]]


def test_a_decision_follows_an_alias(memory: Any, make: Any, decide: Decide) -> None:
    """Asked about under the old id, it reaches the person's state once."""
    memory.append(make.act("visitor"), make.alias("visitor", "person"))
    memory.append(record_of(decide("visitor"), "d", NOW))
    memory.append(record_of(decide("visitor"), "d", NOW))
    memory.fold_all()
    assert [slate.decision_id for slate in memory.state("person").slates] == ["d"]
    assert memory.state("visitor").slates == []


def test_a_decision_before_an_erasure_is_forgotten(memory: Any, make: Any, decide: Decide) -> None:
    memory.append(make.erase("u", NOW + 1))
    memory.append(record_of(decide("u"), "d", NOW))
    assert [c.forgotten for c in memory.fold_all()] == [1]
    assert memory.state("u").slates == []


def test_a_record_of_an_older_log(memory: Any) -> None:
    old = (
        b'{"type":"decision","ts":1770000000000,"arrived":1770000000000,"user_id":"u","hash":5,'
        b'"decision_id":"d","slots":[{"item":4,"position":1},{"item":9,"position":0,'
        b'"propensity":0.5}],"surface":"home"}'
    )
    told = decode_user_record(old)
    assert isinstance(told, DecisionRecord)
    assert encode(told) == old
    memory.append(told)
    memory.fold_all()
    assert memory.state("u").slates[0].items == [9, 4]


def test_a_choice_far_below(decide: Decide) -> None:
    """What stands for −∞ in a slate is a number in the record."""
    slate = decide("u", size=1)
    worst = replace(slate, choices=[Choice(0, -1e30, 1.0)])
    assert record(worst).slots[0].score == -1e30
