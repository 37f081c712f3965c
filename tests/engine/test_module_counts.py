"""Looks and acts by module: cells as the store keeps them, and the tables that are read of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.module_counts import (
    LOOK,
    PARTS,
    USED,
    WEEK_MS,
    WEEKS,
    Axes,
    Cell,
    ModuleCounts,
    ModuleTables,
    cell_of,
    field_of,
    part_of,
    week_of,
)

WEEK = 2929
NOW = WEEK * WEEK_MS + WEEK_MS // 2  # in the middle of a week, whose acts then have no age
AXES = Axes(("a", "b"), 3, ("plants", ""))
WORTH = np.array([0.0, 1.0, -3.0])
FOREVER = 1e12  # days


def cell(module: str = "a", term: int = LOOK, situation: int = 0, week: int = WEEK) -> Cell:
    return Cell(module, "", situation, 1, week, term)


def tables(
    counts: ModuleCounts, half_life_days: float = FOREVER, axes: Axes = AXES, at_ms: int = NOW
) -> ModuleTables:
    return counts.tables(axes, WORTH, half_life_days, at_ms)


def looks(counts: ModuleCounts, half_life_days: float = FOREVER, at_ms: int = NOW) -> list[float]:
    """By module, over all situations, segments and parts of a day."""
    told = tables(counts, half_life_days, at_ms=at_ms).looks
    found: list[float] = told.sum(axis=(1, 2, 3)).tolist()
    return found


def test_nothing_counted_is_nothing() -> None:
    found = tables(ModuleCounts())
    for table in (found.looks, found.used):
        assert table.shape == (2, 3, 2, PARTS)
        assert not table.any()
    assert found.worth.tolist() == [0, 0]


def test_counts_stand_at_their_module_situation_and_segment() -> None:
    counts = ModuleCounts()
    counts.take(
        0,
        {
            Cell("a", "plants", 2, 5, WEEK, LOOK): 7,
            Cell("a", "plants", 2, 5, WEEK, USED): 4,
            Cell("a", "plants", 2, 5, WEEK, 1): 3,
            Cell("a", "", 0, 0, WEEK, 2): 2,
            Cell("b", "", 0, 0, WEEK, 0): 5,
        },
    )
    found = tables(counts)

    assert found.looks[0, 2, 0, 5] == 7
    assert found.used[0, 2, 0, 5] == 4
    for table in (found.looks, found.used):
        assert np.count_nonzero(table) == 1
    assert found.worth.tolist() == [3 * 1 + 2 * -3, 0]  # of acts wherever they were


def test_partitions_add_up() -> None:
    counts = ModuleCounts()
    for partition in range(5):
        counts.take(partition, {cell(): partition, cell("b"): 1})
    assert looks(counts) == [10, 5]
    counts.take(3, {cell(): 13})  # totals, not increases
    assert looks(counts) == [20, 5]
    counts.take(3, {cell(): 13})
    assert looks(counts) == [20, 5]


def test_after_a_gap_a_partition_is_replaced_whole() -> None:
    counts = ModuleCounts()
    counts.take(0, {cell(): 4, cell("b"): 6})
    counts.take(1, {cell(): 1})

    counts.replace(0, {cell(): 5})

    assert looks(counts) == [6, 0]  # what is no longer told of b is gone
    counts.replace(0, {})
    assert looks(counts) == [1, 0]
    counts.replace(7, {cell("b"): 2})
    assert looks(counts) == [1, 2]


def test_where_no_store_keeps_totals_each_counts_once_more() -> None:
    counts = ModuleCounts()
    counts.add([cell(), cell(), cell("b"), cell()])
    assert looks(counts) == [3, 1]


def test_modules_situations_segments_and_actions_that_are_no_more_count_nothing() -> None:
    counts = ModuleCounts()
    counts.take(
        0,
        {
            cell("gone"): 9,
            cell(situation=3): 9,
            Cell("a", "meat", 0, 1, WEEK, LOOK): 9,
            cell(term=3): 9,
            cell(): 1,
        },
    )
    found = tables(counts)

    assert (found.looks.sum(), found.used.sum(), found.worth.sum()) == (1, 0, 0)
    back = tables(counts, axes=Axes(("gone", "a"), 4, ("meat", "")))  # one is put back
    assert (back.looks[0].sum(), back.looks[1].sum()) == (9, 1 + 9 + 9)


def test_a_week_is_as_old_as_its_middle() -> None:
    counts = ModuleCounts()
    counts.take(0, {cell(week=WEEK - 2): 8})

    assert looks(counts, 14) == pytest.approx([4, 0])
    assert looks(counts, 7) == pytest.approx([2, 0])
    assert looks(counts, 14, NOW + WEEK_MS) == pytest.approx([8 * 2**-1.5, 0])
    assert looks(counts, 14, NOW - 3 * WEEK_MS) == [8, 0]  # what is to come is not worth more


def test_weeks_too_old_are_not_read() -> None:
    counts = ModuleCounts()
    counts.take(0, {cell(week=WEEK - WEEKS): 1, cell(week=WEEK - WEEKS - 1): 10})
    assert looks(counts) == pytest.approx([1, 0])
    assert looks(counts, at_ms=NOW + WEEK_MS) == [0, 0]


def test_weeks_begin_where_days_do() -> None:
    assert week_of(0) == 0
    assert week_of(WEEK_MS - 1) == 0
    assert week_of(NOW) == WEEK


def test_hundreds_of_cells() -> None:
    """More than the columns begin with."""
    axes = Axes(tuple(f"m{n}" for n in range(50)), 3, ("plants", ""))
    totals = {
        Cell(f"m{n}", segment, situation, 0, WEEK, LOOK): n + situation
        for n in range(50)
        for situation in range(3)
        for segment in ("plants", "")
    }
    counts = ModuleCounts()
    counts.take(0, totals)
    found = tables(counts, axes=axes).looks.sum(axis=3)
    assert found.tolist() == [[[n + s, n + s] for s in range(3)] for n in range(50)]


def test_tables_are_read_while_counts_come_in() -> None:
    """The follower's thread writes, requests read: every table is whole, and none is missed."""
    counts, done = ModuleCounts(), threading.Event()
    seen: list[float] = []

    def read() -> None:
        while not done.is_set():
            seen.append(sum(looks(counts)))

    reader = threading.Thread(target=read)
    reader.start()
    for week in range(20):
        for situation in range(3):
            for segment in ("", "plants", "meat"):
                counts.take(0, {Cell("a", segment, situation, 3, WEEK - week, LOOK): 1})
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert looks(counts) == pytest.approx([20 * 3 * 2, 0])


