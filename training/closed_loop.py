"""The closed loop in the simulated world: decide, see what comes of it, learn, decide again.

The parts are the real ones — stamping, fold, archive, request road, frozen rows, `training.run`,
registry — with the world's clock in place of ours, so weeks pass in minutes. The world is told
nothing but what was shown, and the models see nothing but events.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from engine.actions import Actions, load_actions
from engine.archive import Archive, rows_of
from engine.catalog import Catalog
from engine.decision_rows import DecisionRows
from engine.decision_rows import rows_of as decision_rows
from engine.decisions import new_decision_id, record_of
from engine.device import read_device
from engine.events import Event, decode_line
from engine.fold import FoldRules, Loaded, Located, fold_records
from engine.ids import ITEMS, SEQUENCE_BITS, partition_of
from engine.objective import Objective
from engine.observer import Observer
from engine.pipeline import NOBODY, UNREAD, Parts, Request, recommend_known
from engine.recommending import Recommending
from engine.records import (
    Entry,
    ItemRecord,
    Record,
    TermRecord,
    UserLogRecord,
    encode,
)
from engine.rows import RowFiles
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.stamp import Stamper
from engine.state import UserState
from engine.taste import weights_by_term
from engine.times import DAY_MS
from models.loading import Models
from models.shipped import shipped_situations
from training.world import Line, Visit, World
from training.world import encode as encode_lines

PARTITIONS = 4
RANK_EVERY_MS = 3_600_000
ROWS_AT_ONCE = 2000  # decisions a file

Answer = Callable[[Visit], tuple[str | None, list[str]]]  # decision id, items


@dataclass(slots=True)
class SimulatedLog:
    """A log whose clock is the events': stamped, folded at once, archived when asked."""

    actions: Actions
    archive: Archive
    rows: RowFiles
    situations: Situations
    catalog: Catalog = field(default_factory=Catalog)
    states: dict[str, UserState] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    _entries: dict[int, list[Entry]] = field(default_factory=dict)
    _archived: dict[int, int] = field(default_factory=dict)
    _last: int = 0  # position
    _kept: list[DecisionRows] = field(default_factory=list)
    _ranked_ms: int = 0
    _coming: list[tuple[int, int, Line]] = field(default_factory=list)  # a heap
    _number_of: int = 0  # events taken: equal times keep their order
    _stamper: Stamper = field(init=False)

    def __post_init__(self) -> None:
        self._stamper = Stamper(self.actions, self.catalog, PARTITIONS, imported=True)

    def take(self, lines: Iterable[Line]) -> None:
        """Events of the world; one that is dated ahead waits for its time to come."""
        for line in lines:
            self._number_of += 1
            heapq.heappush(self._coming, (line.ts, self._number_of, line))

    def advance(self, at_ms: int) -> None:
        """Fold what has happened by now."""
        happened = []
        while self._coming and self._coming[0][0] <= at_ms:
            happened.append(heapq.heappop(self._coming)[2])
        for line in encode_lines(happened).splitlines():
            self._take(decode_line(line))

    def decided(self, record: UserLogRecord, rows: DecisionRows) -> None:
        """A decision, and the rows it was made from."""
        self._append(partition_of(record.user_id, PARTITIONS), record)
        self._kept.append(rows)
        if len(self._kept) >= ROWS_AT_ONCE:
            self._write_rows()

    def tell(self, record: UserLogRecord) -> None:
        """A record of what was decided."""
        self._append(partition_of(record.user_id, PARTITIONS), record)

    def settle(self) -> None:
        """Archive what came since the last time."""
        self._write_rows()
        rows, upto = [], {}
        for partition, entries in self._entries.items():
            rows += rows_of(partition, entries)
            upto[partition] = entries[-1].position
        if rows:
            self.archive.append(rows, self._archived, upto)
        self._archived |= upto
        self._entries.clear()

    def rank(self, at_ms: int) -> None:
        """Renew what is popular and fresh, as a replica's follower does."""
        if at_ms - self._ranked_ms >= RANK_EVERY_MS:
            self.catalog.columns.rank(weights_by_term(self.actions, self.catalog), at_ms)
            self._ranked_ms = at_ms

    def _write_rows(self) -> None:
        if self._kept:
            self.rows.write(self._kept)
            self._kept = []

    def _take(self, event: Event) -> None:
        ts = self._stamper.check(event, _now(event))
        for space, names in self._stamper.missing([event]).items():
            numbers = self._number(space, names, ts)
            self._stamper.learn(space, names, numbers)
        partition, record = self._stamper.stamp(event, ts, ts)
        self._append(partition, record)

    def _number(self, space: str, names: Sequence[str], ts: int) -> list[int]:
        known = self.catalog.by_id if space == "item" else self.catalog.terms[space]
        numbers = list(range(len(known), len(known) + len(names)))
        for name, number in zip(names, numbers, strict=True):
            record: Record = TermRecord(ts=0, arrived=ts, space=space, name=name, term=number)
            if space == "item":
                record = ItemRecord(ts=0, arrived=ts, item_id=name, item=number)
            self._append(ITEMS, record)
        return numbers

    def _append(self, partition: int, record: Record) -> None:
        position = max(self._last + 1, record.arrived << SEQUENCE_BITS)
        self._last = position
        self._entries.setdefault(partition, []).append(Entry(position, [encode(record)]))
        if isinstance(record, ItemRecord | TermRecord):
            self.catalog.apply([record])
            return
        loaded = Loaded(self.states, self.known)
        located = [Located(position, 0, record)]
        observer = Observer(self.situations)
        rules = FoldRules()
        changes = fold_records(partition, position, located, loaded, rules, observer.watch)
        changes.outbox += observer.records(self.states)
        for (item, term), increase in changes.counters.items():
            totals = self.catalog.counters.get((item, term), {})
            self.catalog.count(partition, {(item, term): totals.get(partition, 0) + increase})
        for sent_on in changes.outbox:
            self._append(partition_of(sent_on.user_id, PARTITIONS), sent_on)


