"""Draws are even and stay; chances are those that choices have; sets are the best there are."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from engine.push_choice import (
    MOST_EXACT,
    Draws,
    Odds,
    best,
    best_set,
    choose,
    draws,
    flip,
    held_out,
)
from engine.push_message import SLOT_MS

KEY = b"a key of the draws"
AT_MS = 1_770_000_000_000
MANY = 20_000


def test_a_draw_is_of_the_person_the_message_and_the_quarter_of_an_hour() -> None:
    slot = AT_MS // SLOT_MS * SLOT_MS
    one = draws(KEY, "ann", "m1", slot)

    assert draws(KEY, "ann", "m1", slot + SLOT_MS - 1) == one
    others = [
        draws(KEY, "ann", "m1", slot + SLOT_MS),
        draws(KEY, "ann", "m2", slot),
        draws(KEY, "bob", "m1", slot),
        draws(b"another key", "ann", "m1", slot),
        draws(KEY, "annm", "1", slot),  # names that run into each other
    ]
    assert len({one, *others}) == 6


def test_draws_are_even_and_have_nothing_to_do_with_each_other() -> None:
    told = [draws(KEY, f"u{n}", "m", AT_MS) for n in range(MANY)]
    values = np.array([(one.measure, one.hour, one.coin) for one in told])

    for column in values.T:
        counts, _ = np.histogram(column, 20, (0, 1))
        chi_square = float(((counts - MANY / 20) ** 2 / (MANY / 20)).sum())
        assert chi_square < 43.8  # 19 degrees of freedom, 1 in 1,000
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.025


def test_the_same_people_are_held_out_for_good() -> None:
    out = [held_out(KEY, f"u{n}", 0.02) for n in range(MANY)]
    more = [held_out(KEY, f"u{n}", 0.1) for n in range(MANY)]

    assert abs(sum(out) / MANY - 0.02) < 0.004
    assert all(later for early, later in zip(out, more, strict=True) if early)


@pytest.mark.parametrize("unwanted", [0.5, 0.1])
@pytest.mark.parametrize(
    ("values", "opened", "share"),
    [
        ([3.0, 2.0, 1.0], [1, 1, 1], 0.3),  # now is best
        ([1.0, 2.0, 3.0], [1, 1, 1], 0.3),  # later is
        ([-1.0, -2.0, -3.0], [1, 1, 1], 0.3),  # nothing is worth it
        ([3.0, 2.0, 1.0], [0, 1, 1], 0.3),  # not now
        ([1.0, 2.0, 3.0, 1.0], [1, 0, 1, 0], 0.05),
    ],
)
def test_chances_are_those_of_choices(
    values: list[float], opened: list[int], share: float, unwanted: float
) -> None:
    odds = Odds(share, unwanted)
    rng = np.random.default_rng(1)
    table, gates = np.array(values), np.array(opened, np.bool_)
    made = [choose(table, gates, odds, Draws(*one)) for one in rng.random((MANY, 3)).tolist()]
    counts = Counter(choice.action for choice in made)
    chance = made[0].chance

    assert all(choice.chance == chance for choice in made)
    assert chance.send + chance.hold + chance.drop == pytest.approx(1)
    for action in ("send", "hold", "drop"):
        expected = chance.of(action)  # type: ignore[arg-type]
        margin = 4 * (expected * (1 - expected) / MANY) ** 0.5
        assert counts[action] / MANY == pytest.approx(expected, abs=margin + 1e-12)
    assert all(gates[choice.cell] for choice in made if choice.action != "drop")
    measured = sum(choice.measured for choice in made) / MANY
    assert measured == pytest.approx(share, abs=0.015)

    # What was tossed for, and what the coin's own chance was.
    tossed = [one for one in made if one.measured and one.action != "hold"]
    coin = unwanted if values[0] <= 0 else 0.5
    assert {one.coin for one in tossed} == ({coin} if opened[0] else set())
    if tossed:
        sent = sum(one.action == "send" for one in tossed) / len(tossed)
        assert sent == pytest.approx(coin, abs=4 * (coin * (1 - coin) / len(tossed)) ** 0.5)


def test_measured_hours_are_drawn_evenly() -> None:
    opened = np.array([0, 1, 1, 0, 1, 1], np.bool_)
    rng = np.random.default_rng(2)
    told = [Draws(*one) for one in rng.random((MANY, 3)).tolist()]
    made = [choose(np.ones(6), opened, Odds(1.0), one) for one in told]
    cells = Counter(choice.cell for choice in made)

    assert set(cells) == {1, 2, 4, 5}
    assert all(abs(count / MANY - 0.25) < 0.013 for count in cells.values())


def test_nothing_open_is_a_drop() -> None:
    choice = choose(np.ones(3), np.zeros(3, np.bool_), Odds(1.0), Draws(0.0, 0.0, 0.0))

    assert (choice.action, choice.chance.drop) == ("drop", 1.0)
    assert best(np.ones(3), np.zeros(3, np.bool_)) is None
    assert best(np.array([2.0, 5.0, 5.0]), np.array([True, True, True])) == 1


def test_the_coin() -> None:
    fair, unfair = Odds(), Odds(unwanted=0.1)

    assert flip(0.01, unfair, Draws(0.9, 0.9, 0.49)).action == "send"
    assert flip(0.01, unfair, Draws(0.0, 0.0, 0.5)).action == "drop"
    assert flip(-1, fair, Draws(0.9, 0.9, 0.49)).action == "send"
    for value in (0.0, -1.0):  # worth nothing: seldom, and the chances say so
        sent, left_out = (flip(value, unfair, Draws(0, 0, coin)) for coin in (0.09, 0.1))
        assert (sent.action, left_out.action) == ("send", "drop")
        assert (sent.chance.send, sent.chance.drop, sent.coin) == (0.1, 0.9, 0.1)
        assert left_out.chance == sent.chance


@pytest.mark.parametrize("seed", range(30))
def test_best_set_is_the_best_of_all_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    values = (rng.random(count) * 10 - 1).tolist()
    groups = [
        {n for n in range(count) if rng.random() < 0.6} for _ in range(int(rng.integers(1, 4)))
    ]
    rooms = [int(room) for room in rng.integers(0, 4, len(groups))]

    def allowed(chosen: tuple[int, ...]) -> bool:
        told = zip(groups, rooms, strict=True)
        return all(len(group & set(chosen)) <= room for group, room in told)

    every = itertools.chain.from_iterable(
        itertools.combinations(range(count), size) for size in range(count + 1)
    )
    highest = max(sum(max(values[n], 0) for n in some) for some in every if allowed(some))
    found = best_set(values, groups, rooms)

    assert allowed(tuple(found))
    assert sum(max(values[n], 0) for n in found) == pytest.approx(highest)


def test_many_messages_keep_within_caps() -> None:
    values = [float(n) for n in range(MOST_EXACT + 5)]
    everyone, even = set(range(len(values))), set(range(0, len(values), 2))

    assert best_set(values, [everyone, even], [3, 1]) == [11, 13, 14]
