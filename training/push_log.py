"""Pushes of the past, from the log: what was decided, by which chance, and what came of it.

Rows were frozen with the decisions, so nothing is folded. An outcome is looked for in what the
person did, whether or not the push led there: both arms are measured alike. An outcome whose window
was still open when the log ended is NaN.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from engine.fold import Poisoned, decode_entries
from engine.push_features import COUNT
from engine.push_history import PROMPT_S
from engine.push_message import Message
from engine.records import (
    AliasRecord,
    EraseRecord,
    InteractionRecord,
    PushDecisionRecord,
    PushRecord,
    UserLogRecord,
)
from engine.times import DAY_MS, HOUR_MS
from training.replay import ALIAS_HOPS, Log

OPEN_WITHIN_MS = DAY_MS
OPT_OUT_WITHIN_MS = DAY_MS  # in a week most are other messages' doing
HOURS = 48  # of a working day, then of a free one
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pushes:
    """Messages that were sent, and those that were dropped by chance, in time order; [n] each."""

    rows: NDArray[np.float32]  # [n, engine.push_features.COUNT], NaN where not known
    messages: NDArray[np.object_]  # of Message
    probabilities: Doubles  # [n, situations], by number
    hour: Ints  # local; from 24 on of Saturdays and Sundays
    user: Ints  # who they are in the end
    at_ms: Ints
    sent: Flags
    failed: Flags  # it was sent and did not arrive
    measured: Flags  # drawn by chance alone: evidence of what a message does
    propensity: Doubles  # of being sent, where a coin said so
    goal: Doubles  # 1 or 0; NaN: its window is open
    opened: Doubles
    prompt: Doubles  # opened soon, which was the message's doing (engine.push_history.PROMPT_S)
    opted_out: Doubles  # of any category

    def __len__(self) -> int:
        return len(self.at_ms)

    def some(self, wanted: Flags | Ints) -> Pushes:
        """These only."""
        return replace(self, **{one.name: getattr(self, one.name)[wanted] for one in fields(self)})

    def known_at(self, at_ms: int, opt_out_ms: int = OPT_OUT_WITHIN_MS) -> Pushes:
        """Those decided before a time, with the outcomes that were known by then."""
        before = self.some(self.at_ms < at_ms)
        goal_ms = before.at_ms + goal_windows_ms(before.messages)
        return replace(
            before,
            goal=np.where(goal_ms <= at_ms, before.goal, np.nan),
            opened=np.where(before.at_ms + OPEN_WITHIN_MS <= at_ms, before.opened, np.nan),
            prompt=np.where(before.at_ms + OPEN_WITHIN_MS <= at_ms, before.prompt, np.nan),
            opted_out=np.where(before.at_ms + opt_out_ms <= at_ms, before.opted_out, np.nan),
        )

    @property
    def evidence(self) -> Flags:
        """bool [n]: drawn by chance, and whether the goal was reached is known."""
        found: Flags = self.measured & ~np.isnan(self.goal)
        return found

    @property
    def readable(self) -> Flags:
        """bool [n]: went out, and whether it was opened is known."""
        found: Flags = self.sent & ~self.failed & ~np.isnan(self.opened)
        return found


def goal_windows_ms(messages: NDArray[np.object_]) -> Ints:
    """int64 [n]: how long after the decision a goal counts."""
    return np.array([round(one.goal.within_h * HOUR_MS) for one in messages], np.int64)


@dataclass(slots=True)
class _Times:
    """When who did something, in the order of the log."""

    user: array[int] = field(default_factory=lambda: array("q"))
    at_ms: array[int] = field(default_factory=lambda: array("q"))

    def add(self, user: int, at_ms: int) -> None:
        self.user.append(user)
        self.at_ms.append(at_ms)


@dataclass(slots=True)
class PushLog:
    """Pushes as they are read; `pushes` gives those that say something."""

    opt_out_ms: int = OPT_OUT_WITHIN_MS
    end_ms: int = 0  # when the last record was known
    names: dict[str, int] = field(default_factory=dict)  # a user's number, by first appearance
    _into: dict[str, str] = field(default_factory=dict)
    _erased: dict[str, int] = field(default_factory=dict)
    _decided: dict[str, PushDecisionRecord] = field(default_factory=dict)
    _acts: defaultdict[str, _Times] = field(default_factory=lambda: defaultdict(_Times))
    _opened: defaultdict[str, _Times] = field(default_factory=lambda: defaultdict(_Times))
    _failed: set[tuple[int, str]] = field(default_factory=set)  # user and message
    _disabled: _Times = field(default_factory=_Times)

    def read(self, record: UserLogRecord) -> None:
        """Take down what a record tells of pushes and of what came of them."""
        self.end_ms = max(self.end_ms, record.known_ms)
        if isinstance(record, EraseRecord):
            self._erased[record.user_id] = max(record.ts, self._erased.get(record.user_id, 0))
        elif isinstance(record, AliasRecord):
            self._into.setdefault(record.user_id, record.into)
        elif isinstance(record, InteractionRecord):
            self._acts[record.action].add(self._user(record.user_id), record.ts)
        elif isinstance(record, PushRecord):
            self._told(record)
        elif isinstance(record, PushDecisionRecord) and _says_something(record):
            self._decided.setdefault(record.decision.decision_id, record)
            self._user(record.user_id)

    def _told(self, record: PushRecord) -> None:
        user = self._user(record.user_id)
        if record.status == "opened":
            self._opened[record.message_id].add(user, record.ts)
        elif record.status == "failed":
            self._failed.add((user, record.message_id))
        elif record.status == "disabled":
            self._disabled.add(user, record.ts)

    def _user(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def pushes(self, situations: int) -> Pushes:
        """All of them; of a chain of looks the first that was drawn by chance is the evidence."""
        people = self._people()
        kept = [one for one in self._decided.values() if one.ts >= self._erased_ms(one.user_id)]
        kept.sort(key=lambda one: (one.ts, one.decision.decision_id))
        user = people[np.array([self.names[one.user_id] for one in kept], np.int64)]
        at_ms = np.array([one.ts for one in kept], np.int64)
        decisions = [one.decision for one in kept]
        messages = np.empty(len(kept), np.object_)
        messages[:] = [one.message for one in kept]
        moments = [one.moment for one in kept if one.moment is not None]
        free = np.array([24 * (one.weekday >= 5) for one in moments], np.int64)
        failed = {(int(people[number]), message) for number, message in self._failed}
        return Pushes(
            rows=np.array([_row(one) for one in kept], np.float32).reshape(-1, COUNT),
            messages=messages,
            probabilities=_table([one.probabilities for one in moments], situations),
            hour=np.array([int(one.hour) % 24 for one in moments], np.int64) + free,
            user=user,
            at_ms=at_ms,
            sent=np.array([one.action == "send" for one in decisions], np.bool_),
            failed=np.array(
                [pair in failed for pair in zip(user.tolist(), _ids(messages), strict=True)],
                np.bool_,
            ),
            measured=_firsts(kept),
            # The logged chances are those of all that could have led here; among the measured
            # there was nothing but the coin.
            propensity=np.array([one.coin for one in decisions], np.float64),
            goal=self._goals(messages, people, user, at_ms),
            opened=self._opens(messages, people, user, at_ms, OPEN_WITHIN_MS),
            prompt=self._opens(messages, people, user, at_ms, PROMPT_S * 1000),
            opted_out=self._within(self._disabled, people, user, at_ms, self.opt_out_ms),
        )

    def _goals(
        self, messages: NDArray[np.object_], people: Ints, user: Ints, at_ms: Ints
    ) -> Doubles:
        goal, within = np.full(len(user), np.nan), goal_windows_ms(messages)
        actions = np.array([one.goal.action for one in messages], np.object_)
        for action in set(actions):
            of = actions == action
            acts = self._acts.get(action, _Times())
            goal[of] = self._within(acts, people, user[of], at_ms[of], within[of])
        return goal

    def _opens(
        self,
        messages: NDArray[np.object_],
        people: Ints,
        user: Ints,
        at_ms: Ints,
        within_ms: int,
    ) -> Doubles:
        """float64 [n]; both kinds are known when the later one is."""
        # Few people share a message and many share none: by message, then by person.
        opened = defaultdict(list)
        for message, times in self._opened.items():
            for number, when in zip(times.user, times.at_ms, strict=True):
                opened[int(people[number]), message].append(when)
        found = [
            any(at <= when <= at + within_ms for when in opened.get((who, message), ()))
            for who, message, at in zip(user.tolist(), _ids(messages), at_ms.tolist(), strict=True)
        ]
        known = at_ms + OPEN_WITHIN_MS <= self.end_ms
        return np.where(known, np.array(found, np.float64), np.nan)

    def _within(
        self, times: _Times, people: Ints, user: Ints, at_ms: Ints, within_ms: Ints | int
    ) -> Doubles:
        """float64 [n]: 1 where the person did it in the window, NaN where that is still open."""
        until = at_ms + within_ms
        found = np.zeros(len(user), np.float64)
        if len(times.user):
            acted_ms = np.array(times.at_ms, np.int64)
            start = min(int(acted_ms.min()), int(at_ms.min(initial=0)))
            span = max(int(acted_ms.max()), int(until.max(initial=0))) - start + 1
            acts = np.sort(people[np.array(times.user, np.int64)] * span + acted_ms - start)
            first = np.searchsorted(acts, user * span + at_ms - start)
            last = np.searchsorted(acts, user * span + until - start, side="right")
            found = (last > first).astype(np.float64)
        return np.where(until <= self.end_ms, found, np.nan)

    def _people(self) -> Ints:
        """int64 [names]: who each name is in the end."""
        return np.array([self._user(self._resolved(name)) for name in list(self.names)], np.int64)

    def _resolved(self, name: str) -> str:
        for _ in range(ALIAS_HOPS):
            name = self._into.get(name, name)
        return name

    def _erased_ms(self, name: str) -> int:
        return max(self._erased.get(one, 0) for one in (name, self._resolved(name)))


def read_pushes(log: Log, partitions: int, opt_out_ms: int = OPT_OUT_WITHIN_MS) -> PushLog:
    """Read a whole log; entries that cannot be read are left out."""
    found = PushLog(opt_out_ms)
    for _, entries in log.read(range(partitions)):
        for entry in entries:
            try:
                located = decode_entries([entry], {})
            except Poisoned:
                continue
            for at in located:
                found.read(at.record)
    return found


def _says_something(record: PushDecisionRecord) -> bool:
    """Whether it was sent, or dropped by chance, with all that a model reads."""
    rows = 0 < len(record.row) <= COUNT
    told = record.moment is not None and rows and not record.imported
    return told and (record.decision.action == "send" or record.tried)


def _row(record: PushDecisionRecord) -> list[float | None]:
    """[COUNT]; what rows did not hold yet when it was frozen is not known."""
    return [*record.row, *[None] * (COUNT - len(record.row))]


def _firsts(kept: list[PushDecisionRecord]) -> Flags:
    """bool [n]: drawn by chance, and the first of its chain that was."""
    seen: set[str] = set()
    found = np.zeros(len(kept), np.bool_)
    for number, one in enumerate(kept):
        chain = one.decision.first_id or one.decision.decision_id
        if one.tried and chain not in seen:
            found[number] = True
            seen.add(chain)
    return found


def _ids(messages: NDArray[np.object_]) -> list[str]:
    return [one.message_id for one in messages]


def _table(chances: list[list[float]], situations: int) -> Doubles:
    """float64 [n, situations]; what is not told is zeros."""
    table = np.zeros((len(chances), situations))
    for number, told in enumerate(chances):
        known = told[:situations]
        table[number, : len(known)] = known
    return table


def categories_of(messages: NDArray[np.object_]) -> list[str]:
    """Of each message."""
    made: list[Message] = list(messages)
    return [one.category for one in made]
