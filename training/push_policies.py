"""Push policies to be beaten: send at once, at an hour for all, at an hour of one's own; and one
that learns an effect of pushes for each person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.world import Line
from training.world.lines import Interaction, Push
from training.world.push_course import Outcome
from training.world.push_policy import DROP, Looks, Policy, Verdicts
from training.world.push_weeks import APART, TICK_S, TICKS, PushWeeks
from training.world.pushes import TAKES, openness

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
AWAKE = (8, 22)  # local hours in which it explores
SENT = 0.3  # of the messages it explores with: more tires people, and tells no more (docs/world.md)
SOON_S = 3600.0  # in which a push brings what it brings
# Tuned on amber and birch.
MARGIN = 3.0  # times what a push risks that it has to bring
LEAST = 0.02  # visits that a push has to bring at least
GAP_S = 40 * 3600.0  # between pushes to a person
SMOOTH = 20.0  # visits by which a person's curve over the day is drawn to everyone's


@dataclass
class Still:
    """Sends a share of messages, each at the person's hour; `hours` None: at once."""

    hours: Ints | None  # [accounts] local
    share: float = 1.0
    reads_events: bool = False

    def decide(self, looks: Looks) -> Verdicts:
        """New messages are thinned by luck, which is the same for all policies."""
        kept = looks.weeks.messages.kept[looks.message] < self.share
        if self.hours is None:
            return Verdicts(kept, np.full(len(looks), DROP))
        ahead = (self.hours[looks.account] - looks.moments.hour) % TICKS
        return Verdicts(kept & (ahead == 0), np.where(kept, looks.at_s + ahead * TICK_S, DROP))

    def observe(self, lines: Sequence[Line]) -> None:
        """It learns nothing."""

    def week_over(self, at_s: float) -> None:
        """It learns nothing."""


def best_fixed_hour(weeks: PushWeeks) -> Ints:
    """The local hour at which pushes bring most, by the law's own truth: int [accounts], alike."""
    people = weeks.core.people
    accounts = np.arange(people.accounts)
    brings = np.zeros(TICKS)
    for weekend, days in ((0, 5), (1, 2)):
        for hour in range(TICKS):
            open_to = openness(
                people, accounts, np.full(len(accounts), weekend), np.full(len(accounts), hour)
            )
            brings[hour] += days * float((TAKES[people.push_kind[accounts]] * open_to).sum())
    return np.full(people.accounts, int(brings.argmax()))


