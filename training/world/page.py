"""What people do with a page: modules from the top down, a row of recipes in each.

Who comes to a module is drawn in or not; only who is drawn in looks along its row; whoever found
something of use may leave. On a phone the page is a cascade, two modules to a screen; on a tablet
modules stand in two columns and each is come to with the chance of its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.appeal import Need
from training.world.arrays import Bools, Floats, Ints
from training.world.laws import Law
from training.world.modules import ANY_TIME, STRAY, Headings
from training.world.moments import Moments
from training.world.people import People
from training.world.reaction import (
    Chances,
    Reaction,
    act,
    cascade,
    cascade_worth,
    chances,
    whole_screens,
)
from training.world.recipes import Recipes

TABLET_COLUMNS = 2  # of modules
ON_SCREEN = np.array([2, 2 * TABLET_COLUMNS])  # modules, on a phone and on a tablet
IN_ROW = np.array([2, 3])  # recipes of a row in view at once, on a phone and on a tablet


@dataclass(frozen=True)
class Offer:
    """The modules of pages, one row a moment."""

    headings: Headings  # of m modules
    liking: Floats  # [persons, m]
    items: Ints  # [n, m, k], −1 where a row has ended

    def rows(self, rows: Ints) -> Offer:
        """These moments only; one may be taken more than once."""
        return Offer(self.headings, self.liking, self.items[rows])


@dataclass(frozen=True)
class Prospect:
    """What to expect of each module if it is come to."""

    draws: Floats  # [n, m] chance that someone is drawn in
    given: Chances  # [n · m, k], of its recipes for those who look at them
    worth: Floats  # [n, m]
    useful: Floats  # [n, m] chance that something in it is of use


def prospect(
    law: Law, people: People, recipes: Recipes, moments: Moments, need: Need, offer: Offer
) -> Prospect:
    """What the modules would bring; `need` is that of the moments."""
    n, m, k = offer.items.shape
    rows = np.repeat(np.arange(n), m)
    whole = chances(law, recipes, need, offer.items.reshape(n, m * k))
    given = whole.of_rows(n * m, offer.items.reshape(n * m, k) >= 0)
    patience, at_once = people.patience[moments.person], in_row(moments)
    worth, useful = cascade_worth(law, patience[rows], given, at_once[rows])
    draws = _draws(law, people, recipes, moments, offer)
    return Prospect(draws, given, draws * worth.reshape(n, m), draws * useful.reshape(n, m))


def in_row(moments: Moments) -> Ints:
    """Recipes of a row that are in view at once: int [n]."""
    return IN_ROW[moments.on_tablet.astype(np.int64)]


def _draws(law: Law, people: People, recipes: Recipes, moments: Moments, offer: Offer) -> Floats:
    headings, liking = offer.headings, offer.liking[moments.person]
    photos = np.where(offer.items < 0, 0.0, recipes.lure[offer.items])
    in_view = np.arange(photos.shape[2]) < in_row(moments)[:, None]
    four = (
        headings.purpose[:, moments.purpose].T,
        headings.mood[:, moments.mood].T,
        headings.company[:, moments.guests.astype(np.int64)].T,
        headings.hour[:, moments.weekend, moments.block].T,
    )
    if not law.situation_matters:
        four = (np.full(liking.shape, ANY_TIME),) * 4
    aspects = np.stack([*four, liking, (photos * in_view[:, None]).max(axis=2)])
    enters = law.enter(aspects, people.aspects[moments.person])
    used = np.where(liking > 0, 1.0, STRAY)
    return np.asarray(law.draw * enters * used * (0.5 + 0.5 * headings.attraction))


def if_come_to(
    law: Law, people: People, moments: Moments, expected: Prospect, rng: np.random.Generator
) -> Reaction:
    """What happens in each module whose turn comes: bool [n · m, k]."""
    n, m = expected.draws.shape
    drawn = rng.random((n, m)) < expected.draws
    luck = rng.random((7, *expected.given.click.shape))
    rows = np.repeat(np.arange(n), m)
    clicks = luck[0] < expected.given.click
    at_once = in_row(moments)[rows]
    patience = people.patience[moments.person[rows]]
    looked = cascade(law, patience, clicks, luck[1], at_once) & expected.given.there
    looked = looked & drawn.reshape(-1, 1)
    seen = whole_screens(looked, at_once) & expected.given.there
    return act(expected.given, looked, seen, clicks, luck[2:])


def attention(law: Law, people: People, moments: Moments, places: int) -> tuple[Floats, Floats]:
    """Chance that a module is looked at if nobody left before: float [n, places]; and that
    people go on after it, if nothing (0) or something (1) was of use: float [n, places, 2].

    A module takes the room of two recipes of a list, and the patience.
    """
    n, tablet = len(moments), moments.on_tablet
    patience = people.patience[moments.person]
    nothing = np.zeros(n, dtype=np.bool_)
    looks = np.where(tablet[:, None], law.grid(places, TABLET_COLUMNS), 1.0)
    goes_on = np.ones((n, places, 2))
    for place in range(places):
        half = law.keep_looking(2 * place, patience, nothing)
        for useful in (0, 1):
            rest = law.keep_looking(2 * place + 1, patience, nothing | bool(useful))
            goes_on[:, place, useful] = np.where(tablet, 1.0, half * rest)
    return looks, goes_on


def come_to(looks: Bools, goes_on: Bools, useful: Bools) -> Bools:
    """Which modules of a page are come to, bool [n, places], by what each would bring."""
    reached = np.zeros(looks.shape, dtype=np.bool_)
    going, every = np.ones(len(looks), dtype=np.bool_), np.arange(len(looks))
    for place in range(looks.shape[1]):
        reached[:, place] = going & looks[:, place]
        found = (reached[:, place] & useful[:, place]).astype(np.int64)
        going = going & goes_on[every, place, found]
    return reached


def page_worth(looks: Floats, goes_on: Floats, worth: Floats, useful: Floats) -> Floats:
    """Expected worth of whole pages, float [n], from that of each place if come to [n, places]."""
    total, going = np.zeros(len(worth)), np.ones(len(worth))
    for place in range(worth.shape[1]):
        total += going * looks[:, place] * worth[:, place]
        found = looks[:, place] * useful[:, place]
        nothing, something = goes_on[:, place, 0], goes_on[:, place, 1]
        going = going * (nothing + found * (something - nothing))
    return total


def modules_in_view(reached: Bools, moments: Moments) -> Bools:
    """Whole screens of modules: bool [n, places]."""
    return whole_screens(reached, ON_SCREEN[moments.on_tablet.astype(np.int64)])


def react_to_page(
    law: Law, people: People, moments: Moments, expected: Prospect, rng: np.random.Generator
) -> tuple[Reaction, Floats]:
    """What happens on pages, bool [n, m · k], and what they come to on the mean, float [n]."""
    n, m = expected.draws.shape
    each = if_come_to(law, people, moments, expected, rng)
    looks, goes_on = attention(law, people, moments, m)
    luck = rng.random((2, n, m))
    reached = come_to(luck[0] < looks, luck[1][:, :, None] < goes_on, each.useful.reshape(n, m))
    seen = np.where(
        reached.reshape(-1, 1), each.seen, _first_screen(moments, expected) & expected.given.there
    )
    seen = seen & modules_in_view(reached, moments).reshape(-1, 1)
    mean = page_worth(looks, goes_on, expected.worth, expected.useful)
    return each.only(reached.reshape(-1, 1), seen).reshape(n), mean


def _first_screen(moments: Moments, expected: Prospect) -> Bools:
    m, k = expected.draws.shape[1], expected.given.click.shape[1]
    return np.asarray(np.arange(k) < np.repeat(in_row(moments), m)[:, None])
