"""Pages of the past, from the log: what stood on them, what was looked at, what it was worth.

The log is folded as it is served, and what counts as a look or an act in a module is what the fold
says (engine.state.read_look).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.fold import FoldRules, Loaded, Located, Poisoned, decode_entries, fold_records
from engine.objective import Objective
from engine.records import (
    AliasRecord,
    DecidedPage,
    DecisionRecord,
    EraseRecord,
    ImpressionRecord,
    InteractionRecord,
)
from engine.situation import Moment, read_back
from engine.state import UserState, read_look, slate_of
from engine.times import HOUR_MS
from training.replay import ALIAS_HOPS, Log, load_catalog

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeenPage:
    """A page of which something was looked at, every outcome of it known."""

    user: str  # who they are in the end
    at_ms: int
    moment: Moment
    decided: DecidedPage
    explored: bool  # whether its slots were drawn
    worth: Doubles  # float64 [modules looked at, from the top]: of what was done in each

    @property
    def looked(self) -> list[int]:
        """The modules looked at, from the top, as numbers in `decided.modules`."""
        places = {name: number for number, name in enumerate(self.decided.modules)}
        return [places[one.module_id] for one in self.decided.placed[: len(self.worth)]]

    @property
    def counted(self) -> Doubles:
        """float64 [decided.modules]: what a look at each was worth by the counts, then."""
        return np.array(self.decided.by_counts, np.float64)


@dataclass(slots=True)
class _Came:
    """What came of a page, by the place of the module."""

    upto: int = 0
    acts: list[tuple[int, int, int]] = field(default_factory=list)  # place, term, known ms


@dataclass(slots=True)
class PageLog:
    """Pages as they are read; `pages` gives those that are ripe."""

    objective: Objective
    terms: dict[str, int]  # of actions
    end_ms: int = 0  # when the last record was known
    _decided: dict[str, DecisionRecord] = field(default_factory=dict)
    _came: defaultdict[str, _Came] = field(default_factory=lambda: defaultdict(_Came))
    _into: dict[str, str] = field(default_factory=dict)
    _erased: dict[str, int] = field(default_factory=dict)

    def watch(self, at: Located, state: UserState) -> None:
        """Take down what a record tells of pages, just before it is folded."""
        record = at.record
        self.end_ms = max(self.end_ms, record.known_ms)
        if isinstance(record, EraseRecord):
            self._erased[record.user_id] = max(record.ts, self._erased.get(record.user_id, 0))
        elif isinstance(record, AliasRecord):
            self._into.setdefault(record.user_id, record.into)
        elif isinstance(record, DecisionRecord):
            if record.page is not None and record.moment is not None and not record.imported:
                self._decided.setdefault(record.decision_id, record)
        elif isinstance(record, InteractionRecord | ImpressionRecord):
            self._came_of(record, state)

    def _came_of(self, record: InteractionRecord | ImpressionRecord, state: UserState) -> None:
        slate = slate_of(state, record.decision_id)
        if slate is None or slate.page is None or record.ts < state.erased_ms:
            return
        told, came = read_look(slate, record), self._came[slate.decision_id]
        came.upto = max(came.upto, told.upto)
        if told.acted is not None and isinstance(record, InteractionRecord):
            came.acts.append((told.acted, record.term, record.known_ms))

    def pages(self) -> list[SeenPage]:
        """In time order; a page whose acts may still come to count is left out."""
        windows = self._windows()
        found = []
        for decision_id, record in self._decided.items():
            came, user = self._came.get(decision_id), self._resolved(record.user_id)
            erased_ms = max(self._erased.get(name, 0) for name in (record.user_id, user))
            ripe = record.ts + self.longest_ms <= self.end_ms
            if came is None or not came.upto or not ripe or record.ts < erased_ms:
                continue
            assert record.page is not None
            assert record.moment is not None
            worth = np.zeros(came.upto)
            for place, term, known_ms in came.acts:
                for within_ms, weight in windows.get(term, ()):
                    worth[place] += weight * (known_ms - record.ts <= within_ms)
            explored = record.asked is None or record.asked.explore
            moment = read_back(record.moment, record.ts)
            found.append(SeenPage(user, record.ts, moment, record.page, explored, worth))
        return sorted(found, key=lambda page: page.at_ms)

    @property
    def longest_ms(self) -> int:
        """How long after a page an act in it may still count."""
        return max((within for of in self._windows().values() for within, _ in of), default=0)

    def _windows(self) -> dict[int, list[tuple[int, float]]]:
        """Action's term -> (within ms, weight) of every outcome that it counts for."""
        found = defaultdict(list)
        for outcome in self.objective.outcomes.values():
            for action in outcome.actions:
                if action in self.terms:
                    within_ms = round(outcome.within_hours * HOUR_MS)
                    found[self.terms[action]].append((within_ms, outcome.weight))
        return dict(found)

    def _resolved(self, user: str) -> str:
        for _ in range(ALIAS_HOPS):
            user = self._into.get(user, user)
        return user


def read_pages(log: Log, partitions: int, objective: Objective) -> PageLog:
    """Fold a whole log and keep what came of pages; records that no fold can take are left out."""
    found = PageLog(objective, dict(load_catalog(log).terms["action"]))
    loaded = {partition: Loaded({}, set()) for partition in range(partitions)}
    for partition, entries in log.read(range(partitions)):
        try:
            located = decode_entries(entries, {})
            fold_records(partition, 0, located, loaded[partition], FoldRules(), found.watch)
        except Poisoned:
            continue
    return found
