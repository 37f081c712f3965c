"""Moments to learn from or to be judged on: a user at a time, and what they did next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.candidates import Mask
from engine.objective import Objective
from engine.state import UserState, decode_state
from training.history import History
from training.replay import Point

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Case:
    """Just before a user's act: what they took up then that was new to them.

    What they took up later is not looked for: an engine that answers anew after every act is asked
    again before it. With a day of acts as the truth, whoever shows the same hits to everybody is
    right somewhere in the day: on MovieLens, popularity was then as good as any model in the first
    10 slots, and far behind in telling what comes next.
    """

    user: int
    point: Point
    truth: NDArray[np.int32]  # dense item ids, each once
    gains: NDArray[np.floating]  # what each is worth: all that was done with it within the horizon
    # Also taken up within the horizon: neither right nor wrong.
    later: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))


class States:
    """The packed states just before points, as replay gives them."""

    def __init__(self, packed: Mapping[Point, bytes]) -> None:
        self._packed = packed

    def at(self, point: Point) -> UserState:
        """The user's state then; an empty one for somebody unknown."""
        found = self._packed.get(point)
        return UserState() if found is None else decode_state(found)


class NewActs:
    """The acts by which users took up items that were new to them, by user and time."""

    def __init__(self, history: History, gains_by_term: NDArray[np.float32]) -> None:
        acts = history.acts
        liked = (acts.item >= 0) & (acts.weight > 0)
        rows = np.flatnonzero(liked)
        new = np.zeros(len(acts), np.bool_)
        key = acts.user.astype(np.int64) << 32 | acts.item
        of_items = np.flatnonzero(acts.item >= 0)
        _, first = np.unique(key[of_items], return_index=True)
        new[of_items[first]] = True
        self._history = history
        self._gains = gains_by_term
        self.rows = np.flatnonzero(new & liked)  # of acts, by time
        self._by_user = rows[np.lexsort((acts.at_ms[rows], acts.user[rows]))]
        self._user = acts.user[self._by_user]
        self._new_at = dict(
            zip(key[of_items[first]].tolist(), acts.at_ms[of_items[first]].tolist(), strict=True)
        )

    def case(self, row: int, horizon_ms: int) -> Case:
        """The moment just before an act of `rows`."""
        acts, at_ms = self._history.acts, int(self._history.acts.at_ms[row])
        user = int(acts.user[row])
        mine = self._by_user[
            np.searchsorted(self._user, user) : np.searchsorted(self._user, user, "right")
        ]
        times = acts.at_ms[mine]
        mine = mine[np.searchsorted(times, at_ms) : np.searchsorted(times, at_ms + horizon_ms)]
        gains: dict[int, float] = {}
        later: dict[int, None] = {}
        for item, term in zip(acts.item[mine].tolist(), acts.term[mine].tolist(), strict=True):
            gain, new_at = float(self._gains[term]), self._new_at[user << 32 | item]
            if gain and new_at == at_ms:
                gains[item] = gains.get(item, 0.0) + gain
            elif gain and new_at > at_ms:
                later[item] = None
        return Case(
            user,
            Point(self._history.users[int(acts.owner[row])], at_ms),
            np.array(list(gains), np.int32),
            np.array(list(gains.values()), np.float32),
            np.array(list(later), np.int32),
        )

    def draw(
        self,
        span: tuple[int, int],
        most: int,
        of_user: int,
        horizon_ms: int,
        seed: int,
        among: Mask | None = None,
    ) -> list[Case]:
        """Moments just before new acts of a span of time, by chance, in time order.

        At most so many, and of one user. Later acts than the span's end are not looked at, nor,
        where `among` bool [items] is given, acts on other items.
        """
        acts = self._history.acts
        times = acts.at_ms[self.rows]
        rows = self.rows[(times >= span[0]) & (times < span[1])]
        if among is not None:
            rows = rows[among[acts.item[rows]]]
        drawn = np.random.default_rng(seed).permutation(rows)
        drawn = drawn[_rank_within(acts.user[drawn]) < of_user]
        cases = (
            self.case(row, min(horizon_ms, span[1] - int(acts.at_ms[row])))
            for row in np.sort(drawn[:most]).tolist()
        )
        return [case for case in cases if len(case.truth)]


def _rank_within(keys: NDArray[np.int32]) -> NDArray[np.intp]:
    """How many equal keys stand before each."""
    order = np.argsort(keys, kind="stable")
    _, start, count = np.unique(keys[order], return_index=True, return_counts=True)
    ranks = np.empty(len(keys), np.intp)
    ranks[order] = np.arange(len(keys)) - np.repeat(start, count)
    return ranks


def gains_by_term(objective: Objective, terms: Mapping[str, int]) -> NDArray[np.float32]:
    """float32 [256]: what an act is worth by the objective, 1 where that does not name it."""
    gains = np.ones(256, np.float32)
    named: dict[int, float] = {}
    for outcome in objective.outcomes.values():
        for term in outcome_terms(outcome.actions, terms):
            named[term] = named.get(term, 0.0) + outcome.weight
    for term, weight in named.items():
        gains[term] = max(weight, 0.0)
    return gains


def outcome_terms(actions: Sequence[str], terms: Mapping[str, int]) -> list[int]:
    """The dense numbers of those of the actions that the log has seen."""
    return [terms[action] for action in actions if action in terms]
