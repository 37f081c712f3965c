"""The log as columns: who acted on what and when, what was decided, what was seen.

One pass over the log, a few numbers kept of each record. An event counts once, what is dated
before its user's erasure does not count, and a visitor who logged in is the user they became.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.catalog import Catalog
from engine.records import (
    AliasRecord,
    DecidedMoment,
    DecisionRecord,
    EraseRecord,
    ImpressionRecord,
    InteractionRecord,
    MomentRecord,
    UserRecord,
    decode_user_record,
)
from engine.situation import Moment, read_back
from engine.state import SITUATED_S, SURE
from training.replay import Log, load_catalog

ALIAS_HOPS = 8
TIME_BITS = 48  # unix ms, below a user's number
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Acts:
    """Interactions by the time they were known, one row each."""

    user: NDArray[np.int32]  # whose they are now
    owner: NDArray[np.int32]  # in whose state they stood when they happened
    item: NDArray[np.int32]  # dense id, −1 for none
    term: NDArray[np.int32]
    weight: NDArray[np.float32]  # signed
    at_ms: NDArray[np.int64]  # known
    situation: NDArray[np.int32]  # number in situations.yaml, 0 where it is not known
    decision: NDArray[np.int32]  # row of History.decisions, −1 for none

    def __len__(self) -> int:
        return len(self.user)

    def upto(self, at_ms: int) -> int:
        """How many rows were known before a time."""
        return int(np.searchsorted(self.at_ms, at_ms))

    def rows(self, rows: slice | NDArray[np.intp]) -> Acts:
        """Some of the rows."""
        return Acts(*(getattr(self, name)[rows] for name in Acts.__slots__))


class Decision(msgspec.Struct, gc=False):
    """A slate as it was decided; a list is one row of items, a page has one for each module."""

    decision_id: str
    owner: int
    at_ms: int
    items: list[int]  # in slot order
    position: int | None = None  # at which the user's state stood; None: not told
    moment: Moment | None = None  # as it was decided in
    ends: list[int] = []  # of a page: where each module's items end

    @property
    def rows(self) -> list[tuple[int, int]]:
        """Where each row begins and ends among the items."""
        return list(itertools.pairwise([0, *(self.ends or [len(self.items)])]))

    @property
    def places(self) -> list[int]:
        """The place of each item in its row."""
        starts = [0, *self.ends]
        return [slot - starts[bisect_right(self.ends, slot)] for slot in range(len(self.items))]


@dataclass(frozen=True, slots=True)
class Shown:
    """Items that came into view, one row each."""

    item: NDArray[np.int32]
    at_ms: NDArray[np.int64]
    decision: NDArray[np.int32]  # row of History.decisions, −1 where it is not in the log


@dataclass(frozen=True, slots=True)
class History:
    """The log, read."""

    users: list[str]
    attributes: list[dict[str, Any]]  # of users, as they are now
    now: NDArray[np.int32]  # [users]: who each of them is in the end
    acts: Acts
    decisions: list[Decision]
    shown: Shown
    catalog: Catalog  # as it is now, its counters empty
    records: int

    @property
    def end_ms(self) -> int:
        """When the last act was known."""
        return int(self.acts.at_ms[-1]) if len(self.acts) else 0

    def between(self, since_ms: int | None, until_ms: int | None) -> History:
        """The same log with the acts, decisions and impressions of a span of time alone."""
        if since_ms is None and until_ms is None:
            return self
        since, until = since_ms or 0, until_ms or self.end_ms + 1
        acts, shown = self.acts, self.shown
        seen = (shown.at_ms >= since) & (shown.at_ms < until)
        decisions = [
            one if since <= one.at_ms < until else msgspec.structs.replace(one, items=[], ends=[])
            for one in self.decisions
        ]
        return replace(
            self,
            acts=acts.rows(slice(acts.upto(since), acts.upto(until))),
            decisions=decisions,
            shown=Shown(*(getattr(shown, name)[seen] for name in Shown.__slots__)),
        )


def read_history(log: Log, partitions: int) -> History:
    """Read a whole log; raises nothing for a record that the folders set aside."""
    reader = _Reader()
    for _, entries in log.read(range(partitions)):
        for entry in entries:
            reader.take(entry.records)
    return reader.finish(load_catalog(log))


Column = Any  # array[int] or array[float]: the array module's types know one kind only
_ACTS = {
    "owner": "i",
    "item": "i",
    "term": "i",
    "weight": "f",
    "at_ms": "q",
    "ts": "q",
    "decision": "i",
}
_SITUATED = {"owner": "i", "ts": "q", "situation": "i"}
_SHOWN = {"item": "i", "at_ms": "q", "decision": "i"}


def _columns(kinds: Mapping[str, str]) -> dict[str, Column]:
    return {name: array(kind) for name, kind in kinds.items()}


@dataclass
class _Reader:
    """Columns as they grow."""

    users: dict[str, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)  # hashes
    acts: dict[str, Column] = field(default_factory=lambda: _columns(_ACTS))
    shown: dict[str, Column] = field(default_factory=lambda: _columns(_SHOWN))
    decisions: list[Decision] = field(default_factory=list)
    decision_of: dict[str, int] = field(default_factory=dict)  # id -> number, in any order
    alias_of: dict[int, int] = field(default_factory=dict)
    erased: dict[int, int] = field(default_factory=dict)
    attributes: dict[int, dict[str, tuple[int, Any]]] = field(default_factory=dict)
    situated: dict[str, Column] = field(default_factory=lambda: _columns(_SITUATED))
    records: int = 0

    def take(self, raws: Iterable[bytes]) -> None:
        for raw in raws:
            try:
                record = decode_user_record(raw)
            except ValueError:
                continue  # the folder set it aside
            self.records += 1
            # What a fold sent on after an alias stands in the log before that, too.
            if record.hops or (record.hash is not None and record.hash in self.known):
                continue
            if record.hash is not None:
                self.known.add(record.hash)
            user = self.users.setdefault(record.user_id, len(self.users))
            if isinstance(record, InteractionRecord):
                self._act(user, record)
            elif isinstance(record, ImpressionRecord):
                decision = self._decision(record.decision_id)
                for item in (item for module in record.shown for item in module.items):
                    self.shown["item"].append(item)
                    self.shown["at_ms"].append(record.known_ms)
                    self.shown["decision"].append(decision)
            elif isinstance(record, DecisionRecord):
                self._decided(user, record)
            elif isinstance(record, MomentRecord):
                self._situate(user, record.ts, record.moment)
            elif isinstance(record, UserRecord):
                known = self.attributes.setdefault(user, {})
                for name, value in record.attributes.items():
                    if record.ts >= known.get(name, (0, None))[0]:
                        known[name] = (record.ts, value)
            elif isinstance(record, AliasRecord):
                into = self.users.setdefault(record.into, len(self.users))
                self.alias_of.setdefault(user, into)
            elif isinstance(record, EraseRecord):
                self.erased[user] = max(record.ts, self.erased.get(user, 0))

    def _act(self, user: int, record: InteractionRecord) -> None:
        acts = self.acts
        acts["owner"].append(user)
        acts["item"].append(-1 if record.item is None else record.item)
        acts["term"].append(record.term)
        acts["weight"].append(record.weight)
        acts["at_ms"].append(record.known_ms)
        acts["ts"].append(record.ts)
        decided = record.decision_id
        acts["decision"].append(-1 if decided is None else self._decision(decided))

    def _situate(self, user: int, ts: int, told: DecidedMoment) -> None:
        self.situated["owner"].append(user)
        self.situated["ts"].append(ts)
        self.situated["situation"].append(told.number if told.confidence >= SURE else 0)

    def _situations(self, owner: Ints, ts: NDArray[np.int64]) -> Ints:
        """int32: the situation of each act, of its user's last moment before it."""
        told = {name: np.array(values) for name, values in self.situated.items()}
        if not len(told["ts"]):
            return np.zeros(len(owner), np.int32)
        order = np.lexsort((told["ts"], told["owner"]))
        keys = (told["owner"].astype(np.int64) << TIME_BITS | told["ts"])[order]
        found = np.searchsorted(keys, owner.astype(np.int64) << TIME_BITS | ts, "right") - 1
        last = order[np.maximum(found, 0)]
        fresh = (found >= 0) & (told["owner"][last] == owner)
        fresh &= ts - told["ts"][last] <= SITUATED_S * 1000
        return np.where(fresh, told["situation"][last], 0).astype(np.int32)

    def _decision(self, decision_id: str) -> int:
        return self.decision_of.setdefault(decision_id, len(self.decision_of))

    def _decided(self, user: int, record: DecisionRecord) -> None:
        self._decision(record.decision_id)
        slots = sorted(record.slots, key=lambda slot: slot.position)
        at_ms = record.ts if record.imported else record.arrived
        decision = Decision(record.decision_id, user, at_ms, [slot.item for slot in slots])
        if record.page is not None:
            lengths = (module.items for module in record.page.placed)
            decision.ends = list(itertools.accumulate(lengths))
        if record.moment is not None:
            decision.position = record.state_position
            decision.at_ms = record.ts
            decision.moment = read_back(record.moment, record.ts)
            seen_ms = record.moment.signals_ms(record.ts)
            if record.device is not None and seen_ms is not None:
                self._situate(user, seen_ms, record.moment)
        self.decisions.append(decision)

    def finish(self, catalog: Catalog) -> History:
        columns = {name: np.array(values) for name, values in self.acts.items()}
        erased = np.zeros(len(self.users), np.int64)
        erased[list(self.erased)] = list(self.erased.values())
        columns["situation"] = self._situations(columns["owner"], columns["ts"])
        kept = columns.pop("ts") >= erased[columns["owner"]]
        order = np.flatnonzero(kept)
        order = order[np.argsort(columns["at_ms"][order], kind="stable")]
        rows, row_of = self._numbered(erased)
        columns["decision"] = row_of[columns["decision"]]
        now = _resolved(self.alias_of, len(self.users))
        acts = Acts(
            user=now[columns["owner"][order]],
            **{name: column[order] for name, column in columns.items()},
        )
        shown = {name: np.array(values) for name, values in self.shown.items()}
        shown["decision"] = row_of[shown["decision"]]
        in_time = np.argsort(shown["at_ms"], kind="stable")
        seen = Shown(**{name: column[in_time] for name, column in shown.items()})
        attributes = [
            {name: value for name, (_, value) in self.attributes.get(user, {}).items()}
            for user in range(len(self.users))
        ]
        return History(list(self.users), attributes, now, acts, rows, seen, catalog, self.records)

    def _numbered(self, erased: NDArray[np.int64]) -> tuple[list[Decision], NDArray[np.int32]]:
        """Decisions in time order; and their rows by number, the last entry −1 for none."""
        rows = [d for d in self.decisions if d.at_ms >= erased[d.owner]]
        rows.sort(key=lambda decision: decision.at_ms)
        row_of = np.full(len(self.decision_of) + 1, -1, np.int32)
        for row, decision in enumerate(rows):
            row_of[self.decision_of[decision.decision_id]] = row
        return rows, row_of


def _resolved(alias_of: Mapping[int, int], users: int) -> NDArray[np.int32]:
    """int32 [users]: who each user is in the end."""
    ends = np.arange(users, dtype=np.int32)
    for user in alias_of:
        end = user
        for _ in range(ALIAS_HOPS):
            end = alias_of.get(end, end)
        ends[user] = end
    return ends
