"""Who fills the carousel: modules chosen as the engine chooses them, and what others would do.

The others are those of Bendada, Salha and Bontempelli (RecSys 2020), with their settings. All are
told a round's clicks at its end. People of a segment who come in the same round share `DRAWS`
Thompson draws: the frequencies are those of a draw for each, at a tenth of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.choosing import ChoiceSettings
from engine.compiled import compiled_sum
from engine.module_choice import Here, estimate, rates
from engine.module_counts import ModuleTables
from training.carousel import Carousel, Doubles, Floats, Ints, Shown

DRAWS = 10
RANDOM_ORDERS = 1000  # a round
LINEAR_DRAWS = 100  # of the weights, for all people
BISECTIONS = 25
SWEEPS = 8  # over the coordinates, in a fit
Ranked = NDArray[np.int64]


class Policy(Protocol):
    """Orders playlists, and learns from what came of it."""

    def order(self, people: Ints, rng: np.random.Generator) -> Ints:
        """int64 [n, slots]: what each is shown."""
        ...

    def learn(self, shown: Shown) -> None:
        """Take a round's looks and clicks in."""
        ...


def top(scores: NDArray[np.floating], slots: int) -> Ints:
    """int64 [n, slots]: the highest of each row, highest first."""
    found = np.argpartition(scores, -slots, axis=1)[:, -slots:]
    within = np.take_along_axis(scores, found, axis=1).argsort(axis=1)[:, ::-1]
    return np.take_along_axis(found, within, axis=1)


def at_random(count: int, world: Carousel, rng: np.random.Generator) -> Ints:
    """int64 [count, slots]: any playlists; of `RANDOM_ORDERS` that were drawn."""
    drawn = rng.random((min(count, RANDOM_ORDERS), world.size.playlists), np.float32)
    return top(drawn, world.size.slots)[rng.integers(max(len(drawn), 1), size=count)]


class Random:
    """Any playlists."""

    def __init__(self, world: Carousel) -> None:
        self.world = world

    def order(self, people: Ints, rng: np.random.Generator) -> Ints:
        return at_random(len(people), self.world, rng)

    def learn(self, shown: Shown) -> None:
        pass


class OfSegments:
    """Looks and clicks by playlist and segment; `rank` orders playlists from them."""

    def __init__(self, world: Carousel, explore: float = 0.0, segmented: bool = True) -> None:
        self.world, self.explore = world, explore
        self.segments = world.segments if segmented else np.zeros_like(world.segments)
        shape = world.size.playlists, world.size.segments if segmented else 1
        self.looks, self.clicks = np.zeros(shape), np.zeros(shape)

    def order(self, people: Ints, rng: np.random.Generator) -> Ints:
        ranked = self.rank(rng)
        orders = ranked[self.segments[people], rng.integers(ranked.shape[1], size=len(people))]
        astray = np.flatnonzero(rng.random(len(people)) < self.explore)
        orders[astray] = at_random(len(astray), self.world, rng)
        return orders

    def rank(self, rng: np.random.Generator) -> Ranked:
        """int64 [segments, draws, slots]."""
        raise NotImplementedError

    def learn(self, shown: Shown) -> None:
        at = shown.playlists, self.segments[shown.people]
        np.add.at(self.looks, at, 1.0)
        np.add.at(self.clicks, at, shown.clicked.astype(np.float64))

    def draws(self) -> Iterator[tuple[int, Doubles, Doubles]]:
        """Segment by segment: its looks and its clicks, [playlists]."""
        for segment in range(self.looks.shape[1]):
            yield segment, self.looks[:, segment], self.clicks[:, segment]

    def by_score(self, scores: Doubles, rng: np.random.Generator) -> Ranked:
        """One order a segment by scores [segments, playlists]; equals go by chance."""
        shuffled = rng.permutation(scores.shape[1])
        found = shuffled[top(scores[:, shuffled], self.world.size.slots)]
        return found[:, None, :]


