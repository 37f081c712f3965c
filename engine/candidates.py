"""Candidates: a few hundred items out of all, from several sources, each with its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.columns import Columns
from engine.compiled import compiled
from engine.places import no_places, slot_of
from engine.recommending import SourceQuotas
from engine.situation import Moment
from engine.spans import span
from engine.taste import Taste

Items = NDArray[np.int32]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
More = Callable[[Items], list[tuple[int, Items]]]

# By column of Candidates.scores. The order breaks ties: the first that brought an item is its
# source. `popular` and `fresh` are here without any model too.
SOURCES = ("factors", "similar", "hybrid", "popular", "fresh")
FACTORS, SIMILAR, HYBRID, POPULAR, FRESH = range(len(SOURCES))
# What brings items to modules, beside these; it has no scores.
LISTS = ("continue", "listed")
CONTINUE, LISTED = len(SOURCES), len(SOURCES) + 1
FRESH_DAYS = 7.0  # half-life
SESSION = 5  # the last touches that `similar` goes by


class Retriever(Protocol):
    """A fitted model that finds items for a taste; it keeps nothing of users."""

    @property
    def name(self) -> str: ...

    def user(self, taste: Taste) -> Any | None:
        """The user's vector; None where the model knows nothing of the taste."""

    def search(self, user: Any, k: int, allowed: Mask | None = None) -> tuple[Items, Scores]:
        """The best k (or fewer) of the items whose `allowed` is True, best first."""

    def score(self, user: Any, items: Items) -> Scores:
        """float32 [n]; NaN where the model does not know the item."""


