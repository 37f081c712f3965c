"""Why a slate is what it is: sources, features that weighed, what was dropped by which rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec
import numpy as np

from engine import features
from engine.candidates import LISTS, SOURCES, Items, Mask, gather
from engine.eligibility import dropped
from engine.pipeline import Parts, Slate
from engine.slate import Choice
from engine.slot_rules import SlotRules

WEIGHED = 3  # features named per item
CONSIDERED = 10
DROPPED = 50


class Reason(msgspec.Struct, frozen=True):
    """One reason, for programs and for people."""

    code: str
    text: str


class Dropped(msgspec.Struct, frozen=True):
    """A candidate that a rule took out."""

    item_id: str
    rule: str


class Considered(msgspec.Struct, frozen=True):
    """A candidate that was ranked and not shown."""

    item_id: str
    score: float


class Explanation(msgspec.Struct, frozen=True):
    """What else there was."""

    candidates: int
    brought: dict[str, int]  # source -> how many it brought
    considered: list[Considered]
    dropped: list[Dropped]


@dataclass(frozen=True, slots=True)
class Told:
    """The reasons of each slot, and of the whole."""

    reasons: list[list[Reason]]
    explanation: Explanation


def explain(slate: Slate, parts: Parts) -> Told:
    """Look at a slate again; costs a few times the decision itself."""
    weighed = _weighed(slate, parts)
    reasons = []
    for place, choice in enumerate(slate.choices):
        row = slate.candidate(choice)
        told = [_brought(slate, row), *weighed[place], *_ruled(choice, slate.held[place])]
        if choice.propensity < 0.5 and slate.request.explore:
            told.append(Reason("explored", "drawn instead of the best, to learn"))
        reasons.append(told)
    return Told(reasons, _explanation(slate, parts))


def _brought(slate: Slate, row: int) -> Reason:
    bits = int(slate.candidates.brought[row])
    names = [name for s, name in enumerate((*SOURCES, *LISTS)) if bits >> s & 1]
    if not names:
        return Reason("given", "the request named it")
    return Reason(names[0], f"brought by {', '.join(names)}")


def _ruled(choice: Choice, held: SlotRules) -> list[Reason]:
    """What the operator's rules did to it."""
    told = []
    for name, by in held.moved:
        if by[choice.row]:
            code = name.partition("[")[0]
            told.append(Reason(code, f"{name} {by[choice.row]:+.3g} standard deviations"))
    if (label := held.label(choice.rule)) is not None:
        code = "sponsored" if held.is_sponsored(choice.rule) else "pinned"
        told.append(Reason(code, f"by {label} of rules.yaml"))
    return told


def _weighed(slate: Slate, parts: Parts) -> list[list[Reason]]:
    """The features whose typical value among the candidates would change an item's value most."""
    ranker, chosen = parts.ranker, [slate.candidate(choice) for choice in slate.choices]
    if ranker is None or not chosen or slate.degraded or slate.request.like is not None:
        return [[] for _ in chosen]
    rows = slate.rows[chosen]
    with np.errstate(all="ignore"):
        typical = np.nanmedian(np.where(np.isfinite(slate.rows), slate.rows, np.nan), axis=0)
    without = np.repeat(rows[:, None, :], features.COUNT, axis=1)
    every = np.arange(features.COUNT)
    without[:, every, every] = typical
    values = ranker.chances(rows) @ parts.outcome_weights
    changed = ranker.chances(without.reshape(-1, features.COUNT)) @ parts.outcome_weights
    weights = values[:, None] - changed.reshape(len(rows), features.COUNT)
    told = []
    for row, weight in zip(rows, weights, strict=True):
        most = np.argsort(-np.abs(weight))[:WEIGHED]
        told.append([_weight(int(f), row[f], float(weight[f])) for f in most if weight[f]])
    return told


def _weight(feature: int, value: float, weight: float) -> Reason:
    name = features.NAMES[feature]
    known = "not known" if np.isnan(value) else f"{value:.3g}"
    return Reason("feature", f"{name} = {known} weighs {weight:+.3g}")


def _explanation(slate: Slate, parts: Parts) -> Explanation:
    catalog = parts.catalog
    name = catalog.id_of
    chosen = {choice.row for choice in slate.choices}
    ranked = [
        Considered(name(int(slate.candidates.items[row])) or "", round(float(value), 6))
        for place, (row, value) in enumerate(
            zip(slate.ranked.rows, slate.ranked.values, strict=True)
        )
        if place not in chosen
    ]
    brought: Counter[str] = Counter()
    for row in range(len(slate.candidates.items)):
        brought[slate.candidates.source(row)] += 1
    return Explanation(
        len(slate.candidates.items),
        dict(brought),
        ranked[:CONSIDERED],
        [Dropped(name(item) or "", rule) for item, rule in _dropped(slate, parts)],
    )


def _dropped(slate: Slate, parts: Parts) -> list[tuple[int, str]]:
    """(dense id, rule) of what the sources bring where no rule holds them back.

    First what fits the filter and is left out for another reason, then whatever else comes up.
    """
    asked, eligible = slate.request, slate.eligible
    if asked.only is not None:
        items = asked.only.tolist()
    else:
        fitting = eligible.available if eligible.matches is None else eligible.matches
        every = np.ones(len(eligible.available), np.bool_)
        brought = [_brought_within(mask, slate, parts) for mask in (fitting, every)]
        items = np.concatenate([brought[0], asked.excluded, brought[1]]).tolist()
    shown = set(slate.items())  # a page goes on with what was acted on
    looked_at = [item for item in dict.fromkeys(items) if item not in shown]
    found = dropped(looked_at, eligible, parts.catalog, asked.at_ms)
    return found[:DROPPED]


def _brought_within(mask: Mask, slate: Slate, parts: Parts) -> Items:
    settings = parts.settings
    found = gather(
        parts.sources,
        parts.catalog.columns,
        slate.taste,
        slate.moment,
        mask,
        settings.sources,
        settings.candidates,
    )
    return found.items
