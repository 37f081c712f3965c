"""The catalogue as columns, against the items and counters that it was made from."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from engine import columns
from engine.catalog import Catalog
from engine.columns import CATEGORIES, FIRST, Columns
from engine.records import ItemRecord, TermRecord

NOW = 1_770_000_000_000


def item(number: int, ts: int = NOW, **told: Any) -> ItemRecord:
    return ItemRecord(ts=ts, arrived=ts, item_id=f"i{number}", item=number, **told)


def described(number: int, **told: Any) -> ItemRecord:
    return item(number, attributes={"title": f"item {number}"}, **told)


def catalog_of(*records: ItemRecord) -> Catalog:
    catalog = Catalog()
    for term, name in enumerate("abcdef"):
        catalog.apply([TermRecord(ts=0, arrived=0, space="category", name=name, term=term)])
    catalog.apply(records)
    return catalog


def shown(found: Columns, at_ms: int) -> list[int]:
    return np.flatnonzero(found.available(at_ms)).tolist()


def test_an_empty_catalogue() -> None:
    empty = Columns()
    empty.rank(np.ones(256, np.float32), NOW)

    assert (empty.available(NOW).shape, len(empty.popular), len(empty.fresh)) == ((0,), 0, 0)


def test_times_bound_what_is_available() -> None:
    found = catalog_of(
        described(0),
        described(1, available_from=NOW + 10),
        described(2, available_until=NOW + 10),
        described(3, available_from=NOW + 5, available_until=NOW + 10),
        described(4, available_until=0),  # at once
    ).columns

    assert shown(found, NOW) == [0, 2]
    assert shown(found, NOW + 5) == [0, 2, 3]
    assert shown(found, NOW + 9) == [0, 2, 3]
    assert shown(found, NOW + 10) == [0, 1]


def test_any_order_of_times_asked_for() -> None:
    rng = np.random.default_rng(1)
    catalog = catalog_of()
    for number in range(200):
        start, end = rng.integers(0, 50, 2).tolist()
        until = end if number % 3 else None
        catalog.apply([described(number, available_from=start, available_until=until)])
        for at_ms in rng.integers(-1, 51, 5).tolist():
            expected = [s.item for s in catalog.items if s and s.why_not(at_ms) is None]
            assert shown(catalog.columns, at_ms) == expected


def test_what_is_deleted_or_unknown_is_hidden() -> None:
    catalog = catalog_of(described(0), item(1), described(2), item(3, deleted=True))
    assert shown(catalog.columns, NOW) == [0, 2]

    catalog.apply([item(0, NOW + 1, deleted=True), item(1, NOW + 1, attributes={"a": 1})])
    assert shown(catalog.columns, NOW) == [1, 2]

    catalog.apply([item(0, NOW + 2, deleted=False)])
    assert shown(catalog.columns, NOW) == [0, 1, 2]


def test_a_gap_between_dense_ids_is_hidden() -> None:
    found = catalog_of(described(0), described(3)).columns

    assert found.size == 4
    assert shown(found, NOW) == [0, 3]


def test_categories_keep_their_order_and_number() -> None:
    catalog = catalog_of(
        item(0, attributes={"categories": ["c", "a"]}),
        item(1, attributes={"categories": list("abcdef")}),
        item(2, attributes={"categories": "a"}),
    )
    assert catalog.columns.categories[:3].tolist() == [[2, 0, -1, -1], [0, 1, 2, 3], [-1] * 4]
    assert CATEGORIES == 4

    catalog.apply([item(0, NOW + 1, attributes={"categories": ["f"]})])
    assert catalog.columns.categories[0].tolist() == [5, -1, -1, -1]


def test_an_item_is_born_when_it_becomes_available_or_is_first_described() -> None:
    found = catalog_of(
        described(0, ts=500),
        described(1, ts=500, available_from=300),
        item(2, 500, attributes={"a": 1}),
        item(2, 200, attributes={"b": 1}),
        item(3, 500),
    ).columns

    assert found.born_ms[:4].tolist() == [500, 300, 200, 0]


def test_counters_are_totals_of_all_partitions() -> None:
    catalog = catalog_of(described(0), described(1))
    catalog.count(0, {(1, 2): 5, (1, -1): 50})
    catalog.count(1, {(1, 2): 2, (0, 0): 1})
    catalog.count(0, {(1, 2): 6})

    assert catalog.columns.counts[1, [0, 1, 2, 3]].tolist() == [50, 0, 0, 8]
    assert catalog.columns.counts[0, :2].tolist() == [0, 1]
    assert catalog.totals(1, (2, -1)) == {2: 8, -1: 50}


def test_growing_keeps_what_was_there() -> None:
    catalog = catalog_of(described(0, available_until=NOW + 1))
    catalog.count(0, {(0, -1): 7, (0, 3): 2})
    before = catalog.columns.counts
    catalog.apply([described(5 * FIRST)])
    catalog.count(0, {(5 * FIRST, 200): 4})  # a new item and a new action
    catalog.count(0, {(9 * FIRST, 0): 1})  # counted before the item stream told of it
    found = catalog.columns

    assert found.counts[0, [0, 4]].tolist() == [7, 2]
    assert found.counts[5 * FIRST, 201] == 4
    assert found.counts[9 * FIRST, 1] == 1
    assert (found.size, shown(found, NOW)) == (5 * FIRST + 1, [0, 5 * FIRST])
    assert shown(found, NOW + 1) == [5 * FIRST]
    assert before[0, 0] == 7  # whoever held the old one reads on
    names = ("hidden", "from_ms", "until_ms", "born_ms", "categories", "counts", "worth")
    assert len({len(getattr(found, name)) for name in names}) == 1


def test_ranks_and_worth_against_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "RANKED", 300)
    rng = np.random.default_rng(1)
    catalog = Catalog()
    weights = np.zeros(256, np.float32)
    weights[:4] = 1, 5, -3, 0
    for number in range(2_000):
        told = described(
            number,
            available_from=NOW - int(rng.integers(-100, 1_000_000)) * 1000,
            deleted=bool(rng.random() < 0.1),
        )
        catalog.apply([told])
        terms = {(number, t): int(rng.integers(0, 1000)) for t in (-1, 0, 1, 2, 3)}
        catalog.count(0, terms)
    found = catalog.columns
    found.rank(weights, NOW)

    available = [s for s in catalog.items if s is not None and s.why_not(NOW) is None]
    # an act that speaks against an item takes no popularity away
    worth = {s.item: sum(n * max(weights[t], 0) for t, n in counts(catalog, s.item)) for s in
             available}  # fmt: skip
    assert len(found.popular) == len(found.fresh) == 300
    assert [worth[i] for i in found.popular.tolist()] == sorted(worth.values(), reverse=True)[:300]
    born = sorted((s.available_from[1] or 0 for s in available), reverse=True)[:300]
    assert found.born_ms[found.fresh].tolist() == born
    assert found.popularity(found.popular).tolist() == [worth[i] for i in found.popular.tolist()]
    assert (found.popular.dtype, found.fresh.dtype) == (np.int32, np.int32)


def counts(catalog: Catalog, number: int) -> list[tuple[int, int]]:
    return list(catalog.totals(number, range(4)).items())


def test_items_nobody_acted_on_are_ranked_last_and_hidden_ones_not() -> None:
    catalog = catalog_of(described(0), described(1), item(2), described(3, available_until=NOW))
    catalog.count(0, {(1, 0): 1, (2, 0): 9, (3, 0): 9})
    catalog.columns.rank(np.ones(256, np.float32), NOW)

    assert catalog.columns.popular.tolist() == [1, 0]
    assert sorted(catalog.columns.fresh.tolist()) == [0, 1]


def test_an_action_without_a_column_yet_counts_nothing() -> None:
    found = Columns()
    rows = np.array([[9, 1, 2], [0, 0, 0]])
    found.rank(np.array([2, 3, 50], np.float32), NOW)

    assert found.worth_of(rows).tolist() == [8, 0]  # impressions are worth nothing


def test_reading_while_the_catalogue_grows() -> None:
    catalog = catalog_of(described(0))
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(1, 20_000):
                catalog.apply([item(number, attributes={"a": 1})])
                catalog.count(0, {(number, -1): 1})
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    before = 0
    while writer.is_alive():
        mask = catalog.columns.available(NOW)
        rows = np.arange(len(mask), dtype=np.int32)
        assert len(catalog.columns.counts[rows]) == len(catalog.columns.popularity(rows))
        assert mask.sum() >= max(before, len(mask) - 1)
        before = int(mask.sum())
    assert failures == []


def test_availability_is_looked_at_again_when_it_changes() -> None:
    catalog = Catalog()
    known = {"attributes": {"title": "x"}}
    told = [
        ItemRecord(ts=1, arrived=1, item_id="a", item=0, **known),
        ItemRecord(ts=1, arrived=1, item_id="b", item=1, available_from=2_000, **known),
        ItemRecord(ts=1, arrived=1, item_id="c", item=2, available_until=3_000, **known),
    ]
    catalog.apply(told)
    columns = catalog.columns

    at = {ms: columns.available(ms).tolist() for ms in (1_999, 2_000, 2_999, 3_000, 1_000)}
    assert at[1_999] == at[1_000] == [True, False, True]
    assert at[2_000] == at[2_999] == [True, True, True]
    assert at[3_000] == [True, True, False]
    assert columns.available(5_000) is columns.available(9_000)

    catalog.apply([ItemRecord(ts=2, arrived=2, item_id="a", item=0, deleted=True)])
    assert columns.available(9_000).tolist() == [False, True, False]


def test_what_changed_since_is_told_once() -> None:
    catalog = catalog_of(described(0), described(2), described(1))
    columns = catalog.columns
    everything, now = columns.changed_since(0)
    assert (everything.tolist(), now) == ([0, 1, 2], columns.changes)
    assert columns.changed_since(now)[0].tolist() == []

    catalog.apply([described(2 * FIRST), described(1), described(1, ts=NOW + 1)])
    changed, later = columns.changed_since(now)
    assert changed.tolist() == [1, 2 * FIRST]
    assert changed.dtype == np.int32
    assert columns.changed_since(later)[0].tolist() == []
    assert columns.changed_since(0)[0].tolist() == [0, 1, 2, 2 * FIRST]
