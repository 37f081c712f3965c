"""Days of pages as columns: every visit's modules, what each is worth and what each would bring.

For benchmarks of many policies over many visits. All luck is drawn beforehand, so that every policy
meets the same visits; people are not changed by what they see, only their tastes drift overnight.
A policy costs an order per visit and a walk down it:

    for day in page_days(world, days=7):
        order = ...                                 # int [n, places], columns of day.modules
        walk = day.walk(order)                      # what came of it; day.counts(walk, "cook")
        day.expected(order).mean()                  # the same without the luck
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.world.arrays import DAY_S, Bools, Floats, Ints
from training.world.calendar import organic_visits
from training.world.core import Core, generator
from training.world.diary import SURFACE
from training.world.modules import MODULES
from training.world.moments import Moments, device_of, offsets_s
from training.world.oracle import expected_of_modules
from training.world.page import (
    ON_SCREEN,
    Offer,
    attention,
    come_to,
    if_come_to,
    modules_in_view,
    page_worth,
    prospect,
)
from training.world.people import CALLED
from training.world.reaction import Reaction
from training.world.shelves import Shelves
from training.world.simulation import Visit, World

Column = TypeVar("Column", np.float64, np.int64, np.bool_)
WIDTH = 6  # recipes of a row
AT_ONCE = 2000  # visits whose chances are worked out together: they stay in the cache
UNLIKELY = 0.02  # combinations of what is hidden that the oracle leaves out here


@dataclass(frozen=True)
class Walk:
    """What became of a page per visit; places count from the top."""

    page: Ints  # [n, places] column of the module there, −1 below the page's end
    in_view: Bools  # [n, places]
    reached: Bools  # [n, places] come to: what the module would bring, it brought
    worth: Floats  # [n]


@dataclass(frozen=True)
class PageDay:
    """Columns over the n visits of a day, by time, and the m modules that may be shown.

    `available` is false where a module has nothing for the person. Whoever decides may read
    `user_id`, `at_s`, `items`, `available` and `device`; the rest is for judging.
    """

    core: Core
    day: int
    modules: tuple[str, ...]
    moments: Moments
    offer: Offer
    user_id: list[str]
    available: Bools  # [n, m]
    worth: Floats  # [n, m] expected if come to, knowing what is hidden
    useful: Floats  # [n, m] chance that something in it is of use
    value: Floats  # [n, m] what it brings if it is come to, as luck has it
    found: Bools  # [n, m] whether that is of use
    acts: dict[str, Ints]  # [n, m] each: how often, by action
    looks: Bools  # [n, m] by place, as luck has it
    goes_on: Bools  # [n, m, 2] by place, if nothing or something was of use
    chance: tuple[Floats, Floats]  # the chances of both

    def __len__(self) -> int:
        return len(self.moments)

    @property
    def at_s(self) -> Floats:
        return self.moments.at_s

    @property
    def items(self) -> Ints:
        """Recipes by number, int [n, m, k], −1 where a row has ended."""
        return self.offer.items

    @property
    def situation(self) -> NDArray[np.str_]:
        """What it really is, by the name that an app has for it [n]: only for judging."""
        return np.array(CALLED)[self.moments.situation]

    def visit(self, row: int) -> Visit:
        """What a request would carry."""
        device = device_of(self.core.people, self.moments, row)
        return Visit(row, self.user_id[row], float(self.at_s[row]), device, SURFACE)

    def walk(self, order: Ints) -> Walk:
        """What comes of these pages, int [n or 1, places]; what is not available is left out."""
        page = self._page(order)
        there, places = page >= 0, page.shape[1]
        looks = self.looks[:, :places] & there
        reached = come_to(looks, self.goes_on[:, :places], self._of(self.found, page))
        in_view = modules_in_view(reached, self.moments) & there
        worth = (self._of(self.value, page) * reached).sum(axis=1)
        return Walk(page, in_view, reached, worth)

    def counts(self, walk: Walk, action: str) -> Ints:
        """How often something was done in each place: int [n, places]."""
        return self._of(self.acts[action], walk.page) * walk.reached

    def expected(self, order: Ints) -> Floats:
        """Mean worth of these pages to these visits, float [n], knowing what is hidden."""
        return self.expected_of(self._page(order), np.arange(len(self)))

    def look(self, row: int, page: Ints) -> Bools:
        """Whether each module of one visit's page, int [places], is come to; [in view]."""
        end = int((page >= 0).sum())
        reached = np.zeros(end, dtype=np.bool_)
        for place, module in enumerate(page[:end].tolist()):
            reached[place] = self.looks[row, place]
            found = int(reached[place] and self.found[row, module])
            if not self.goes_on[row, place, found]:
                break
        last = int(np.flatnonzero(reached)[-1]) if reached.any() else 0
        screen = int(ON_SCREEN[int(self.moments.on_tablet[row])])
        return reached[: (last // screen + 1) * screen]

    def expected_of(self, page: Ints, rows: Ints) -> Floats:
        """As `expected`, of these visits' pages as they are: int [rows, places], −1 below."""
        there, places = page >= 0, page.shape[1]
        looks, goes_on = (chance[rows, :places] for chance in self.chance)
        worth = self._of(self.worth[rows], page) * there
        useful = self._of(self.useful[rows], page) * there
        return page_worth(looks, goes_on, worth, useful)

    def oracle(self, rows: Ints | None = None, negligible: float = UNLIKELY) -> Floats:
        """Expected worth of each module that is come to, to whoever knows law and tastes but of
        the moment no more than a request carries: float [n, m], of these visits or of all.

        What is hidden is weighed as in oracle.py, leaving out combinations rarer than `negligible`.
        Raises ValueError once the world's next day has begun: tastes are no longer those.
        """
        core = self.core
        if core.day != self.day + 1:
            raise ValueError(f"day {self.day} is over, the next one is {core.day}")
        rows = np.arange(len(self)) if rows is None else rows
        parts = [rows[at : at + AT_ONCE // 10] for at in range(0, len(rows), AT_ONCE // 10)]
        worth = [
            expected_of_modules(
                core.law, core.recipes, core.people, core.lives, core.sensors,
                self.moments.rows(part), self.offer.rows(part), negligible,
            )[0]
            for part in parts
        ]  # fmt: skip
        return np.concatenate(worth) * self.available[rows]

    def _page(self, order: Ints) -> Ints:
        """Modules that are there move up: int [n, places], −1 below the end."""
        order = np.broadcast_to(order, (len(self), order.shape[1]))
        there = np.take_along_axis(self.available, order, axis=1)
        up = np.argsort(~there, axis=1, kind="stable")
        page = np.where(there, order, -1)
        return np.take_along_axis(page, up, axis=1)

    @staticmethod
    def _of(column: NDArray[Column], page: Ints) -> NDArray[Column]:
        return np.take_along_axis(column, np.maximum(page, 0), axis=1)


def page_days(
    world: World, days: int, modules: Sequence[str] = MODULES, width: int = WIDTH
) -> Iterator[PageDay]:
    """The world's next days; take each before the next one.

    What people opened lately is drawn for them (shelves.py) and takes the place of what they had.
    """
    for _ in range(days):
        yield _page_day(world.core, tuple(modules), width)


def _page_day(core: Core, modules: tuple[str, ...], width: int) -> PageDay:
    day, day_s = core.day, core.begin_day()
    shelves = Shelves(core, day_s, modules, width)
    person, at_s = organic_visits(
        core.people, core.lives, day_s, offsets_s(day_s + DAY_S / 2),
        generator(core.seed, "visits", core.day),
    )  # fmt: skip
    by_time = np.argsort(at_s, kind="stable")
    rng = generator(core.seed, "page days", core.day)
    moments = core.moments(person[by_time], at_s[by_time], rng)
    offer = core.offer(modules, shelves.of(moments))
    parts = [
        _columns(core, moments.rows(rows), offer.rows(rows), rng)
        for rows in np.array_split(np.arange(len(moments)), len(moments) // AT_ONCE + 1)
    ]
    worth, useful, value, found, counts = (
        np.concatenate([part[n] for part in parts]) for n in range(5)
    )
    chance = attention(core.law, core.people, moments, len(modules))
    luck = rng.random((2, *worth.shape))
    return PageDay(
        core=core,
        day=day,
        modules=modules,
        moments=moments,
        offer=offer,
        user_id=[core.diary.user_id(n) for n in core.people.account[moments.person].tolist()],
        available=np.asarray((offer.items >= 0).any(axis=2)),
        worth=worth,
        useful=useful,
        value=value,
        found=found,
        acts={name: counts[:, :, n] for n, name in enumerate(ACTIONS)},
        looks=luck[0] < chance[0],
        goes_on=luck[1][:, :, None] < chance[1],
        chance=chance,
    )


ACTIONS = ("click", "dismiss", "save", "add_to_cart", "cook")


def _columns(
    core: Core, moments: Moments, offer: Offer, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Bools, Ints]:
    n, m, _ = offer.items.shape
    due = prospect(core.law, core.people, core.recipes, moments, core.lives.need(moments), offer)
    brings: Reaction = if_come_to(core.law, core.people, moments, due, rng)
    acts = np.stack([brings.acts[name].sum(axis=1) for name in ACTIONS], axis=1)
    value = brings.value.reshape(n, m)
    return due.worth, due.useful, value, brings.useful.reshape(n, m), acts.reshape(n, m, -1)
