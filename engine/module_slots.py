"""Fill a page slot by slot: draw a module out of those that may stand there, then its items."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.module_book import Shelf, why_nothing
from engine.module_choice import Estimates, shares
from engine.modules import OWN_ORDER
from engine.recommending import SlateSettings
from engine.slate import Choice, Pool, fill, room
from engine.spans import span

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]
CHOSEN_FROM = 3  # times as many items as a module takes


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as it was filled."""

    module: int  # among those that were offered
    choices: list[Choice]
    propensity: float
    eligible: tuple[int, ...]
    pinned: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """One module with the items it may hold."""

    shelf: Shelf
    rows: Rows  # places in the pool, in its own order where it has one
    pool: Pool  # the page's, under the rules and in the order of this module


@dataclass(frozen=True, slots=True)
class Asked:
    """How a page is to be filled."""

    slots: int
    items: int  # of a module, at most
    seed: int
    explore: bool
    floor: float  # share of each slot that is spread evenly


@span("slate")
def fill_page(
    offers: Sequence[Offer], found: Estimates, settings: SlateSettings, asked: Asked
) -> tuple[list[Slot], dict[int, str]]:
    """The slots from the top, and why each of the other offers has none; `found` is by offer.

    A pinned module takes its slot where it has enough items; where nothing else is left, the next
    pinned one moves up. One that has to stand below others waits until they stand, or cannot.
    """
    filling = _Filling(offers, found, settings, asked)
    while len(filling.slots) < asked.slots and filling.next():
        pass
    return filling.slots, filling.why_not()


class _Filling:
    def __init__(
        self, offers: Sequence[Offer], found: Estimates, settings: SlateSettings, asked: Asked
    ) -> None:
        self._offers = offers
        self._found = found
        self._settings = settings
        # A list in its own order is shown in it.
        self._plain = msgspec.structs.replace(
            settings, explore=0.0, diversity=0.0, calibrate=0.0, method="category"
        )
        self._asked = asked
        self._random = random.Random(asked.seed)
        size = len(offers[0].pool.values) if offers else 0
        self._open = np.zeros((len(offers), size), np.bool_)  # rows that each may still take
        for number, offer in enumerate(offers):
            self._open[number, offer.rows] = True
        self._pins = np.array([offer.shelf.module.pin or 0 for offer in offers], np.int64)
        self._least = np.array([offer.shelf.module.items.least for offer in offers], np.int64)
        self._waiting = [n for n, offer in enumerate(offers) if offer.shelf.below]
        # Rules may close more than what is taken.
        self._ruled = [
            n for n, offer in enumerate(offers)
            if offer.pool.held.closes or settings.most_of_category
        ]  # fmt: skip
        self._rest = np.ones(len(offers), np.bool_)
        self._number = {offer.shelf.number: n for n, offer in enumerate(offers)}
        self._above: Rows = np.zeros(0, np.intp)
        self._why: dict[int, str] = {}
        self.slots: list[Slot] = []

    def next(self) -> bool:
        """Fill the next slot; False where nothing may stand there."""
        able = self._able()
        if not able.any():
            return False
        module, propensity, eligible, pinned = self._draw(able)
        choices = self._fill(module)
        self.slots.append(Slot(module, choices, propensity, eligible, pinned))
        self._rest[module] = False
        rows = np.array([choice.row for choice in choices], np.intp)
        self._above = np.concatenate([self._above, rows])
        self._open[:, rows] = False
        for other in self._offers[module].shelf.apart:
            if self._rest[n := self._number.get(other, module)]:
                self._rest[n] = False
                self._why[n] = f"never together with {self._offers[module].shelf.module_id}"
        return True

    def why_not(self) -> dict[int, str]:
        """Of every offer without a slot."""
        full = "the page is full"
        waits = "waits for a module above it"
        for number in np.flatnonzero(self._rest).tolist():
            self._why[number] = full if not self._waits(number) else waits
        return self._why

    def _able(self) -> Flags:
        """bool [offers]: those that may take the next slot."""
        enough = self._open.sum(axis=1)
        for number in self._ruled:
            if self._rest[number]:
                enough[number] = self._room(number)
        for number in np.flatnonzero(self._rest & (enough < self._least)).tolist():
            self._rest[number] = False  # for good: items only become fewer
            self._why[number] = why_nothing(self._offers[number].shelf, int(enough[number]))
        able = self._rest.copy()
        for number in self._waiting:
            able[number] &= not self._waits(number)
        slot, pins = len(self.slots) + 1, self._pins
        if not pins.any():
            return able
        due = able & (pins > 0) & (pins <= slot)
        if due.any():
            return np.asarray(due & (pins == pins[due].min()))
        if (able & (pins == 0)).any():
            return np.asarray(able & (pins == 0))
        return np.asarray(able & (pins == pins[able].min())) if able.any() else able

    def _waits(self, number: int) -> bool:
        below = self._offers[number].shelf.below
        return any(self._rest[self._number[other]] for other in below if other in self._number)

    def _room(self, number: int) -> int:
        offer, least = self._offers[number], int(self._least[number])
        return room(offer.pool, least, self._open[number], self._above, self._settings)

    def _draw(self, able: Flags) -> tuple[int, float, tuple[int, ...], bool]:
        eligible = tuple(np.flatnonzero(able).tolist())
        if self._offers[eligible[0]].shelf.module.pin:
            return eligible[0], 1.0, eligible[:1], True
        if not self._asked.explore:
            best = max(eligible, key=lambda n: (float(self._found.means[n]), -n))
            return best, 1.0, eligible, False
        chances = shares(self._found, able, self._asked.floor).tolist()
        luck, module, reached = self._random.random(), eligible[-1], 0.0
        for number in eligible:
            reached += chances[number]
            if luck < reached:
                module = number
                break
        return module, chances[module], eligible, False

    def _fill(self, module: int) -> list[Choice]:
        offer = self._offers[module]
        own = offer.shelf.module.items.from_ in OWN_ORDER
        size = min(offer.shelf.module.items.most, self._asked.items)
        # Of its best alone: what a row of a few takes from the end of a long pool is chance.
        (rows,) = self._open[module].nonzero()
        if own:
            rows = rows[np.argsort(-offer.pool.values[rows], kind="stable")]
        if module not in self._ruled:
            rows = rows[: CHOSEN_FROM * size]
        above = self._above
        choices = fill(
            offer.pool.rows(np.concatenate([above, rows])),
            size,
            self._plain if own else self._settings,
            self._random,
            self._asked.explore,
            above=np.arange(len(above)),
        )
        places, first = rows.tolist(), len(above)
        return [
            Choice(places[one.row - first], one.value, one.propensity, one.rule) for one in choices
        ]
