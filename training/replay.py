"""Replay: fold the log again and give, for points of users, the state just before.

The fold is the one that serves (engine.fold); the log is the archive and, where a store is given,
the records that are not archived yet. "Just before t" is: everything that was known before t, in
log order. A live record is known from its arrival, imported history from when it happened. A
decision says the log position at which the state stood that it read: that state exactly.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from engine.archive import Archive
from engine.catalog import Catalog
from engine.fold import (
    DeadLetter,
    FoldRules,
    Loaded,
    Located,
    Poisoned,
    decode_entries,
    fold_records,
)
from engine.ids import ITEMS, partition_of
from engine.records import Entry, decode_item_record
from engine.redis_store import RedisStore
from engine.state import UserState, decode_state, encode_state
from engine.store import stale_days
from engine.times import DAY_MS

BATCH = 20_000  # entries
ALIAS_HOPS = 8
NOTHING = encode_state(UserState())  # what is known of a user before the first record


class Point(NamedTuple):
    """A moment of a user, unix ms; or, where a position is given, a place in the log."""

    user_id: str
    at_ms: int
    position: int | None = None  # of the last record of theirs that counts


class Log(Protocol):
    """Where entries come from, a partition's in log order."""

    def read(self, partitions: Sequence[int]) -> Iterator[tuple[int, list[Entry]]]: ...


@dataclass(frozen=True, slots=True)
class WholeLog:
    """The archive, then what the store's streams hold beyond it."""

    archive: Archive
    store: RedisStore | None = None

    def read(self, partitions: Sequence[int]) -> Iterator[tuple[int, list[Entry]]]:
        last = dict.fromkeys(partitions, 0)
        for partition, entries in self.archive.read(partitions):
            last[partition] = entries[-1].position
            yield partition, entries
        if self.store is None:
            return
        for partition in partitions:
            for entries in self.archive.read_on(self.store, partition, last[partition]):
                yield partition, entries


class _Known:
    """Hashes of events folded before, by arrival day, as long as they can come again."""

    def __init__(self) -> None:
        self.by_day: dict[int, set[int]] = {}
        self._batch: set[int] = set()

    def __contains__(self, found: object) -> bool:
        return found in self._batch or any(found in day for day in self.by_day.values())

    def add(self, found: int) -> None:
        self._batch.add(found)

    def by_arrival(self, located: Sequence[Located]) -> Iterator[Sequence[Located]]:
        """Cut behind the first record of each new day: a folder forgets old days there."""
        newest, start = max(self.by_day, default=0), 0
        for at, (_, _, record) in enumerate(located):
            if record.arrived // DAY_MS > newest:
                newest = record.arrived // DAY_MS
                yield located[start : at + 1]
                start = at + 1
        if located[start:]:
            yield located[start:]

    def settle(self, hashes: dict[int, list[int]], late_days: int) -> None:
        """Keep the batch's hashes under their days, and forget the days that are over."""
        for day, found in hashes.items():
            self.by_day.setdefault(day, set()).update(found)
        for day in stale_days(self.by_day, late_days):
            del self.by_day[day]
        self._batch = set()


@dataclass(slots=True)
class PartitionReplay:
    """One partition being folded in memory, answering its points on the way."""

    partition: int
    rules: FoldRules
    times: dict[str, list[Point]]  # user -> points by time, ascending
    places: dict[str, list[Point]]  # user -> points by position, ascending
    states: dict[str, UserState] = field(default_factory=dict)
    answers: dict[Point, bytes] = field(default_factory=dict)  # packed states
    disordered: set[str] = field(default_factory=set)  # users whose log is not in time order
    folded: int = 0
    dead: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)
    _known: _Known = field(default_factory=_Known)
    _answered_upto: dict[str, int] = field(default_factory=dict)

    def fold(self, entries: Sequence[Entry]) -> None:
        """Fold entries; raises Poisoned, after which the partition has to start again."""
        loaded = Loaded(self.states, self._known)  # type: ignore[arg-type]
        watch = self._watch if self.times or self.places else None
        for located in self._known.by_arrival(decode_entries(entries, self.dead)):
            offset = located[-1].position
            changes = fold_records(self.partition, offset, located, loaded, self.rules, watch)
            self._known.settle(changes.hashes, self.rules.late_days)
            self.folded += len(located)

    def finish(self) -> None:
        """Answer what lies after the last record."""
        for waiting in (self.times, self.places):
            for user_id, points in waiting.items():
                if user_id in self.states:
                    self._answer(points, len(points), self.states[user_id])

    def _watch(self, at: Located, state: UserState) -> None:
        user_id, known_ms = at.record.user_id, at.record.known_ms
        if known_ms < self._answered_upto.get(user_id, 0):
            self.disordered.add(user_id)
        times = self.times.get(user_id)
        if times and times[0].at_ms <= known_ms:
            count = bisect_right(times, known_ms, key=_time)
            self._answered_upto[user_id] = times[count - 1].at_ms
            self._answer(times, count, state)
        places = self.places.get(user_id)
        if places and _place(places[0]) < at.position:
            self._answer(places, bisect_left(places, at.position, key=_place), state)

    def _answer(self, points: list[Point], count: int, state: UserState) -> None:
        """Answer the first `count` of the points and take them off."""
        packed = encode_state(state)
        if packed != NOTHING:
            self.answers |= dict.fromkeys(points[:count], packed)
        del points[:count]


