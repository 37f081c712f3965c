"""Filling a slate: propensities are the policy's own chances, and rules hold whatever is drawn."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from engine.recommending import SlateSettings
from engine.slate import Choice, Pool, fill, room
from engine.slot_rules import NO_SLOT_RULES, SlotRules

# ten items of four categories, two of them without one
VALUES = np.array([1.0, 0.9, 0.9, 0.7, 0.5, 0.4, 0.2, 0.1, 0.0, -0.5], np.float32)
MAIN = np.array([0, 0, 0, 1, 1, 2, -1, 0, 3, -1], np.int32)

WORLDS = {
    "plain": SlateSettings(explore=0.3, diversity=0.0),
    "small": SlateSettings(explore=0.05, diversity=0.3),
    "diverse": SlateSettings(explore=0.3, diversity=2.0, temperature=1.0),
    "rule": SlateSettings(explore=0.3, diversity=0.0, most_of_category=1, window=3),
    "all": SlateSettings(explore=0.3, diversity=0.5, temperature=2.0, most_of_category=2, window=4),
    "always": SlateSettings(explore=1.0, diversity=0.5, most_of_category=1, window=2),
}


def wide(main: NDArray[np.int32]) -> NDArray[np.int32]:
    """Main categories as the first of four columns."""
    return np.concatenate([main[:, None], np.full((len(main), 3), -1, np.int32)], axis=1)


def filled(
    values: Any = VALUES, main: Any = MAIN, size: int = 5, seed: int = 1, **told: Any
) -> list[Choice]:
    explore = told.pop("explore_now", True)
    rules = told.pop("rules", None) or SlateSettings(**told)
    categories = wide(np.asarray(main, np.int32))
    pool = Pool(np.asarray(values, np.float32), categories, NO_SLOT_RULES)
    return fill(pool, size, rules, seed, explore)


def best_first(values: Any, size: int = 5, **told: Any) -> list[int]:
    main = np.full(len(values), -1)
    return [c.row for c in filled(values, main, size, explore_now=False, **told)]


def open_rows(above: list[int], rules: SlateSettings) -> list[int]:
    """The rows that the rules leave open, written down once more in plain Python."""
    near = [MAIN[row] for row in above][-(rules.window - 1) :] if rules.window > 1 else []
    return [
        row
        for row in range(len(VALUES))
        if row not in above
        and not (
            rules.most_of_category
            and MAIN[row] >= 0
            and near.count(MAIN[row]) >= rules.most_of_category
        )
    ]


def policy(above: list[int], rules: SlateSettings) -> dict[int, float]:
    """π(· | above) by the formula in the module's docstring, in plain Python."""
    spread = float(VALUES.astype(float).std())
    taken_off = Counter(MAIN[row] for row in above if MAIN[row] >= 0)
    adjusted = {
        row: float(VALUES[row]) - rules.diversity * spread * taken_off[MAIN[row]]
        for row in open_rows(above, rules)
    }
    best = max(adjusted, key=lambda row: (adjusted[row], -row))
    weights = {
        row: math.exp((value - adjusted[best]) / (rules.temperature * spread))
        for row, value in adjusted.items()
    }
    total = sum(weights.values())
    return {
        row: rules.explore * weight / total + (1 - rules.explore) * (row == best)
        for row, weight in weights.items()
    }


@pytest.mark.parametrize("world", WORLDS)
def test_logged_propensities_are_the_policys(world: str) -> None:
    rules = WORLDS[world]
    for seed in range(200):
        above: list[int] = []
        for choice in filled(rules=rules, size=6, seed=seed):
            assert choice.propensity == pytest.approx(policy(above, rules)[choice.row], rel=1e-6)
            above.append(choice.row)


