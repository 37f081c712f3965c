"""The items that each module of a page may hold: one gathering for all modules together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.candidates import (
    CONTINUE,
    FRESH,
    LISTED,
    POPULAR,
    SIMILAR,
    Candidates,
    Items,
    Mask,
    Sources,
    are_allowed,
    first_allowed,
    gather,
    most_popular,
)
from engine.catalog import Catalog
from engine.eligibility import Eligible
from engine.module_book import Shelf, Standing
from engine.modules import OWN_ORDER
from engine.recommending import Recommending
from engine.situation import Moment
from engine.spans import span
from engine.state import TOUCHES, UserState
from engine.taste import Taste
from engine.times import DAY_MS

NO_ITEMS: Items = np.zeros(0, np.int32)
SPARE = 5  # so many more than a module takes are looked for: others may take some first


@dataclass(frozen=True, slots=True)
class Holding:
    """What one module may hold."""

    items: Items | None  # dense ids, its own in their order; None: whatever `mask` lets in
    mask: Mask | None = None  # bool [items]; None: every item that was gathered
    because: int | None = None  # dense id of the item that explains it
    category: str | None = None  # … or the category


@dataclass(frozen=True, slots=True)
class Brought:
    """All candidates of a page, and which rows of them belong to which module."""

    candidates: Candidates
    rows: list[NDArray[np.intp]]  # by module; in its own order where it has one
    holdings: list[Holding]


@dataclass(slots=True)
class Asking:
    """For whom items are brought."""

    state: UserState
    taste: Taste
    moment: Moment
    catalog: Catalog
    sources: Sources
    settings: Recommending
    eligible: Eligible
    again: Mask  # bool [items]: may be shown, and what the person acted on too
    per_module: int
    added: list[tuple[int, Items]] = field(default_factory=list)

    @property
    def allowed(self) -> Mask:
        """bool [items]: may be shown."""
        return self.eligible.allowed


@span("candidates")
def bring(shelves: Sequence[Shelf], standing: Standing, asking: Asking) -> Brought:
    """Gather once, let every module pick from that, and add what a module misses."""
    holdings = [_holding(shelf, standing, asking) for shelf in shelves]

    def more(gathered: Items) -> list[tuple[int, Items]]:
        for shelf, holding in zip(shelves, holdings, strict=True):
            if holding.items is None and holding.mask is not None:
                _fill_up(shelf, holding.mask, gathered, asking)
        return asking.added

    candidates = gather(
        asking.sources,
        asking.catalog.columns,
        asking.taste,
        asking.moment,
        asking.allowed,
        asking.settings.sources,
        asking.settings.candidates,
        more,
    )
    items = candidates.items
    place = {item: row for row, item in enumerate(items.tolist())}
    free = asking.allowed[items]
    rows = []
    for holding in holdings:
        if holding.items is not None:
            rows.append(np.array([place[item] for item in holding.items.tolist()], np.intp))
        elif holding.mask is not None:
            rows.append(np.flatnonzero(free & holding.mask[items]))
        else:
            rows.append(np.flatnonzero(free))
    return Brought(candidates, rows, holdings)


def _holding(shelf: Shelf, standing: Standing, asking: Asking) -> Holding:
    """What a module holds; its own items are added to those gathered."""
    told, columns = shelf.module.items, asking.catalog.columns
    most = _looked_for(shelf, asking)
    where = _sized(standing.filtered.get(shelf.number), len(asking.allowed))
    if told.from_ == "for_you":
        return Holding(None, where)
    if told.from_ == "favourite":
        return _favourite(where, asking)
    if told.from_ in OWN_ORDER:
        return _in_order(shelf, standing, where, most, asking)
    allowed = asking.allowed if where is None else asking.allowed & where
    if told.from_ == "popular":
        return _own(asking, POPULAR, _popular(allowed, most, asking))
    if told.from_ == "fresh":
        return _own(asking, FRESH, first_allowed(columns.fresh, allowed, most))
    return _because(shelf, allowed, most, asking)


def _in_order(
    shelf: Shelf, standing: Standing, where: Mask | None, most: int, asking: Asking
) -> Holding:
    """Items that keep the order of their list."""
    if shelf.module.items.from_ == "continue":
        source, items = CONTINUE, _continued(shelf, asking)
    else:
        source, items = LISTED, standing.listed.get(shelf.number, NO_ITEMS)
    fit = are_allowed(asking.again, items)
    if where is not None:
        fit &= are_allowed(where, items)
    return _own(asking, source, items[fit][:most])


def _looked_for(shelf: Shelf, asking: Asking) -> int:
    """How many items are looked for; at least `least`, however few a request asks for."""
    told = shelf.module.items
    return SPARE + max(told.least, min(told.most, asking.per_module))


def _own(asking: Asking, source: int, items: Items, because: int | None = None) -> Holding:
    asking.added.append((source, items))
    return Holding(items, because=because)


def _fill_up(shelf: Shelf, mask: Mask, gathered: Items, asking: Asking) -> None:
    """Where too few of the gathered fit a filter: what is popular and fits."""
    most = _looked_for(shelf, asking)
    if int(np.count_nonzero(mask[gathered])) < most:
        found = most_popular(asking.catalog.columns, asking.allowed & mask, most)
        asking.added.append((POPULAR, found))


def _popular(allowed: Mask, most: int, asking: Asking) -> Items:
    popular = asking.sources.popular
    here = None if popular is None else popular.here(asking.moment)
    if popular is None or here is None:
        return most_popular(asking.catalog.columns, allowed, most)
    return popular.search(here, most, allowed)[0]


def _because(shelf: Shelf, allowed: Mask, most: int, asking: Asking) -> Holding:
    """Like the last item of one of the module's actions."""
    acted = _acted(shelf.module.items.actions, shelf.module.items.days, asking)
    nothing = NO_ITEMS
    if not len(acted):
        return _own(asking, SIMILAR, nothing)
    last = int(acted[-1])
    taste = Taste(np.array([last], np.int32), np.ones(1, np.float32), {})
    for model in (asking.sources.similar, asking.sources.factors):
        user = None if model is None else model.user(taste)
        if model is None or user is None:
            continue
        items, _ = model.search(user, most + 1, allowed)
        items = items[items != last][:most]
        if len(items):
            return _own(asking, SIMILAR, items, last)
    return _own(asking, SIMILAR, nothing)


