"""Weeks of messages as columns: what is alike for every push policy that lives through them.

A campaign calendar, organic visits, everyone's situation in every hour, what phones tell between
visits, and the luck of every message are drawn beforehand; push_course.py lets a policy decide.

    weeks = push_weeks(world, weeks=16)
    outcome = live(weeks, policy, weeks.begin(), ticks=range(weeks.ticks))

Time runs in ticks of an hour, and a person's situation stays for the hour. Visits bring nothing
here that changes people (as in page_days.py): only pushes do. Anonymous visitors have logged in.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from training.world.arrays import DAY_S, Floats, Ints
from training.world.calendar import organic_visits
from training.world.core import Core, generator
from training.world.diary import Diary
from training.world.history import GLANCES
from training.world.lines import Line
from training.world.lives import Lives
from training.world.moments import Moments, draw_moments, offsets_s
from training.world.people import WEB
from training.world.pushes import CATEGORIES, Luck, luck_of
from training.world.simulation import World

TICK_S = 3600.0
TICKS = 24  # of a day
WEEK = 7 * TICKS
EXPIRES_S = DAY_S  # after a message was created
MESSAGES = (0.25, 0.5, 0.25)  # chances of none, one and two on a person's day
APART = 1e10  # of persons in a key of person and second


@dataclass(frozen=True)
class Messages:
    """Columns over messages, by time of creation, which is a tick's."""

    account: Ints
    category: Ints
    created_s: Floats
    luck: Luck
    taken: Floats  # luck: whether an organic visit soon after counts as its opening
    kept: Floats  # luck of random thinning

    def __len__(self) -> int:
        return len(self.account)

    def id_of(self, number: int) -> str:
        """As events call it."""
        return f"w{number:07}"


@dataclass(frozen=True)
class OrganicVisits:
    """Columns over visits of people's own accord, by time."""

    person: Ints
    at_s: Floats
    lets_in: Floats  # luck: whether pushes are switched on again, if they are off
    key: Floats  # person and time, ascending
    of_key: Ints  # which visit each key is of

    def count(self, person: Ints, after_s: Floats, until_s: Floats) -> Ints:
        """How many visits each person makes between two times: int [n]."""
        first = np.searchsorted(self.key, _key(person, after_s), "right")
        return np.asarray(np.searchsorted(self.key, _key(person, until_s), "left") - first)

    def next(self, person: int, after_s: float) -> int:
        """The person's next visit after a time, −1 where there is none."""
        at = int(np.searchsorted(self.key, person * APART + after_s, "right"))
        found = int(self.of_key[at]) if at < len(self.key) else -1
        return found if found >= 0 and self.person[found] == person else -1


@dataclass
class State:
    """What pushes change, and what is under way: where a course may go on, or several may."""

    lives: Lives
    diary: Diary
    away_until_s: Floats  # [persons] driven away
    waiting: Ints  # messages that are held …
    due_s: Floats  # … and until when
    coming: list[tuple[float, int]]  # a heap of visits that messages bring: when, by which
    taken_by: dict[int, int]  # organic visit -> the message that it counts for
    unread: list[Line]  # lines that are dated ahead

    def copy(self) -> State:
        """Another that goes its own way."""
        return replace(
            self,
            lives=_own(self.lives),
            diary=copy.copy(self.diary),
            away_until_s=self.away_until_s.copy(),
            coming=list(self.coming),
            taken_by=dict(self.taken_by),
            unread=list(self.unread),
        )


