"""Who fills the carousel: modules chosen as the engine chooses them, and what others would do.

The others are those of Bendada, Salha and Bontempelli (RecSys 2020), with their settings. All are
told a round's clicks at its end. Everybody has draws of their own: ten draws for the two hundred of
a segment that come in a round, instead of two hundred, cost Thompson sampling half as much again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from engine.choosing import ChoiceSettings
from engine.compiled import compiled, compiled_sum
from engine.module_choice import Here, estimate, rates
from engine.module_counts import ModuleTables
from training.carousel import Carousel, Doubles, Floats, Ints, Shown

RANDOM_ORDERS = 1000  # a round
UNTRIED_ORDERS = 50  # of a segment, a round
AT_A_TIME = 1000  # people whose playlists are drawn
LEVELS = 1 << 16  # of a normal draw
NORMALS: Doubles = norm.ppf((np.arange(LEVELS) + 0.5) / LEVELS)
FARTHEST = float(NORMALS[-1])
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

    def __init__(self, world: Carousel, explore: float = 0.0) -> None:
        self.world, self.explore = world, explore
        self.segments = world.segments
        shape = world.size.playlists, world.size.segments
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

    def by_score(self, scores: Doubles, rng: np.random.Generator) -> Ranked:
        """One order a segment by scores [segments, playlists]; equals go by chance."""
        shuffled = rng.permutation(scores.shape[1])
        found = shuffled[top(scores[:, shuffled], self.world.size.slots)]
        return found[:, None, :]


class Drawn(OfSegments):
    """Thompson sampling: `draw` makes an order for each of a segment's people."""

    def order(self, people: Ints, rng: np.random.Generator) -> Ints:
        segments = self.segments[people]
        orders = np.zeros((len(people), self.world.size.slots), np.int64)
        self.believe()
        for segment in np.unique(segments).tolist():
            rows = np.flatnonzero(segments == segment)
            made = np.zeros((len(rows), orders.shape[1]), np.int64)
            self.draw(segment, made, int(rng.integers(1, 1 << 62)))
            orders[rows] = made
        return orders

    def believe(self) -> None:
        """What holds for all segments of a round."""

    def draw(self, segment: int, orders: Ints, seed: int) -> None:
        """Fill orders [people, slots]."""
        raise NotImplementedError


class Kairos(Drawn):
    """As the engine chooses: every slot by Thompson sampling over shrunk log-normal rates.

    engine.module_choice.shares tells the frequencies of these draws, and a test holds them to it.
    """

    def __init__(self, world: Carousel, settings: ChoiceSettings) -> None:
        super().__init__(world)
        self.settings = settings
        self.believe()

    def believe(self) -> None:
        looks, clicks = (of[:, None, :, None] for of in (self.looks, self.clicks))
        tables = ModuleTables(looks, clicks, self.clicks.sum(axis=1))
        self.rates = rates(tables, self.settings)

    def draw(self, segment: int, orders: Ints, seed: int) -> None:
        known = estimate(self.rates, Here(0, segment, 0), None)
        promising = np.argsort(-(known.centres + FARTHEST * known.spreads))
        centres, spreads = known.centres[promising], known.spreads[promising]
        _slot_by_slot(centres, spreads, self.settings.explore, NORMALS, seed, orders)
        orders[:] = promising[orders]


class Thompson(Drawn):
    """A Beta of each playlist in each segment, nothing learned from other segments."""

    def __init__(self, world: Carousel, yes: float = 1.0, no: float = 1.0) -> None:
        super().__init__(world)
        self.yes, self.no = yes, no

    def draw(self, segment: int, orders: Ints, seed: int) -> None:
        looks, clicks = self.looks[:, segment], self.clicks[:, segment]
        _betas(clicks + self.yes, looks - clicks + self.no, NORMALS, seed, orders)


