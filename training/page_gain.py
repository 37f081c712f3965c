"""What learning the order of modules is worth in the simulated laws, beside still orders.

Every policy meets the same visits and luck (training.world.page_days), and its pages are judged by
their expected worth. The bandit is the engine's: situations are read from the same device states,
and counts, histories, estimates and the draw of each slot are its own; the items of a module alone
are the world's. A trivial order has most of the worth already, so the figure is

    gain = (V − V_best static) / (V_oracle − V_best static)

over the visits after the first WARM. The static orders are made with hindsight, from the true worth
of every visit, which nobody could have; the oracle knows the law and everyone's tastes, but of the
moment what a request carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.actions import Actions
from engine.choosing import ChoiceSettings
from engine.device import read_device
from engine.module_choice import Here, Rates, estimate, rates, shares
from engine.module_counts import LOOK, USED, Axes, Cell, ModuleCounts, part_of, week_of
from engine.module_history import ModuleHistory, read_own, remember
from engine.objective import Objective
from engine.page import likeliest
from engine.records import MomentRecord
from engine.situation import Situations, told_of
from engine.state import MONTH_HALF_LIFE_MS, UserState, fold
from engine.times import DAY_MS
from training.world import PageDay, World, page_days

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
WARM = 20_000  # visits, before what is learned is judged
PLACES = 8
REFRESH = 20  # visits between two readings of the counts
ORACLE_EVERY = 5  # visits: the oracle is asked about these alone, and the gain is of them
SHRUNK = 20  # visits by which a static order of a situation is shrunk to the order of all
RECIPES = 2000
BINS = 40  # of the curves
WITH, WITHOUT = "with situation", "without situation"
STATIC = ("fixed", "popularity", "static by situation")
ORACLE = "oracle"
ACTS = ("click", "dismiss", "save", "add_to_cart", "cook")


@dataclass
class Learner:
    """The engine's choice, learning from its own pages."""

    settings: ChoiceSettings
    modules: tuple[str, ...]
    situations: int  # 1: it is told of none
    worth: Doubles  # [ACTS] of an act, in the objective's
    rng: np.random.Generator
    counts: ModuleCounts = field(default_factory=ModuleCounts)
    histories: dict[str, dict[str, ModuleHistory]] = field(default_factory=dict)
    visits: int = 0

    def order(self, user_id: str, here: Here, at_ms: int, available: Flags) -> Ints:
        """Columns of modules from the top [PLACES], −1 below the end."""
        if self.visits % REFRESH == 0:
            self._found = self._read(at_ms)
        self.visits += 1
        factor = 2.0 ** (-at_ms / MONTH_HALF_LIFE_MS)
        own = read_own(self.histories.get(user_id, {}), self.modules, self.situations, factor)
        found, open_ = estimate(self._found, here, own), available.copy()
        page = np.full(PLACES, -1)
        for place in range(min(PLACES, int(open_.sum()))):
            reached = np.cumsum(shares(found, open_, self.settings.explore))
            page[place] = np.searchsorted(reached, self.rng.random() * reached[-1], "right")
            open_[page[place]] = False
        return page

    def learn(self, user_id: str, here: Here, at_ms: int, page: Ints, acts: Ints) -> None:
        """`page` int [looked at] from the top, `acts` int [looked at, ACTS]."""
        cells = []
        for module, done in zip(page.tolist(), acts.tolist(), strict=True):
            where = self.modules[module], "", here.situation, here.part, week_of(at_ms)
            cells.append(Cell(*where, LOOK))
            for term, times in enumerate(done):
                cells += [Cell(*where, term)] * times
            if any(times and self.worth[term] > 0 for term, times in enumerate(done)):
                cells.append(Cell(*where, USED))
        self.counts.add(cells)
        known = self.histories.setdefault(user_id, {})
        weight = 2.0 ** (at_ms / MONTH_HALF_LIFE_MS)
        remember(known, cells, at_ms // 1000, at_ms // DAY_MS, weight)

    def _read(self, at_ms: int) -> Rates:
        axes = Axes(self.modules, self.situations, ("",))
        half_life = self.settings.half_life_days
        return rates(self.counts.tables(axes, self.worth, half_life, at_ms), self.settings)


@dataclass(frozen=True, slots=True)
class Course:
    """The visits of one world, and the worth of each policy's page at each."""

    worth: Mapping[str, Doubles]  # policy -> [visits]
    situation: Ints  # [visits] the likeliest, as it was read
    asked: Ints  # visits of which the oracle was asked; worth[ORACLE] is of these

    def mean(self, policy: str) -> float:
        """Over the visits after WARM of which the oracle was asked."""
        return float(self._of(policy)[self.asked >= WARM].mean())

    def gain(self, policy: str) -> float:
        """Of the way from the best static order to the oracle."""
        still = max(self.mean(name) for name in STATIC)
        return (self.mean(policy) - still) / (self.mean(ORACLE) - still)

    def regret(self, policy: str) -> Doubles:
        """float64 [BINS]: mean worth lost against the oracle, by stretch of visits."""
        lost = self.worth[ORACLE] - self._of(policy)
        return np.array([part.mean() for part in np.array_split(lost, BINS)])

    def by_situation(self, policy: str) -> dict[int, float]:
        """Mean worth lost against the oracle after WARM, by situation."""
        late = self.asked >= WARM
        lost, here = (self.worth[ORACLE] - self._of(policy))[late], self.situation[self.asked][late]
        return {int(s): float(lost[here == s].mean()) for s in np.unique(here)}

    def _of(self, policy: str) -> Doubles:
        worth = self.worth[policy]
        return worth if policy == ORACLE else worth[self.asked]


def run(
    world: World,
    sessions: int,
    situations: Situations,
    settings: ChoiceSettings,
    acts_worth: Doubles,
    seed: int,
) -> Course:
    """Let both learners meet at least so many visits; `acts_worth` float64 [ACTS]."""
    days: list[PageDay] = []
    read: list[Ints] = []
    asked: list[Ints] = []
    pages: dict[str, list[Doubles]] = {WITH: [], WITHOUT: [], ORACLE: []}
    learners: dict[str, Learner] = {}
    states: dict[str, UserState] = {}
    done = 0
    for day in page_days(world, days=10_000):
        if not learners:
            for name, count in ((WITH, len(situations.names)), (WITHOUT, 1)):
                rng = np.random.default_rng((seed, count))
                learners[name] = Learner(settings, day.modules, count, acts_worth, rng)
        orders, here = _live(day, learners, situations, states)
        for name, order in orders.items():
            pages[name].append(_expected(day, order))
        rows = np.arange(-done % ORACLE_EVERY, len(day), ORACLE_EVERY)
        pages[ORACLE].append(_expected(day, _by_worth(day, rows), rows))
        days.append(day)
        read.append(here)
        asked.append(rows + done)
        done += len(day)
        if done >= sessions:
            break
    situation = np.concatenate(read)
    worth = {name: np.concatenate(parts) for name, parts in pages.items()}
    return Course(worth | _static(days, situation), situation, np.concatenate(asked))


def act_worths(objective: Objective, actions: Actions) -> Doubles:
    """float64 [ACTS]: what an act is worth by the objective."""
    terms = {name: number for number, name in enumerate(actions.by_name)}
    worth = np.append(objective.worth_of_acts(terms), np.zeros(len(terms)))
    return np.array([worth[terms[name]] for name in ACTS])


def _live(
    day: PageDay,
    learners: Mapping[str, Learner],
    situations: Situations,
    states: dict[str, UserState],
) -> tuple[dict[str, Ints], Ints]:
    """A day of visits: each learner's pages [n, PLACES], and the situations that were read."""
    acts = np.stack([day.acts[name] for name in ACTS], axis=2)
    orders = {name: np.full((len(day), PLACES), -1) for name in learners}
    here = np.zeros(len(day), np.int64)
    for row in range(len(day)):
        visit = day.visit(row)
        at_ms = int(visit.at_s * 1000)
        device, _ = read_device(visit.device)
        state = states.setdefault(visit.user_id, UserState())
        moment = situations.read(state, device, at_ms)
        fold(state, MomentRecord(ts=at_ms, arrived=at_ms, user_id="", moment=told_of(moment)))
        here[row] = likeliest(moment)
        since_ms = at_ms - int(day.core.start_s * 1000)
        for name, learner in learners.items():
            situation = int(here[row]) if learner.situations > 1 else 0
            at = Here(situation, 0, part_of(moment.hour))
            page = learner.order(visit.user_id, at, since_ms, day.available[row])
            orders[name][row] = page
            reached = day.look(row, page)
            seen = page[: len(reached)]
            done = acts[row, seen] * reached[:, None]
            learner.learn(visit.user_id, at, since_ms, seen, done)
    return orders, here


def _by_worth(day: PageDay, rows: Ints) -> Ints:
    """The oracle's pages: int [rows, PLACES]."""
    worth = np.where(day.available[rows], day.oracle(rows), -1.0)
    return _cut(np.argsort(-worth, axis=1), day.available[rows])


def _cut(order: Ints, available: Flags) -> Ints:
    """The first PLACES that are there, −1 below the end."""
    there = np.take_along_axis(available, order, axis=1)
    up = np.argsort(~there, axis=1, kind="stable")
    return np.take_along_axis(np.where(there, order, -1), up, axis=1)[:, :PLACES]


def _expected(day: PageDay, pages: Ints, rows: Ints | None = None) -> Doubles:
    return day.expected_of(pages, np.arange(len(day)) if rows is None else rows)


def _static(days: Sequence[PageDay], situation: Ints) -> dict[str, Doubles]:
    """Orders that never change: as listed, by mean worth, and by mean worth in each situation."""
    worth = np.concatenate([day.worth for day in days])
    there = np.concatenate([day.available for day in days])
    mean = (worth * there).sum(axis=0) / there.sum(axis=0)
    modules = worth.shape[1]
    orders = {
        "fixed": np.broadcast_to(np.arange(modules), worth.shape),
        "popularity": np.broadcast_to(np.argsort(-mean), worth.shape),
        "static by situation": np.empty(worth.shape, np.int64),
    }
    for number in np.unique(situation):
        rows = situation == number
        total = (worth[rows] * there[rows]).sum(axis=0) + SHRUNK * mean
        order = np.argsort(-total / (there[rows].sum(axis=0) + SHRUNK))
        orders["static by situation"][rows] = order
    ends = np.cumsum([len(day) for day in days])[:-1]
    return {
        name: np.concatenate([
            _expected(day, _cut(part, day.available))
            for day, part in zip(days, np.split(order, ends), strict=True)
        ])
        for name, order in orders.items()
    }  # fmt: skip