def check_frequencies(world: str, slates: int, size: int) -> None:
    """χ² of every slot's conditional frequencies, and the inverse-propensity weights."""
    rules = WORLDS[world]
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    logged: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    weights = []
    for seed in range(slates):
        above: tuple[int, ...] = ()
        for choice in filled(rules=rules, size=size, seed=seed):
            counts[above][choice.row] += 1
            logged[above].setdefault(choice.row, choice.propensity)
            assert logged[above][choice.row] == choice.propensity
            weights.append(1 / (len(open_rows(list(above), rules)) * choice.propensity))
            above += (choice.row,)
    statistic, freedom = 0.0, 0
    for above, chosen in counts.items():
        drawn = chosen.total()
        expected = {row: drawn * p for row, p in policy(list(above), rules).items()}
        rare = sum(e for e in expected.values() if e < 10)  # joined, so that χ² holds
        cells = [(chosen[row], e) for row, e in expected.items() if e >= 10]
        cells.append((drawn - sum(n for n, _ in cells), rare))
        cells = [cell for cell in cells if cell[1] >= 5]
        if len(cells) > 1:
            statistic += sum((n - e) ** 2 / e for n, e in cells)
            freedom += len(cells) - 1
    assert chi2.sf(statistic, freedom) > 1e-3, (statistic, freedom)
    # A uniform policy over the open items has the mean weight 1, whatever was logged.
    assert abs(np.mean(weights) - 1) <= 3 * np.std(weights) / math.sqrt(len(weights))


@pytest.mark.parametrize("world", WORLDS)
def test_frequencies_match_propensities(world: str) -> None:
    check_frequencies(world, slates=4_000, size=3)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_frequencies_match_propensities_over_a_million_draws(world: str) -> None:
    check_frequencies(world, slates=40_000, size=5)  # × six worlds


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_seed_gives_the_same_slate(world: str) -> None:
    rules = WORLDS[world]
    slates = [filled(rules=rules, seed=seed) for seed in range(30)]

    assert slates == [filled(rules=rules, seed=seed) for seed in range(30)]
    assert len({tuple(c.row for c in slate) for slate in slates}) > 1


@pytest.mark.parametrize("world", WORLDS)
def test_the_first_slots_do_not_depend_on_how_many_follow(world: str) -> None:
    rules = WORLDS[world]
    for seed in range(30):  # nothing is rearranged afterwards
        assert filled(rules=rules, seed=seed, size=6)[:3] == filled(rules=rules, seed=seed, size=3)


def test_without_exploration_there_is_one_answer() -> None:
    slates = [filled(seed=seed, explore_now=False, explore=1.0) for seed in range(20)]
    switched_off = [filled(seed=seed, explore=0.0) for seed in range(20)]

    assert all(slate == slates[0] for slate in slates + switched_off)
    assert {choice.propensity for choice in slates[0]} == {1.0}


def test_diversity_lowers_what_stands_below_its_like() -> None:
    values, main = [1.0, 0.9, 0.8, 0.7], [0, 0, 1, -1]
    spread = float(np.array(values, np.float32).astype(float).std())

    chosen = filled(values, main, 4, explore_now=False, diversity=2.0)

    assert [c.row for c in chosen] == [0, 2, 3, 1]
    assert chosen[3].value == pytest.approx(0.9 - 2.0 * spread)


def test_items_without_a_category_fall_under_no_rule() -> None:
    chosen = filled([3, 2, 1], [-1, -1, -1], 3, explore_now=False, most_of_category=1, diversity=9)

    assert [c.row for c in chosen] == [0, 1, 2]


def test_the_rule_looks_back_over_its_window_only() -> None:
    values, main = np.arange(9, 0, -1), [0, 0, 0, 0, 1, 1, 1, 2, 2]
    rule = {"explore_now": False, "diversity": 0.0, "most_of_category": 1}

    assert [c.row for c in filled(values, main, 9, window=2, **rule)] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert [c.row for c in filled(values, main, 9, window=3, **rule)] == [0, 4, 7, 1, 5, 8, 2, 6]
    assert [c.row for c in filled(values, main, 9, window=1, **rule)] == list(range(9))


