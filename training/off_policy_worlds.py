"""Small worlds whose truth is known, to try estimators on: users that cluster, pushes that tire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.off_policy import Doubles, Ints, Logged

# Kinds of users: their share, mean number of decisions, chance of a reward, what sending adds,
# and how often the new policy sends. Who gets many decisions differs in all of it.
SHARES = np.array([0.5, 0.3, 0.2])
DECISIONS = np.array([4.0, 10.0, 30.0])
BASE = np.array([0.10, 0.20, 0.15])
ADDED = np.array([0.15, 0.05, -0.03])
TARGET = np.array([0.9, 0.5, 0.2])
LOGGED = 0.25  # how often the logging policy sends
PERSONAL = 0.09  # a user's own part of the chance: plus or minus this
PREDICTED_BASE, PREDICTED_ADDED = 0.12, 0.08  # what a coarse model predicts of everybody


def clustered_truth() -> float:
    """Reward per decision of the new policy."""
    decisions = SHARES * DECISIONS
    return float((decisions * (BASE + ADDED * TARGET)).sum() / decisions.sum())


def clustered(users: int, rng: np.random.Generator) -> Logged:
    """Logged decisions of so many users, each with a chance of their own."""
    kind = rng.choice(len(SHARES), users, p=SHARES)
    own = PERSONAL * rng.choice((-1.0, 1.0), users)
    count = rng.geometric(1 / DECISIONS[kind])
    who = np.repeat(np.arange(users), count)
    of = kind[who]
    sent = rng.random(len(who)) < LOGGED
    predicted: Doubles = PREDICTED_BASE + PREDICTED_ADDED * sent.astype(np.float64)
    chance = BASE[of] + own[who] + ADDED[of] * sent
    return Logged(
        reward=(rng.random(len(who)) < chance).astype(np.float64),
        propensity=np.where(sent, LOGGED, 1 - LOGGED),
        target=np.where(sent, TARGET[of], 1 - TARGET[of]),
        users=who,
        predicted=predicted,
        predicted_target=PREDICTED_BASE + PREDICTED_ADDED * TARGET[of],
    )


RARE = 0.0046  # as the Open Bandit Dataset's clicks
ITEMS, ROWS = 34, 10_000


@dataclass(frozen=True, slots=True)
class Rare:
    """Rare rewards under a policy with favourites, seen from an even one: few clicks carry all."""

    favour: Doubles  # [items], sums to 1: how often each is shown
    clicked: Doubles  # [items]

    @classmethod
    def draw(cls, favour: float, rng: np.random.Generator) -> Rare:
        """Favourites e^(favour · normal) times as often shown."""
        shown = np.exp(favour * rng.normal(size=ITEMS))
        return cls(shown / shown.sum(), RARE * np.exp(0.3 * rng.normal(size=ITEMS)))

    def truth(self) -> float:
        """Clicks per row of the even policy."""
        return float(self.clicked.mean())

    def log(self, rng: np.random.Generator) -> Logged:
        """Rows of as many users."""
        item = rng.choice(ITEMS, ROWS, p=self.favour)
        return Logged(
            reward=(rng.random(ROWS) < self.clicked[item]).astype(np.float64),
            propensity=self.favour[item],
            target=np.full(ROWS, 1 / ITEMS),
            users=np.arange(ROWS),
            predicted=np.full(ROWS, RARE),
            predicted_target=np.full(ROWS, RARE),
        )


@dataclass(frozen=True, slots=True)
class Tiring:
    """Pushes that tire and recover: an opening is likelier with a push, less so after others."""

    steps: int = 6
    unpushed: float = 0.02
    pushed: float = 0.14  # when rested
    tired_by: float = 0.7  # of what was left
    recovered: float = 0.1  # of it, until the next decision

    def live(
        self, users: int, send: float, rng: np.random.Generator
    ) -> tuple[Doubles, NDArray[np.bool_]]:
        """Openings and pushes [users, steps] where each decision sends with this chance."""
        fatigue = np.zeros(users)
        opened = np.zeros((users, self.steps))
        pushed = rng.random((users, self.steps)) < send
        for step in range(self.steps):
            chance = np.where(
                pushed[:, step],
                self.unpushed + (self.pushed - self.unpushed) * (1 - fatigue),
                self.unpushed,
            )
            opened[:, step] = rng.random(users) < chance
            fatigue += np.where(pushed[:, step], self.tired_by * (1 - fatigue), 0.0)
            fatigue *= 1 - self.recovered
        return opened, pushed

    def truth(self, send: float) -> float:
        """Openings a user: fatigue enters linearly, so its mean is all that counts."""
        fatigue, total = 0.0, 0.0
        for _ in range(self.steps):
            total += self.unpushed + send * (self.pushed - self.unpushed) * (1 - fatigue)
            fatigue = (fatigue + send * self.tired_by * (1 - fatigue)) * (1 - self.recovered)
        return total


def tiring_log(
    world: Tiring, users: int, logged: float, target: float, rng: np.random.Generator
) -> tuple[Logged, Ints]:
    """A log of a policy that sends with one chance, seen from one with another; and its steps."""
    opened, pushed = world.live(users, logged, rng)
    flat = pushed.ravel()
    made = Logged(
        reward=opened.ravel(),
        propensity=np.where(flat, logged, 1 - logged),
        target=np.where(flat, target, 1 - target),
        users=np.repeat(np.arange(users), world.steps),
    )
    return made, np.tile(np.arange(world.steps), users)
