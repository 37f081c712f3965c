"""Filters over item attributes: every form, held against a search through plain lists."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog import ItemState
from engine.errors import InvalidInput
from engine.filters import AttributeIndex

SIZE = 12


def placed(*items: dict[str, Any]) -> AttributeIndex:
    index = AttributeIndex()
    for item, attributes in enumerate(items):
        place(index, item, attributes)
    return index


def place(index: AttributeIndex, item: int, attributes: dict[str, Any]) -> None:
    told = {name: (1, value) for name, value in attributes.items()}
    index.place(ItemState(f"i{item}", item, told))


def found(index: AttributeIndex, size: int = SIZE, **filter_: Any) -> list[int]:
    index.check(filter_)
    return np.flatnonzero(index.mask(filter_, size)).tolist()


MENU = placed(
    {"diet": "vegan", "minutes": 10, "tags": ["quick", "cheap"], "spicy": True},
    {"diet": "vegan", "minutes": 45.5, "tags": ["slow"], "spicy": False},
    {"diet": "meat", "minutes": 1, "tags": [], "spicy": 1},
    {"minutes": "long", "tags": "quick"},
    {"diet": None, "minutes": [20, 90], "nested": {"a": 1}},
)


@pytest.mark.parametrize(
    ("filter_", "items"),
    [
        ({}, list(range(SIZE))),
        ({"diet": "vegan"}, [0, 1]),
        ({"diet": ["vegan", "meat"]}, [0, 1, 2]),
        ({"diet": []}, []),
        ({"diet": "Vegan"}, []),
        ({"tags": "quick"}, [0, 3]),
        ({"tags": ["slow", "cheap"]}, [0, 1]),
        ({"spicy": True}, [0]),  # neither 1 …
        ({"spicy": 1}, [2]),
        ({"spicy": False}, [1]),  # … nor 0, nor missing
        ({"minutes": 10.0}, [0]),
        ({"minutes": "long"}, [3]),
        ({"minutes": {"gte": 10}}, [0, 1, 4]),
        ({"minutes": {"lte": 10}}, [0, 2]),
        ({"minutes": {"gte": 2, "lte": 30}}, [0, 4]),  # of a list, the first number
        ({"minutes": {"gte": 30, "lte": 2}}, []),
        ({"minutes": {"lte": 1e300}}, [0, 1, 2, 4]),  # text and missing compare with nothing
        ({"diet": {"not": "vegan"}}, [2, 3, 4, *range(5, SIZE)]),
        ({"minutes": {"not": [10, "long"], "lte": 50}}, [1, 2, 4]),
        ({"diet": "vegan", "tags": "slow"}, [1]),
    ],
)
def test_known_answers(filter_: dict[str, Any], items: list[int]) -> None:
    assert found(MENU, **filter_) == items


@pytest.mark.parametrize(
    ("filter_", "field"),
    [
        ({"colour": "red"}, "filter.colour"),
        ({"nested": "a"}, "filter.nested"),  # only plain values and lists of them can be asked for
        ({"diet": None}, "filter.diet"),
        ({"diet": {}}, "filter.diet"),
        ({"diet": {"like": "v"}}, "filter.diet"),
        ({"diet": {"not": None}}, "filter.diet.not"),
        ({"diet": [["vegan"]]}, "filter.diet"),
        ({"diet": ["x"] * 101}, "filter.diet"),
        ({"minutes": {"gte": "10"}}, "filter.minutes.gte"),
        ({"minutes": {"lte": True}}, "filter.minutes.lte"),
        ({"minutes": {"gte": 10**400}}, "filter.minutes.gte"),
        ({"minutes": 10**400}, "filter.minutes"),
    ],
)
def test_what_cannot_be_understood_is_named(filter_: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        MENU.check(filter_)

    assert refused.value.field == field


def test_a_number_beyond_doubles_is_not_filed() -> None:
    index = placed({"n": 10**400}, {"n": 3})

    assert found(index, n={"gte": 0}) == [1]


def test_changes_and_removals_file_an_item_anew() -> None:
    index = placed({"diet": "vegan", "price": 5}, {"diet": "vegan"}, {"diet": "vegan"})
    place(index, 1, {"diet": "meat", "price": 7})
    place(index, 2, {"diet": None})
    assert (found(index, diet="vegan"), found(index, diet="meat")) == ([0], [1])
    assert found(index, price={"gte": 0}) == [0, 1]

    place(index, 0, {})
    place(index, 1, {"diet": ["meat", "fish"], "price": "unknown"})

    assert found(index, diet="vegan") == []  # known as an attribute, carried by nothing
    assert found(index, diet="meat") == found(index, diet="fish") == [1]
    assert found(index, price={"gte": 0}) == []


def test_a_mask_is_as_long_as_asked() -> None:
    assert found(MENU, size=2, tags="quick") == [0]
    assert found(MENU, size=2, minutes={"gte": 0}) == [0, 1]
    assert len(MENU.mask({"diet": "vegan"}, 5_000)) == 5_000


def test_many_items_of_one_value() -> None:
    index = AttributeIndex()
    kinds = np.random.default_rng(1).integers(0, 3, 20_000).tolist()  # a third of the items each
    for item, kind in enumerate(kinds):
        place(index, item, {"kind": kind, "id": f"only {item}"})
    place(index, 7, {"kind": 9})
    place(index, 19_000, {"kind": [0, 9]})
    kinds[7], kinds[19_000] = 9, 0

    for kind in (0, 1, 2):
        items = [item for item, one in enumerate(kinds) if one == kind]
        assert found(index, 20_000, kind=kind) == items
        assert found(index, 5_000, kind=kind) == [item for item in items if item < 5_000]
    assert found(index, 20_000, kind=9) == [7, 19_000]
    assert found(index, 20_000, id="only 12345") == [12_345]


# ---- against plain lists

PLAIN = st.one_of(st.sampled_from([True, False, 0, 1, 2.5, -3, "a", "b", ""]), st.none())
VALUE = st.one_of(PLAIN, st.lists(PLAIN, max_size=3))
TOLD = st.dictionaries(st.sampled_from(["x", "y"]), VALUE)
WANTED = st.one_of(PLAIN.filter(lambda v: v is not None))
WANTED_ANY = st.one_of(WANTED, st.lists(WANTED, max_size=3))
BOUND = st.sampled_from([-3, 0, 1, 1.5, 2.5])
CONDITION = st.one_of(
    WANTED_ANY,
    st.dictionaries(st.sampled_from(["gte", "lte"]), BOUND, min_size=1),
    st.builds(lambda value, bound: {"not": value, "gte": bound}, WANTED_ANY, BOUND),
    st.builds(lambda value: {"not": value}, WANTED_ANY),
)


def listed(value: Any) -> list[Any]:
    return [v for v in (value if isinstance(value, list) else [value]) if v is not None]


def same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def carries(value: Any, wanted: Any) -> bool:
    return any(same(v, w) for v in listed(value) for w in listed(wanted))


def holds(value: Any, condition: Any) -> bool:
    if not isinstance(condition, dict):
        return carries(value, condition)
    if "not" in condition and carries(value, condition["not"]):
        return False
    numbers = [v for v in listed(value) if isinstance(v, int | float) and not isinstance(v, bool)]
    if condition.keys() & {"gte", "lte"} and not numbers:
        return False
    return all(
        numbers[0] >= bound if name == "gte" else numbers[0] <= bound
        for name, bound in condition.items()
        if name != "not"
    )


@settings(max_examples=300, deadline=None)
@given(
    history=st.lists(st.tuples(st.integers(0, 5), TOLD), min_size=1, max_size=25),
    filter_=st.dictionaries(st.sampled_from(["x", "y"]), CONDITION, max_size=2),
)
def test_any_history_of_items_against_plain_lists(
    history: list[tuple[int, dict[str, Any]]], filter_: dict[str, Any]
) -> None:
    index = AttributeIndex()
    items: dict[int, dict[str, Any]] = {}
    for item, attributes in history:
        place(index, item, attributes)
        items[item] = attributes

    mask = index.mask(filter_, 6)

    for item in range(6):
        told = items.get(item, {})
        assert mask[item] == all(holds(told.get(n), condition) for n, condition in filter_.items())


def test_requests_beside_a_writer_see_each_item_before_or_after() -> None:
    index = AttributeIndex()
    for item in range(2_000):
        place(index, item, {"side": "left", "n": 1, "fixed": item % 2})
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                for item in range(0, 2_000 + 100 * turn, 7):
                    side = "right" if turn % 2 else "left"
                    place(index, item, {"side": side, "n": turn % 5, "fixed": item % 2})
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            either = index.mask({"side": ["left", "right"], "n": {"gte": 0}}, 2_000)
            assert either.all()
            assert index.mask({"fixed": 1, "side": {"not": "up"}}, 2_000).sum() == 1_000
    finally:
        stop.set()
        writer.join()
    assert failures == []