def _continued(shelf: Shelf, asking: Asking) -> Items:
    """Items left in the middle, newest first."""
    told = shelf.module.items
    begun = _acted(told.actions, told.days, asking)
    order = list(dict.fromkeys(begun[::-1].tolist()))
    if not told.unless:
        return np.array(order, np.int32)
    ended = _last_acts(told.unless, asking)
    began = _last_acts(told.actions, asking)
    left = [item for item in order if ended.get(item, -1) < began[item]]
    return np.array(left, np.int32)


def _acted(actions: Sequence[str], days: float, asking: Asking) -> NDArray[np.int32]:
    """Items of such acts within the days, oldest first."""
    recent = np.frombuffer(asking.state.recent, TOUCHES)
    since_s = (asking.moment.at_ms - days * DAY_MS) / 1000
    chosen = _are(actions, asking)[recent["term"]] & (recent["at_s"] >= since_s)
    items: Items = recent["item"][chosen].astype(np.int32)
    return items


def _last_acts(actions: Sequence[str], asking: Asking) -> dict[int, int]:
    """Item -> place of its last such act, among all that are kept."""
    recent = np.frombuffer(asking.state.recent, TOUCHES)
    places = np.flatnonzero(_are(actions, asking)[recent["term"]])
    return {int(recent["item"][place]): int(place) for place in places}


def _are(actions: Sequence[str], asking: Asking) -> Mask:
    """bool [256]: the terms of these actions."""
    known, terms = asking.catalog.terms["action"], np.zeros(256, np.bool_)
    for action in actions:
        if action in known:
            terms[known[action]] = True
    return terms


def _favourite(where: Mask | None, asking: Asking) -> Holding:
    """Items of the category that the person acted on most, lately."""
    categories = asking.state.categories
    liked = {term: counter.month for term, counter in categories.items() if counter.month > 0}
    names = asking.catalog.names["category"]
    best = max(liked, key=lambda term: (liked[term], -term), default=None)
    if best is None or best not in names:
        return _own(asking, POPULAR, np.zeros(0, np.int32))
    mask = asking.catalog.attributes.mask({"categories": names[best]}, len(asking.allowed))
    return Holding(None, mask if where is None else mask & where, category=names[best])


def _sized(mask: Mask | None, size: int) -> Mask | None:
    """A mask that items may have come after: these do not fit yet."""
    if mask is None or len(mask) == size:
        return mask
    sized = np.zeros(size, np.bool_)
    sized[: min(size, len(mask))] = mask[:size]
    return sized
