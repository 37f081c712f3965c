"""A log of pushes whose right answers are known: two kinds of people, one situation, fatigue."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.push_features import COUNT, NAMES
from engine.push_message import Chance, Goal, Message, PushDecision
from engine.records import DecidedMoment, InteractionRecord, PushDecisionRecord, PushRecord
from engine.times import DAY_MS, HOUR_MS

START = 1_769_990_400_000  # a Monday, 00:00 UTC
SITUATIONS = ["unknown", "commuting", "at_work"]
CATEGORIES = ("recipes", "offers")


@dataclass
class PushWorld:
    """Writes decisions and what comes of them; half the people are driven away by pushes."""

    log: Any
    effect: float = 0.25  # of a push to somebody it persuades, when nothing was sent lately
    repelled: float = -0.08  # to the others
    commuting: float = 2.0  # times
    per_push: float = 0.3  # of the effect that a push takes from the next
    half_life_h: float = 48.0
    opt_out: float = 0.0004
    random: float = 0.85  # share of decisions that a coin makes
    unwanted: float = 0.5  # chance that it sends to those who are driven away
    gap_h: float = 26.0  # between decisions about a person, on the mean
    seed: int = 1
    number: int = 0
    sent: dict[int, list[int]] = field(default_factory=dict)

    def live(self, people: int, days: int) -> None:
        """Each person is decided about now and then, for so many days."""
        self.rng = np.random.default_rng(self.seed)
        for person in range(people):
            willing = person % 2 == 0
            history = self.rng.binomial(40, 0.45 if willing else 0.06)
            at_ms = START + int(self.rng.integers(0, DAY_MS))
            while at_ms < START + days * DAY_MS:
                history = self.decide(person, willing, int(history), at_ms)
                at_ms += int((7 + self.rng.exponential(self.gap_h - 7)) * HOUR_MS)

    def decide(self, person: int, willing: bool, history: int, at_ms: int) -> int:
        """One decision and all that comes of it; returns how often they have opened."""
        self.number += 1
        rng, user = self.rng, f"u{person}"
        number = int(rng.choice(3, p=[0.2, 0.3, 0.5]))
        hour = (at_ms // HOUR_MS) % 24
        measured = bool(rng.random() < self.random)
        coin = 0.5 if willing else self.unwanted
        send = bool(rng.random() < coin)
        message = self.message(at_ms)
        ages = [(at_ms - one) / HOUR_MS for one in self.sent.get(person, [])]
        chance = Chance(send=coin, drop=1 - coin) if measured else Chance(send=0.9, hold=0.1)
        send = send or not measured
        decision = PushDecision(
            f"d{self.number}",
            message.message_id,
            "send" if send else "drop",
            [],
            at_ms,
            message.expires_ms,
            chance=chance,
            measured=measured,
            coin=coin if measured else 0.5,
        )
        row = self.row(ages, history, hour, (at_ms - START) // DAY_MS % 7 >= 5)
        likely = [0.1] * 3
        likely[number] = 0.8
        really = int(rng.choice(3, p=likely))
        weekday = int((at_ms - START) // DAY_MS % 7)
        moment = DecidedMoment(SITUATIONS[number], 0.8, float(hour), weekday, probabilities=likely)
        told: dict[str, Any] = {"user_id": user, "ts": at_ms, "arrived": at_ms}
        self.log.add(
            PushDecisionRecord(message=message, decision=decision, moment=moment, row=row, **told)
        )
        effect = (self.effect if willing else self.repelled) * self.left(ages) * self.lift(really)
        if rng.random() < 0.12 + send * effect:
            self.act(user, at_ms + int(rng.uniform(0.2, 5) * HOUR_MS))
        if not send:
            return history
        self.sent.setdefault(person, []).append(at_ms)
        opens = (0.3 if willing else 0.04) * self.left(ages) * self.lift(really)
        if rng.random() < opens:
            self.push(user, at_ms + HOUR_MS // 5, "opened", message.message_id)
            history += 1
        if rng.random() < self.opt_out * (1 + len([age for age in ages if age < 48])):
            self.push(user, at_ms + HOUR_MS, "disabled", "")
        return history

    def message(self, at_ms: int) -> Message:
        """Of a person of its own; the goal has six hours."""
        category = CATEGORIES[self.number % 2]
        return Message(f"m{self.number}", category, at_ms + DAY_MS, goal=Goal("open", 6.0))

    def left(self, ages: list[float]) -> float:
        """Share of an effect that fatigue leaves."""
        load = sum(2 ** (-age / self.half_life_h) for age in ages)
        return max(0.0, 1 - self.per_push * load)

    def lift(self, situation: int) -> float:
        return self.commuting if situation == 1 else 1.0

    def row(self, ages: list[float], history: int, hour: int, weekend: bool) -> list[float | None]:
        """A row of engine.push_features, most of it not known."""
        told: dict[str, float] = {
            "sends_day": sum(age < 24 for age in ages),
            "sends_week": sum(age < 168 for age in ages),
            "sends_month": sum(age < 672 for age in ages),
            "sends_category_week": 0.0,
            "load": sum(2 ** (-age / 48) for age in ages),
            "open_rate": (history + 1) / (40 + len(ages) + 10),
            "dismiss_rate": 0.1,
            "hour_sin": math.sin(2 * math.pi * hour / 24),
            "hour_cos": math.cos(2 * math.pi * hour / 24),
            "weekend": float(weekend),
        }
        if ages:
            told["hours_since_send"] = math.log1p(min(ages))
        made: list[float | None] = [None] * COUNT
        for name, value in told.items():
            made[NAMES.index(name)] = float(value)
        return made

    def act(self, user: str, at_ms: int) -> None:
        """The goal is reached."""
        told: dict[str, Any] = {"user_id": user, "ts": at_ms, "arrived": at_ms}
        self.number += 1
        self.log.add(
            InteractionRecord(event_id=f"e{self.number}", action="open", term=0, weight=1.0, **told)
        )

    def push(self, user: str, at_ms: int, status: str, message_id: str) -> None:
        """A platform tells what became of a message."""
        told: dict[str, Any] = {"user_id": user, "ts": at_ms, "arrived": at_ms}
        self.number += 1
        self.log.add(
            PushRecord(event_id=f"e{self.number}", message_id=message_id, status=status, **told)
        )
