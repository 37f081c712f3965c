"""Pushes by whoever knows law, kinds, fatigue and routines, but of the moment what phones tell.

A message goes out when its worth now is at least what waiting for a better moment is worth. The
latter is an optimal stopping by backward induction over the hours until the message expires, over
how open the person is then as far as signals will tell. Its price of fatigue is a number that the
caller tunes: the oracle is greedy over messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.world.arrays import DAY_S, Floats, Ints
from training.world.core import generator
from training.world.lines import Line
from training.world.lives import Lives
from training.world.moments import Moments, draw_moments, offsets_s, situation_odds
from training.world.oracle import signal_likelihood
from training.world.push_policy import Looks, Verdicts
from training.world.push_weeks import TICK_S, TICKS, PushWeeks
from training.world.pushes import (
    FAILS,
    OPEN_FOR,
    OPEN_IN,
    awake,
    away_chance,
    opt_out_chance,
    visit_chance,
)

IMAGINED = 24  # moments of each person, hour and kind of day
REMEMBERED_DAYS = 14  # in which a push tires
TIRED = 0.4  # usual fatigue, for what one push more adds to the hazard of the next


@dataclass(frozen=True)
class Openness:
    """How open people are to a push as far as signals, or the hour alone, tell: expected."""

    now: list[Floats]  # by tick, [persons], the owners of accounts first
    later: Floats  # [accounts, 2, 24, IMAGINED] what it may be, by kind of day and local hour

    @classmethod
    def of(cls, weeks: PushWeeks, signals: bool = True) -> Openness:
        """For all ticks of the weeks; takes seconds."""
        now: list[Floats] = []
        for day in weeks.moments:
            now += list(_told(weeks, day, signals).reshape(TICKS, -1))
        return cls(now, _imagined(weeks, signals))


def _imagined(weeks: PushWeeks, signals: bool) -> Floats:
    core = weeks.core
    shape = (core.people.accounts, 2, TICKS, IMAGINED if signals else 1)
    account, weekend, hour, _ = (column.ravel() for column in np.indices(shape))
    offset_s = offsets_s(weeks.start_s)
    monday_s = weeks.start_s - (weeks.start_s // DAY_S + 3) % 7 * DAY_S
    local_s = monday_s + weekend * 5 * DAY_S + (hour + 0.5) * TICK_S
    at_s = local_s - offset_s[core.people.zone[account]]
    rng = generator(core.seed, "push oracle", core.day)
    moments = draw_moments(core.people, core.sensors, account, at_s, offset_s, rng)
    return _told(weeks, moments, signals).reshape(shape)


def _told(weeks: PushWeeks, moments: Moments, signals: bool) -> Floats:
    people, sensors = weeks.core.people, weeks.core.sensors
    odds = situation_odds(people, moments.person, moments.weekend, moments.hour)
    if signals:
        odds = odds * signal_likelihood(people, sensors, moments)
    by_situation = (people.purposes[moments.person] * OPEN_FOR).sum(axis=2) * OPEN_IN
    return np.asarray((odds * by_situation).sum(axis=1) / odds.sum(axis=1) * awake(moments.hour))


@dataclass
class PushOracle:
    """A policy for people who live `lives`; `openness` is of the same weeks."""

    weeks: PushWeeks
    openness: Openness
    lives: Lives
    opt_out_cost: float  # visits
    tiring: float  # times what a push is reckoned to take from those after it
    price: float = 0.0  # visits, of a send: few are left at a high one
    reads_events: bool = False

    def decide(self, looks: Looks) -> Verdicts:
        """Sends what is worth no less now than later on; one message to a person at a time."""
        gain, cost = self._gain(looks), self._cost(looks)
        tick = round((looks.at_s - self.weeks.start_s) / TICK_S)
        open_now = self.openness.now[tick][looks.account]
        worth = gain * open_now > cost
        send = np.zeros(len(looks), np.bool_)
        rows = np.flatnonzero(worth)
        if len(rows):
            least = self._worth_waiting_for(looks, rows, cost[rows] / gain[rows])
            rows = rows[open_now[rows] >= least]
            send[_first_to_expire(looks, rows)] = True
        return Verdicts(send, np.full(len(looks), looks.at_s + TICK_S))

    def observe(self, lines: Sequence[Line]) -> None:
        """It knows."""

    def week_over(self, at_s: float) -> None:
        """It has nothing to learn."""

    def _gain(self, looks: Looks) -> Floats:
        """Visits that a push brings from someone who is open to it: float [n]."""
        law, who = self.weeks.core.law, looks.account
        fatigue = self.lives.fatigue(who, np.full(len(who), looks.at_s))
        kind = self.weeks.core.people.push_kind[who]
        return visit_chance(law, kind, fatigue, np.ones(len(who))) * (1 - FAILS)

    def _cost(self, looks: Looks) -> Floats:
        """Visits lost to it, today and later: float [n]."""
        law, people, who = self.weeks.core.law, self.weeks.core.people, looks.account
        kind, moments = people.push_kind[who], looks.moments
        fatigue = self.lives.fatigue(who, np.full(len(who), looks.at_s))
        hours = np.arange(TICKS) > moments.hour[:, None]
        later = (people.visiting[who, moments.weekend] * hours).sum(axis=1) * people.habit[who]
        lost = away_chance(law, kind, fatigue) * later
        lost = lost + self.opt_out_cost * opt_out_chance(law, kind, fatigue)
        return np.asarray((lost + self.tiring * self._tires(kind)) * (1 - FAILS) + self.price)

    def _tires(self, kind: Ints) -> Floats:
        """What a push takes from one a day after it, to the first order: float [n]."""
        law = self.weeks.core.law
        load = law.push_load * law.load(np.arange(1.0, REMEMBERED_DAYS)).sum()
        fresh, usual = np.zeros(len(kind)), np.full(len(kind), TIRED)
        brings = visit_chance(law, kind, fresh, usual)
        risk = opt_out_chance(law, kind, usual) * 2 * TIRED / (0.1 + TIRED**2)
        return np.asarray(load * (brings + self.opt_out_cost * risk))

    def _worth_waiting_for(self, looks: Looks, rows: Ints, floor: Floats) -> Floats:
        """How open someone must be now for waiting to be worth no more: float [rows].

        `floor` is the openness at which a push is worth nothing; a message may be dropped.
        """
        who, now = looks.account[rows], looks.moments.rows(rows)
        left = np.ceil((looks.expires_s[rows] - looks.at_s) / TICK_S).astype(np.int64) - 1
        least = floor
        for ahead in range(int(left.max(initial=0)), 0, -1):
            day, hour = np.divmod(now.hour + ahead, TICKS)
            weekend = ((now.weekday + day) % 7 >= 5).astype(np.int64)
            may_be = self.openness.later[who, weekend, hour]
            then = np.maximum(may_be, least[:, None]).mean(axis=1)
            least = np.where(ahead <= left, then, least)
        return least


def _first_to_expire(looks: Looks, rows: Ints) -> Ints:
    """One of the rows for each account."""
    by_expiry = rows[np.argsort(looks.expires_s[rows], kind="stable")]
    _, first = np.unique(looks.account[by_expiry], return_index=True)
    return np.asarray(by_expiry[first])