class Kairos(OfSegments):
    """As the engine chooses: every slot by Thompson sampling over shrunk log-normal rates.

    engine.module_choice.shares tells the frequencies of these draws; tests/engine holds it to them.
    """

    def __init__(self, world: Carousel, settings: ChoiceSettings) -> None:
        super().__init__(world)
        self.settings = settings

    def rank(self, rng: np.random.Generator) -> Ranked:
        looks, clicks = (of[:, None, :, None] for of in (self.looks, self.clicks))
        tables = ModuleTables(looks, clicks, self.clicks.sum(axis=1))
        found = rates(tables, self.settings)
        size = self.world.size
        ranked = np.zeros((size.segments, DRAWS, size.slots), np.int64)
        lane = np.arange(DRAWS)
        for segment in range(size.segments):
            known = estimate(found, Here(0, segment, 0), None)
            centres, spreads = known.centres.astype(np.float32), known.spreads.astype(np.float32)
            taken = np.zeros((DRAWS, size.playlists), np.float32)
            for slot in range(size.slots):
                drawn = rng.standard_normal(taken.shape, np.float32) * spreads + centres + taken
                astray = np.flatnonzero(rng.random(DRAWS) < self.settings.explore)
                drawn[astray] = rng.random((len(astray), size.playlists)) + taken[astray]
                ranked[segment, :, slot] = chosen = drawn.argmax(axis=1)
                taken[lane, chosen] = -np.inf
        return ranked


class Thompson(OfSegments):
    """A Beta of each playlist in each segment, nothing learned from other segments."""

    def __init__(
        self, world: Carousel, yes: float = 1.0, no: float = 1.0, segmented: bool = True
    ) -> None:
        super().__init__(world, segmented=segmented)
        self.yes, self.no = yes, no

    def rank(self, rng: np.random.Generator) -> Ranked:
        count, slots = (DRAWS if self.looks.shape[1] > 1 else LINEAR_DRAWS), self.world.size.slots
        shape = count, self.world.size.playlists
        return np.stack(
            [
                top(rng.beta(clicks + self.yes, looks - clicks + self.no, shape), slots)
                for _, looks, clicks in self.draws()
            ]
        )


class Greedy(OfSegments):
    """The highest click-through rates so far; with chance `explore` any playlists."""

    def rank(self, rng: np.random.Generator) -> Ranked:
        return self.by_score((self.clicks / np.maximum(self.looks, 1)).T, rng)


class ExploreThenCommit(Greedy):
    """Playlists that a segment saw less than `least` times come first, by chance."""

    def __init__(self, world: Carousel, least: int) -> None:
        super().__init__(world)
        self.least = least

    def rank(self, rng: np.random.Generator) -> Ranked:
        slots = self.world.size.slots
        ranked = []
        for _, looks, clicks in self.draws():
            rate = clicks / np.maximum(looks, 1)
            open_ = np.where(looks < self.least, 1 + rng.random((DRAWS, len(looks))), rate)
            ranked.append(top(open_, slots))
        return np.stack(ranked)


class KlUcb(OfSegments):
    """The highest rate not ruled out by what was seen (Garivier and Cappé, COLT 2011)."""

    def rank(self, rng: np.random.Generator) -> Ranked:
        looks, rate = self.looks.T, (self.clicks / np.maximum(self.looks, 1)).T
        budget = np.log(1 + looks.sum(axis=1, keepdims=True)) / np.maximum(looks, 1e-9)
        low, high = rate.copy(), np.ones_like(rate)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            inside = divergence(rate, middle) <= budget
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return self.by_score(low, rng)


def divergence(truth: Doubles, told: Doubles) -> Doubles:
    """Kullback-Leibler divergence of Bernoulli distributions, in nats."""
    truth, told = np.clip(truth, 1e-12, 1 - 1e-12), np.clip(told, 1e-12, 1 - 1e-12)
    made: Doubles = truth * np.log(truth / told) + (1 - truth) * np.log((1 - truth) / (1 - told))
    return made