def own_hours(weeks: PushWeeks, lived: Outcome) -> Ints:
    """The local hour in which each account's people came most, shrunk to all: int [accounts]."""
    people = weeks.core.people
    account, at_s = np.concatenate(lived.account), np.concatenate(lived.visit_s)
    day = ((at_s - weeks.start_s) // (TICKS * TICK_S)).astype(np.int64)
    local_s = at_s + weeks.offset_s[day, people.zone[account]]
    hour = (local_s % (TICKS * TICK_S) // TICK_S).astype(np.int64)
    counts = np.zeros((people.accounts, TICKS))
    np.add.at(counts, (account, hour), 1.0)
    everyone = counts.sum(axis=0) / max(counts.sum(), 1.0)
    return np.asarray((counts + SMOOTH * everyone).argmax(axis=1))


@dataclass
class _Tried:
    """A message whose moment was drawn, and then whether it went out."""

    account: int
    at_s: float
    sent: bool


@dataclass
class PerPerson:
    """Explores at random, then sends to whom pushes brought visits, at the hour of their own.

    While it explores, each message is held to an hour drawn at random and then sent or dropped by
    a coin, so that both arms are measured from the same moments. A person's effect is how many
    visits more the next hour brings where it was sent, shrunk to everyone's (empirical Bayes).
    """

    weeks: PushWeeks
    opt_out_cost: float
    rng: np.random.Generator
    reads_events: bool = True
    hours: Ints | None = None  # None while it explores
    sends_to: Flags = field(init=False)  # [accounts]
    sent_s: Doubles = field(init=False)  # [accounts] the last one
    tried: list[_Tried] = field(default_factory=list)
    visits: list[tuple[int, float]] = field(default_factory=list)
    disabled: int = 0
    drawn: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        accounts = self.weeks.core.people.accounts
        self.sends_to, self.sent_s = np.zeros(accounts, np.bool_), np.zeros(accounts)

    def decide(self, looks: Looks) -> Verdicts:
        """A coin while it explores; then some messages of the chosen people, at their hour."""
        if self.hours is None:
            return self._explore(looks)
        ahead = (self.hours[looks.account] - looks.moments.hour) % TICKS
        then_s = looks.at_s + ahead * TICK_S
        _, first = np.unique(looks.account, return_index=True)
        alone = np.isin(np.arange(len(looks)), first)  # one to a person at a time
        rested = then_s - self.sent_s[looks.account] >= GAP_S
        wanted = self.sends_to[looks.account] & rested
        send = wanted & alone & (ahead == 0)
        self.sent_s[looks.account[send]] = looks.at_s
        return Verdicts(send, np.where(wanted & (ahead > 0), then_s, DROP))

    def _explore(self, looks: Looks) -> Verdicts:
        new = np.array([number not in self.drawn for number in looks.message.tolist()])
        self.drawn.update(looks.message.tolist())
        hour = self.rng.integers(*AWAKE, size=len(looks))
        ahead = np.where(new, (hour - looks.moments.hour) % TICKS, 0)
        coin = self.rng.random(len(looks)) < SENT
        for row in np.flatnonzero(ahead == 0).tolist():
            self.tried.append(_Tried(int(looks.account[row]), looks.at_s, bool(coin[row])))
        until_s = np.where(ahead > 0, looks.at_s + ahead * TICK_S, DROP)
        return Verdicts(coin & (ahead == 0), until_s)

    def observe(self, lines: Sequence[Line]) -> None:
        """Visits, and who switches pushes off."""
        if self.hours is not None:
            return
        for line in lines:
            if isinstance(line, Interaction) and line.action == "open":
                self.visits.append((int(line.user_id.split("-")[1]), line.ts / 1000))
            elif isinstance(line, Push) and line.status == "disabled":
                self.disabled += 1

    def week_over(self, at_s: float) -> None:
        """It learns once."""

    def retrain(self, lived: Outcome, at_s: float) -> Mapping[str, Policy]:
        """What the exploring weeks say; `lived` are its own visits."""
        tried = [one for one in self.tried if one.at_s < at_s - SOON_S]
        account = np.array([one.account for one in tried])
        sent = np.array([one.sent for one in tried])
        looked = account * APART + np.array([one.at_s for one in tried])
        visits = np.sort(np.array([number * APART + when for number, when in self.visits]))
        soon = np.searchsorted(visits, looked + SOON_S) - np.searchsorted(visits, looked)
        effect = shrunk_effects(account, sent, soon.astype(np.float64), len(self.sends_to))
        risk = self.opt_out_cost * self.disabled / max(int(sent.sum()), 1)
        self.sends_to = np.asarray(effect > max(MARGIN * risk, LEAST))
        self.hours = own_hours(self.weeks, lived)
        return {"per-person effect": self}


def shrunk_effects(account: Ints, sent: Flags, outcome: Doubles, accounts: int) -> Doubles:
    """Mean outcome where sent less where not, shrunk to everyone's: float64 [accounts].

    The variance between accounts is what their effects scatter beyond that of Poisson counts.
    """
    overall = float(outcome[sent].mean() - outcome[~sent].mean())
    rate = (np.bincount(account, outcome, accounts) + outcome.mean()) / (
        np.bincount(account, minlength=accounts) + 1
    )
    effect, variance = np.zeros(accounts), np.zeros(accounts)
    known = np.ones(accounts, np.bool_)
    for sign, arm in ((1.0, sent), (-1.0, ~sent)):
        n = np.bincount(account[arm], minlength=accounts)
        effect += sign * np.bincount(account[arm], outcome[arm], accounts) / np.maximum(n, 1)
        variance += rate / np.maximum(n, 1)  # of a Poisson count
        known &= n > 1
    if known.sum() < 2:
        return np.full(accounts, overall)
    between = max(float(effect[known].var(ddof=1) - variance[known].mean()), 0.0)
    shrunk = overall + between / (between + variance) * (effect - overall)
    return np.where(known, shrunk, overall)