@dataclass(frozen=True)
class PushWeeks:
    """Everything that no policy changes."""

    core: Core
    start_s: float
    days: int
    offset_s: Floats  # [days, zones]
    moments: list[Moments]  # by day; rows by tick of the day, then person
    visits: OrganicVisits
    glances: tuple[Ints, Floats]  # account and time
    messages: Messages

    @property
    def ticks(self) -> int:
        """How many there are."""
        return self.days * TICKS

    def at_s(self, tick: int) -> float:
        """When a tick begins, in unix seconds."""
        return self.start_s + tick * TICK_S

    def begin(self) -> State:
        """Before the first tick."""
        core = self.core
        lives = _own(core.lives)
        diary = Diary(core.people, core.recipes, lives, core.start_s)
        nothing = np.empty(0, np.int64)
        away = np.zeros(len(core.people))
        return State(lives, diary, away, nothing, np.empty(0), [], {}, [])

    def moment(self, tick: int, person: Ints, at_s: Floats | None = None) -> Moments:
        """What each person's moment is like; `at_s` within the tick, or at its beginning."""
        day, hour = divmod(tick, TICKS)
        found = self.moments[day].rows(hour * len(self.core.people) + person)
        return found if at_s is None else replace(found, at_s=at_s)

    def midnight_s(self, tick: int, person: Ints) -> Floats:
        """When each person's local day ends."""
        people, at_s = self.core.people, self.at_s(tick)
        local_s = at_s + self.offset_s[tick // TICKS][people.zone[people.account[person]]]
        return np.asarray(at_s + DAY_S - local_s % DAY_S)


def push_weeks(world: World, weeks: int) -> PushWeeks:
    """The world's next weeks; its people have all logged in by now, also for `user_events`."""
    core, days = world.core, 7 * weeks
    core.lives.visitor[:] = False
    start_s = core.start_s + core.day * DAY_S
    offset_s = np.array([offsets_s(start_s + (day + 0.5) * DAY_S) for day in range(days)])
    parts = [_visits(core, start_s, day, offset_s[day]) for day in range(days)]
    person = np.concatenate([part[0] for part in parts])
    at_s = np.concatenate([part[1] for part in parts])
    moments = [_moments(core, start_s, day, offset_s[day]) for day in range(days)]
    found = PushWeeks(
        core, start_s, days, offset_s, moments, _organic(core, person, at_s),
        _glances(core, start_s, days), _messages(core, start_s, days),
    )  # fmt: skip
    core.day += days
    return found


def _organic(core: Core, person: Ints, at_s: Floats) -> OrganicVisits:
    by_time = np.argsort(at_s, kind="stable")
    person, at_s = person[by_time], at_s[by_time]
    luck = generator(core.seed, "push lets in", core.day).random(len(person))
    key = _key(person, at_s)
    of_key = np.argsort(key, kind="stable")
    return OrganicVisits(person, at_s, luck, key[of_key], of_key)


def _visits(core: Core, start_s: float, day: int, offset_s: Floats) -> tuple[Ints, Floats]:
    rng = generator(core.seed, "visits", core.day + day + 1)
    return organic_visits(core.people, core.lives, start_s + day * DAY_S, offset_s, rng)


def _moments(core: Core, start_s: float, day: int, offset_s: Floats) -> Moments:
    persons = np.arange(len(core.people))
    at_s = start_s + day * DAY_S + np.arange(TICKS) * TICK_S
    return draw_moments(
        core.people, core.sensors, np.tile(persons, TICKS), np.repeat(at_s, len(persons)),
        offset_s, generator(core.seed, "push moments", core.day + day),
    )  # fmt: skip


def _glances(core: Core, start_s: float, days: int) -> tuple[Ints, Floats]:
    rng = generator(core.seed, "push glances", core.day)
    phones = core.people.platform != WEB
    day, account = np.nonzero((rng.random((days, core.people.accounts)) < GLANCES) & phones)
    at_s = start_s + (day + rng.random(len(day))) * DAY_S
    by_time = np.argsort(at_s, kind="stable")
    return account[by_time], at_s[by_time]


def _messages(core: Core, start_s: float, days: int) -> Messages:
    rng = generator(core.seed, "push messages", core.day)
    phones = np.flatnonzero(core.people.platform != WEB)
    times = rng.choice(len(MESSAGES), (days, len(phones)), p=MESSAGES)
    day, phone = np.nonzero(times)
    twice = times[day, phone]
    day, account = np.repeat(day, twice), np.repeat(phones[phone], twice)
    tick = day * TICKS + rng.integers(TICKS, size=len(day))
    by_time = np.argsort(tick, kind="stable")
    n = len(tick)
    return Messages(
        account=account[by_time],
        category=rng.integers(len(CATEGORIES), size=n),
        created_s=np.asarray(start_s + tick[by_time] * TICK_S),
        luck=luck_of(rng, n),
        taken=rng.random(n),
        kept=rng.random(n),
    )


def _key(person: Ints, at_s: Floats) -> Floats:
    return np.asarray(person * APART + at_s)


def _own(lives: Lives) -> Lives:
    """The same people, with pushes of their own to remember."""
    mine = copy.copy(lives)
    mine.pushed_s, mine.push_off = lives.pushed_s.copy(), lives.push_off.copy()
    return mine