def _now(event: Event) -> int:
    """The clock of arrival: imported history is checked against nothing later than itself."""
    return int(getattr(event, "ts", 0) or 0)


@dataclass(frozen=True, slots=True)
class Decider:
    """Answers visits as `POST /v1/recommend` does."""

    log: SimulatedLog
    settings: Recommending
    objective: Objective
    models: Models | None = None
    release: str | None = None
    size: int = 10
    explore: bool = True

    def parts(self) -> Parts:
        """What requests are answered with now."""
        log = self.log
        parts = Parts(
            UNREAD,
            log.catalog,
            self.settings,
            weights_by_term(log.actions, log.catalog),
            log.situations,
            clock=lambda: 0.0,  # nothing here has to be in time
        )
        if self.models is None:
            return parts
        return self.models.within(parts, self.objective, self.release)

    def answer(self) -> Answer:
        """What answers visits from now on."""
        parts = self.parts()
        return lambda visit: self.decide(visit, parts)

    def decide(self, visit: Visit, parts: Parts) -> tuple[str, list[str]]:
        """A decision's id and the items shown; logged with its rows."""
        log, at_ms = self.log, int(visit.at_s * 1000)
        log.advance(at_ms)
        log.rank(at_ms)
        device, _ = read_device(visit.device)
        asked = Request(
            visit.user_id,
            at_ms,
            self.size,
            seed=visit.number,
            device=device,
            surface=visit.surface,
            explore=self.explore,
        )
        state = log.states.get(visit.user_id, NOBODY)
        slate = recommend_known(asked, state, parts)
        decision_id = new_decision_id(partition_of(visit.user_id, PARTITIONS), at_ms)
        items = [log.catalog.id_of(item) or "" for item in slate.items()]
        record = record_of(slate, decision_id, at_ms)
        rows = decision_rows(slate, decision_id, at_ms, self.settings.rows.not_shown, log.catalog)
        log.decided(record, rows)
        return decision_id, items


@dataclass(frozen=True, slots=True)
class Period:
    """What a stretch of days between two trainings was worth."""

    release: str | None
    days: tuple[int, int]
    visits: int
    value_per_visit: float  # to be expected of what was shown
    value_happened: float  # … and as luck had it
    coverage: float  # share of the catalogue that came into view


Retrain = Callable[[SimulatedLog], tuple[Models | None, str | None]]
Say = Callable[[str], None]


def run_loop(
    world: World,
    decider: Decider,
    retrain: Retrain | None,
    trainings: int,
    days_between: int,
    say: Say = lambda _: None,
) -> tuple[list[Period], Decider]:
    """Learn, serve `days_between` days, and so on, `trainings` times after the first.

    `retrain` None keeps what decides at first.
    """
    log, periods = decider.log, []
    for _ in range(trainings + 1):
        if retrain is not None:
            models, release = retrain(log)
            decider = replace(decider, models=models, release=release)
        periods.append(serve(world, decider.answer(), days_between, log, decider.release, say))
    return periods, decider


def serve(
    world: World,
    answer: Answer,
    days: int,
    log: SimulatedLog | None = None,
    release: str | None = None,
    say: Say = lambda _: None,
) -> Period:
    """Answer the visits of so many days; what comes of them goes into the log."""
    first, visits = world.day, 0
    for day in range(first, first + days):
        for visit in world.sessions(day):
            decision_id, items = answer(visit)
            lines = world.respond(visit, items, decision_id)
            visits += 1
            if log is not None:
                log.take(lines)
    if log is not None:
        log.settle()
    ledger, span = world.ledger, (first, world.day)
    period = Period(
        release,
        span,
        visits,
        ledger.expected_per_visit(*span),
        ledger.value_per_visit(*span),
        ledger.coverage(*span),
    )
    say(f"days {first}–{world.day}: {_told(period)}")
    return period


def best_known(world: World, size: int = 10) -> Answer:
    """Lists by the world's own law and everyone's tastes: what no policy can do better at once."""
    recipes = world.core.recipes

    def answer(visit: Visit) -> tuple[str | None, list[str]]:
        items = [recipes.ids[n] for n in np.flatnonzero(recipes.available_s <= visit.at_s)]
        best = np.argsort(-world.oracle_value(visit, items))[:size]
        return None, [items[n] for n in best]

    return answer


def begin(world: World, days: int, log: SimulatedLog) -> None:
    """The world's catalogue, people and past, into the log."""
    log.take(world.item_events())
    log.take(world.user_events())
    log.take(world.history(days))
    log.advance(int(world.core.start_s * 1000) + days * DAY_MS)
    log.settle()


def make_log(home: Path) -> SimulatedLog:
    """An empty log under a folder, at the places where a KAIROS_HOME has them."""
    situations = shipped_situations(load_situations())
    return SimulatedLog(load_actions(), Archive(home / "log"), RowFiles(home / "rows"), situations)


def _told(period: Period) -> str:
    figures = msgspec.to_builtins(period)
    return ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
    )


def falls(values: Sequence[float], tolerance: float) -> bool:
    """Whether the last third lies below the first third by more than `tolerance` of it."""
    third = max(len(values) // 3, 1)
    first, last = float(np.mean(values[:third])), float(np.mean(values[-third:]))
    return last < first * (1 - tolerance)