@compiled("u8(u8)")
def _next(state: np.uint64) -> np.uint64:
    """Marsaglia's xorshift64."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    return state ^ (state << np.uint64(17))


@compiled("void(f8[::1], i8, f8, i8[::1], i8)")
def _place(best: Doubles, slots: int, value: float, order: Ints, m: int) -> None:
    """Insert into the highest so far, highest first."""
    at = slots - 1
    while at > 0 and best[at - 1] < value:
        best[at], order[at] = best[at - 1], order[at - 1]
        at -= 1
    best[at], order[at] = value, m


@compiled("void(f8[::1], f8[::1], f8, f8[::1], i8, i8[:, ::1])")
def _slot_by_slot(
    centres: Doubles, spreads: Doubles, explore: float, normals: Doubles, seed: int, orders: Ints
) -> None:
    """Each slot by the highest of new draws; modules come by how high they may reach at most."""
    people, slots = orders.shape
    taken = np.full(len(centres), -1)
    state = np.uint64(seed)
    for n in range(people):
        for slot in range(slots):
            chosen = -1
            state = _next(state)
            if (state >> np.uint64(11)) * 2.0**-53 < explore:
                while chosen < 0 or taken[chosen] == n:
                    state = _next(state)
                    chosen = int((state >> np.uint64(11)) * 2.0**-53 * len(centres))
            else:
                highest = -np.inf
                for m in range(len(centres)):
                    if centres[m] + normals[-1] * spreads[m] <= highest:
                        break
                    if taken[m] != n:
                        state = _next(state)
                        value = centres[m] + spreads[m] * normals[state >> np.uint64(48)]
                        if value > highest:
                            highest, chosen = value, m
            taken[chosen] = n
            orders[n, slot] = chosen


@compiled("void(f8[::1], f8[::1], f8[::1], i8, i8[:, ::1])")
def _betas(yes: Doubles, no: Doubles, normals: Doubles, seed: int, orders: Ints) -> None:
    """Beta(yes, no), both at least 1, by two Gammas (Marsaglia and Tsang 2000)."""
    people, slots = orders.shape
    state = np.uint64(seed)
    best = np.zeros(slots)
    depths = np.stack((yes, no)) - 1 / 3
    widths = 1 / np.sqrt(9 * depths)
    gammas = np.zeros(2)
    for n in range(people):
        best[:] = -np.inf
        for m in range(len(yes)):
            for which in range(2):
                while True:
                    state = _next(state)
                    x = normals[state >> np.uint64(48)]
                    u = ((state & np.uint64(0xFFFFFFFF)) + 0.5) * 2.0**-32
                    v = 1 + x * widths[which, m]
                    if v <= 0:
                        continue
                    v = v * v * v
                    square = x * x
                    if u < 1 - 0.0331 * square * square:
                        break
                    if np.log(u) < square / 2 + depths[which, m] * (1 - v + np.log(v)):
                        break
                gammas[which] = depths[which, m] * v
            value = gammas[0] / (gammas[0] + gammas[1])
            if value > best[slots - 1]:
                _place(best, slots, value, orders[n], m)


@compiled("void(f4[:, ::1], f4[:, ::1], f8[::1], i8, i8[:, ::1])")
def _normal_tops(
    centres: Floats, variances: Floats, normals: Doubles, seed: int, orders: Ints
) -> None:
    """The highest of one draw of each playlist for each person."""
    people, slots = orders.shape
    state = np.uint64(seed)
    best = np.zeros(slots)
    for n in range(people):
        best[:] = -np.inf
        for m in range(centres.shape[1]):
            state = _next(state)
            value = centres[n, m] + np.sqrt(variances[n, m]) * normals[state >> np.uint64(48)]
            if value > best[slots - 1]:
                _place(best, slots, value, orders[n], m)


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
        for looks, clicks in zip(self.looks.T, self.clicks.T, strict=True):
            rate = clicks / np.maximum(looks, 1)
            untried = 1 + rng.random((UNTRIED_ORDERS, len(looks)))
            open_ = np.where(looks < self.least, untried, rate)
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
        means = self.means.T.astype(np.float32)
        variances = (self.curiosity**2 / self.precisions.T).astype(np.float32)
        for rows in np.array_split(np.arange(len(people)), max(len(people) // AT_A_TIME, 1)):
            told = self.world.embeddings[people[rows]]
            made, seed = (
                np.zeros((len(rows), orders.shape[1]), np.int64),
                int(rng.integers(1, 1 << 62)),
            )
            _normal_tops(told @ means, told**2 @ variances, NORMALS, seed, made)
            orders[rows] = made
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