def _time(point: Point) -> int:
    return point.at_ms


def _place(point: Point) -> int:
    return point.position or 0


def replay(
    log: Log, partitions: Sequence[int], total: int, rules: FoldRules, points: Iterable[Point]
) -> Replayed:
    """Fold these of `total` partitions; `points` of other partitions are left out."""
    mine = set(partitions)
    wanted = [p for p in points if partition_of(p.user_id, total) in mine]
    dead: dict[int, dict[tuple[int, int], DeadLetter]] = defaultdict(dict)
    while True:
        runs = {
            p: PartitionReplay(p, rules, *_by_user(wanted, p, total), dead=dead[p])
            for p in partitions
        }
        poison = _fold_all(log, runs)
        if poison is None:
            break
        # Rare: begin again without the record, which the folders had to set aside too.
        partition, letter = poison
        dead[partition][letter.position, letter.index] = letter
    answers: dict[Point, bytes] = {}
    disordered: set[str] = set()
    for run in runs.values():
        run.finish()
        answers |= run.answers
        disordered |= run.disordered
    if disordered:
        again = [p for p in wanted if p.user_id in disordered and p.position is None]
        answers |= _refold(log, partitions, rules, again, dead)
    states = {user: state for run in runs.values() for user, state in run.states.items()}
    return Replayed(answers, states, sum(run.folded for run in runs.values()))


def _fold_all(log: Log, runs: dict[int, PartitionReplay]) -> tuple[int, DeadLetter] | None:
    for partition, entries in log.read(list(runs)):
        for start in range(0, len(entries), BATCH):
            try:
                runs[partition].fold(entries[start : start + BATCH])
            except Poisoned as poison:
                return partition, poison.letter
    return None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found."""

    answers: dict[Point, bytes]  # packed state just before each point; missing: nothing known
    states: dict[str, UserState]  # every user's state after the whole log
    records: int


def _by_user(
    points: Sequence[Point], partition: int, total: int
) -> tuple[dict[str, list[Point]], dict[str, list[Point]]]:
    """A partition's points by user: those by time, and those by position."""
    times: dict[str, list[Point]] = defaultdict(list)
    places: dict[str, list[Point]] = defaultdict(list)
    for point in dict.fromkeys(points):
        if partition_of(point.user_id, total) == partition:
            (times if point.position is None else places)[point.user_id].append(point)
    return (
        {user_id: sorted(of_user, key=_time) for user_id, of_user in times.items()},
        {user_id: sorted(of_user, key=_place) for user_id, of_user in places.items()},
    )


def _refold(
    log: Log,
    partitions: Sequence[int],
    rules: FoldRules,
    points: Sequence[Point],
    dead: Mapping[int, dict[tuple[int, int], DeadLetter]],
) -> dict[Point, bytes]:
    """Where a user's log is not in time order: fold only what was known, point by point."""
    users = {point.user_id for point in points}
    by_user: dict[str, list[Located]] = defaultdict(list)
    for partition, entries in log.read(partitions):
        for at in decode_entries(entries, dead[partition]):
            if at.record.user_id in users:
                by_user[at.record.user_id].append(at)
    answers = {}
    for point in points:
        known = [at for at in by_user[point.user_id] if at.record.known_ms < point.at_ms]
        loaded = Loaded({}, set())
        fold_records(0, 0, known, loaded, rules)
        if point.user_id in loaded.states:
            answers[point] = encode_state(loaded.states[point.user_id])
    return answers


def resolve(answers: dict[Point, bytes]) -> dict[Point, Point]:
    """Points whose user had become another by then: point -> the same time of that user."""
    moved = {}
    for point, packed in answers.items():
        to = decode_state(packed).alias_to
        if to is not None:
            moved[point] = Point(to, point.at_ms)  # a place in the one log is none in the other
    return moved


def load_catalog(log: Log) -> Catalog:
    """Names of items, categories and actions, from the item stream."""
    catalog = Catalog()
    for _, entries in log.read([ITEMS]):
        for entry in entries:
            for raw in entry.records:
                try:
                    catalog.apply([decode_item_record(raw)])
                except ValueError:
                    continue  # the folder set it aside
    return catalog
