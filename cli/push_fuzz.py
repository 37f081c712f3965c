"""Callers who all ask about the same people at once, and what became of what was let go.

    one process feeds the log and folds it ─┐
    callers, in processes of several ───────┴─► one store;  training.push_truth counts afterwards

Each caller has a store client and a clock of its own. In worlds of simulated days all share a true
time that goes on in jumps, and a caller says what its clock shows (`at_ms`); in worlds of real time
the store's clock tells. While callers ask, the log is folded: messages are reported as sent or
failed, people switch off and on, travel, change their quiet hours.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from engine.catalog import Catalog
from engine.device import Device
from engine.fold import FoldRules
from engine.folder import Folder
from engine.ids import partition_of
from engine.push import Asked, PushParts, decide_pushes
from engine.push_file import load_push
from engine.push_message import Message, PushDecision
from engine.push_value import Assumptions
from engine.records import DeviceRecord, PushRecord, UserRecord, encode
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.store import Claim
from serving.people import StorePeople
from training.push_truth import (
    KINDS,
    Answer,
    Breach,
    Course,
    Fact,
    Facts,
    Grant,
    breaches,
    sent_again,
)
from training.push_worlds import (
    CATEGORIES,
    HOUR_MS,
    MINUTE_MS,
    ZONES,
    Wanderer,
    invent_hours,
    invent_message,
    invent_people,
    invent_policy,
    start_of,
    stride,
)

Mode = Literal["real", "exact", "skewed"]
MODES: tuple[Mode, ...] = ("exact", "skewed", "real", "skewed", "exact")
SKEW_MS = 5 * MINUTE_MS
BEFORE = float("-inf")
KEPT = 10  # messages of a person that may be asked about again
SHOWN = 10  # breaches that are told in words


@dataclass(frozen=True, slots=True)
class Plan:
    """How much."""

    decisions: int = 1_000_000
    callers: int = 16
    processes: int = 4
    people: int = 100  # of a world
    steps: int = 60  # in which every caller asks once
    each: int = 24  # messages a call, at least
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """What one caller asks."""

    at_ms: int | None
    asked: list[Asked]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """What it was told, the monotonic and the unix clock around it."""

    began: float
    ended: float
    began_ms: int
    ended_ms: int
    decisions: list[tuple[PushDecision, bool]]  # and whether it is a repeat


@dataclass(slots=True)
class Tally:
    """What happened, and what must not have."""

    counts: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def judge(self, course: Course, where: str) -> None:
        self.counts["sent_again"] += sent_again(course)
        for breach in breaches(course):
            self.wrong(breach, where)

    def wrong(self, breach: Breach, where: str) -> None:
        self.found[breach.kind] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"{breach.kind} {where} {breach.what}")


def fuzz(plan: Plan, url: str, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """World after world until so many decisions were made; the figures."""
    tally, began, world = Tally(), time.monotonic(), 0
    with Feed(settings_of(url)) as feed, _callers(plan, url) as callers:
        while tally.counts["decisions"] < plan.decisions:
            mode = MODES[world % len(MODES)]
            _World(plan, world, mode, feed, callers, tally).live()
            world += 1
            done, wrong = tally.counts["decisions"], sum(tally.found.values())
            say(f"{done:,} decisions, {world} worlds, {wrong} breaches")
    seconds = time.monotonic() - began
    return {
        "callers": plan.callers,
        "processes": plan.processes,
        "seed": plan.seed,
        "worlds": world,
        **dict(sorted(tally.counts.items())),
        "breaches": {kind: tally.found[kind] for kind in KINDS},
        "first": tally.shown,
        "seconds": round(seconds, 1),
        "decisions_per_s": round(tally.counts["decisions"] / seconds),
    }


def settings_of(url: str) -> Settings:
    """Of a machine that may be busy: nothing is to be late."""
    return Settings(
        redis_url=url,
        partitions=2,
        read_timeout_ms=20_000,
        store_timeout_ms=20_000,
        lease_ms=600_000,
    )


# ---- the log


class Feed:
    """Appends what happened and folds it at once."""

    def __init__(self, settings: Settings) -> None:
        self._store = RedisStore.connect(settings)
        self._partitions = settings.partitions
        self._folder = Folder(self._store, settings.partitions, FoldRules())
        self._claims = {p: self._claimed(p) for p in range(settings.partitions)}

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        for claim in self._claims.values():
            self._store.release(claim)
        self._store.close()

    def _claimed(self, partition: int) -> Claim:
        claim = self._store.claim("fuzz", partition)
        if claim is None:
            raise RuntimeError(f"somebody else folds partition {partition} of this server")
        return claim

    def fold(self, records: Iterable[Any]) -> tuple[float, float]:
        """Fold records; the monotonic seconds at which it began and was done."""
        began = time.monotonic()
        by_partition: dict[int, list[bytes]] = {}
        for record in records:
            partition = partition_of(record.user_id, self._partitions)
            by_partition.setdefault(partition, []).append(encode(record))
        if by_partition:
            self._store.append(by_partition)
            claims = [self._claims[partition] for partition in by_partition]
            for partition, entries in self._store.read(claims, 64).items():
                self._folder.fold(self._claims[partition], entries)
                self._store.trim(partition, entries[-1].position)
        return began, time.monotonic()


# ---- callers


@contextmanager
def _callers(plan: Plan, url: str) -> Iterator[list[Connection]]:
    """A pipe to each process; call n goes to the n-th, round and round."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(plan.processes):
        ours, theirs = spawn.Pipe()
        count = len(range(number, plan.callers, plan.processes))
        process = spawn.Process(target=_serve, args=(theirs, url, count), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        yield pipes
    finally:
        for pipe in pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in processes:
            process.join(10)


def _serve(pipe: Connection, url: str, callers: int) -> None:
    asyncio.run(_answer(pipe, url, callers))


async def _answer(pipe: Connection, url: str, callers: int) -> None:
    """Ask what comes through the pipe, all callers at once, until None comes."""
    stores = [AsyncRedisStore(settings_of(url), (False, False)) for _ in range(callers)]
    people = [StorePeople(store) for store in stores]
    situations, parts = Situations(load_situations()), []
    while (told := pipe.recv()) is not None:
        if isinstance(told, str):
            parts = [await _parts(one, situations, told) for one in people]
            continue
        asked = zip(told, parts, strict=True)
        pipe.send(await asyncio.gather(*(_ask(call, own) for call, own in asked)))
    for store in stores:
        await store.close()


async def _parts(people: StorePeople, situations: Situations, text: str) -> PushParts:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "push.yaml"
        path.write_text(text, encoding="utf-8")
        file = load_push(situations.names, path)
    return PushParts(
        people, situations, file, Assumptions(file.assumed), Catalog(), await people.key()
    )


async def _ask(call: Call, parts: PushParts) -> Answered:
    began, began_ms = time.monotonic(), int(time.time() * 1000)
    decided = await decide_pushes(call.asked, parts, call.at_ms, dry_run=call.dry_run)
    ended, ended_ms = time.monotonic(), int(time.time() * 1000)
    # Reasons are not judged, and many.
    plain = [(msgspec.structs.replace(one.decision, reasons=[]), one.repeated) for one in decided]
    return Answered(began, ended, began_ms, ended_ms, plain)


# ---- a world


@dataclass(slots=True)
class Report:
    """An event on its way; it has to be folded before a caller's clock may show `must_ms`."""

    due_ms: int
    must_ms: int
    record: PushRecord
    grant: Grant


@dataclass(slots=True)
class _Living:
    """A person, what is known of them, and messages that may be asked about again."""

    who: Wanderer
    facts: Facts
    messages: list[Message] = field(default_factory=list)


class _World:
    """One push.yaml and its people."""

    def __init__(
        self,
        plan: Plan,
        number: int,
        mode: Mode,
        feed: Feed,
        callers: list[Connection],
        tally: Tally,
    ) -> None:
        self._rng = rng = random.Random(f"{plan.seed} {number}")
        self._plan, self._mode, self._feed = plan, mode, feed
        self._callers, self._tally = callers, tally
        self._text = invent_policy(rng, mode == "real")
        self._skew_ms = SKEW_MS if mode == "skewed" else 0
        self._clocks = [rng.randint(-self._skew_ms, self._skew_ms) for _ in range(plan.callers)]
        self._course = Course(yaml.safe_load(self._text), self._skew_ms)
        self._where = f"(seed {plan.seed}, world {number}, {mode})"
        self._number, self._events = number, 0
        zone, self._at_ms = start_of(rng)
        if mode == "real":
            self._at_ms = int(time.time() * 1000)
        self._began_ms = self._at_ms
        self._reports: list[Report] = []
        self._living = [self._begin(who) for who in invent_people(rng, number, plan.people, zone)]
        self._by_id = {one.who.user_id: one for one in self._living}

    def live(self) -> None:
        """All steps, then the count."""
        for pipe in self._callers:
            pipe.send(self._text)
        self._feed.fold(record for one in self._living for record in self._introduce(one))
        for _ in range(self._plan.steps):
            self._step()
        self._tally.judge(self._course, self._where)
        self._tally.counts["worlds_" + self._mode] += 1

    def _begin(self, who: Wanderer) -> _Living:
        def known(value: Any) -> Fact:
            return Fact([(BEFORE, BEFORE, value)])

        quiet = invent_hours(self._rng) if self._rng.random() < 0.3 else None
        on = {name: known(True) for name in ("", *CATEGORIES)}
        facts = Facts(known(self._zone(who)), known(quiet), on, who.digest)
        self._course.people[who.user_id] = facts
        return _Living(who, facts)

    def _zone(self, who: Wanderer) -> str:
        return str(who.zone or who.home or self._course.policy["time_zone"])

    def _introduce(self, one: _Living) -> Iterator[Any]:
        own = one.facts.quiet.changes[0][2]
        told: dict[str, Any] = {"push_digest": one.who.digest}
        if one.who.home is not None:
            told["time_zone"] = one.who.home
        if own is not None:
            told["quiet_hours"] = own
        yield UserRecord(attributes=told, **self._common(one.who))
        if one.who.zone is not None:
            yield self._phone(one.who)

    def _common(self, who: Wanderer, at_ms: int | None = None) -> dict[str, Any]:
        ts = self._at_ms + who.clock_ms if at_ms is None else at_ms
        return {"ts": ts, "arrived": int(time.time() * 1000), "user_id": who.user_id}

    def _phone(self, who: Wanderer) -> DeviceRecord:
        device = Device(device_id="phone", time_zone=who.zone, screen="off")
        return DeviceRecord(event_id=self._event(), device=device, **self._common(who))

    def _event(self) -> str:
        self._events += 1
        return f"e{self._number}-{self._events}"

    def _step(self) -> None:
        self._at_ms = (
            int(time.time() * 1000) if self._mode == "real" else self._at_ms + stride(self._rng)
        )
        due = [one for one in self._reports if one.due_ms <= self._at_ms]
        self._reports = [one for one in self._reports if one.due_ms > self._at_ms]
        early = [one for one in due if one.must_ms <= self._at_ms or self._rng.random() < 0.5]
        self._report(early)
        changes = [change for one in self._living for change in self._change(one)]
        calls = [self._call(number) for number in range(self._plan.callers)]
        some = len(self._callers)
        for number, pipe in enumerate(self._callers):
            pipe.send(calls[number::some])
        self._report([one for one in due if one not in early])
        began, ended = self._feed.fold(record for record, _, _ in changes)
        for _, fact, value in changes:
            fact.change(began, ended, value)
        for number, pipe in enumerate(self._callers):
            for call, answered in zip(calls[number::some], pipe.recv(), strict=True):
                self._take(call, answered)

    def _report(self, some: list[Report]) -> None:
        began, ended = self._feed.fold(one.record for one in some)
        for one in some:
            if one.record.status == "failed":
                one.grant.released, one.grant.failed = began, ended
            else:
                one.grant.reported = ended
            if one.grant.foreign:
                one.grant.began, one.grant.ended = began, ended

    def _change(self, one: _Living) -> Iterator[tuple[Any, Fact, Any]]:
        """What a person does while they are asked about: record, fact, its new value."""
        rng, who = self._rng, one.who
        if rng.random() < 0.03:
            name = rng.choice(("", "", *CATEGORIES))
            on = rng.random() < 0.6
            record = PushRecord(
                event_id=self._event(),
                message_id="",
                status="enabled" if on else "disabled",
                category=name or None,
                **self._common(who),
            )
            self._tally.counts["switches"] += 1
            yield record, one.facts.on[name], on
        if who.zone is not None and rng.random() < 0.02:
            who.zone = rng.choice(ZONES)
            self._tally.counts["zone_changes"] += 1
            yield self._phone(who), one.facts.zone, who.zone
        if rng.random() < 0.01:
            hours = invent_hours(rng) if rng.random() < 0.7 else None
            record_ = UserRecord(attributes={"quiet_hours": hours}, **self._common(who))
            yield record_, one.facts.quiet, hours
        if rng.random() < 0.02:
            self._somebody_elses(who)

    def _somebody_elses(self, who: Wanderer) -> None:
        """A message that this service was not asked about."""
        at_ms = self._at_ms // 1000 * 1000
        name, category = f"foreign-{self._event()}", self._rng.choice(CATEGORIES)
        grant = Grant(
            who.user_id, name, category, None, "push", "normal", at_ms, at_ms, at_ms,
            float("inf"), float("inf"), foreign=True, went_ms=at_ms,
        )  # fmt: skip
        record = PushRecord(
            event_id=self._event(), message_id=name, status="sent", category=category,
            **self._common(who, at_ms),
        )  # fmt: skip
        self._tally.counts["sends_of_others"] += 1
        self._course.grants.append(grant)
        self._reports.append(Report(at_ms, at_ms, record, grant))

    def _call(self, number: int) -> Call:
        rng = self._rng
        at_ms = None if self._mode == "real" else self._at_ms + self._clocks[number]
        # A few people are asked about by everybody at once.
        busy = self._living[: max(3, len(self._living) // 12)]
        asked: list[Asked] = []
        while len(asked) < self._plan.each:
            one = rng.choice(busy if rng.random() < 0.3 else self._living)
            told = self._told(one.who)
            for _ in range(rng.choice((1, 2, 4, 6))):
                asked.append(Asked(one.who.user_id, self._message(one), told))
        return Call(at_ms, asked, dry_run=rng.random() < 0.03)

    def _message(self, one: _Living) -> Message:
        if one.messages and self._rng.random() < 0.5:
            return self._rng.choice(one.messages)
        message = invent_message(self._rng, f"m{self._event()}", self._at_ms)
        one.messages = [*one.messages, message][-KEPT:]
        return message

    def _told(self, who: Wanderer) -> Device | None:
        """The state of a phone that comes with the question: fresh, or of long ago."""
        kind = self._rng.random()
        if kind > 0.08 or who.zone is None:
            return None
        told = Device(device_id="phone", captured_at=self._at_ms + who.clock_ms)
        if kind < 0.04:
            return msgspec.structs.replace(told, time_zone=who.zone)
        long_ago = self._began_ms + who.clock_ms - self._rng.randint(1, 10) * HOUR_MS
        return msgspec.structs.replace(
            told, captured_at=long_ago, time_zone=self._rng.choice(ZONES)
        )

    def _take(self, call: Call, answered: Answered) -> None:
        """What a caller was told, and what it does with it."""
        for asked, (decision, repeated) in zip(call.asked, answered.decisions, strict=True):
            self._count(decision, repeated, call.dry_run)
            if decision.degraded or call.dry_run:
                continue
            told_ms = answered.began_ms if call.at_ms is None else call.at_ms
            holds = {
                "hold": decision.hold_until_ms,
                "send": decision.reserved_until_ms,
                "drop": decision.expires_ms,
            }[decision.action]
            self._course.answers.append(
                Answer(
                    asked.user_id,
                    decision.message_id,
                    decision.decision_id,
                    decision.action,
                    told_ms if repeated else decision.at_ms,
                    answered.began,
                    answered.ended,
                    repeated,
                    decision.expires_ms,
                    holds or 0,
                )
            )
            if not repeated and decision.action == "send":
                self._grant(asked, decision, answered)

    def _count(self, decision: PushDecision, repeated: bool, dry_run: bool) -> None:
        counts = self._tally.counts
        counts["decisions"] += 1
        counts[f"decisions_{self._mode}"] += 1
        if repeated:
            counts["repeats"] += 1
        elif decision.degraded:
            counts[decision.degraded] += 1
        elif dry_run:
            counts["dry_runs"] += 1
        else:
            counts[decision.action] += 1

    def _grant(self, asked: Asked, decision: PushDecision, answered: Answered) -> None:
        message, who = asked.message, self._by_id[asked.user_id].who
        at_ms = self._at_ms
        if self._mode == "real":
            at_ms = decision.at_ms
            if not answered.began_ms - 5 <= at_ms <= answered.ended_ms + 5:
                self._tally.wrong(Breach("clock", f"{decision.decision_id}"), self._where)
        device, zone_told = asked.device, None
        if device is not None and (device.captured_at or 0) - who.clock_ms >= self._began_ms:
            zone_told = device.time_zone  # one of long ago does not count, whatever it names
        grant = Grant(
            asked.user_id,
            message.message_id,
            message.category,
            message.campaign_id,
            message.channel,
            message.urgency,
            at_ms,
            decision.at_ms,
            decision.reserved_until_ms or at_ms,
            answered.began,
            answered.ended,
            message.not_before_ms,
            message.expires_ms,
            zone_told,
            decision_id=decision.decision_id,
        )
        self._course.grants.append(grant)
        self._send(grant, who)

    def _send(self, grant: Grant, who: Wanderer) -> None:
        """Send it at once or late, fail, or forget it; who sends keeps to the reservation."""
        rng, kind = self._rng, self._rng.random()
        clock_ms = rng.randint(-self._skew_ms, self._skew_ms)  # of who sends
        last_ms = max(grant.until_ms - clock_ms, grant.at_ms)
        if kind < 0.1:
            self._tally.counts["never_reported"] += 1
            return
        soon = kind < 0.7 or self._mode == "real"
        upto = min(grant.at_ms + MINUTE_MS // 2, last_ms) if soon else last_ms
        at_ms = grant.at_ms if self._mode == "real" else rng.randint(grant.at_ms, upto)
        failed = 0.55 < kind < 0.75
        self._tally.counts["failed" if failed else "went_out"] += 1
        status = "failed" if failed else rng.choice(("sent", "sent", "delivered", "opened"))
        if not failed:
            grant.went_ms = at_ms
        record = PushRecord(
            event_id=self._event(),
            message_id=grant.message_id,
            status=status,
            category=grant.category,
            decision_id=grant.decision_id,
            **self._common(who, at_ms),
        )
        self._reports.append(Report(at_ms, last_ms, record, grant))
