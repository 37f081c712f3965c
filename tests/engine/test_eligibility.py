"""What may be shown: one rule after the other, against each item's own answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog import Catalog
from engine.eligibility import Eligible, dropped, find_eligible, keep_eligible
from engine.records import ItemRecord
from engine.state import ITEM, TOUCH, Touch, UserState

NOW = 1_770_000_000_000
NONE = np.zeros(0, np.int32)


def item(number: int, **told: Any) -> ItemRecord:
    return ItemRecord(ts=NOW, arrived=NOW, item_id=f"i{number}", item=number, **told)


def state_of(touched: list[int], older: list[int]) -> UserState:
    return UserState(
        recent=b"".join(TOUCH.pack(*Touch(i, 0, NOW // 1000, 0)) for i in touched),
        seen=b"".join(ITEM.pack(i) for i in older),
    )


CATALOG = Catalog()
CATALOG.apply(
    [
        item(0, attributes={"diet": "vegan"}),
        item(1, attributes={"diet": "meat"}),
        item(2, attributes={"diet": "vegan"}, available_from=NOW + 1),
        item(3, attributes={"diet": "vegan"}, available_until=NOW),
        item(4, attributes={"diet": "vegan"}, deleted=True),
        item(5),
        item(7, attributes={"diet": "vegan"}),
        item(8, attributes={"diet": "vegan"}),
        item(9, attributes={"diet": "vegan"}),
    ]
)


def eligible(
    state: UserState | None = None,
    at_ms: int = NOW,
    filter_: dict[str, Any] | None = None,
    excluded: list[int] | None = None,
    include_seen: bool = False,
) -> Eligible:
    out = np.array(excluded or [], np.int32)
    return find_eligible(CATALOG, state or UserState(), at_ms, filter_ or {}, out, include_seen)


def allowed(*args: Any, **told: Any) -> list[int]:
    return np.flatnonzero(eligible(*args, **told).allowed).tolist()


def test_everything_available_may_be_shown() -> None:
    assert allowed() == [0, 1, 7, 8, 9]
    assert allowed(at_ms=NOW + 1) == [0, 1, 2, 7, 8, 9]
    assert allowed(at_ms=NOW - 1) == [0, 1, 3, 7, 8, 9]


def test_each_rule_names_itself() -> None:
    found = eligible(state_of([8], [7]), filter_={"diet": "vegan"}, excluded=[9, 8])

    assert np.flatnonzero(found.allowed).tolist() == [0]
    assert dict(dropped(list(range(12)), found, CATALOG, NOW)) == {
        1: "filter",
        2: "not available yet",
        3: "no longer available",
        4: "deleted",
        5: "unknown: no item event told of it",
        6: "unknown: no event named it",
        7: "the user acted on it",
        8: "excluded by the request",
        9: "excluded by the request",
        10: "unknown: no event named it",
        11: "unknown: no event named it",
    }
    assert found.why_not(-1, CATALOG, NOW) == "unknown: no event named it"


def test_what_was_acted_on_may_be_asked_for() -> None:
    state = state_of([8, 8], [7])

    assert allowed(state) == [0, 1, 9]
    assert allowed(state, include_seen=True) == [0, 1, 7, 8, 9]


def test_ids_beyond_the_catalogue_change_nothing() -> None:
    assert allowed(state_of([500], []), excluded=[-1, 10, 10**6]) == [0, 1, 7, 8, 9]


def test_keeping_keeps_the_order() -> None:
    items = np.array([9, 4, 0, -1, 99, 7], np.int32)

    assert keep_eligible(items, eligible()).tolist() == [0, 2, 5]
    assert keep_eligible(NONE, eligible()).tolist() == []


def test_a_mask_does_not_follow_the_catalogue() -> None:
    catalog = Catalog()
    catalog.apply([item(0, attributes={"a": 1})])
    found = find_eligible(catalog, UserState(), NOW, {}, NONE, False)
    catalog.apply([item(1, attributes={"a": 1})])

    assert len(found.allowed) == 1
    assert found.why_not(1, catalog, NOW) == "unknown: no event named it"


@settings(max_examples=200, deadline=None)
@given(
    at_ms=st.sampled_from([NOW - 1, NOW, NOW + 1]),
    filter_=st.sampled_from([{}, {"diet": "vegan"}, {"diet": {"not": "vegan"}}, {"diet": []}]),
    excluded=st.lists(st.integers(-1, 12), max_size=4),
    touched=st.lists(st.integers(0, 12), max_size=4),
    older=st.lists(st.integers(0, 12), max_size=4),
    include_seen=st.booleans(),
)
def test_the_mask_and_the_reasons_agree(
    at_ms: int,
    filter_: dict[str, Any],
    excluded: list[int],
    touched: list[int],
    older: list[int],
    include_seen: bool,
) -> None:
    found = eligible(state_of(touched, older), at_ms, filter_, excluded, include_seen)

    diets = {0: "vegan", 1: "meat", **dict.fromkeys((2, 3, 4, 7, 8, 9), "vegan")}
    for number in range(12):
        state = CATALOG.at(number)
        may = (
            state is not None
            and state.why_not(at_ms) is None
            and number not in excluded
            and (include_seen or number not in touched + older)
        )
        if filter_ == {"diet": "vegan"}:
            may = may and diets.get(number) == "vegan"
        elif filter_ == {"diet": {"not": "vegan"}}:
            may = may and diets.get(number) != "vegan"
        elif filter_:
            may = False
        assert (found.why_not(number, CATALOG, at_ms) is None) == may
        assert (number < len(found.allowed) and bool(found.allowed[number])) == may


def test_an_unknown_attribute_matches_nothing_even_unchecked() -> None:
    assert allowed(filter_={"colour": "red"}) == []
    assert CATALOG.attributes.check({"diet": "vegan"}) is None
    with pytest.raises(Exception, match=r"filter\.colour"):
        CATALOG.attributes.check({"colour": "red"})
