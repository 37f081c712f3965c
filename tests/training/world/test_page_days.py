"""Days of pages as columns: what each policy meets is the same, and the oracle's order is best."""

from __future__ import annotations

import numpy as np
import pytest

from training.world import HELD_OUT, LAWS, MODULES, TUNING, PageDay, World, page_days
from training.world.arrays import Floats

FOUR = (*TUNING, *HELD_OUT)


def first_day(law: str, users: int = 1200, seed: int = 4) -> PageDay:
    return next(page_days(World(law, users=users, items=400, seed=seed), 1))


def fixed_orders(day: PageDay) -> list[Floats]:
    worth = np.where(day.available, day.worth, np.nan)
    rng = np.random.default_rng(0)
    by_mean = np.argsort(-np.nanmean(worth, axis=0))
    by_sum = np.argsort(-(day.worth * day.available).sum(axis=0))
    return [day.expected(order[None, :])
            for order in (by_mean, by_sum, *(rng.permutation(12) for _ in range(5)))]  # fmt: skip


@pytest.mark.parametrize("law", LAWS)
def test_the_oracles_order_beats_every_fixed_one_in_expectation(law: str) -> None:
    day = first_day(law)
    best = day.expected(np.argsort(-day.oracle(), axis=1)).mean()
    knowing_all = day.expected(np.argsort(-day.worth * day.available, axis=1)).mean()
    assert best > 1.03 * max(fixed.mean() for fixed in fixed_orders(day))
    assert knowing_all > best


@pytest.mark.parametrize("law", FOUR)
def test_luck_comes_as_expected(law: str) -> None:
    day = first_day(law)
    for order in (np.arange(12)[None, :], np.argsort(-day.worth, axis=1)):
        walk = day.walk(order)
        margin = 4 * walk.worth.std() / np.sqrt(len(day))
        assert walk.worth.mean() == pytest.approx(day.expected(order).mean(), abs=margin)
    oracle = day.oracle()
    assert oracle.mean() == pytest.approx((day.worth * day.available).mean(), rel=0.1)
    rarely = day.oracle(np.arange(200), negligible=0.002)
    assert np.corrcoef(rarely.ravel(), oracle[:200].ravel())[0, 1] > 0.99


def test_what_is_not_there_is_left_out_and_nothing_happens_below_the_end() -> None:
    day = first_day("delta")
    walk = day.walk(np.arange(12)[None, :])
    saved = day.modules.index("because_you_saved")
    assert 0.2 < (~day.available[:, saved]).mean() < 0.5
    rows, _ = np.nonzero(walk.page == saved)
    assert day.available[rows, saved].all()
    assert np.array_equal((walk.page >= 0).sum(axis=1), day.available.sum(axis=1))
    assert not (walk.reached & ~walk.in_view).any()
    assert not (walk.in_view & (walk.page < 0)).any()
    for action in ("click", "dismiss", "save", "add_to_cart", "cook"):
        assert not day.counts(walk, action)[~walk.reached].any()
        assert day.counts(walk, action).sum() > 0
    shorter = day.walk(np.arange(12)[None, :4])
    assert np.array_equal(shorter.page[:, 0], walk.page[:, 0])


def test_every_policy_meets_the_same_luck() -> None:
    one, other = first_day("cedar", 300), first_day("cedar", 300)
    order = np.random.default_rng(1).permuted(np.tile(np.arange(12), (len(one), 1)), axis=1)
    assert one.user_id == other.user_id
    one.walk(order)
    assert np.array_equal(one.walk(order[:, ::-1]).worth, other.walk(order[:, ::-1]).worth)
    assert np.array_equal(one.oracle(), other.oracle())
    assert one.visit(3) == other.visit(3)


def test_days_follow_each_other_and_the_oracle_knows_but_its_own() -> None:
    days = page_days(World("amber", users=100, items=200, seed=1), 2, (*MODULES, "seasonal"))
    yesterday = next(days)
    assert yesterday.worth[:, -1].mean() > 0  # the world does not know it
    assert set(yesterday.situation) <= {"in_bed", "relaxing", "cooking", "at_work", "shopping",
                                        "commuting", "exercising", "unknown"}  # fmt: skip
    today = next(days)
    assert yesterday.at_s.max() < today.at_s.min()
    assert today.oracle().shape == today.worth.shape
    with pytest.raises(ValueError, match="day 0 is over"):
        yesterday.oracle()


def test_one_visit_is_walked_as_all_are() -> None:
    day = first_day("amber")
    order = np.tile(np.arange(len(day.modules)), (len(day), 1))
    walk = day.walk(order)
    for row in range(0, len(day), 7):
        reached = day.look(row, walk.page[row])
        assert reached.tolist() == walk.reached[row, : len(reached)].tolist()
        assert len(reached) == walk.in_view[row].sum()
