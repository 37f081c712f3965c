"""How much a recipe suits a person at a moment: six aspects, and four ways to weigh them up.

The rules are ways people are said to choose, not a dot product: all must hold, the weakest link,
elimination by aspects (Tversky 1972), any one good reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from training.world.arrays import BLOCKS, Bools, Floats, Ints

# (aspects [6, n, k] 0–1, their order for each row [n, 6]) -> appeal [n, k] 0–1
Combine: TypeAlias = Callable[[Floats, Ints], Floats]

COOK, SHOPPING, PLAN, BROWSE, PASS = range(5)
# Minutes a purpose allows, as a multiple of the person's budget; and what moods make of it.
PURPOSE_TIME = np.array([1.0, 1.1, 2.2, 3.0, 0.7])
MOOD_TIME = np.array([1.2, 0.35, 1.5, 1.0])
TIRED, ADVENTUROUS, COMFORT = 1, 2, 3
# Which course is wanted when, by block of the day: breakfast, lunch, dinner, dessert, snack.
MEALS = np.array([[0.2, 0.2, 0.3, 0.8, 0.9], [1.0, 0.3, 0.2, 0.2, 0.4], [0.8, 0.8, 0.4, 0.3, 0.4],
                  [0.1, 1.0, 0.5, 0.5, 0.6], [0.05, 0.3, 1.0, 0.4, 0.4],
                  [0.1, 0.1, 0.6, 1.0, 0.7]])  # fmt: skip
# What a purpose looks for at any hour; cooking and passing time go by the hour alone.
BY_PURPOSE = {SHOPPING: np.array([0.3, 0.4, 1.0, 0.4, 0.4]),
              PLAN: np.array([0.6, 0.8, 1.0, 0.7, 0.3]),
              BROWSE: np.array([0.3, 0.4, 0.7, 1.0, 0.6])}  # fmt: skip


def _courses(by_hour: bool) -> Floats:
    """float [purposes, blocks, courses]."""
    meals = MEALS if by_hour else np.broadcast_to(MEALS.mean(axis=0), MEALS.shape)
    fits = np.broadcast_to(meals, (5, *meals.shape)).copy()
    for purpose, wanted in BY_PURPOSE.items():
        fits[purpose] = wanted
    return fits


# How good a reason each aspect is where one is enough: that there is time is hardly any.
REASONS = np.array([0.6, 0.4, 0.12, 0.3, 0.05, 0.35])[:, None, None]
COURSES_BY_HOUR, COURSES_AT_ANY_HOUR = _courses(True), _courses(False)


@dataclass(frozen=True)
class Need:
    """What acts on a choice, one row a moment; most of it shows nowhere in the log."""

    liking: Floats  # [n, cuisines] as of now
    ingredients: Floats  # [n, ingredients + 1]
    order: Ints  # [n, 6]
    diet: Ints  # [n]
    household: Ints  # [n]
    novelty: Floats  # [n]
    minutes: Floats  # [n] that there are, before purpose, mood and guests
    since_shop: Ints  # [n] days since the weekly shopping
    recent: Ints  # [n, m] recipes opened lately, −1 for none
    block: Ints  # [n]
    purpose: Ints  # [n]
    mood: Ints  # [n]
    guests: Bools  # [n]

    def rows(self, rows: Ints) -> Need:
        """These rows only; a row may be taken more than once."""
        return Need(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Facts:
    """What a choice turns on in the recipes shown, each [n, k] or, for all alike, [1, k]."""

    cuisine: Ints
    course: Ints
    ingredients: Ints  # [n, k, 6]
    diet: Ints
    spoils: Floats
    minutes: Floats
    servings: Ints
    hearty: Bools
    showy: Bools
    item: Ints


def appeal(need: Need, facts: Facts, combine: Combine, by_hour: bool) -> Floats:
    """float [n, k] 0–1."""
    row = np.arange(len(need.purpose))[:, None]
    courses = COURSES_BY_HOUR if by_hour else COURSES_AT_ANY_HOUR
    shape = np.broadcast_shapes(row.shape, facts.item.shape)
    aspects = np.stack([np.broadcast_to(aspect, shape) for aspect in (
        _taste(need, need.liking[row, facts.cuisine]),
        need.ingredients[row[:, :, None], facts.ingredients].min(axis=2),
        _time(need, facts),
        courses[need.purpose[:, None], need.block[:, None], facts.course],
        _pantry(need, facts),
        _occasion(need, facts),
    )])  # fmt: skip
    eats = facts.diet <= need.diet[:, None]
    return combine(aspects, need.order) * np.where(eats, 1.0, 0.03) * _again(need, facts)


def _taste(need: Need, liking: Floats) -> Floats:
    """The adventurous go for what they do not know."""
    strange = (need.mood == ADVENTUROUS)[:, None]
    return np.where(strange, 1.0 - 0.9 * liking, 0.05 + 0.95 * liking)


def _time(need: Need, facts: Facts) -> Floats:
    minutes = need.minutes * PURPOSE_TIME[need.purpose] * MOOD_TIME[need.mood]
    budget = (minutes * np.where(need.guests, 1.5, 1.0))[:, None]
    return np.asarray(np.minimum(1.0, (budget / facts.minutes) ** 2))


def _pantry(need: Need, facts: Facts) -> Floats:
    """Who cooks now needs it in the house, and what is fresh does not keep."""
    stale = np.minimum(need.since_shop / 5.0, 1.0)[:, None]
    return np.where((need.purpose == COOK)[:, None], 1.0 - 0.8 * stale * facts.spoils, 0.8)


def _occasion(need: Need, facts: Facts) -> Floats:
    """Guests want much and something to look at; comfort wants it hearty."""
    guests = np.where(facts.servings >= 4, 1.0, 0.4) * np.where(facts.showy, 1.0, 0.45)
    alone = np.where(facts.servings >= need.household[:, None], 0.9, 0.6)
    alone = alone * np.where(facts.hearty, 0.75, 1.0)
    comfort = np.where(facts.hearty, 1.0, 0.1)
    quiet = np.where((need.mood == COMFORT)[:, None], comfort, alone)
    return np.where(need.guests[:, None], guests, quiet)


def _again(need: Need, facts: Facts) -> Floats:
    """Opened lately: worth less to some, more to others."""
    known = (facts.item[:, :, None] == need.recent[:, None, :]).any(axis=2)
    return np.where(known, np.exp(-0.3 - 0.9 * need.novelty)[:, None], 1.0)


def all_must_hold(aspects: Floats, order: Ints) -> Floats:
    """Each can spoil it."""
    return np.asarray(np.sqrt(aspects.prod(axis=0)))


def weakest_link(aspects: Floats, order: Ints) -> Floats:
    """The worst one decides, nearly."""
    return np.asarray((0.75 * aspects.min(axis=0) + 0.25 * aspects.mean(axis=0)) ** 1.5)


def elimination(aspects: Floats, order: Ints) -> Floats:
    """One after another in an order of one's own, until one falls short."""
    good = np.take_along_axis(aspects >= 0.5, order.T[:, :, None], axis=0)
    return np.asarray((np.cumprod(good, axis=0).sum(axis=0) / len(aspects)) ** 1.5)


def any_reason(aspects: Floats, order: Ints) -> Floats:
    """One good reason is enough."""
    return np.asarray(1.0 - (1.0 - REASONS * aspects**6).prod(axis=0))


assert len(MEALS) == BLOCKS