def test_a_cell_has_a_name_that_no_item_counter_has() -> None:
    assert field_of(Cell("for_you", "plants", 3, 5, 2929, LOOK)) == "@2929:3:5:-1:plants:for_you"


def test_parts_of_a_day() -> None:
    assert [part_of(hour) for hour in (0, 3.99, 4, 12.5, 23.99, 24)] == [0, 0, 1, 3, 5, 0]


@given(
    module=st.text(min_size=1, max_size=20),
    segment=st.from_regex(r"([a-z][a-z0-9_]{0,10})?", fullmatch=True),
    situation=st.integers(0, 255),
    week=st.integers(0, 10**6),
    part=st.integers(0, 5),
    term=st.integers(-2, 255),
)
def test_a_cell_comes_back_from_its_name(
    module: str, segment: str, situation: int, part: int, week: int, term: int
) -> None:
    told = Cell(module, segment, situation, part, week, term)
    assert cell_of(field_of(told)) == told


@pytest.mark.parametrize("module", ["a:b", ":", "@1:2:3:x:y", "ü ✓", "a\nb", "%00", "::::::"])
def test_any_module_id_has_a_name(module: str) -> None:
    told = Cell(module, "", 3, 4, 7, 2)
    assert cell_of(field_of(told).encode().decode()) == told