def test_a_slate_ends_where_the_rules_leave_nothing() -> None:
    chosen = filled([3, 2, 1], [0, 0, 0], 3, most_of_category=2, window=10)

    assert len(chosen) == 2


@pytest.mark.parametrize("seed", range(20))
def test_nan_is_never_chosen_before_a_number(seed: int) -> None:
    values = [math.nan, -1e9, math.nan, 5.0, -math.inf, 4.0, math.inf]

    chosen = [c.row for c in filled(values, [0, 1, 0, 2, 3, 3, 0], 7, seed, explore=1.0)]

    assert sorted(chosen[5:]) == [0, 2]
    assert chosen[0] == 6  # nothing else has a chance beside infinity


def test_infinities_keep_their_order() -> None:
    values = [1.0, math.nan, -math.inf, math.inf, 2.0, 3e38, -3e38]

    assert best_first(values, 7) == [3, 5, 4, 0, 2, 6, 1]


def test_ties_are_drawn_alike_and_go_to_the_first_without_exploration() -> None:
    assert best_first([7.0] * 4) == [0, 1, 2, 3]
    [first, *_] = filled([7.0] * 4, [-1] * 4, 4, explore=0.2)
    assert first.propensity == pytest.approx(0.85 if first.row == 0 else 0.05)


@pytest.mark.parametrize("explore", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 1e-40])
def test_a_pool_of_one_value_is_filled(value: float, explore: float) -> None:
    chosen = filled([value] * 5, [0, 0, 1, 1, -1], 5, explore=explore)

    assert sorted(c.row for c in chosen) == list(range(5))
    assert all(0 < c.propensity <= 1 for c in chosen)
    assert chosen[-1].propensity == pytest.approx(1.0)
    assert all(math.isfinite(c.value) for c in chosen)


def test_an_empty_pool_and_a_small_one() -> None:
    assert filled([], [], 10) == []
    assert filled(size=0) == []
    assert sorted(c.row for c in filled(size=50)) == list(range(10))


def test_a_hundred_slots() -> None:
    values = np.random.default_rng(1).normal(size=200)
    main = np.arange(200) % 20

    chosen = filled(values, main, 100, explore=0.3, most_of_category=2, window=10)

    assert len({c.row for c in chosen}) == 100


@settings(max_examples=200, deadline=None)
@given(
    pool=st.lists(
        st.tuples(st.floats(width=32, allow_nan=True, allow_infinity=True), st.integers(-1, 4)),
        max_size=25,
    ),
    size=st.integers(1, 30),
    seed=st.integers(0, 2**63 - 1),
    explore=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.7, 1.0]),
    temperature=st.floats(1e-3, 100),
    diversity=st.floats(0, 5),
    most=st.integers(0, 3),
    window=st.integers(1, 12),
)
def test_any_pool_keeps_the_rules(
    pool: list[tuple[float, int]],
    size: int,
    seed: int,
    explore: float,
    temperature: float,
    diversity: float,
    most: int,
    window: int,
) -> None:
    rules = SlateSettings(explore, temperature, diversity, most, window)
    main = [category for _, category in pool]

    chosen = filled([value for value, _ in pool], main, size, seed, rules=rules)

    rows = [c.row for c in chosen]
    assert len(set(rows)) == len(rows) <= min(size, len(pool))
    assert all(0 < c.propensity <= 1 for c in chosen)
    if not most:
        assert len(rows) == min(size, len(pool))
        return
    for end in range(1, len(rows) + 1):
        near = Counter(main[row] for row in rows[max(end - window, 0) : end])
        assert all(n <= most for category, n in near.items() if category >= 0)


def test_the_first_items_do_not_depend_on_how_long_the_pool_is() -> None:
    """A pool of 200 asked for a page of 100 had a wider penalty, and other first items."""
    rng = np.random.default_rng(5)
    values = np.sort(rng.random(50))[::-1]
    longer = np.concatenate([values, np.linspace(-9, -30, 150)])
    main = rng.integers(0, 6, 200)
    rules = SlateSettings(diversity=1.0)
    alone = filled(values, main[:50], 10, rules=rules, explore_now=False)
    assert filled(longer, main, 10, rules=rules, explore_now=False) == alone


