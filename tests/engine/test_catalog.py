"""Items in memory: the newest `ts` wins, attribute by attribute, in any order of arrival."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine.catalog import Catalog, ItemState, decode_item, encode_item, fold_item
from engine.records import ItemRecord, TermRecord


def record(ts: int, **told: Any) -> ItemRecord:
    return ItemRecord(ts=ts, arrived=1000, item_id="soup", item=3, **told)


def folded(*records: ItemRecord) -> ItemState:
    state: ItemState | None = None
    for one in records:
        state = fold_item(state, one)
    assert state is not None
    return state


HISTORY = [
    record(0),
    record(10, attributes={"title": "Soup", "price": 5}, available_from=100),
    record(20, attributes={"title": "Hot soup"}, deleted=True),
    record(30, attributes={"price": None}, available_until=900),
    record(40, deleted=False, available_from=None),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
def test_the_newest_wins_in_any_order(order: tuple[int, ...]) -> None:
    state = folded(*(HISTORY[n] for n in order))

    assert {name: state.attribute(name) for name in state.attributes} == {
        "title": "Hot soup",
        "price": None,
    }
    assert state.available_from == (40, None)
    assert state.available_until == (30, 900)
    assert state.deleted == (40, False)


def test_of_equal_times_the_later_record_wins() -> None:
    state = folded(record(10, attributes={"a": 1}), record(10, attributes={"a": 2}))

    assert state.attribute("a") == 2


@pytest.mark.parametrize(
    ("history", "at", "why"),
    [
        (HISTORY[:1], 500, "unknown: no item event told of it"),
        (HISTORY[:2], 500, None),
        (HISTORY[:2], 99, "not available yet"),
        (HISTORY[:2], 100, None),
        (HISTORY[:3], 500, "deleted"),
        (HISTORY, 899, None),
        (HISTORY, 900, "no longer available"),
        (HISTORY, 0, None),
        ([record(5, deleted=True)], 500, "deleted"),
    ],
)
def test_why_an_item_is_not_shown(history: list[ItemRecord], at: int, why: str | None) -> None:
    assert folded(*history).why_not(at) == why


def test_an_item_survives_being_packed() -> None:
    state = folded(*HISTORY)

    assert encode_item(decode_item(encode_item(state))) == encode_item(state)


def test_following_the_stream_twice_changes_nothing() -> None:
    catalog = Catalog()
    terms = [
        TermRecord(ts=0, arrived=0, space="category", name=n, term=t) for t, n in enumerate("ab")
    ]
    records = [*terms, *HISTORY, record(50, attributes={"categories": ["b", "a", "new"]})]
    catalog.apply(records)
    once = [encode_item(state) for state in catalog.items if state]
    catalog.apply(records)

    assert [encode_item(state) for state in catalog.items if state] == once
    assert catalog.category_terms(3) == [1, 0]  # a category without a number counts nowhere yet
    assert (catalog.by_id, len(catalog.items)) == ({"soup": 3}, 4)
    assert (catalog.id_of(3), catalog.id_of(0), catalog.id_of(99), catalog.id_of(-1)) == (
        "soup",
        *(None, None, None),
    )
    assert catalog.get("stew") is None
    assert catalog.category_terms(99) == []


def test_loading_and_then_following_is_the_same_as_following() -> None:
    followed, loaded = Catalog(), Catalog()
    followed.apply(HISTORY)
    loaded.load([decode_item(encode_item(folded(*HISTORY[:3])))])
    loaded.apply(HISTORY[2:])

    first, second = followed.get("soup"), loaded.get("soup")
    assert first is not None
    assert second is not None
    assert encode_item(first) == encode_item(second)


def test_counters_are_totals_over_partitions() -> None:
    catalog = Catalog()
    catalog.count(0, {(3, 1): 5, (3, -1): 50})
    catalog.count(1, {(3, 1): 2})
    catalog.count(0, {(3, 1): 6})  # changed values, not increases

    assert catalog.totals(3, (1, -1, 7)) == {1: 8, -1: 50}
    assert catalog.totals(4, (1,)) == {}
