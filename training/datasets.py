"""The ranker's rows: features as serving saw them, and what came of each.

    frozen    the rows that serving wrote down, joined with their outcomes
    rebuilt   decisions without such rows: the user's state by replay, the counters of that time,
              retrieval models fitted to what came before
    sampled   no decisions at all: at moments before an act, what the sources would have brought,
              of which what was taken up next is right and a draw of the others is wrong

What was shown and not seen is left out. Without an impression, acting on an item says that all
above it was seen; on a page that holds for the items before it in its own module's row, and of a
row in which nothing was done nobody knows how far it was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from engine import features
from engine.candidates import Candidates, Items, gather, given
from engine.eligibility import find_eligible
from engine.pipeline import Parts
from engine.rows import RowFiles, collect
from engine.situation import Moment, Situations
from engine.state import UserState
from engine.taste import read_taste
from training.history import Decision, History
from training.item_history import ItemHistory
from training.labels import Labeller
from training.moments import Case, States
from training.replay import Point

Basis = Literal["frozen", "rebuilt", "sampled"]
Floats = NDArray[np.float32]
NO_ITEMS: Items = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a ranker learns from, decision by decision."""

    features: Floats  # [n, features.COUNT]
    labels: Floats  # [n, outcomes], NaN: not ripe
    weight: Floats  # [n]
    decision: NDArray[np.int64]  # [n] in time order
    user: NDArray[np.int64]  # [n]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Seen:
    """A decision of which something was seen."""

    row: int  # of History.decisions
    user: int
    point: Point
    items: list[int]  # in slot order
    seen: list[int]  # slots
    places: list[int]  # of the items, each in its list or in its module's row
    page: bool = False

    @property
    def seen_places(self) -> NDArray[np.int32]:
        """int32 [seen]."""
        return np.array([self.places[slot] for slot in self.seen], np.int32)


def seen_decisions(
    history: History, labeller: Labeller, span: tuple[int, int], most: int, seed: int
) -> list[Seen]:
    """Decisions of a span of time of which something was seen, in time order, at most so many."""
    at_ms = np.array([decision.at_ms for decision in history.decisions], np.int64)
    rows = np.flatnonzero((at_ms >= span[0]) & (at_ms < span[1]))
    came_up = _came_up(history)
    found = []
    for row in np.random.default_rng(seed).permutation(rows).tolist():
        decision = history.decisions[row]
        slots = _seen_slots(decision, came_up.get(row), labeller.acted_on(row))
        if slots:
            point = Point(history.users[decision.owner], decision.at_ms, decision.position)
            user = int(history.now[decision.owner])
            page = bool(decision.ends)
            found.append(Seen(row, user, point, decision.items, slots, decision.places, page))
            if len(found) == most:
                break
    return sorted(found, key=lambda decision: decision.row)


def _seen_slots(decision: Decision, came_up: set[int] | None, acted_on: set[int]) -> list[int]:
    items = decision.items
    if came_up is not None:
        return [slot for slot, item in enumerate(items) if item in came_up]
    seen: list[int] = []
    for start, end in decision.rows:
        acted = [slot for slot in range(start, end) if items[slot] in acted_on]
        seen += range(start, max(acted, default=start - 1) + 1)
    return seen


def _came_up(history: History) -> dict[int, set[int]]:
    """The items of which an impression came, by decision."""
    found: dict[int, set[int]] = {}
    pairs = zip(history.shown.decision.tolist(), history.shown.item.tolist(), strict=True)
    for row, item in pairs:
        found.setdefault(row, set()).add(item)
    return found


def frozen_rows(
    files: RowFiles, history: History, seen: Sequence[Seen], labeller: Labeller
) -> tuple[Rows, list[Seen]]:
    """The rows that serving wrote down; and the decisions of which it wrote none."""
    if not seen:
        return _joined([], labeller), []
    of_id = {history.decisions[one.row].decision_id: one for one in seen}
    span = (min(one.point.at_ms for one in seen), max(one.point.at_ms for one in seen) + 1)
    wanted = pl.col("decision_id").is_in(list(of_id)) & (pl.col("slot") >= 0)
    frame = collect(files.read(*span).filter(wanted))
    parts = []
    for (decision_id,), part in frame.group_by(["decision_id"], maintain_order=True):
        one = of_id.pop(str(decision_id))
        table = part.select(features.NAMES).to_numpy().astype(np.float32)
        slots = part["slot"].to_list()
        kept = [row for row, slot in enumerate(slots) if slot in one.seen]
        parts.append(_labelled(one, table[kept], [slots[row] for row in kept], labeller))
    return _joined(parts, labeller), list(of_id.values())


