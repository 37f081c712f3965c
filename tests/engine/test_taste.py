"""Taste: what a touch weighs, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from engine.actions import Action, Actions, load_actions
from engine.catalog import Catalog
from engine.situation import Moment
from engine.state import ITEM, TOUCH, Touch, UserState
from engine.taste import Taste, TasteSettings, read_taste, weights_by_term

NOW_S = 1_770_000_000
DAY_S = 86_400
WEIGHTS = np.zeros(256, np.float32)
WEIGHTS[:4] = 1, 4, -4, 8  # view, like, unlike, cook
SETTINGS = TasteSettings(half_life_days=10, other_situation=0.5, older=0.25)
COOKING, WALKING = 2, 4  # numbers of situations


def moment(situation: int = 0) -> Moment:
    return Moment(NOW_S * 1000, situation, 0.8, 1.0, 12.0, 0)


def state_of(*touches: Touch, seen: tuple[int, ...] = ()) -> UserState:
    return UserState(
        recent=b"".join(TOUCH.pack(*touch) for touch in touches),
        seen=b"".join(ITEM.pack(item) for item in seen),
    )


def read(state: UserState, situation: int = 0) -> Taste:
    return read_taste(state, moment(situation), WEIGHTS, SETTINGS)


def test_somebody_unknown_has_no_taste() -> None:
    taste = read(UserState())

    assert (len(taste.items), len(taste.weights), taste.attributes) == (0, 0, {})
    assert (taste.items.dtype, taste.weights.dtype) == (np.int32, np.float32)


def test_a_touch_fades_counted_from_the_newest() -> None:
    state = state_of(
        Touch(5, 0, NOW_S - 40 * DAY_S, 0),
        Touch(6, 1, NOW_S - 20 * DAY_S, 0),
        Touch(7, 0, NOW_S - 30 * DAY_S, 0),  # came late
    )

    taste = read(state)

    assert taste.items.tolist() == [5, 6, 7]
    assert taste.weights == pytest.approx([0.25, 4.0, 0.5])
    assert (taste.items.dtype, taste.weights.dtype) == (np.int32, np.float32)


def test_what_was_undone_cancels_and_a_dislike_is_below_zero() -> None:
    taste = read(state_of(Touch(5, 1, NOW_S, 0), Touch(5, 2, NOW_S, 0), Touch(6, 2, NOW_S, 0)))

    assert taste.weights[taste.items == 5].sum() == 0
    assert taste.weights[taste.items == 6] == [-4]


def test_touches_of_another_situation_weigh_less() -> None:
    state = state_of(
        Touch(1, 0, NOW_S, COOKING), Touch(2, 0, NOW_S, WALKING), Touch(3, 0, NOW_S, 0)
    )

    assert read(state, COOKING).weights == pytest.approx([1, 0.5, 1])  # unknown is no other
    assert read(state, 0).weights == pytest.approx([1, 1, 1])


def test_older_items_weigh_less_than_the_oldest_touch() -> None:
    recent = (Touch(5, 0, NOW_S - 10 * DAY_S, 0), Touch(6, 0, NOW_S, 0))

    taste = read(state_of(*recent, seen=(9, 8)))

    assert taste.items.tolist() == [9, 8, 5, 6]
    assert taste.weights == pytest.approx([0.125, 0.125, 0.5, 1.0])
    assert (taste.items.dtype, taste.weights.dtype) == (np.int32, np.float32)


def test_random_states_against_plain_python() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        touches = [
            Touch(*map(int, row))
            for row in zip(
                rng.integers(0, 100, 50),
                rng.integers(0, 5, 50),
                NOW_S - rng.integers(0, 90 * DAY_S, 50),
                rng.integers(0, 4, 50),
                strict=True,
            )
        ]
        newest = max(touch.at_s for touch in touches)
        expected = [
            float(WEIGHTS[touch.term])
            * 2 ** (-(newest - touch.at_s) / (10 * DAY_S))
            * (0.5 if touch.situation not in (0, 2) else 1)
            for touch in touches
        ]

        taste = read(state_of(*touches), situation=2)

        assert taste.items.tolist() == [touch.item for touch in touches]
        assert taste.weights == pytest.approx(expected, rel=1e-5)


def test_attributes_that_were_removed_are_gone() -> None:
    state = UserState(attributes={"diet": (1, "vegan"), "locale": (2, None), "adults": (3, 0)})

    assert read(state).attributes == {"diet": "vegan", "adults": 0}


def test_weights_follow_the_declared_actions() -> None:
    catalog = Catalog()
    for term, name in enumerate(["like", "unlike", "open", "gone"]):
        catalog.name("action", name, term)
    actions = Actions(load_actions().by_name | {"open": Action(weight=1, sign=0, needs_item=False)})

    weights = weights_by_term(actions, catalog)

    assert weights[:5].tolist() == [4, -4, 0, 0, 0]
    assert (weights.dtype, weights.shape) == (np.float32, (256,))