# What each row of VALUES is to the operator's rules of RULED.
PINNED = {1: [8], 3: [5, 9]}  # slot -> rows
SIDES = ([0, 1], [3, 4])
GROUPS = [0, 0, 0, 1, 1, 1, -1, 2, 2, -1]
MOST, WINDOW = 1, 2
PAID, PAID_SLOTS = [2, 7], [0, 4]
ADDED = np.array([0, 0, 0, 0, 0.5, 0, 1, 0, 0, 0], np.float32)
SETTLED = SlateSettings(explore=0.6, diversity=0.5, temperature=1.0)


def among(*listed: list[int]) -> NDArray[np.bool_]:
    """bool [rows, lists]"""
    columns = [np.isin(np.arange(len(VALUES)), rows) for rows in listed]
    return np.ascontiguousarray(np.stack(columns, axis=1))


RULED = SlotRules(
    added=ADDED,
    groups=np.array(GROUPS, np.int32)[:, None].copy(),
    most=np.array([[MOST, WINDOW]], np.int64),
    first=among(SIDES[0]),
    second=among(SIDES[1]),
    pinned=among(*PINNED.values()),
    pin_slots=np.array(list(PINNED), np.int64),
    paid=among(PAID),
    paid_slots=np.isin(np.arange(100), PAID_SLOTS)[None, :].copy(),
    pins=("pin[0]", "pin[1]"),
    sponsored=("sponsored[0]",),
)


def ruled_open(above: tuple[int, ...], size: int, page: tuple[int, ...] = ()) -> list[int]:
    """The rows that RULED leaves open in the next slot, in plain Python."""
    slot, met = len(above), {*page, *above}
    free = [row for row in range(len(VALUES)) if row not in met]
    for one, other in (SIDES, SIDES[::-1]):
        if met & set(one):
            free = [row for row in free if row not in other]
    near = [GROUPS[row] for row in above[max(slot + 1 - WINDOW, 0) :]]
    now = [row for row in free if GROUPS[row] < 0 or near.count(GROUPS[row]) < MOST]
    now = [row for row in now if row not in PAID or slot in PAID_SLOTS]
    held = list(now)
    for at, rows in PINNED.items():
        left = [row for row in held if row in rows]
        if slot < at < size and len(left) == 1:
            held.remove(left[0])
    for some in (held, now):
        if pinned := [row for row in some if row in PINNED.get(slot, [])]:
            return pinned
    return held or now


def ruled_policy(above: tuple[int, ...], size: int, page: tuple[int, ...]) -> dict[int, float]:
    spread, settled = float(VALUES.astype(float).std()), SETTLED
    taken_off = Counter(MAIN[row] for row in above if MAIN[row] >= 0)
    across = Counter(MAIN[row] for row in page if MAIN[row] >= 0)

    def adjusted(row: int) -> float:
        off = taken_off[MAIN[row]] + settled.diversity_across * across[MAIN[row]]
        return float(VALUES[row]) + spread * (float(ADDED[row]) - settled.diversity * off)

    open_now = ruled_open(above, size, page)
    best = max(open_now, key=lambda row: (adjusted(row), -row))
    weights = {row: math.exp((adjusted(row) - adjusted(best)) / spread) for row in open_now}
    total = sum(weights.values())
    return {
        row: settled.explore * weight / total + (1 - settled.explore) * (row == best)
        for row, weight in weights.items()
    }


RULED_POOL = Pool(VALUES, wide(MAIN), RULED)


