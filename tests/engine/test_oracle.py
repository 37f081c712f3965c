"""Random lives of a log against an oracle that keeps every event in plain lists.

Hypothesis draws a list of numbers, one a step; each number seeds what its step does, so that a
failing life can be cut down to few steps. The oracle follows the contract alone: it sees the same
events in the same order, keeps no counter, and adds up at the end.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.errors import Fenced
from engine.fold import Changes, FoldRules
from engine.folder import Folder
from engine.ids import event_hash, partition_of
from engine.records import (
    AliasRecord,
    EraseRecord,
    ImpressionRecord,
    InteractionRecord,
    ShownItems,
    UserRecord,
    encode,
)
from engine.state import UserState, read_decayed, seen_items, touches

PARTITIONS = 4
USERS = [f"user{n}" for n in range(9)]
ITEMS = 40
START = 1_770_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
MOST_HOPS = 64


# ---- the oracle


@dataclass
class Told:
    """An event as the oracle knows it."""

    kind: str  # act, impression, user, alias, erase, carry
    owner: str
    once: Any  # what may count only once; None: may come again without harm
    ts: int
    body: Any = None
    hops: int = 0
    via: tuple[str, ...] = ()


@dataclass
class Person:
    acts: list[tuple[int, int, int, float, tuple[int, ...]]] = field(default_factory=list)
    recent: list[tuple[int, int, int]] = field(default_factory=list)
    shown: int = 0
    attributes: dict[str, tuple[int, Any]] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    alias_to: str | None = None
    erased: int = 0


class Oracle:
    """Each partition is a queue; a fold takes its entries in order, each event once."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.queues: list[list[list[Told]]] = [[] for _ in range(PARTITIONS)]
        self.folded: list[set[Any]] = [set() for _ in range(PARTITIONS)]
        self.outbox: list[list[Told]] = [[] for _ in range(PARTITIONS)]
        self.items: list[Counter[tuple[int, int]]] = [Counter() for _ in range(PARTITIONS)]
        self.sent = itertools.count()

    def append(self, told: list[Told]) -> None:
        for partition in range(PARTITIONS):
            mine = [one for one in told if partition_of(one.owner, PARTITIONS) == partition]
            if mine:
                self.queues[partition].append(mine)

    def fold(self, partition: int, entries: int) -> None:
        for _ in range(entries):
            for told in self.queues[partition].pop(0):
                if told.once is not None:
                    if told.once in self.folded[partition]:
                        continue
                    self.folded[partition].add(told.once)
                self._take(partition, told)

    def drain(self, partition: int, settle: bool = True) -> None:
        self.append(self.outbox[partition])
        if settle:
            self.outbox[partition] = []

    def _take(self, partition: int, told: Told) -> None:
        person = self.people.setdefault(told.owner, Person())
        if told.ts < person.erased:
            return
        if told.kind == "erase":
            self.people[told.owner] = Person(erased=told.ts)
        elif told.kind == "alias":
            self._alias(partition, told, person)
        elif person.alias_to is not None and not self._cut(told, person.alias_to):
            onward = replace(told, owner=person.alias_to, once=("sent", next(self.sent)))
            onward.hops += 1
            onward.via = (*told.via, told.owner)
            self.outbox[partition].append(onward)
        else:
            person.alias_to = None
            self._count(partition, told, person)

    def _alias(self, partition: int, told: Told, person: Person) -> None:
        if told.body in (told.owner, person.alias_to):
            return
        once = ("sent", next(self.sent))
        body = (told.owner, copy.deepcopy(person))
        self.outbox[partition].append(
            Told("carry", told.body, once, told.ts, body, 1, (told.owner,))
        )
        self.people[told.owner] = Person(alias_to=told.body, erased=person.erased)

    def _cut(self, told: Told, alias_to: str) -> bool:
        """A circle is cut by what it carries round, at its smallest id; else after many hops."""
        if told.hops >= MOST_HOPS:
            return True
        if told.kind != "carry" or alias_to not in told.via:
            return False
        circle = []
        for name in reversed(told.via):
            circle.append(name)
            if name == alias_to:
                break
        return all(told.owner <= name for name in circle)

    def _count(self, partition: int, told: Told, person: Person) -> None:
        if told.kind == "act":
            item, term, ts, _, _ = told.body
            person.acts.append(told.body)
            person.recent = [*person.recent, (item, term, ts // 1000)][-50:]
            self.items[partition][item, term] += 1
        elif told.kind == "impression":
            person.shown += len(told.body)
            self.items[partition].update((item, -1) for item in told.body)
        elif told.kind == "user":
            for name, value in told.body.items():
                if name not in person.attributes or told.ts >= person.attributes[name][0]:
                    person.attributes[name] = (told.ts, value)
        else:
            self._join(told, person, told.body[1])

    def _join(self, told: Told, person: Person, other: Person) -> None:
        person.acts = person.acts + other.acts
        merged = sorted(other.recent + person.recent, key=lambda touch: touch[2])
        person.recent = merged[-50:]
        person.shown += other.shown
        for name, (ts, value) in other.attributes.items():
            if name not in person.attributes or ts > person.attributes[name][0]:
                person.attributes[name] = (ts, value)
        person.joined = (person.joined | other.joined | set(told.via)) - {told.owner}


def decayed(acts: list[Any], half_life: int, at: int, weighted: bool) -> float:
    return math.fsum((a[3] if weighted else 1) * 2.0 ** (-(at - a[2]) / half_life) for a in acts)


# ---- the life


class Life:
    """One log, its folders, and the oracle that is told the same."""

    def __init__(self, bench: Any, read: Callable[[str], UserState]) -> None:
        self.bench, self.store, self.read = bench, bench.store, read
        self.oracle = Oracle()
        self.now = START
        self.names = itertools.count()
        self.numbers = itertools.count()
        self.history: list[tuple[Any, Told]] = []
        self.folders: list[Folder] = []
        self.claims: list[Any] = []
        for partition in range(PARTITIONS):
            self.folders.append(self._folder())
            self.claims.append(self._claim(partition))

    def _folder(self) -> Folder:
        return Folder(self.store, PARTITIONS, FoldRules())

    def _claim(self, partition: int) -> Any:
        claim = self.store.claim(f"folder {next(self.names)}", partition)
        assert claim is not None
        return claim

    def step(self, number: int) -> None:
        rng = random.Random(number)
        self.now += rng.randrange(2 * HOUR)
        steps = [self.send, self.fold, self.restart, self.rival, self.die, self.night, self.look]
        (chosen,) = rng.choices(steps, weights=[50, 40, 3, 3, 5, 1, 2])
        chosen(rng)

    # -- what people do

    def send(self, rng: random.Random) -> None:
        pairs = [self._event(rng) for _ in range(rng.randrange(1, 8))]
        self.history = (self.history + pairs)[-200:]
        batches: dict[int, list[bytes]] = {}
        for record, told in pairs:
            batches.setdefault(partition_of(told.owner, PARTITIONS), []).append(encode(record))
        self.store.append(batches)
        self.oracle.append([told for _, told in pairs])

    def _event(self, rng: random.Random) -> tuple[Any, Told]:
        again = [pair for pair in self.history if pair[1].ts > self.now - 7 * DAY]
        if again and rng.random() < 0.15:
            return rng.choice(again)
        user, event = rng.choice(USERS), f"e{next(self.numbers)}"
        ts = self.now - rng.choice([0, rng.randrange(HOUR), rng.randrange(7 * DAY)])
        common = {"user_id": user, "ts": ts, "arrived": self.now}
        hashed = common | {"hash": event_hash(user, event), "event_id": event}
        kinds = {"act": 70, "impression": 8, "user": 8, "alias": 3, "erase": 2}
        (kind,) = rng.choices(list(kinds), weights=list(kinds.values()))
        told = Told(kind, user, (user, event), ts)
        if kind == "act":
            item, term, weight = (
                rng.randrange(ITEMS),
                rng.randrange(4),
                rng.choice([1.0, 8.0, -3.0]),
            )
            categories = rng.sample(range(5), rng.randrange(3))
            told.body = (item, term, ts, weight, tuple(categories))
            return InteractionRecord(
                action=f"a{term}",
                term=term,
                weight=weight,
                item_id=f"i{item}",
                item=item,
                categories=categories,
                **hashed,
            ), told
        if kind == "impression":
            told.body = [rng.randrange(ITEMS) for _ in range(rng.randrange(1, 6))]
            shown = [ShownItems(0, told.body)]
            return ImpressionRecord(decision_id="none", shown=shown, **hashed), told
        if kind == "user":
            told.body = {rng.choice("abc"): rng.choice([1, "x", None])}
            told.once = None
            return UserRecord(attributes=told.body, **common), told
        if kind == "alias":
            told.body = rng.choice(USERS)
            return AliasRecord(into=told.body, **hashed), told
        told.ts = common["ts"] = self.now - rng.choice([0, rng.randrange(2 * DAY)])
        return EraseRecord(**common, hash=hashed["hash"]), told

    # -- what folders do

    def fold(self, rng: random.Random) -> None:
        partition = rng.randrange(PARTITIONS)
        self._fold(partition, rng.choice([1, 2, 5, 1000]))

    def _fold(self, partition: int, count: int) -> bool:
        claim = self.claims[partition]
        entries = self.store.read([claim], count).get(partition, [])
        assert len(entries) == min(count, len(self.oracle.queues[partition]))
        if entries:
            changes = self.folders[partition].fold(claim, entries)
            self._folded(partition, entries, changes.offset)
            self.oracle.drain(partition)
        return bool(entries)

    def _folded(self, partition: int, entries: Any, offset: int) -> None:
        self.oracle.fold(partition, sum(entry.position <= offset for entry in entries))

    def restart(self, rng: random.Random) -> None:
        """A folder ends in order, or its lease runs out; the next caches nothing."""
        partition = rng.randrange(PARTITIONS)
        if rng.random() < 0.5:
            self.store.release(self.claims[partition])
        else:
            self.bench.expire(partition)
        self._take_over(partition)

    def _take_over(self, partition: int) -> None:
        self.folders[partition] = self._folder()
        self.claims[partition] = self._claim(partition)
        self.folders[partition].drain(self.claims[partition])
        self.oracle.drain(partition)

    def rival(self, rng: random.Random) -> None:
        """A folder lost its lease without noticing: whatever it commits is refused."""
        partition = rng.randrange(PARTITIONS)
        zombie, claim = self.folders[partition], self.claims[partition]
        assert self.store.claim("rival", partition) is None
        entries = self.store.read([claim], 3).get(partition, [])
        self.bench.expire(partition)
        self._take_over(partition)
        if rng.random() < 0.5:
            self._fold(partition, 2)
        if entries:
            with pytest.raises(Fenced):
                zombie.fold(claim, entries)
        with pytest.raises(Fenced):
            self.store.commit(claim, Changes(claim.offset, states={USERS[0]: UserState()}))

    def die(self, rng: random.Random) -> None:
        """A folder is killed before its commit, after it, or after it sent on what followed."""
        partition = rng.randrange(PARTITIONS)
        claim, method = self.claims[partition], rng.choice(["commit", "outbox", "settle"])
        entries = self.store.read([claim], rng.choice([1, 3])).get(partition, [])
        if entries:
            dying = self._folder()
            dying.store = Dying(self.store, method)
            folded = method != "commit"
            try:
                offset = dying.fold(claim, entries).offset
            except Killed:
                offset = claim.offset
            if folded:
                self._folded(partition, entries, offset)
                if method == "settle":
                    self.oracle.drain(partition, settle=False)
        self.bench.expire(partition)
        self._take_over(partition)

    def night(self, rng: random.Random) -> None:
        """Everything is folded, and then up to three days pass."""
        self.settle()
        self.now += rng.randrange(3 * DAY)

    def settle(self) -> None:
        for _ in range(200):
            if sum(self._fold(partition, 1000) for partition in range(PARTITIONS)) == 0:
                return
        raise AssertionError("the fold does not come to an end")

    # -- what must hold after any step

    def look(self, _: random.Random) -> None:
        for user in USERS:
            self._look_at(user)
        for partition in range(PARTITIONS):
            assert self.store.counters(partition) == self.oracle.items[partition]
            assert len(self.store.outbox(self.claims[partition])) == 0

    def _look_at(self, user: str) -> None:
        state, person = self.read(user), self.oracle.people.get(user, Person())
        assert (state.alias_to, state.erased_ms) == (person.alias_to, person.erased)
        totals = Counter(act[1] for act in person.acts)
        assert {term: counter.total for term, counter in state.actions.items()} == totals
        by_category = Counter(category for act in person.acts for category in act[4])
        assert {c: counter.total for c, counter in state.categories.items()} == by_category
        for at in (self.now, self.now + 5 * DAY):
            for term, counter in state.actions.items():
                acts = [act for act in person.acts if act[1] == term]
                self._same(state, counter, acts, at, weighted=False)
            for category, counter in state.categories.items():
                acts = [act for act in person.acts if category in act[4]]
                self._same(state, counter, acts, at, weighted=True)
        assert [touch[:3] for touch in touches(state)] == person.recent
        assert set(seen_items(state)) == {act[0] for act in person.acts}
        assert state.impressions == person.shown
        assert state.attributes == person.attributes
        assert set(state.aliases) == person.joined
        times = [act[2] for act in person.acts]
        seconds = [at // 1000 for at in times]
        assert (state.first_s, state.last_s) == (min(seconds, default=0), max(seconds, default=0))

    @staticmethod
    def _same(state: UserState, counter: Any, acts: list[Any], at: int, weighted: bool) -> None:
        for value, half_life in ((counter.day, DAY), (counter.month, 30 * DAY)):
            size = decayed([(*a[:3], abs(a[3])) for a in acts], half_life, at, weighted)
            expected = decayed(acts, half_life, at, weighted)
            assert abs(read_decayed(state, value, half_life, at) - expected) <= 1e-9 * size


class Killed(BaseException):
    """What ends a process, and nothing catches."""


class Dying:
    """A store whose user is killed as it calls one of its methods."""

    def __init__(self, store: Any, method: str) -> None:
        self._store, self._method = store, method

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._store, name)

        def die(*_: Any) -> None:
            raise Killed

        return die


def live(bench: Any, read: Callable[[str], UserState], steps: list[int]) -> None:
    life = Life(bench, read)
    for number in steps:
        life.step(number)
    life.settle()
    life.look(random.Random(0))


def lives(examples: int, steps: int) -> Callable[[Any], Any]:
    """Of `steps` steps each, the same ones in every run."""

    def wrap(test: Callable[[list[int]], None]) -> Callable[[], None]:
        numbers = st.lists(st.integers(0, 2**32), min_size=steps - steps // 10, max_size=steps)
        chosen = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # add Phase.shrink, and minutes, to find the shortest life
            suppress_health_check=list(HealthCheck),
        )
        return chosen(given(numbers)(test))

    return wrap


def test_ten_thousand_random_steps_in_memory(memory: Any) -> None:
    count = 0

    @lives(examples=60, steps=190)
    def run(steps: list[int]) -> None:
        nonlocal count
        memory.clear()
        live(memory, memory.state, steps)
        count += len(steps)

    run()
    print(f"{count} steps in memory")
    assert count >= 10_000


@pytest.mark.parametrize("name", ["alone", "cluster"])
def test_random_steps_on_redis(name: str, request: pytest.FixtureRequest) -> None:
    bench = request.getfixturevalue(name)
    count = 0

    def read(user: str) -> UserState:
        found = bench.store.user(user, partition_of(user, PARTITIONS))
        return found or UserState()

    @lives(examples=6, steps=120)
    def run(steps: list[int]) -> None:
        nonlocal count
        bench.clear()
        live(bench, read, steps)
        count += len(steps)

    run()
    print(f"{count} steps on Redis, {name}")
    assert count >= 500
