"""What came of showing an item: a label per outcome of the objective, NaN while it is not ripe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.objective import Objective
from training.history import Acts, History
from training.moments import HOUR_MS, outcome_terms

Labels = NDArray[np.float32]


class Labeller:
    """Labels by outcome; what happened from `known_upto_ms` on is not looked at."""

    def __init__(self, history: History, objective: Objective, known_upto_ms: int) -> None:
        acts = history.acts
        terms = history.catalog.terms["action"]
        self.names = list(objective.outcomes)
        self._outcomes = list(objective.outcomes.values())
        self.returns = [number for number, one in enumerate(self._outcomes) if one.returns]
        self._counts = np.zeros((len(self.names), 256), np.bool_)  # [outcome, action term]
        for number, outcome in enumerate(self._outcomes):
            self._counts[number, outcome_terms(outcome.actions, terms)] = True
        self._known_upto_ms = known_upto_ms
        self._by_user = _Groups(acts, acts.user)
        self._by_decision = _Groups(acts, acts.decision)
        self._acts = acts

    def of_user(self, user: int, at_ms: int, items: Sequence[int]) -> Labels:
        """float32 [items, outcomes]: what the user did with each item, whatever led there."""
        return self._labels(self._by_user.rows(user), user, at_ms, items)

    def of_decision(self, decision: int, user: int, at_ms: int, items: Sequence[int]) -> Labels:
        """float32 [items, outcomes]: what the user did with each item of a decision."""
        return self._labels(self._by_decision.rows(decision), user, at_ms, items)

    def acted_on(self, decision: int) -> set[int]:
        """The items with which the user did something, because of a decision."""
        return set(self._acts.item[self._by_decision.rows(decision)].tolist())

    def _labels(
        self, acts: NDArray[np.intp], user: int, at_ms: int, items: Sequence[int]
    ) -> Labels:
        labels = np.zeros((len(items), len(self.names)), np.float32)
        row_of = {item: row for row, item in enumerate(items)}
        for number, outcome in enumerate(self._outcomes):
            until_ms = at_ms + int(outcome.within_hours * HOUR_MS)
            if until_ms > self._known_upto_ms:
                labels[:, number] = np.nan
            elif outcome.returns:
                after_ms = at_ms + int(outcome.after_hours * HOUR_MS)
                labels[:, number] = self._by_user.any_between(user, after_ms, until_ms)
            else:
                times = self._acts.at_ms[acts]
                mine = acts[(times >= at_ms) & (times <= until_ms)]
                mine = mine[self._counts[number, self._acts.term[mine]]]
                for item in self._acts.item[mine].tolist():
                    if item in row_of:
                        labels[row_of[item], number] = 1
        return labels


class _Groups:
    """Rows of acts by a key, each group in time order."""

    def __init__(self, acts: Acts, key: NDArray[np.int32]) -> None:
        self._order = np.argsort(key, kind="stable")
        self._key = key[self._order]
        self._at_ms = acts.at_ms[self._order]

    def rows(self, key: int) -> NDArray[np.intp]:
        start, end = self._span(key)
        return self._order[start:end]

    def any_between(self, key: int, after_ms: int, until_ms: int) -> bool:
        """Whether the group has a row with after ≤ time ≤ until."""
        start, end = self._span(key)
        times = self._at_ms[start:end]
        return bool(
            np.searchsorted(times, after_ms) < np.searchsorted(times, until_ms, side="right")
        )

    def _span(self, key: int) -> tuple[int, int]:
        start, end = np.searchsorted(self._key, (key, key + 1))
        return int(start), int(end)
