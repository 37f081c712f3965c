"""The feature table: each feature's known answer, NaN only where something is not known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import features
from engine.candidates import FRESH, SOURCES, Candidates
from engine.columns import Columns
from engine.features import COLUMN, COUNT, CROSS, ITEM, NAMES, USER, matrix
from engine.situation import Moment
from engine.state import (
    DAY_HALF_LIFE_MS,
    LANDMARK_STEP_MS,
    MONTH_HALF_LIFE_MS,
    TOUCH,
    Counter,
    Touch,
    UserState,
)

NOW = 1_770_000_000_000
NOW_S = NOW // 1000
HOUR_S, DAY_S = 3600, 86_400
SATURDAY_SIX = Moment(NOW, 4, 0.6, 10.0, 6.0, 5)
HERE = np.array([0.5, -0.5, 0.0, 1.0, math.nan], np.float32)
NAN = math.nan
log1p = math.log1p


def columns_of(categories: list[list[int]]) -> Columns:
    columns = Columns()
    for item, terms in enumerate(categories):
        columns.categories[item] = [*terms, *[-1] * (4 - len(terms))]
        columns.hidden[item] = False
        columns.born_ms[item] = NOW - item * 86_400_000
    columns.size = len(categories)
    return columns


def candidates(items: list[int], scores: Any = None) -> Candidates:
    table = np.full((len(items), len(SOURCES)), NAN, np.float32)
    if scores is not None:
        table[:] = scores
    return Candidates(
        np.array(items, np.int32), table, np.ones(len(items), np.uint8), np.resize(HERE, len(items))
    )


ITEMS = columns_of([[0, 1], [1], [], [7], [2, 0, 1, 3]])
SHOWN = candidates([0, 1, 2, 3, 4])


def state(**told: Any) -> UserState:
    return UserState(steps=NOW // LANDMARK_STEP_MS, **told)


def touched(*touches: tuple[int, int]) -> bytes:
    """(item, seconds ago)"""
    return b"".join(TOUCH.pack(*Touch(item, 0, NOW_S - ago, 0)) for item, ago in touches)


def column(name: str, rows: NDArray[np.float32]) -> list[float]:
    return rows[:, COLUMN[name]].tolist()


def of(
    name: str,
    user: UserState | None = None,
    moment: Moment = SATURDAY_SIX,
    shown: Candidates = SHOWN,
    columns: Columns = ITEMS,
) -> list[float]:
    return column(name, matrix(user or UserState(), moment, shown, columns))


def test_names_are_unique_and_the_groups_cover_the_table() -> None:
    assert len(set(NAMES)) == COUNT == len(NAMES)
    assert (USER.start, USER.stop, ITEM.stop) == (0, ITEM.start, CROSS.start)
    assert NAMES[CROSS.stop] == "score_factors"
    assert NAMES[-1] == "position"


def test_the_moment() -> None:
    assert of("hour_sin") == pytest.approx([1.0] * 5)
    assert of("hour_cos") == pytest.approx([0.0] * 5, abs=1e-6)
    assert of("weekend") == [1] * 5
    assert of("weekend", moment=Moment(NOW, 0, 0.0, None, 0.0, 4)) == [0] * 5
    assert of("situation") == [4] * 5
    assert of("situation_confidence") == pytest.approx([0.6] * 5)


def test_the_user() -> None:
    user = state(
        actions={0: Counter(7, 2.0, 4.0), 3: Counter(3, 1.0, 4.0)},
        categories={1: Counter(1, 1, 1), 2: Counter(1, 1, 1)},
        first_s=NOW_S - 9 * DAY_S,
        last_s=NOW_S - 2 * HOUR_S,
        impressions=12,
        recent=touched((1, 3000), (1, 1801), (2, 1800), (3, 5), (3, -60)),
    )
    landmark_ms = user.landmark
    day = 3.0 * 2 ** (-(NOW - landmark_ms) / DAY_HALF_LIFE_MS)
    month = 8.0 * 2 ** (-(NOW - landmark_ms) / MONTH_HALF_LIFE_MS)
    expected = {
        "acts": log1p(10),
        "acts_day": log1p(day),
        "acts_month": log1p(month),
        "hours_since_act": log1p(2),
        "days_known": log1p(9),
        "impressions": log1p(12),
        "session_touches": 2,
        "breadth": log1p(2),
    }
    for name, value in expected.items():
        assert of(name, user) == pytest.approx([value] * 5, rel=1e-6), name


def test_nobody_known() -> None:
    for name in ("acts", "acts_day", "acts_month", "impressions", "session_touches", "breadth"):
        assert of(name) == [0] * 5
    assert np.isnan(of("hours_since_act")).all()
    assert np.isnan(of("days_known")).all()


def test_the_item() -> None:
    columns = columns_of([[0], [1], [2]])
    for term, increase in ((-1, 100), (0, 6), (2, 3)):
        columns.count(1, term, increase)
    columns.count(2, 0, 50)  # acts without impressions: imported, or organic
    weights = np.zeros(256, np.float32)
    weights[:3] = 1, 9, 4
    columns.rank(weights, NOW)
    shown = candidates([0, 1, 2])

    def told(name: str) -> list[float]:
        return of(name, shown=shown, columns=columns)

    assert told("item_impressions") == pytest.approx([0, log1p(100), 0])
    assert told("item_acts") == pytest.approx([0, log1p(9), log1p(50)])
    assert told("item_worth") == pytest.approx([0, log1p(6 + 12), log1p(50)])
    assert told("item_rate") == pytest.approx([1 / 20, 10 / 120, 51 / 70])
    assert told("item_worth_rate") == pytest.approx(
        [math.log(8 / 20), math.log(26 / 120), math.log(58 / 70)]
    )
    assert told("item_worth_of_act") == pytest.approx([2.5, (25 + 18) / 19, (25 + 50) / 60])
    assert told("item_age_days") == pytest.approx([0, log1p(1), log1p(2)])


def test_an_item_of_tomorrow_has_no_age() -> None:
    columns = columns_of([[0]])
    columns.born_ms[0] = NOW + 10_000

    assert of("item_age_days", shown=candidates([0]), columns=columns) == [0]


def test_affinities_are_shares_of_the_users_taste() -> None:
    user = state(
        categories={
            0: Counter(1, 1.0, 6.0),
            1: Counter(1, -3.0, -2.0),
            2: Counter(1, 0.0, 2.0),
        }
    )
    assert of("affinity_month", user) == pytest.approx([0.6, -0.2, 0, 0, 0.6])
    assert of("affinity_month_mean", user) == pytest.approx([0.2, -0.2, 0, 0, 0.15])
    assert of("affinity_day", user) == pytest.approx([0.25, -0.75, 0, 0, 0.25])


def test_affinities_of_somebody_without_taste() -> None:
    undecided = state(categories={0: Counter(2, 0.0, 0.0)})
    for user in (UserState(), undecided):
        for name in ("affinity_month", "affinity_month_mean", "affinity_day"):
            assert of(name, user) == [0] * 5


def test_the_session_by_category() -> None:
    user = state(recent=touched((4, 1801), (1, 1800), (0, 60), (3, 30), (3, 20), (9_999, 10)))
    # of category 0: one touch, of 1: two, of 7: two
    assert of("same_category_session", user) == [2, 2, 0, 2, 2]
    assert of("same_category_session", state(recent=touched((2, 5)))) == [0] * 5
    assert of("same_category_session", state(recent=touched((1, 5000)))) == [0] * 5


def test_what_was_shown_and_touched() -> None:
    user = state(
        shown=[(NOW_S - 9 * HOUR_S, [0, 1]), (NOW_S - 3 * HOUR_S, [0, 77])],
        recent=touched((3, 90_000), (1, 5), (3, 4)),
    )
    assert of("shown", user) == [2, 1, 0, 0, 0]
    assert of("hours_since_shown", user) == pytest.approx(
        [log1p(3), log1p(9), NAN, NAN, NAN], nan_ok=True
    )
    assert of("touched", user) == [0, 1, 0, 2, 0]


def test_what_was_done_in_situations_like_this_one() -> None:
    user = state(
        recent=b"".join(
            TOUCH.pack(*Touch(item, 0, NOW_S - 60, situation))
            for item, situation in ((0, 4), (1, 4), (3, 2), (3, 0), (9_999, 4))
        )
    )
    cooking = replace(SATURDAY_SIX, probabilities=(0.1, 0, 0.2, 0, 0.7))
    # Three acts at 0.7, one at 0.2; of category 0 one, of 1 two, of 7 two of the five acts.
    total = 3 * 0.7 + 0.2 + 5
    second, last = ((done + ever) / total - ever / 5 for done, ever in ((1.4, 2), (0.2, 2)))
    expected = [second, second, 0, last, second]
    assert of("affinity_here", user, moment=cooking) == pytest.approx(expected)
    assert of("affinity_here", user) == [0] * 5  # in a moment of which nothing is known
    assert of("here", user) == pytest.approx([0.5, -0.5, 0, 1, NAN], nan_ok=True)


def test_scores_and_ranks_are_the_sources() -> None:
    scores = np.array(
        [[0.1, NAN, 3, 5, 1], [0.9, NAN, 2, 5, 0.5], [NAN, NAN, 1, 5, 0.25]], np.float32
    )
    shown = Candidates(
        np.array([0, 1, 2], np.int32), scores, np.array([1, 5, 31], np.uint8), HERE[:3]
    )
    rows = matrix(UserState(), SATURDAY_SIX, shown, ITEMS)

    for number, source in enumerate(SOURCES):
        np.testing.assert_array_equal(column(f"score_{source}", rows), scores[:, number])
    ranks = {s: column(f"rank_{s}", rows) for s in SOURCES[:FRESH]}
    assert ranks["factors"] == pytest.approx([log1p(1), 0, NAN], nan_ok=True)
    assert np.isnan(ranks["similar"]).all()  # it knows none, so it places none
    assert ranks["hybrid"] == pytest.approx([0, log1p(1), log1p(2)])
    assert ranks["popular"] == pytest.approx([0, log1p(1), log1p(2)])  # ties: as they came
    assert column("sources", rows) == [1, 2, 5]
    assert column("position", rows) == [0, 0, 0]


def somebody(rng: np.random.Generator) -> UserState:
    def counters() -> dict[int, Counter]:
        return {
            int(t): Counter(1, float(rng.normal()) + 2, float(rng.normal()) + 2)
            for t in rng.integers(0, 40, 12)
        }

    return state(
        actions=counters(),
        categories=counters(),
        first_s=NOW_S - 100 * DAY_S,
        last_s=NOW_S - int(rng.integers(0, DAY_S)),
        impressions=400,
        recent=touched(*[(int(i), int(ago)) for i, ago in rng.integers(0, 500, (50, 2)) * [1, 10]]),
        shown=[(NOW_S - 600 * n, rng.integers(0, 500, 20).tolist()) for n in range(20)],
    )


def world(rng: np.random.Generator) -> Columns:
    columns = columns_of([rng.integers(0, 45, rng.integers(0, 5)).tolist() for _ in range(500)])
    for item in range(500):
        columns.count(item, -1, int(rng.integers(0, 1000)))
        columns.count(item, int(rng.integers(0, 5)), int(rng.integers(0, 50)))
    columns.rank(np.ones(256, np.float32), NOW)
    return columns


MAY_BE_UNKNOWN = {
    "hours_since_act",
    "days_known",
    "hours_since_shown",
    *(f"score_{s}" for s in SOURCES),
    *(f"rank_{s}" for s in SOURCES),
}


@pytest.mark.parametrize("seed", range(5))
def test_rows_do_not_depend_on_the_other_candidates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user, columns = somebody(rng), world(rng)
    items = rng.permutation(500)[:200].astype(np.int32)
    scores = rng.normal(size=(200, len(SOURCES))).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = NAN
    brought = rng.integers(1, 32, 200).astype(np.uint8)
    here = rng.normal(size=200).astype(np.float32)
    rows = matrix(user, SATURDAY_SIX, Candidates(items, scores, brought, here), columns)

    order = rng.permutation(200)
    turned = matrix(
        user,
        SATURDAY_SIX,
        Candidates(items[order], scores[order], brought[order], here[order]),
        columns,
    )
    np.testing.assert_array_equal(turned, rows[order])  # without ties not even the ranks
    some = order[:20]
    fewer = matrix(
        user,
        SATURDAY_SIX,
        Candidates(items[some], scores[some], brought[some], here[some]),
        columns,
    )
    no_ranks = [n for n, name in enumerate(NAMES) if not name.startswith("rank_")]
    np.testing.assert_array_equal(fewer[:, no_ranks], rows[some][:, no_ranks])

    assert (rows.shape, rows.dtype) == ((200, COUNT), np.float32)
    assert (rows[:, USER] == rows[0, USER]).all()
    assert not np.isinf(rows).any()
    unknown = {NAMES[n] for n in np.flatnonzero(np.isnan(rows).any(axis=0))}
    assert unknown <= MAY_BE_UNKNOWN


@pytest.mark.parametrize("seed", range(5))
def test_crosses_against_plain_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user, columns = somebody(rng), world(rng)
    items = rng.permutation(500)[:200].tolist()
    rows = matrix(user, SATURDAY_SIX, candidates(items), columns)

    session = [t for t in TOUCH.iter_unpack(user.recent) if 0 <= NOW_S - t[2] <= 1800]
    by_category = [c for t in session for c in columns.categories[t[0]].tolist() if c >= 0]
    total = {
        span: sum(abs(getattr(c, span)) for c in user.categories.values())
        for span in ("month", "day")
    }
    here = np.resize(HERE, len(items)).tolist()
    for item, row, wanted in zip(items, rows, here, strict=True):
        carried = [c for c in columns.categories[item].tolist() if c >= 0]
        taste = {
            span: [
                getattr(user.categories.get(c, Counter()), span) / total[span] for c in carried
            ] or [0.0]
            for span in ("month", "day")
        }  # fmt: skip
        expected = {
            "affinity_here": 0.0,  # in a moment of which nothing is known
            "here": wanted,
            "affinity_month": max(taste["month"]),
            "affinity_month_mean": sum(taste["month"]) / len(taste["month"]),
            "affinity_day": max(taste["day"]),
            "same_category_session": max((by_category.count(c) for c in carried), default=0),
            "shown": sum(shown.count(item) for _, shown in user.shown),
            "touched": sum(t[0] == item for t in TOUCH.iter_unpack(user.recent)),
        }
        for name, value in expected.items():
            assert row[COLUMN[name]] == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), name


def test_no_candidates() -> None:
    rng = np.random.default_rng(1)
    rows = matrix(somebody(rng), SATURDAY_SIX, candidates([]), ITEMS)

    assert rows.shape == (0, COUNT)


def test_a_time_before_all_that_is_known() -> None:
    user = somebody(np.random.default_rng(1))
    rows = matrix(user, Moment(0, 0, 0.0, None, 0.0, 0), SHOWN, ITEMS)

    assert not np.isinf(rows).any()


def test_every_feature_says_what_it_is() -> None:
    assert all(text or name == "hour_cos" for name, text in features.TABLE.items())
