"""The carousel's clicks as they are counted, and policies where the best order is obvious."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from engine.choosing import ChoiceSettings
from engine.module_choice import Here, Rates, estimate, shares
from training.carousel import AT_ONCE, Carousel, Size, counted, generate, k_means
from training.carousel_figures import Course, evaluate
from training.carousel_policies import (
    POLICIES,
    ExploreThenCommit,
    Greedy,
    Kairos,
    KlUcb,
    Linear,
    Policy,
    Random,
    Thompson,
    divergence,
    regrets,
)
from training.over_worlds import interval

SMALL = Size(people=2000, playlists=30, dimensions=8, segments=5, slots=6)


def two_tribes(onwards: float = 1.0) -> Carousel:
    """Even people click playlist 4 half of the time, odd people 7; all else is clicked rarely."""
    size = Size(people=400, playlists=20, dimensions=1, segments=2, slots=5)
    segments = np.arange(400) % 2
    chances = np.full((400, 20), 0.02, np.float32)
    chances[0::2, 4] = chances[1::2, 7] = 0.5
    embeddings = np.stack((np.ones(400), 2.0 * segments - 1), axis=1).astype(np.float32)
    return Carousel(chances, embeddings, segments, size, onwards)


@pytest.mark.parametrize(
    ("clicks", "seen"),
    [
        ([], AT_ONCE),
        ([0], AT_ONCE),
        ([2], 3),
        ([3], 4),
        ([0, 4], 5),
        ([5], 6),
    ],
)
def test_all_above_the_last_click_counts_as_seen(clicks: list[int], seen: int) -> None:
    clicked = np.zeros((1, 6), np.bool_)
    clicked[0, clicks] = True
    assert counted(clicked)[0].tolist() == [True] * seen + [False] * (6 - seen)


@pytest.mark.parametrize("onwards", [1.0, 0.5])
def test_nothing_below_the_last_seen_counts_as_refused(onwards: float) -> None:
    world = two_tribes(onwards)
    people = np.arange(400)
    orders = np.broadcast_to(np.array([0, 1, 2, 3, 4]), (400, 5))
    shown = world.show(people, orders, np.random.default_rng(1))
    deepest = np.zeros(400, np.int64)
    np.maximum.at(deepest, shown.people, shown.playlists)
    last = np.full(400, AT_ONCE - 1)
    np.maximum.at(last, shown.people[shown.clicked], shown.playlists[shown.clicked])
    assert (deepest == last).all()
    assert (np.bincount(shown.people) == deepest + 1).all()


def test_clicks_come_at_the_chances_of_the_slots_that_are_seen() -> None:
    world = two_tribes(onwards=0.5)
    people = np.zeros(200_000, np.int64)
    orders = np.broadcast_to(np.array([0, 1, 2, 3, 4]), (len(people), 5))
    shown = world.show(people, orders, np.random.default_rng(1))
    expected = world.value(people[:1], orders[:1])[0]
    assert expected == pytest.approx(3 * 0.02 + 0.5 * 0.02 + 0.25 * 0.5)
    assert shown.clicked.sum() / len(people) == pytest.approx(expected, rel=0.02)


def test_the_best_order_is_the_most_clicked_first() -> None:
    world = two_tribes(onwards=0.5)
    assert world.best() == pytest.approx(0.5 + (2 + 0.5 + 0.25) * 0.02)
    anybody = np.arange(400)
    shuffled = np.random.default_rng(1).permuted(np.tile(np.arange(20), (400, 1)), axis=1)[:, :5]
    assert (world.value(anybody, shuffled) <= world.best() + 1e-9).all()


def test_a_generated_world_is_as_rarely_clicked_as_the_papers() -> None:
    world = generate(Size(people=5000), np.random.default_rng(3))
    assert 0.01 < world.chances.mean() < 0.03
    assert 0.1 < world.chances.max(axis=1).mean() < 0.25
    assert world.embeddings.shape == (5000, 97)
    assert len(np.unique(world.segments)) > 90


def test_segments_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    points = np.concatenate((rng.normal(-5, 1, (50, 3)), rng.normal(5, 1, (50, 3))))
    found = k_means(points.astype(np.float32), 2, rng)
    assert found[:50].std() == found[50:].std() == 0
    assert found[0] != found[99]


SEGMENTED = {
    "kairos": lambda world: Kairos(world, ChoiceSettings(explore=0.0)),
    "thompson": lambda world: Thompson(world, 1.0, 99.0),
    "greedy": lambda world: Greedy(world, 0.1),
    "kl-ucb": KlUcb,
    "commit": lambda world: ExploreThenCommit(world, 20),
    "linear": lambda world: Linear(world, -5.0),
}


@pytest.mark.parametrize("name", SEGMENTED)
def test_the_best_playlist_of_each_segment_is_found(name: str) -> None:
    world = two_tribes()
    policy: Policy = SEGMENTED[name](world)
    regrets(world, policy, rounds=40, visits=400, seed=1)
    people = np.arange(400)
    orders = policy.order(people, np.random.default_rng(5))
    right = (orders == np.where(world.segments == 0, 4, 7)[:, None]).any(axis=1)
    assert right.mean() > 0.85


@pytest.mark.parametrize("name", POLICIES)
def test_orders_hold_each_playlist_once(name: str) -> None:
    world = generate(SMALL, np.random.default_rng(1))
    policy = POLICIES[name](world)
    people = np.arange(300)
    for seed in (1, 2):
        orders = policy.order(people, np.random.default_rng(seed))
        assert orders.shape == (300, 6)
        assert all(len(set(order)) == 6 for order in orders.tolist())
        policy.learn(world.show(people, orders, np.random.default_rng(seed)))


def test_the_engines_choice_loses_far_less_than_chance() -> None:
    world = two_tribes()
    ours = regrets(world, Kairos(world, ChoiceSettings()), 40, 400, seed=1).sum()
    theirs = regrets(world, Random(world), 40, 400, seed=1).sum()
    assert ours < 0.3 * theirs


def test_slots_go_as_often_as_the_engines_shares_say() -> None:
    world = two_tribes()
    policy = Kairos(world, ChoiceSettings(explore=0.1, curiosity=1.0))
    regrets(world, policy, 3, 60, seed=1)
    told = estimate(rates_of(policy), Here(0, 1, 0), None)
    people = np.ones(100_000, np.int64)
    orders = policy.order(people, np.random.default_rng(1))
    every = np.ones(20, np.bool_)
    first = shares(told, every, 0.1)
    found = np.bincount(orders[:, 0], minlength=20) / len(people)
    assert (np.abs(found - first) < 4 * np.sqrt(first / len(people))).all()
    top = int(first.argmax())
    after = orders[orders[:, 0] == top, 1]
    every[top] = False
    second = shares(told, every, 0.1)
    found = np.bincount(after, minlength=20) / len(after)
    assert (np.abs(found - second) < 4 * np.sqrt(second / len(after)) + 1e-12).all()


def rates_of(policy: Kairos) -> Rates:
    policy.believe()
    return policy.rates


@pytest.mark.parametrize(("looks", "clicks"), [(0, 0), (50, 3), (10_000, 900)])
def test_betas_are_betas(looks: int, clicks: int) -> None:
    """Of two playlists, one sure: how often the other comes first is a Beta's tail."""
    world = two_tribes()
    policy = Thompson(world, 1.0, 99.0)
    mean = (clicks + 1) / (looks + 100)
    policy.looks[:] = policy.clicks[:] = 0
    policy.looks[:, 0], policy.clicks[:, 0] = 1e9, 1.0
    policy.looks[3, 0], policy.clicks[3, 0] = looks, clicks
    policy.looks[5, 0], policy.clicks[5, 0] = 1e9, 1e9 * mean
    orders = policy.order(np.zeros(100_000, np.int64), np.random.default_rng(1))
    tail = beta.sf(mean, clicks + 1, looks - clicks + 99)
    assert (orders[:, 0] == 3).mean() == pytest.approx(tail, abs=0.006)


def test_the_floor_shows_everything() -> None:
    world = two_tribes()
    policy = Kairos(world, ChoiceSettings(explore=1.0))
    orders = policy.order(np.arange(400), np.random.default_rng(1))
    assert len(np.unique(orders)) == 20


def test_divergence_is_none_of_a_distribution_from_itself() -> None:
    rates = np.array([0.0, 0.2, 1.0])
    assert divergence(rates, rates) == pytest.approx(np.zeros(3), abs=1e-9)
    assert divergence(np.array([0.2]), np.array([0.5]))[0] == pytest.approx(0.1927, abs=1e-4)


def test_figures_hold_every_policy_against_random() -> None:
    told = evaluate(Course(1.0, 3, 200, 2), ["kairos", "ts-seg-naive"], size=SMALL)
    assert list(told["of_random"]) == ["random", "kairos", "ts-seg-naive"]
    assert told["of_random"]["random"] == [1.0, 1.0, 1.0]
    assert 0 <= told["world"]["best_by_segment_of_random"] < 1


def test_an_interval_is_students() -> None:
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx([2.0, -0.484, 4.484], abs=1e-3)
