"""What people are shown of a state: names for numbers, RFC 3339 for milliseconds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.catalog import Catalog
from engine.device import Device
from engine.profile import profile
from engine.push_look import Person
from engine.records import ItemRecord
from engine.state import UserState, fold
from engine.times import DAY_MS

NOW = 1_770_000_000_000


@pytest.fixture
def catalog() -> Catalog:
    found = Catalog()
    found.apply([ItemRecord(ts=0, arrived=0, item_id=name, item=n) for n, name in enumerate("ab")])
    found.name("action", "view", 0)
    found.name("category", "warm", 7)
    return found


def test_a_profile_is_told_in_names(make: Any, catalog: Catalog) -> None:
    state = UserState()
    for record in [
        make.act("u", 0, categories=[7], ts=NOW - DAY_MS),
        make.act("u", 1),
        make.act("u", 0, term=5, categories=[8]),  # names not yet heard of
        make.act("u", 9),
        make.impression("u", "d", [0, 1]),
        make.user("u", city="Köln", diet=None),
        make.device("u", Device(device_id="phone", screen="on")),
        make.push("u", "opened", category="news"),
        make.push("u", "disabled"),
    ]:
        fold(state, record)

    told = profile(Person("u", state), catalog, (), NOW)

    assert told.counters == {"view": 3, "#5": 1}
    assert told.recent == ["#9", "a", "b"]
    assert [(t.item_id, t.action) for t in told.touches] == [
        ("#9", "view"),
        ("a", "#5"),
        ("b", "view"),
        ("a", "view"),
    ]
    assert (told.first_seen, told.last_seen) == (
        "2026-02-01T02:40:00.000Z",
        "2026-02-02T02:40:00.000Z",
    )
    assert told.actions["view"].day == pytest.approx(2.5)
    assert set(told.categories) == {"warm", "#8"}
    assert told.categories["warm"].day == pytest.approx(0.5)
    assert told.attributes == {"city": "Köln"}
    assert told.devices["phone"]["screen"] == "on"
    assert (told.impressions, told.shown[0].item_ids, told.seen_items) == (2, ["a", "b"], 3)
    assert (told.push.totals, told.push.switched) == ({"opened": 1, "disabled": 1}, {"": False})
    assert told.push.opens_by_hour_of_week == {2: 1}
    assert msgspec.json.encode(told)


def test_of_nobody_nothing_is_told(catalog: Catalog) -> None:
    told = profile(Person("u", UserState()), catalog, (), NOW)

    assert (told.counters, told.recent, told.first_seen, told.last_seen) == ({}, [], None, None)
