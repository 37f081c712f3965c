"""The way of a page: which modules, in what order, with what in them. `recommend`, one level up.

    read the person ─► moment ─► modules that may stand ─► items of all of them, gathered once
    ─► one ranking ─► slot by slot: draw a module, fill it, close what it closes

Each slot makes one draw from an explicit distribution (engine.module_choice) over the modules that
rules, items already taken and minimum numbers still allow; nothing is rearranged afterwards. So the
chance of every choice, and of the whole order, is known exactly.

What happens when something is gone is as in engine.pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine import features
from engine.candidates import Items
from engine.eligibility import find_eligible
from engine.module_book import ModuleBook, Shelf, Standing, open_shelves
from engine.module_choice import Doubles, Estimates, Here, ModuleScorer, estimate
from engine.module_counts import part_of
from engine.module_history import read_own
from engine.module_items import Asking, Brought, Holding, bring
from engine.module_slots import Asked, Offer, Rows, Slot, fill_page
from engine.modules import OWN_ORDER, Module
from engine.pipeline import (
    Known,
    Parts,
    Request,
    Slate,
    at_once,
    make_pool,
    rank_pool,
    read_state,
    why_degraded,
)
from engine.placed import Page, Placed
from engine.situation import Moment
from engine.slate import Pool
from engine.spans import span
from engine.state import MONTH_HALF_LIFE_MS, UserState, attribute, read_decayed
from engine.taste import read_taste


async def decide_page(
    request: Request, modules: int, locale: str | None, parts: Parts, book: ModuleBook
) -> Slate:
    """Decide on up to `modules` modules of up to `request.size` items each.

    Raises nothing that a caller has to handle. The slate's choices are those of all modules.
    """
    deadline = parts.clock() + parts.settings.deadline_ms / 1000
    user_id, state, degraded = await read_state(request, parts)
    moment = parts.situations.read(state, request.device, request.at_ms)
    standing = book.now
    shelves, closed, segments = open_shelves(book, state, moment, request.surface)
    own_order = any(shelf.module.items.from_ in OWN_ORDER for shelf in shelves)
    asking = _asking(request, state, moment, parts, own_order)
    brought = bring(shelves, standing, asking)
    candidates = brought.candidates
    rows = features.matrix(state, moment, candidates, parts.catalog.columns)
    late = parts.clock() > deadline
    ranked = rank_pool(request, parts, candidates, rows, None, late)
    items = candidates.items[ranked.rows]
    pool = make_pool(request, state, parts, asking.taste, items, ranked.values)
    situation, segment = likeliest(moment), segments[0] if segments else ""
    here = Here(situation, book.axes.segments.index(segment), part_of(moment.hour))
    numbers = np.array([shelf.number for shelf in shelves], np.intp)
    counted = _counted(book, standing, state, request.at_ms, here).rows(numbers)
    learned = _learned(parts.module_scorer, shelves, counted, moment, segment)
    offered = learned.times(book.boosts[numbers])
    place = np.empty(len(ranked.rows), np.intp)  # of each candidate in the pool
    place[ranked.rows] = np.arange(len(ranked.rows))
    offers = [
        _offer(shelf, place[of_shelf], _ruled(pool, items, shelf, request, state, parts))
        for shelf, of_shelf in zip(shelves, brought.rows, strict=True)
    ]
    asked = Asked(modules, request.size, request.seed, request.explore, book.file.choice.explore)
    slots, empty = fill_page(offers, offered, parts.settings.slate, asked)
    worth = offered.means
    tongue = locale or attribute(state, "locale")
    placed = [
        _placed(slot, shelves, brought, float(worth[slot.module]), tongue, parts) for slot in slots
    ]
    page = Page(
        placed,
        _by_name(shelves, worth),
        _by_name(shelves, counted.means),
        closed | {shelves[n].module_id: why for n, why in empty.items()},
        situation,
        here.part,
        segments,
        modules,
        locale,
    )
    return Slate(
        request,
        user_id,
        state.position,
        moment,
        asking.taste,
        candidates,
        rows,
        ranked,
        [choice for slot in slots for choice in slot.choices],
        asking.eligible,
        parts.release,
        parts.config_version,
        why_degraded(degraded, late, parts),
        [offers[slot.module].pool.held for slot in slots for _ in slot.choices],
        page,
    )


def page_known(
    request: Request,
    modules: int,
    locale: str | None,
    state: UserState,
    parts: Parts,
    book: ModuleBook,
) -> Slate:
    """`decide_page` for a state that was read already."""
    return at_once(decide_page(request, modules, locale, replace(parts, users=Known(state)), book))


def likeliest(moment: Moment) -> int:
    """The number of the likeliest situation, whether it is likely enough to be named or not."""
    return int(np.argmax(moment.probabilities)) if moment.probabilities else 0


def _asking(
    request: Request, state: UserState, moment: Moment, parts: Parts, again: bool
) -> Asking:
    """For whom items are brought; `again`: what the person acted on may come again in some."""
    asked = parts.catalog, state, request.at_ms, request.filter, request.excluded
    eligible = find_eligible(*asked, False, parts.rules)
    return Asking(
        state,
        read_taste(state, moment, parts.action_weights, parts.settings.taste),
        moment,
        parts.catalog,
        parts.sources,
        parts.settings,
        eligible,
        find_eligible(*asked, True, parts.rules).allowed if again else eligible.allowed,
        request.size,
    )


def _by_name(shelves: Sequence[Shelf], values: Doubles) -> dict[str, float]:
    return {shelf.module_id: float(values[n]) for n, shelf in enumerate(shelves)}


@span("modules")
def _learned(
    scorer: ModuleScorer | None,
    shelves: Sequence[Shelf],
    counted: Estimates,
    moment: Moment,
    segment: str,
) -> Estimates:
    """What a model makes of the counts: other means, the same doubt."""
    if scorer is None or not shelves:
        return counted
    names, before = [shelf.module_id for shelf in shelves], counted.means
    return counted.times(scorer.worth(names, before, moment, segment) / before)


@span("modules")
def _counted(
    book: ModuleBook, standing: Standing, state: UserState, at_ms: int, here: Here
) -> Estimates:
    """What a look at each module of the file is worth by the counts."""
    axes = book.axes
    factor = read_decayed(state, 1.0, MONTH_HALF_LIFE_MS, at_ms) if state.modules else 1.0
    own = read_own(state.modules, axes.modules, axes.situations, factor)
    return estimate(standing.rates, here, own)


def _offer(shelf: Shelf, places: Rows, pool: Pool) -> Offer:
    """A module's places in the pool; a list that keeps its order is valued by it."""
    if shelf.module.items.from_ in OWN_ORDER:
        values = np.full(len(pool.values), np.nan, np.float32)
        values[places] = -np.arange(len(places))
        pool = replace(pool, values=values)
    return Offer(shelf, places, pool)