@pytest.mark.parametrize("page", [(), (6,), (3, 6)])
def test_ruled_propensities_are_the_policys(page: tuple[int, ...]) -> None:
    size = 5
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for seed in range(4000):
        above: tuple[int, ...] = ()
        for choice in fill(RULED_POOL, size, SETTLED, seed, above=np.array(page, np.intp)):
            expected = ruled_policy(above, size, page)
            assert choice.propensity == pytest.approx(expected[choice.row], rel=1e-6)
            pin = list(PINNED).index(len(above)) if len(above) in PINNED else -1
            placed = choice.row in PINNED.get(len(above), [])
            assert choice.rule == (2 if choice.row in PAID else pin if placed else -1)
            counts[above][choice.row] += 1
            above += (choice.row,)
        if len(above) < size:
            assert not ruled_open(above, size, page)
    statistic, freedom = 0.0, 0
    for above, chosen in counts.items():
        drawn = chosen.total()
        cells = {row: drawn * p for row, p in ruled_policy(above, size, page).items()}
        if min(cells.values()) >= 5 and len(cells) > 1:
            statistic += sum((chosen[row] - e) ** 2 / e for row, e in cells.items())
            freedom += len(cells) - 1
    assert freedom > 10
    assert chi2.sf(statistic, freedom) > 1e-3, (statistic, freedom)


def test_only_what_is_open_and_not_above_is_taken() -> None:
    open_ = np.isin(np.arange(10), [1, 2, 5, 8])
    pool = Pool(VALUES, wide(MAIN), NO_SLOT_RULES)
    for seed in range(50):
        chosen = fill(pool, 10, SETTLED, seed, True, open_, np.array([2]))
        assert sorted(c.row for c in chosen) == [1, 5, 8]
    assert room(pool, 10, open_, np.array([2])) == 3
    assert room(pool, 2, open_, np.array([2])) == 2


def test_room_is_what_a_list_by_value_finds() -> None:
    by_value = SlateSettings(explore=0.0, diversity=0.0)
    plain = Pool(VALUES, wide(MAIN), NO_SLOT_RULES)
    capped = SlateSettings(explore=0.0, diversity=0.0, most_of_category=1, window=20)
    rng = np.random.default_rng(1)
    for _ in range(100):
        open_, above = rng.random(10) < 0.7, rng.permutation(10)[: rng.integers(0, 4)]
        for pool in (plain, RULED_POOL):
            found = len(fill(pool, 6, by_value, 1, True, open_, above))
            assert room(pool, 6, open_, above) == found
        found = len(fill(plain, 6, capped, 1, True, open_, above))
        assert room(plain, 6, open_, above, capped) == found


@pytest.mark.parametrize("method", ["category", "mmr", "dpp"])
def test_the_first_slots_do_not_depend_on_how_many_follow_by_any_method(method: Any) -> None:
    pool = Pool(VALUES, wide(MAIN), NO_SLOT_RULES, np.array([0.2, 0.3, 0.5, 0], np.float32))
    rules = SlateSettings(explore=0.4, method=method, calibrate=0.5)
    for seed in range(30):
        assert fill(pool, 6, rules, seed)[:3] == fill(pool, 3, rules, seed)


def test_the_last_item_of_a_pin_waits_unless_nothing_else_is_open() -> None:
    held = SlotRules(pinned=np.array([[True], [False]]), pin_slots=np.array([2]), pins=("pin[0]",))
    pool = Pool(np.array([2, 1], np.float32), wide(np.array([-1, -1], np.int32)), held)
    calm = SlateSettings(explore=0.0)

    assert [c.row for c in fill(pool, 2, calm, 1)] == [0, 1]  # the pinned slot is below the list
    three = Pool(np.array([3, 2, 1], np.float32), wide(np.full(3, -1, np.int32)), SlotRules(
        pinned=np.array([[True], [False], [False]]), pin_slots=np.array([2]), pins=("pin[0]",)
    ))  # fmt: skip
    assert [c.row for c in fill(three, 3, calm, 1)] == [1, 2, 0]
    few = np.array([True, True, False])
    assert [c.row for c in fill(three, 3, calm, 1, open_=few)] == [1, 0]
