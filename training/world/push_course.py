"""A push policy lives through weeks: at each tick it decides about all messages that are due.

What comes of its sends is counted twice: as luck has it, which goes into the events, and as it is
to be expected of each send given all that came before it, which has the same mean and a fraction
of the scatter; policies are judged by the latter.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from training.world.arrays import DAY_S, Floats, Ints
from training.world.calendar import reachable, turns
from training.world.core import LETS_IN_AGAIN
from training.world.history import ATTRIBUTED, ATTRIBUTED_S
from training.world.moments import Moments, device_of
from training.world.push_policy import Looks, Policy
from training.world.push_weeks import APART, EXPIRES_S, TICK_S, WEEK, PushWeeks, State
from training.world.pushes import FAILS, Effect, prospect, receive


@dataclass
class Outcome:
    """What a policy's weeks came to; sums over people."""

    messages: int = 0
    sends: int = 0
    organic: int = 0  # visits that would have been without any push
    brought: float = 0.0  # expected visits that pushes bring
    lost: float = 0.0  # expected visits of sleeping dogs that they cost
    opt_outs: float = 0.0  # expected
    opted_out: int = 0  # as luck had it
    goals: int = 0  # messages followed by a visit within a day of the first look, as luck had it
    account: list[Ints] = field(default_factory=list)  # of visits, as luck had them …
    visit_s: list[Floats] = field(default_factory=list)  # … and when

    def net(self, opt_out_cost: float) -> float:
        """Visits more than without pushes, less what opt-outs cost."""
        return self.brought - self.lost - opt_out_cost * self.opt_outs

    @property
    def visits(self) -> float:
        """Expected."""
        return self.organic + self.brought - self.lost


def live(weeks: PushWeeks, policy: Policy, state: State, ticks: range) -> Outcome:
    """Let it decide through these ticks; `state` goes on from where it was."""
    course = _Course(weeks, policy, state, Outcome())
    messages = weeks.messages
    first, last = weeks.at_s(ticks.start), weeks.at_s(ticks.stop)
    for tick in ticks:
        if tick > ticks.start and (tick - ticks.start) % WEEK == 0:
            policy.week_over(weeks.at_s(tick))
        course.tick(tick)
    course.outcome.organic = int(((weeks.visits.at_s >= first) & (weeks.visits.at_s < last)).sum())
    ours = np.flatnonzero((messages.created_s >= first) & (messages.created_s < last - DAY_S))
    course.outcome.messages = len(ours)
    course.outcome.goals = _goals(weeks, course.outcome, ours)
    return course.outcome


def _goals(weeks: PushWeeks, outcome: Outcome, message: Ints) -> int:
    """Messages whose person came within a day of the first look."""
    account = np.concatenate([*outcome.account, np.empty(0, np.int64)])
    key = np.sort(account * APART + np.concatenate([*outcome.visit_s, np.empty(0)]))
    at = weeks.messages.account[message] * APART + weeks.messages.created_s[message]
    return int((np.searchsorted(key, at + EXPIRES_S) > np.searchsorted(key, at)).sum())