class Linear:
    """A logistic model of each playlist on the person's embedding, by Thompson sampling.

    A normal posterior with diagonal covariance, fitted to each round's rows (Chapelle and Li, "An
    Empirical Evaluation of Thompson Sampling", NeurIPS 2011, algorithm 3).
    """

    def __init__(self, world: Carousel, bias: float, curiosity: float = 1.0) -> None:
        self.world, self.curiosity = world, curiosity
        shape = world.size.playlists, world.embeddings.shape[1]
        self.means, self.precisions = np.zeros(shape), np.ones(shape)
        self.means[:, 0] = bias

    def order(self, people: Ints, rng: np.random.Generator) -> Ints:
        orders = np.zeros((len(people), self.world.size.slots), np.int64)
        means = self.means.astype(np.float32)
        spreads = (self.curiosity / np.sqrt(self.precisions)).astype(np.float32)
        for rows in np.array_split(np.arange(len(people)), LINEAR_DRAWS):
            drawn = rng.standard_normal(means.shape, np.float32) * spreads + means
            scores = self.world.embeddings[people[rows]] @ drawn.T
            orders[rows] = top(scores, self.world.size.slots)
        return orders

    def learn(self, shown: Shown) -> None:
        order = np.argsort(shown.playlists, kind="stable")
        sizes = np.bincount(shown.playlists, minlength=self.world.size.playlists)
        rows: Floats = self.world.embeddings[shown.people[order]]
        ends = np.cumsum(sizes)
        truth = shown.clicked[order].astype(np.float64)
        for playlist in np.flatnonzero(sizes):
            of = slice(int(ends[playlist] - sizes[playlist]), int(ends[playlist]))
            columns = np.ascontiguousarray(rows[of].T, np.float64)
            _fit(columns, truth[of], self.means[playlist], self.precisions[playlist])


@compiled_sum("void(f8[:, ::1], f8[::1], f8[::1], f8[::1])")
def _fit(columns: Doubles, truth: Doubles, means: Doubles, precisions: Doubles) -> None:
    """Newton's steps by coordinate; `means` and `precisions` [d] become the posterior's."""
    features, count = columns.shape
    prior = means.copy()
    logits = np.zeros(count)
    for f in range(features):
        for n in range(count):
            logits[n] += means[f] * columns[f, n]
    chances = np.zeros(count)
    for _ in range(SWEEPS):
        largest = 0.0
        for f in range(features):
            if f % 8 == 0:  # an old curvature only shortens or lengthens the step
                for n in range(count):
                    chances[n] = 1.0 / (1.0 + np.exp(-logits[n]))
            slope, bend = precisions[f] * (means[f] - prior[f]), precisions[f]
            for n in range(count):
                value = columns[f, n]
                slope += (chances[n] - truth[n]) * value
                bend += chances[n] * (1.0 - chances[n]) * value * value
            step = slope / bend
            step = min(max(step, -1.0), 1.0)
            means[f] -= step
            largest = max(largest, abs(step))
            for n in range(count):
                change = -step * columns[f, n]
                logits[n] += change
                chances[n] += chances[n] * (1.0 - chances[n]) * change
        if largest < 1e-3:
            break
    for f in range(features):
        for n in range(count):
            chance = 1.0 / (1.0 + np.exp(-logits[n]))
            precisions[f] += chance * (1.0 - chance) * columns[f, n] * columns[f, n]


OURS = ChoiceSettings()
POLICIES: dict[str, Callable[[Carousel], Policy]] = {
    "random": Random,
    "kairos": lambda world: Kairos(world, OURS),
    "kairos, no floor": lambda world: Kairos(world, ChoiceSettings(explore=0.0)),
    "kairos, no floor, curiosity 1": lambda world: Kairos(
        world, ChoiceSettings(explore=0.0, curiosity=1.0)
    ),
    "ts-seg-pessimistic": lambda world: Thompson(world, 1.0, 99.0),
    "ts-seg-naive": lambda world: Thompson(world),
    "ts-all-pessimistic": lambda world: Thompson(world, 1.0, 99.0, segmented=False),
    "kl-ucb-seg": KlUcb,
    "epsilon-greedy-seg-exploit": lambda world: Greedy(world, 0.01),
    "epsilon-greedy-seg-explore": lambda world: Greedy(world, 0.1),
    "etc-seg-exploit": lambda world: ExploreThenCommit(world, 20),
    "etc-seg-explore": lambda world: ExploreThenCommit(world, 100),
    "ts-lin-pessimistic": lambda world: Linear(world, -5.0),
    "ts-lin-naive": lambda world: Linear(world, 0.0),
}


def regrets(world: Carousel, policy: Policy, rounds: int, visits: int, seed: int) -> Doubles:
    """float64 [rounds]: clicks expected of the best orders less those of the policy's, a round."""
    drawn = np.random.default_rng([seed, 1])  # the same people come whoever fills the carousel
    rng = np.random.default_rng([seed, 2])
    best = world.best()
    found = np.zeros(rounds)
    for round_ in range(rounds):
        people = drawn.integers(world.size.people, size=visits)
        orders = policy.order(people, rng)
        found[round_] = (best[people] - world.value(people, orders)).sum()
        policy.learn(world.show(people, orders, rng))
    return found
