"""What a home screen is made of: modules, a heading above a row of recipes, and whom it draws in.

A heading serves purposes, moods, company and hours, each from 0 to 1; above half it suits. How
the four, a person's own liking of such modules and the photos in view add up is the law's rule, in
the ways in which recipes are chosen (appeal.py): none is a table of rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from training.world.arrays import BLOCKS, Floats, Ints

# (aspects [6, n, m] 0–1: purpose, mood, company, hour, liking, photos; the order of a person's
# own [n, 6]) -> chance to be drawn in [n, m], before what the heading attracts
Enter: TypeAlias = Callable[[Floats, Ints], Floats]

NEVER = 0.15  # share of (person, module) that is never used
STRAY = 0.03  # what is left of the chance there
ANY_TIME = 0.7  # how every heading suits where no situation, hour or company matters


@dataclass(frozen=True)
class Heading:
    """Who is served by a module, 0–1; nothing here is in the log."""

    purpose: tuple[float, ...]  # cook, shop, plan, browse, pass
    mood: tuple[float, ...]  # calm, tired, adventurous, comfort
    company: tuple[float, float]  # alone, guests
    hour: tuple[float, ...]  # by block of the day
    day: tuple[float, float] = (1.0, 1.0)  # working days, weekends
    attraction: float = 0.5


FLAT = (0.7,) * BLOCKS
HEADINGS = {
    "shopping_list": Heading((0.35, 1.0, 0.5, 0.1, 0.05), (0.8, 0.7, 0.4, 0.6), (0.7, 0.8),
                             (0.1, 0.3, 0.8, 0.8, 1.0, 0.3), (0.8, 1.0), 0.5),
    "continue_cooking": Heading((1.0, 0.3, 0.2, 0.2, 0.1), (0.8, 0.7, 0.4, 0.8), (0.8, 0.6),
                                (0.1, 0.3, 0.5, 0.7, 1.0, 0.6), attraction=0.6),
    "because_you_saved": Heading((0.5, 0.4, 0.9, 0.7, 0.4), (0.8, 0.5, 0.4, 0.8), (0.7, 0.7),
                                 (0.5, 0.5, 0.6, 0.6, 0.7, 0.9), attraction=0.6),
    "for_you": Heading((0.4, 0.2, 0.5, 1.0, 0.8), (0.8, 0.7, 0.5, 0.8), (0.8, 0.5),
                       (0.8,) * BLOCKS, attraction=0.8),
    "quick": Heading((0.9, 0.5, 0.1, 0.3, 0.5), (0.5, 1.0, 0.2, 0.6), (0.8, 0.15),
                     (0.3, 0.8, 0.6, 0.8, 1.0, 0.4), (1.0, 0.5), 0.6),
    "weekend_projects": Heading((0.3, 0.3, 0.9, 0.6, 0.3), (0.7, 0.05, 1.0, 0.7), (0.5, 0.9),
                                (0.3, 0.3, 0.8, 0.8, 0.6, 0.9), (0.3, 1.0), 0.4),
    "new_this_week": Heading((0.2, 0.2, 0.5, 0.9, 1.0), (0.6, 0.4, 1.0, 0.2), (0.6, 0.5),
                             FLAT, attraction=0.6),
    "popular_now": Heading((0.3, 0.2, 0.3, 0.8, 1.0), (0.7, 0.8, 0.4, 0.7), (0.7, 0.7),
                           FLAT, attraction=0.7),
    "desserts": Heading((0.3, 0.3, 0.4, 0.7, 0.7), (0.4, 0.5, 0.6, 1.0), (0.5, 0.95),
                        (0.5, 0.1, 0.2, 0.7, 0.6, 1.0), attraction=0.45),
    "breakfast": Heading((0.7, 0.4, 0.5, 0.4, 0.3), (0.8, 0.6, 0.5, 0.6), (0.7, 0.4),
                         (0.3, 1.0, 0.8, 0.1, 0.1, 0.4), (0.6, 1.0), 0.35),
    "pantry": Heading((1.0, 0.05, 0.2, 0.2, 0.2), (0.7, 1.0, 0.2, 0.8), (0.8, 0.1),
                      (0.4, 0.5, 0.5, 0.7, 1.0, 0.7), attraction=0.4),
    "for_guests": Heading((0.4, 0.7, 1.0, 0.5, 0.2), (0.7, 0.1, 0.9, 0.4), (0.08, 1.0),
                          (0.2, 0.2, 0.7, 0.8, 0.8, 0.7), (0.6, 1.0), 0.35),
}  # fmt: skip
# An id that the world does not know suits nothing in particular.
UNKNOWN = Heading((0.45,) * 5, (0.45,) * 4, (0.45, 0.45), (0.45,) * BLOCKS, attraction=0.3)
MODULES = tuple(HEADINGS)


@dataclass(frozen=True)
class Headings:
    """Columns over modules."""

    purpose: Floats  # [m, 5]
    mood: Floats  # [m, 4]
    company: Floats  # [m, 2]
    hour: Floats  # [m, 2, blocks]
    attraction: Floats  # [m]


def headings_of(module_ids: Sequence[str]) -> Headings:
    """What the world knows of these modules by their ids."""
    of = [HEADINGS.get(module_id, UNKNOWN) for module_id in module_ids]
    return Headings(
        purpose=np.array([heading.purpose for heading in of]),
        mood=np.array([heading.mood for heading in of]),
        company=np.array([heading.company for heading in of]),
        hour=np.array([np.outer(heading.day, heading.hour) for heading in of]),
        attraction=np.array([heading.attraction for heading in of]),
    )


def lasting_liking(persons: int, rng: np.random.Generator) -> Floats:
    """How each person takes to one module, for good: float [persons], 0 for never."""
    liking = rng.beta(2.0, 1.5, persons)
    return np.where(rng.random(persons) < NEVER, 0.0, liking)


def all_fit(aspects: Floats, order: Ints) -> Floats:
    """Each can spoil it, purpose and liking most of all; photos add a little."""
    rest = np.sqrt(aspects[1:4].prod(axis=0))
    return np.asarray(aspects[0] * rest * aspects[4] * (0.5 + 0.5 * aspects[5]))


def weakest_fit(aspects: Floats, order: Ints) -> Floats:
    """What suits least decides, nearly; photos cannot save it."""
    heading = aspects[:5]
    drawn = 0.8 * heading.min(axis=0) + 0.2 * heading.mean(axis=0)
    return np.asarray(np.minimum(drawn, 0.4 + 0.6 * aspects[5]))


# From where on an aspect is good enough; photos are seldom striking.
ENOUGH = np.array([0.5, 0.5, 0.5, 0.5, 0.45, 0.3])[:, None, None]


def shortlist(aspects: Floats, order: Ints) -> Floats:
    """One after another in an order of one's own, until one is not good enough."""
    good = np.take_along_axis(aspects >= ENOUGH, order.T[:, :, None], axis=0)
    return np.asarray((np.cumprod(good, axis=0).sum(axis=0) / len(aspects)) ** 1.2)


# How good a reason each is where one is enough.
REASONS = np.array([0.45, 0.2, 0.3, 0.12, 0.45, 0.25])[:, None, None]


def any_fit(aspects: Floats, order: Ints) -> Floats:
    """One good reason is enough: a purpose, a habit, guests, a photo."""
    return np.asarray(1.0 - (1.0 - REASONS * aspects**4).prod(axis=0))
