"""Gathering candidates: quotas, order, who brought what, and nothing that is not allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.candidates import (
    FACTORS,
    FRESH,
    HYBRID,
    POPULAR,
    SESSION,
    SIMILAR,
    SOURCES,
    Candidates,
    Items,
    Mask,
    Scores,
    Sources,
    are_allowed,
    first_allowed,
    gather,
    given,
    most_popular,
    quota_of,
)
from engine.columns import Columns
from engine.recommending import SourceQuotas
from engine.situation import Moment
from engine.taste import Taste

NOW = 1_770_000_000_000
DAY_MS = 86_400_000
MOMENT = Moment(NOW, 3, 0.9, 1.0, 12.0, 0)
NOTHING = Taste(np.zeros(0, np.int32), np.zeros(0, np.float32), {})
TASTE = Taste(np.arange(8, dtype=np.int32), np.ones(8, np.float32), {"diet": "vegan"})
QUOTAS = SourceQuotas(factors=4, similar=3, hybrid=2, popular=3, fresh=2)


class Ordered:
    """Ranks its items as they stand; knows no other, and nobody without a taste."""

    def __init__(self, name: str, order: list[int]) -> None:
        self.name = name
        self._order = np.array(order, np.int32)
        self.asked: list[Any] = []

    def user(self, taste: Taste) -> Taste | None:
        return taste if len(taste.items) else None

    def here(self, moment: Moment) -> int:
        return moment.situation

    def lift(self, here: int, items: Items) -> Scores:
        return np.full(len(items), here, np.float32)

    def search(self, user: Any, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        self.asked.append(user)
        items = self._order
        if allowed is not None:
            items = items[items < len(allowed)]
            items = items[allowed[items]]
        return items[:k], self.score(user, items[:k])

    def score(self, user: Any, items: Items) -> Scores:
        place = {item: -float(n) for n, item in enumerate(self._order.tolist())}
        return np.array([place.get(item, np.nan) for item in items.tolist()], np.float32)


def columns_of(worth: list[int], ages_days: list[float] | None = None) -> Columns:
    """Items with that many acts of weight 1; 0 days old unless told."""
    columns = Columns()
    for item, acts in enumerate(worth):
        columns.count(item, 0, acts)
        columns.hidden[item] = False
        columns.born_ms[item] = NOW - int((ages_days[item] if ages_days else 0) * DAY_MS)
    columns.size = len(worth)
    columns.rank(np.ones(256, np.float32), NOW)
    return columns


def all_of(columns: Columns) -> NDArray[np.bool_]:
    return columns.available(NOW)


def gathered(
    sources: Sources,
    columns: Columns,
    *,
    taste: Taste = TASTE,
    allowed: Mask | None = None,
    quotas: SourceQuotas = QUOTAS,
    most: int = 12,
) -> Candidates:
    mask = all_of(columns) if allowed is None else allowed
    return gather(sources, columns, taste, MOMENT, mask, quotas, most)


TWENTY = columns_of(list(range(20)), [float(n) for n in range(20)])  # 19 is popular, 0 is new


def full_sources() -> Sources:
    return Sources(
        Ordered("factors", [0, 2, 4, 6, 8, 10]),
        Ordered("similar", [2, 3, 5]),
        Ordered("hybrid", [1, 0]),
        Ordered("popular", [19, 4, 18, 17]),
    )


def test_every_source_brings_its_quota_in_order() -> None:
    found = gathered(full_sources(), TWENTY)

    assert found.items.tolist() == [0, 2, 4, 6, 3, 5, 1, 19, 18]
    assert found.items.dtype == np.int32
    assert [found.source(row) for row in range(9)] == [
        *["factors"] * 4,
        *["similar"] * 2,
        "hybrid",
        *["popular"] * 2,
    ]
    bits = {item: int(b) for item, b in zip(found.items.tolist(), found.brought, strict=True)}
    assert bits[0] == 1 << FACTORS | 1 << HYBRID | 1 << FRESH
    assert bits[2] == 1 << FACTORS | 1 << SIMILAR
    assert bits[4] == 1 << FACTORS | 1 << POPULAR
    assert bits[1] == 1 << HYBRID | 1 << FRESH


def test_every_source_scores_every_candidate() -> None:
    found = gathered(full_sources(), TWENTY)
    of = dict(zip(found.items.tolist(), found.scores, strict=True))

    assert found.scores.shape == (9, len(SOURCES))
    assert found.scores.dtype == np.float32
    assert of[4][FACTORS] == -2.0
    assert of[4][POPULAR] == -1.0
    assert np.isnan(of[4][[SIMILAR, HYBRID]]).all()
    assert of[1][FRESH] == pytest.approx(2 ** (-1 / 7))  # halves every seven days
    assert of[0][FRESH] == 1.0


def test_no_more_than_most_and_the_first_sources_first() -> None:
    assert gathered(full_sources(), TWENTY, most=5).items.tolist() == [0, 2, 4, 6, 3]


def test_without_models_what_is_popular_and_new() -> None:
    found = gathered(Sources(), TWENTY, most=6)

    assert found.items.tolist() == [19, 18, 17, 0, 1, 16]
    assert [found.source(row) for row in range(6)] == [*["popular"] * 3, *["fresh"] * 2, "popular"]
    assert np.isnan(found.scores[:, [FACTORS, SIMILAR, HYBRID]]).all()
    assert found.scores[:, POPULAR] == pytest.approx(np.log1p(found.items))


def test_somebody_unknown_is_given_what_is_popular_here() -> None:
    sources = full_sources()
    found = gathered(sources, TWENTY, taste=NOTHING, most=6)

    assert found.items.tolist()[:5] == [19, 4, 18, 0, 1]
    assert len(found.items) == 6
    assert sources.popular.asked == [MOMENT.situation]
    assert (found.here == MOMENT.situation).all()


def test_similar_goes_by_the_last_touches_alone() -> None:
    sources = full_sources()
    gathered(sources, TWENTY)
    [whole], [session] = sources.factors.asked, sources.similar.asked

    assert whole is TASTE
    assert session.items.tolist() == TASTE.items[-SESSION:].tolist()
    assert session.attributes == {}


def test_a_source_without_a_quota_is_not_searched_but_scores() -> None:
    sources = full_sources()
    quotas = SourceQuotas(factors=0, similar=3, hybrid=0, popular=0, fresh=0)
    found = gathered(sources, TWENTY, quotas=quotas, most=3)

    assert found.items.tolist() == [2, 3, 5]
    assert sources.factors.asked == []
    assert found.scores[0, FACTORS] == -1.0


def test_a_narrow_filter_is_filled_up_from_all_that_matches() -> None:
    worth = list(range(10_000, 0, -1))  # far more than the popular order holds
    columns = columns_of(worth)
    allowed = np.zeros(10_000, np.bool_)
    allowed[[9_990, 9_000, 8_000, 10]] = True

    found = gathered(Sources(), columns, allowed=allowed, most=12)

    assert found.items.tolist() == [10, 8_000, 9_000, 9_990]


def test_nothing_allowed_and_nothing_there() -> None:
    nothing = gathered(full_sources(), TWENTY, allowed=np.zeros(20, np.bool_))
    empty = gathered(Sources(), columns_of([]))

    for found in (nothing, empty):
        assert found.items.shape == (0,)
        assert found.scores.shape == (0, len(SOURCES))
        assert found.brought.shape == (0,)


def test_given_items_keep_their_order() -> None:
    items = np.array([7, 19, 2], np.int32)
    found = given(full_sources(), TWENTY, TASTE, MOMENT, items)

    assert found.items.tolist() == [7, 19, 2]
    assert [found.source(row) for row in range(3)] == ["given"] * 3
    assert found.scores[2, [FACTORS, SIMILAR]].tolist() == [-1.0, -0.0]
    assert len(given(Sources(), TWENTY, TASTE, MOMENT, np.zeros(0, np.int32)).items) == 0


def test_first_allowed_looks_as_far_as_it_must() -> None:
    order = np.arange(100, dtype=np.int32)
    allowed = np.zeros(90, np.bool_)
    allowed[[3, 50, 89]] = True

    assert first_allowed(order, allowed, 2).tolist() == [3, 50]
    assert first_allowed(order, allowed, 1).tolist() == [3]
    assert first_allowed(order, allowed, 9).tolist() == [3, 50, 89]
    assert first_allowed(order, allowed, 0).tolist() == []


def test_most_popular_is_the_order_by_worth() -> None:
    assert most_popular(TWENTY, all_of(TWENTY), 3).tolist() == [19, 18, 17]
    assert most_popular(TWENTY, all_of(TWENTY), 99).tolist() == list(range(19, -1, -1))


def test_quotas_go_by_the_sources_names() -> None:
    assert [quota_of(QUOTAS, source) for source in range(len(SOURCES))] == [4, 3, 2, 3, 2]


ORDER = st.lists(st.integers(0, 19), unique=True)


@settings(max_examples=200, deadline=None)
@given_any(
    orders=st.tuples(*[st.none() | ORDER for _ in range(4)]),
    allowed=st.lists(st.booleans(), min_size=20, max_size=20),
    quotas=st.tuples(*[st.integers(0, 6) for _ in SOURCES]),
    most=st.integers(1, 25),
)
def test_any_sources_keep_the_promises(
    orders: tuple[list[int] | None, ...],
    allowed: list[bool],
    quotas: tuple[int, ...],
    most: int,
) -> None:
    models = [None if order is None else Ordered("any", order) for order in orders]
    mask = np.array(allowed)
    brings = [
        [] if order is None else [item for item in order if allowed[item]][:quota]
        for order, quota in zip(orders, quotas, strict=False)
    ]

    found = gathered(
        Sources(*models), TWENTY, allowed=mask, quotas=SourceQuotas(*quotas), most=most
    )

    items = found.items.tolist()
    assert len(set(items)) == len(items) <= most
    assert all(allowed[item] for item in items)
    if sum(quotas) < most:  # then something fills up
        assert len(items) == min(most, sum(allowed))
    from_models = list(dict.fromkeys(item for one in brings for item in one))
    assert items[: len(from_models)] == from_models[:most]
    for item, bits in zip(items, found.brought.tolist(), strict=True):
        assert bits > 0
        for source in (FACTORS, SIMILAR, HYBRID):
            assert bool(bits >> source & 1) == (item in brings[source])


def test_nothing_is_allowed_beyond_a_mask_or_before_it() -> None:
    """Compiled loops check no index: −1 of an empty mask would be whatever lies there."""
    items = np.array([-1, 0, 2, 7], np.int32)
    assert are_allowed(np.zeros(0, np.bool_), items).tolist() == [False] * 4
    assert are_allowed(np.ones(3, np.bool_), items).tolist() == [False, True, True, False]