def rebuilt_rows(
    seen: Sequence[Seen],
    history: History,
    states: States,
    items: ItemHistory,
    parts: Parts,
    labeller: Labeller,
) -> Rows:
    """Rows of decisions as serving would have made them; `seen` in time order."""
    found = []
    for one in seen:
        items.at(one.point.at_ms)
        state = states.at(one.point)
        moment = moment_of(history.decisions[one.row], state, parts.situations)
        candidates, table = rebuild(state, moment, one.items, parts)
        at = {item: row for row, item in enumerate(candidates.items.tolist())}
        rows = [at[one.items[slot]] for slot in one.seen]
        found.append(_labelled(one, table[rows], one.seen, labeller))
    return _joined(found, labeller)


def moment_of(decision: Decision, state: UserState, situations: Situations) -> Moment:
    """The moment that a decision was made in: as it was written down, or as it is read now."""
    return decision.moment or situations.read(state, None, decision.at_ms)


def rebuild(
    state: UserState, moment: Moment, shown: Sequence[int], parts: Parts
) -> tuple[Candidates, Floats]:
    """The candidates of a request at that moment, with what was shown among them; their rows."""
    columns, settings = parts.catalog.columns, parts.settings
    eligible = find_eligible(parts.catalog, state, moment.at_ms, {}, NO_ITEMS, False)
    taste = read_taste(state, moment, parts.action_weights, settings.taste)
    found = gather(
        parts.sources,
        columns,
        taste,
        moment,
        eligible.allowed,
        settings.sources,
        settings.candidates,
    )
    missing = np.setdiff1d(np.array(shown, np.int32), found.items)
    if len(missing):
        others = given(parts.sources, columns, taste, moment, missing)
        found = Candidates(
            np.concatenate([found.items, others.items]),
            np.concatenate([found.scores, others.scores]),
            np.concatenate([found.brought, others.brought]),
            np.concatenate([found.here, others.here]),
        )
    return found, features.matrix(state, moment, found, columns)


def sampled_rows(
    cases: Sequence[Case],
    states: States,
    items: ItemHistory,
    parts: Parts,
    labeller: Labeller,
    negatives: int,
    seed: int,
) -> Rows:
    """Rows at moments before an act; `cases` in time order.

    A moment of which the sources brought nothing right teaches no order, and is left out. What
    they did not bring is no row either: no request would have had to rank it. Nor is what the user
    took up soon after: as right it would teach what everybody takes up some time or other.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number, case in enumerate(cases):
        items.at(case.point.at_ms)
        state = states.at(case.point)
        moment = parts.situations.read(state, None, case.point.at_ms)
        candidates, table = rebuild(state, moment, (), parts)
        labels = labeller.of_user(case.user, case.point.at_ms, candidates.items.tolist())
        # A return is every row's alike, and tells no order.
        labels[:, labeller.returns] = np.nan
        acted = np.isin(candidates.items, case.truth)
        if not acted.any():
            continue
        wrong = ~acted & ~np.isin(candidates.items, case.later)
        others = rng.permutation(np.flatnonzero(wrong))[:negatives]
        rows = np.sort(np.concatenate([np.flatnonzero(acted), others]))
        # Right and wrong weigh the same in every moment: how many right ones a draw holds says
        # nothing about an item, and trees would be spent on telling active users from others.
        right = acted[rows]
        weight = np.where(right, 0.5 / right.sum(), 0.5 / max(int((~right).sum()), 1))
        found.append(_part(table[rows], labels[rows], number, case.user, weight * len(rows)))
    return _joined(found, labeller)


def _labelled(one: Seen, table: Floats, slots: Sequence[int], labeller: Labeller) -> Rows:
    table = table.copy()
    table[:, features.COLUMN["position"]] = [one.places[slot] for slot in slots]
    shown = [one.items[slot] for slot in slots]
    labels = labeller.of_decision(one.row, one.user, one.point.at_ms, shown)
    return _part(table, labels, one.row, one.user)


def _part(table: Floats, labels: Floats, decision: int, user: int, weight: ArrayLike = 1.0) -> Rows:
    n = len(table)
    weights = np.broadcast_to(np.asarray(weight, np.float32), n)
    return Rows(table, labels, weights, np.full(n, decision, np.int64), np.full(n, user, np.int64))


def _joined(parts: Sequence[Rows], labeller: Labeller) -> Rows:
    empty = _part(
        np.zeros((0, features.COUNT), np.float32),
        np.zeros((0, len(labeller.names)), np.float32),
        0,
        0,
    )
    return join([empty, *parts])


def join(parts: Sequence[Rows]) -> Rows:
    """All rows of several."""
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.decision for part in parts]),
        np.concatenate([part.user for part in parts]),
    )


def balance(rows: Rows, names: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """By outcome: how many ripe rows, and how many of them came true."""
    return {
        name: (int(ripe.sum()), int(rows.labels[ripe, number].sum()))
        for number, name in enumerate(names)
        for ripe in [~np.isnan(rows.labels[:, number])]
    }