@dataclass
class _Course:
    weeks: PushWeeks
    policy: Policy
    state: State
    outcome: Outcome

    def tick(self, tick: int) -> None:
        if self.policy.reads_events:
            self._tell(self.weeks.at_s(tick))
        due = self._due(tick)
        if len(due):
            self._decide(tick, due)
        self._organic(tick)
        self._brought(tick)
        if self.policy.reads_events:
            self._glance(tick)

    def _tell(self, at_s: float) -> None:
        unread = sorted(self.state.unread, key=attrgetter("ts"))
        now_ms = int(at_s * 1000)
        told = next((n for n, line in enumerate(unread) if line.ts > now_ms), len(unread))
        self.state.unread = unread[told:]
        if told:
            self.policy.observe(unread[:told])

    def _due(self, tick: int) -> Ints:
        """Messages by number; those that have expired or reach nobody are gone."""
        state, messages, at_s = self.state, self.weeks.messages, self.weeks.at_s(tick)
        new = np.arange(*np.searchsorted(messages.created_s, [at_s, at_s + TICK_S]))
        is_due = state.due_s <= at_s
        due = np.sort(np.concatenate([state.waiting[is_due], new]))
        state.waiting, state.due_s = state.waiting[~is_due], state.due_s[~is_due]
        lasts = messages.created_s[due] + EXPIRES_S > at_s
        reached = reachable(self.weeks.core.people, state.lives)[messages.account[due]]
        return np.asarray(due[lasts & reached])

    def _decide(self, tick: int, due: Ints) -> None:
        weeks, state, at_s = self.weeks, self.state, self.weeks.at_s(tick)
        moments = weeks.moment(tick, weeks.messages.account[due])
        verdicts = self.policy.decide(Looks(weeks, at_s, due, moments))
        held = ~verdicts.send & np.isfinite(verdicts.until_s)
        if (verdicts.until_s[held] <= at_s).any():
            raise ValueError("a message is held until a time that has passed")
        state.waiting = np.concatenate([state.waiting, due[held]])
        state.due_s = np.concatenate([state.due_s, verdicts.until_s[held]])
        rows = np.flatnonzero(verdicts.send)
        for turn in turns(moments.person[rows], np.zeros(len(rows))):
            self._send(tick, due[rows[turn]])

    def _send(self, tick: int, message: Ints) -> None:
        """To different people."""
        weeks, state, core = self.weeks, self.state, self.weeks.core
        account = weeks.messages.account[message]
        still = reachable(core.people, state.lives)[
            account
        ]  # an earlier one may have been the last
        message, account = message[still], account[still]
        now = weeks.moment(tick, account)
        self._expect(tick, now)
        luck = weeks.messages.luck.rows(message)
        effect = receive(core.law, core.people, state.lives, now, luck)
        driven = account[effect.stays_away]
        state.away_until_s[driven] = weeks.midnight_s(tick, driven)
        self.outcome.sends += len(message)
        self.outcome.opted_out += int(effect.opts_out.sum())
        for row in np.flatnonzero(effect.comes).tolist():
            at_s = float(now.at_s[row] + effect.delay_s[row])
            heapq.heappush(state.coming, (at_s, int(message[row])))
        if self.policy.reads_events:
            self._report(now, message, effect)

    def _expect(self, tick: int, now: Moments) -> None:
        """Before luck is drawn: what these sends come to on the mean, given all until now."""
        weeks, state, core, out = self.weeks, self.state, self.weeks.core, self.outcome
        chance = prospect(core.law, core.people, state.lives, now)
        here = state.away_until_s[now.person] <= now.at_s
        later = weeks.visits.count(now.person, now.at_s, weeks.midnight_s(tick, now.person))
        out.brought += float(chance.comes.sum()) * (1 - FAILS)
        out.lost += float((chance.stays_away * later * here).sum()) * (1 - FAILS)
        out.opt_outs += float(chance.opts_out.sum()) * (1 - FAILS)

    def _report(self, now: Moments, message: Ints, effect: Effect) -> None:
        state, messages = self.state, self.weeks.messages
        opens = effect.comes.copy()
        for row in np.flatnonzero(~effect.comes & ~effect.failed).tolist():
            opens[row] = self._taken_for_opening(now, row, int(message[row]))
        ids = [messages.id_of(number) for number in message.tolist()]
        state.unread += state.diary.pushes(now, effect, ids, messages.category[message], opens)

    def _taken_for_opening(self, now: Moments, row: int, message: int) -> bool:
        """Whether the next organic visit, if it is soon, counts as an opening."""
        weeks, state = self.weeks, self.state
        if weeks.messages.taken[message] >= ATTRIBUTED:
            return False
        person, at_s = int(now.person[row]), float(now.at_s[row])
        visit = weeks.visits.next(person, max(at_s, state.away_until_s[person]))
        if visit < 0 or weeks.visits.at_s[visit] - at_s >= ATTRIBUTED_S:
            return False
        state.taken_by[visit] = message
        return True

    def _organic(self, tick: int) -> None:
        """Those who come of their own accord and have not been driven away."""
        weeks, state, visits = self.weeks, self.state, self.weeks.visits
        at_s = weeks.at_s(tick)
        rows = np.arange(*np.searchsorted(visits.at_s, [at_s, at_s + TICK_S]))
        rows = rows[state.away_until_s[visits.person[rows]] <= visits.at_s[rows]]
        account = weeks.core.people.account[visits.person[rows]]
        self.outcome.account.append(account)
        self.outcome.visit_s.append(visits.at_s[rows])
        again = state.lives.push_off[account] & (visits.lets_in[rows] < LETS_IN_AGAIN)
        state.lives.push_off[account[again]] = False
        if not self.policy.reads_events:
            return
        moments = weeks.moment(tick, visits.person[rows], visits.at_s[rows])
        for row, visit in enumerate(rows.tolist()):
            self._open(moments, row, state.taken_by.pop(visit, None))
        for row in np.flatnonzero(again).tolist():
            line = state.diary.let_in(int(account[row]), float(visits.at_s[rows[row]]))
            state.unread.append(line)

    def _brought(self, tick: int) -> None:
        """Those whom messages bring."""
        coming, until_s = self.state.coming, self.weeks.at_s(tick + 1)
        found = []
        while coming and coming[0][0] < until_s:
            found.append(heapq.heappop(coming))
        if not found:
            return
        account = self.weeks.messages.account[[message for _, message in found]]
        at_s = np.array([when for when, _ in found])
        self.outcome.account.append(account)
        self.outcome.visit_s.append(at_s)
        if self.policy.reads_events:
            moments = self.weeks.moment(tick, account, at_s)
            for row, (_, message) in enumerate(found):
                self._open(moments, row, message)

    def _open(self, moments: Moments, row: int, message: int | None) -> None:
        """A visit's events; `message` is what it counts for."""
        diary, people = self.state.diary, self.weeks.core.people
        account, at_s = int(people.account[moments.person[row]]), float(moments.at_s[row])
        if message is not None:
            name, category = self._named(message)
            self.state.unread.append(diary.opened(account, at_s - 0.2, name, category))
        device = device_of(people, moments, row)
        self.state.unread += diary.opens(int(at_s * 1000), diary.user_id(account), device)

    def _named(self, message: int) -> tuple[str, int]:
        messages = self.weeks.messages
        return messages.id_of(message), int(messages.category[message])

    def _glance(self, tick: int) -> None:
        account, when = self.weeks.glances
        at_s = self.weeks.at_s(tick)
        rows = np.arange(*np.searchsorted(when, [at_s, at_s + TICK_S]))
        moments = self.weeks.moment(tick, account[rows], when[rows])
        self.state.unread += self.state.diary.glances(moments)