def _ruled(
    pool: Pool, items: Items, shelf: Shelf, request: Request, state: UserState, parts: Parts
) -> Pool:
    """The pool under the rules of one module."""
    if not parts.rules.any:
        return pool
    asked = parts.catalog, request.at_ms, request.surface, shelf.module_id, state
    return replace(pool, held=parts.rules.for_pool(items, *asked))


def _placed(
    slot: Slot,
    shelves: list[Shelf],
    brought: Brought,
    worth: float,
    locale: object,
    parts: Parts,
) -> Placed:
    shelf, holding = shelves[slot.module], brought.holdings[slot.module]
    return Placed(
        shelf.module_id,
        _title(shelf.module, holding, locale, parts),
        slot.choices,
        slot.propensity,
        worth,
        tuple(shelves[n].module_id for n in slot.eligible),
        slot.pinned,
        holding.because,
    )


def _title(module: Module, holding: Holding, locale: object, parts: Parts) -> str:
    """In the person's language where the file has it, its placeholders filled."""
    text = module.title if isinstance(module.title, str) else _spoken(module.title, locale)
    item = None if holding.because is None else parts.catalog.at(holding.because)
    name = "" if item is None else str(item.attribute("title") or item.item_id)
    return text.format(item=name, category=holding.category or "")


def _spoken(titles: dict[str, str], locale: object) -> str:
    """The title of a locale (`de-AT`), of its language (`de`), or the first."""
    told = locale.replace("_", "-") if isinstance(locale, str) else ""
    first = next(iter(titles.values()))
    return titles.get(told) or titles.get(told.partition("-")[0]) or first