class SituatedRetriever(Retriever, Protocol):
    """One that is asked for a situation instead of a taste alone."""

    def here(self, moment: Moment) -> Any:
        """What stands for the user's vector in this moment's situation, as far as it is known."""

    def lift(self, here: Any, items: Items) -> Scores:
        """float32 [n]: log of how much more an item is wanted here than at large; NaN: unknown."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The models of a release that bring candidates; None where the release has none."""

    factors: Retriever | None = None
    similar: Retriever | None = None
    hybrid: Retriever | None = None
    popular: SituatedRetriever | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items, each once, with what every source says of them."""

    items: Items  # [n]
    scores: Scores  # [n, len(SOURCES)]; NaN: the source knows nothing of the item
    brought: NDArray[np.uint8]  # [n] bit s: source s brought it
    here: Scores  # [n] log of how much more it is wanted in this situation; NaN: not known

    def source(self, row: int) -> str:
        """The name of the first source that brought the item."""
        bits = int(self.brought[row])
        names = (*SOURCES, *LISTS)
        return next((name for s, name in enumerate(names) if bits >> s & 1), "given")


@span("candidates")
def gather(
    sources: Sources,
    columns: Columns,
    taste: Taste,
    moment: Moment,
    allowed: Mask,
    quotas: SourceQuotas,
    most: int,
    more: More | None = None,
) -> Candidates:
    """Up to `most` allowed items, every source's quota from the first to the last.

    `more` is told what was found and may bring items beyond, as (source, items).
    """
    users = read_users(sources, taste, moment)
    found: list[tuple[int, Items]] = []
    near = np.zeros(0, np.float32)  # the factors' scores of what they brought
    for source, model in enumerate(_models(sources)):
        quota = quota_of(quotas, source)
        if model is not None and users[source] is not None and quota:
            items, scores = model.search(users[source], quota, allowed)
            found.append((source, items))
            near = scores if source == FACTORS else near
    if sources.popular is None:
        found.append((POPULAR, first_allowed(columns.popular, allowed, quotas.popular)))
    found.append((FRESH, first_allowed(columns.fresh, allowed, quotas.fresh)))
    if sum(len(items) for _, items in found) < most:  # few sources, or a filter
        found.append((POPULAR, most_popular(columns, allowed, most)))
    items, brought = _merge(found, most)
    if more is not None and (added := more(items)):
        items, brought = _added(items, brought, added)
    scores = _score(sources, users, columns, items, moment, near)
    return Candidates(items, scores, brought, _lift(sources, users, items))


def _added(
    items: Items, brought: NDArray[np.uint8], added: Sequence[tuple[int, Items]]
) -> tuple[Items, NDArray[np.uint8]]:
    """The items and what is added to them, each once."""
    every, marks = _merge(added, sum(len(new) for _, new in added))
    place = {item: row for row, item in enumerate(items.tolist())}
    known = np.array([place.get(item, -1) for item in every.tolist()], np.intp)
    brought = brought.copy()
    brought[known[known >= 0]] |= marks[known >= 0]
    new = known < 0
    return np.concatenate([items, every[new]]), np.concatenate([brought, marks[new]])


@span("candidates")
def given(
    sources: Sources, columns: Columns, taste: Taste, moment: Moment, items: Items
) -> Candidates:
    """The items as they are, scored by every source."""
    users = read_users(sources, taste, moment)
    brought = np.zeros(len(items), np.uint8)
    none = np.zeros(0, np.float32)
    scores = _score(sources, users, columns, items, moment, none)
    return Candidates(items, scores, brought, _lift(sources, users, items))


def read_users(sources: Sources, taste: Taste, moment: Moment) -> list[Any | None]:
    """What each model makes of the taste, by column of SOURCES."""
    session = Taste(taste.items[-SESSION:], taste.weights[-SESSION:], {})
    return [
        sources.factors.user(taste) if sources.factors else None,
        sources.similar.user(session) if sources.similar else None,
        sources.hybrid.user(taste) if sources.hybrid else None,
        sources.popular.here(moment) if sources.popular else None,
    ]


def quota_of(quotas: SourceQuotas, source: int) -> int:
    """How many items this source may bring."""
    return int(getattr(quotas, SOURCES[source]))


@compiled("i4[::1](i4[::1], b1[::1], i8)")
def first_allowed(order: Items, allowed: Mask, k: int) -> Items:
    """The first k allowed items of an order; an item beyond the mask is not allowed."""
    found = np.empty(max(min(k, len(order)), 0), np.int32)
    count = 0
    for item in order:
        if count == len(found):
            break
        if item < len(allowed) and allowed[item]:
            found[count] = item
            count += 1
    return found[:count]


@compiled("b1[::1](b1[::1], i4[::1])")
def are_allowed(allowed: Mask, items: Items) -> Mask:
    """Whether each of the items is allowed; those beyond the mask are not."""
    told = np.empty(len(items), np.bool_)
    for n in range(len(items)):
        told[n] = 0 <= items[n] < len(allowed) and allowed[items[n]]
    return told


def most_popular(columns: Columns, allowed: Mask, k: int) -> Items:
    """The k allowed items of most worth, also where few of `columns.popular` are allowed."""
    found = first_allowed(columns.popular, allowed, k)
    if len(found) == k:
        return found
    every = np.flatnonzero(allowed)
    return every[np.argsort(-columns.worth[every], kind="stable")[:k]].astype(np.int32)


def _models(sources: Sources) -> Sequence[Retriever | None]:
    return sources.factors, sources.similar, sources.hybrid, sources.popular


def _merge(found: Sequence[tuple[int, Items]], most: int) -> tuple[Items, NDArray[np.uint8]]:
    """Each item once, in the order in which the sources brought them."""
    ends = np.cumsum([len(items) for _, items in found])
    bits = np.array([1 << source for source, _ in found], np.uint8)
    return _each_once(np.concatenate([items for _, items in found]), ends, bits, most)


@compiled("Tuple((i4[::1], u1[::1]))(i4[::1], i8[::1], u1[::1], i8)")
def _each_once(
    everything: Items, ends: NDArray[np.int64], bits: NDArray[np.uint8], most: int
) -> tuple[Items, NDArray[np.uint8]]:
    """The first `most` different items; bits[p] marks those among everything[… ends[p]]."""
    places = no_places(len(everything))
    items, brought = np.empty(len(everything), np.int32), np.zeros(len(everything), np.uint8)
    count, part = 0, 0
    for n in range(len(everything)):
        while n >= ends[part]:
            part += 1
        item = everything[n]
        slot = slot_of(places, items, item)
        if places[slot] < 0:
            places[slot] = count
            items[count] = item
            count += 1
        brought[places[slot]] |= bits[part]
    kept = min(count, most)
    return items[:kept].copy(), brought[:kept].copy()


def _score(
    sources: Sources,
    users: Sequence[Any | None],
    columns: Columns,
    items: Items,
    moment: Moment,
    near: Scores,
) -> Scores:
    """float32 [n, len(SOURCES)]; `near` are the factors' scores of the first items, known before.

    Long vectors of many items are most of the memory that a request touches: never read twice.
    """
    scores = np.full((len(items), len(SOURCES)), np.nan, np.float32)
    for source, model in enumerate(_models(sources)):
        if model is not None and users[source] is not None:
            known = near[: len(items)] if source == FACTORS else near[:0]
            scores[: len(known), source] = known
            rest = items[len(known) :]
            scores[len(known) :, source] = model.score(users[source], rest)
    if sources.popular is None:
        scores[:, POPULAR] = np.log1p(columns.popularity(items))
    _freshness(scores, items, columns.born_ms, moment.at_ms)
    return scores


def _lift(sources: Sources, users: Sequence[Any | None], items: Items) -> Scores:
    if sources.popular is None:
        return np.full(len(items), np.nan, np.float32)
    return sources.popular.lift(users[POPULAR], items)


@compiled("void(f4[:,::1], i4[::1], i8[::1], i8)")
def _freshness(scores: Scores, items: Items, born_ms: NDArray[np.int64], at_ms: int) -> None:
    """Column FRESH: 1 at birth, halved every FRESH_DAYS."""
    for n in range(len(items)):
        age_ms = max(at_ms - born_ms[items[n]], 0)
        scores[n, FRESH] = 2.0 ** (age_ms / (-FRESH_DAYS * 86_400_000))
