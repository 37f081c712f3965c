"""A carousel of playlists in a streaming app, made up: who sees what, and what they click.

The shape is that of Bendada, Salha and Bontempelli, "Carousel Personalization in Music Streaming
Apps with Contextual Bandits" (RecSys 2020): people and playlists with embeddings, the chance of a
click a logistic function of both, a carousel of 12 of which 3 are seen without swiping. Their data
are not used. Segments are what k-means makes of the people's embeddings: a policy is told them,
the clicks know nothing of them.

What was seen has to be guessed from the clicks, as there: the first `AT_ONCE` slots, and all above
the last click. What lies below counts neither as seen nor as refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
AT_ONCE = 3  # slots seen without swiping
TRIBES = 40  # that tastes are mixtures of
MIXED = 0.15  # of the mixtures' Dirichlet: most people are of a few tribes
OWN = 0.5  # standard deviation of what is nobody else's taste
FALLING = 0.6  # power by which the embedding's directions matter less and less
TASTE, APPEAL, BASE = 0.9, 0.5, -4.8  # in logits: of embeddings, of playlists, of all


@dataclass(frozen=True, slots=True)
class Size:
    """How large a carousel's world is; the paper's, but for people (974,960 there)."""

    people: int = 50_000
    playlists: int = 862
    dimensions: int = 96
    segments: int = 100
    slots: int = 12


@dataclass(frozen=True, slots=True)
class Carousel:
    """Everybody's chance to click each playlist that they see, and what policies are told."""

    chances: Floats  # [people, playlists]
    embeddings: Floats  # [people, 1 + dimensions]; the first is 1
    segments: Ints  # [people]
    size: Size
    onwards: float  # chance to swipe to the next slot, from AT_ONCE on

    @property
    def seen(self) -> Doubles:
        """float64 [slots]: the chance of each slot to be seen."""
        beyond = np.maximum(np.arange(self.size.slots) - AT_ONCE + 1, 0)
        made: Doubles = self.onwards ** beyond.astype(np.float64)
        return made

    def value(self, people: Ints, orders: Ints) -> Doubles:
        """float64 [n]: clicks expected of orders [n, slots]."""
        made: Doubles = self.chances[people[:, None], orders] @ self.seen
        return made

    def best(self) -> Doubles:
        """float64 [people]: clicks expected of the best order that there is for each."""
        slots = self.size.slots
        highest = np.partition(self.chances, -slots, axis=1)[:, -slots:]
        made: Doubles = np.sort(highest, axis=1)[:, ::-1] @ self.seen
        return made

    def show(self, people: Ints, orders: Ints, rng: np.random.Generator) -> Shown:
        """Show orders [n, slots] and tell what is known of it afterwards."""
        reached = rng.geometric(1 - self.onwards, len(people)) - 1 if self.onwards < 1 else 1 << 30
        depth = np.broadcast_to(AT_ONCE + np.asarray(reached), len(people))
        drawn = rng.random(orders.shape) < self.chances[people[:, None], orders]
        clicked = drawn & (np.arange(orders.shape[1]) < depth[:, None])
        known = counted(clicked)
        rows = np.nonzero(known)
        return Shown(people[rows[0]], orders[rows], clicked[rows])


@dataclass(frozen=True, slots=True)
class Shown:
    """Playlists that count as seen, [n]."""

    people: Ints
    playlists: Ints
    clicked: Flags


def counted(clicked: Flags) -> Flags:
    """Which slots count as seen: bool [n, slots] of clicks → the same of slots."""
    slots = clicked.shape[1]
    last = np.where(clicked.any(axis=1), slots - clicked[:, ::-1].argmax(axis=1), 0)
    made: Flags = np.arange(slots) < np.maximum(last, AT_ONCE)[:, None]
    return made


def generate(size: Size, rng: np.random.Generator, onwards: float = 1.0) -> Carousel:
    """A world: mixtures of tribes for people and playlists; nobody is only their segment."""
    weight = np.arange(1, size.dimensions + 1) ** -FALLING
    tribes = rng.standard_normal((TRIBES, size.dimensions)) * weight

    def tastes(count: int) -> Doubles:
        mixtures = rng.dirichlet(np.full(TRIBES, MIXED), count)
        found = mixtures @ tribes + OWN * weight * rng.standard_normal((count, size.dimensions))
        made: Doubles = found - found.mean(axis=0)
        return made

    people = tastes(size.people)
    people /= np.sqrt((people**2).sum(axis=1).mean())
    likings = (people @ tastes(size.playlists).T).astype(np.float32)
    appeal = rng.normal(BASE, APPEAL, size.playlists).astype(np.float32)
    logits = likings * np.float32(TASTE / likings.std()) + appeal
    embeddings = np.concatenate((np.ones((size.people, 1)), people), axis=1).astype(np.float32)
    segments = k_means(embeddings[:, 1:], size.segments, rng)
    return Carousel(1 / (1 + np.exp(-logits)), embeddings, segments, size, onwards)


def k_means(points: Floats, count: int, rng: np.random.Generator, rounds: int = 15) -> Ints:
    """int64 [n]: the nearest of `count` centres (Lloyd 1982); one left alone stays where it is."""
    centres = points[rng.choice(len(points), count, replace=False)].copy()
    nearest = np.zeros(len(points), np.int64)
    for _ in range(rounds):
        nearest = ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)
        sizes = np.bincount(nearest, minlength=count)
        order, taken = np.argsort(nearest, kind="stable"), sizes > 0
        starts = (np.cumsum(sizes) - sizes)[taken]
        centres[taken] = np.add.reduceat(points[order], starts) / sizes[taken, None]
    return nearest
