"""Filling a page: the chance of every choice and of the whole order is what is logged, whatever
pins, order, exclusion and shared items close on the way."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from engine.actions import load_actions
from engine.catalog import Catalog
from engine.module_book import ModuleBook
from engine.module_choice import Estimates, shares
from engine.module_counts import ModuleCounts
from engine.module_slots import Asked, Offer, Slot, fill_page
from engine.modules import Module, ModuleItems, ModulesFile
from engine.objective import load_objective
from engine.recommending import SlateSettings
from engine.slate import Pool
from engine.slot_rules import NO_SLOT_RULES

NOW = 1_770_000_000_000
FIXED = SlateSettings(explore=0.0, diversity=0.0)  # the items of a module are no matter of luck
FLOOR = 0.1
ROWS = 24  # of the pool, best first


@dataclass(frozen=True)
class Told:
    """A module as a test names it."""

    rows: Sequence[int]
    worth: float = 1.0
    doubt: float = 0.5
    least: int = 1
    most: int = 2
    pin: int | None = None
    below: Sequence[str] = ()


@dataclass(frozen=True)
class World:
    modules: Mapping[str, Told]
    apart: Sequence[Sequence[str]] = ()
    slots: int = 4
    offers: list[Offer] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        file = ModulesFile(
            {
                name: Module(
                    name,
                    ModuleItems("for_you", least=told.least, most=told.most),
                    pin=told.pin,
                    below=list(told.below),
                )
                for name, told in self.modules.items()
            },
            never_together=[list(group) for group in self.apart],
        )
        objective = load_objective(load_actions())
        book = ModuleBook(file, ["unknown"], objective, ModuleCounts(), Catalog(), NOW)
        values = np.linspace(1, 0, ROWS, dtype=np.float32)
        pool = Pool(values, np.full((ROWS, 4), -1, np.int32), NO_SLOT_RULES)
        for shelf, told in zip(book.shelves, self.modules.values(), strict=True):
            self.offers.append(Offer(shelf, np.array(told.rows, np.intp), pool))

    @property
    def names(self) -> list[str]:
        return list(self.modules)

    @property
    def found(self) -> Estimates:
        worths = [told.worth for told in self.modules.values()]
        doubts = [told.doubt for told in self.modules.values()]
        return Estimates(np.log(np.array(worths)), np.array(doubts))

    def fill(self, seed: int, explore: bool = True, items: int = 10) -> list[Slot]:
        return self.filled(seed, explore, items)[0]

    def filled(
        self, seed: int = 1, explore: bool = True, items: int = 10, rules: SlateSettings = FIXED
    ) -> tuple[list[Slot], dict[str, str]]:
        asked = Asked(self.slots, items, seed, explore, FLOOR)
        slots, why = fill_page(self.offers, self.found, rules, asked)
        return slots, {self.names[n]: text for n, text in why.items()}

    def order(self, slots: Sequence[Slot]) -> tuple[str, ...]:
        return tuple(self.names[slot.module] for slot in slots)

    # -- the rules once more, in plain Python

    def open_now(self, above: Sequence[str]) -> list[str]:
        """The modules that may take the slot below these."""
        taken = {row for name, rows in self.held(above) for row in rows}
        apart = {n for group in self.apart for a in above if a in group for n in group}
        rest = [
            name
            for name, told in self.modules.items()
            if name not in above and name not in apart and len(set(told.rows) - taken) >= told.least
        ]
        free = [name for name in rest if not set(self.modules[name].below) & set(rest)]
        pins = {name: pin for name in free if (pin := self.modules[name].pin)}
        due = {name: pin for name, pin in pins.items() if pin <= len(above) + 1}
        if due:
            return [name for name, pin in due.items() if pin == min(due.values())]
        unpinned = [name for name in free if name not in pins]
        return unpinned or [name for name, pin in pins.items() if pin == min(pins.values())]

    def held(self, above: Sequence[str]) -> list[tuple[str, list[int]]]:
        """What each of the modules shows."""
        taken: set[int] = set()
        shown = []
        for name in above:
            told = self.modules[name]
            rows = [row for row in sorted(told.rows) if row not in taken][: told.most]
            taken |= set(rows)
            shown.append((name, rows))
        return shown

    def chances(self, above: Sequence[str]) -> dict[str, float]:
        """π(· | above)."""
        open_ = self.open_now(above)
        if any(self.modules[name].pin for name in open_):
            return {open_[0]: 1.0}
        mask = np.array([name in open_ for name in self.names])
        found = dict(zip(self.names, shares(self.found, mask, FLOOR).tolist(), strict=True))
        return {name: found[name] for name in open_}

    def orders(self, above: tuple[str, ...] = (), chance: float = 1.0) -> Iterator[Any]:
        """Every page that there can be, and its chance."""
        open_ = self.chances(above) if len(above) < self.slots else {}
        if not open_:
            yield above, chance
        for name, share in open_.items():
            yield from self.orders((*above, name), chance * share)


WORLDS = {
    "free": World({n: Told([2 * k, 2 * k + 1], w) for k, (n, w) in enumerate(zip(
        "abcd", [1, 2, 0.5, 1.5], strict=True))}),
    "shared": World(  # placing one closes another, which one depends on the order
        {
            "a": Told([0, 1, 2, 3], 1.0, 1.0, least=2, most=3),
            "b": Told([2, 3, 4], 1.2, 0.3, least=2),
            "c": Told([3, 4, 5], 0.8, 0.6, least=3, most=3),
            "d": Told([0, 5, 6], 2.0, 0.8, least=2),
        }
    ),
    "apart": World(
        {n: Told([k, k + 1], w, least=1 + k % 2) for k, (n, w) in enumerate(zip(
            "abcd", [1, 2, 0.5, 1.5], strict=True))},
        apart=["ab", "bd"],
    ),
    "below": World(
        {
            "a": Told([0, 1], 3.0, below="b"),
            "b": Told([2, 3], 0.7, 1.2),
            "c": Told([1, 3, 5], 1.1, least=2, below="d"),
            "d": Told([0, 6], 0.9),
        },
        slots=3,
    ),
    "pinned": World(
        {
            "a": Told([0, 1], 1.0, pin=2),
            "b": Told([2, 3], 1.3),
            "c": Told([4, 5], 0.6),
            "d": Told([3, 5, 7], 0.9, 0.1, least=2),
        }
    ),
    "all": World(
        {
            "pin": Told([0, 1, 2], 1.0, least=2, pin=2),
            "a": Told([0, 3, 4], 2.0, 0.9, least=2),
            "b": Told([1, 4, 5], 1.0, 0.4, least=2, most=3),
            "c": Told([6, 7, 5], 1.5, 0.7, least=2, below="a"),
            "d": Told([3, 7, 8], 0.4, 1.5, least=2),
        },
        apart=["bd"],
        slots=4,
    ),
}  # fmt: skip
TEN = World(
    {
        f"m{k}": Told(
            [k, k + 1, (3 * k) % ROWS],
            1 + 0.1 * k,
            0.2 + 0.1 * k,
            least=1 + k % 2,
            pin={4: 3}.get(k),
            below={7: ["m1"]}.get(k, ()),
        )
        for k in range(10)
    },
    apart=[["m2", "m3"], ["m5", "m6", "m8"]],
    slots=3,
)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_what_is_logged_is_the_policys_own_chance(world: World) -> None:
    for seed in range(300):
        slots = world.fill(seed)
        order = world.order(slots)
        for place, slot in enumerate(slots):
            chances = world.chances(order[:place])
            assert slot.propensity == pytest.approx(chances[order[place]], rel=1e-12)
            assert [world.names[n] for n in slot.eligible] == list(chances)
            assert slot.pinned == bool(world.modules[order[place]].pin)
        held = [rows for _, rows in world.held(order)]
        assert [[c.row for c in slot.choices] for slot in slots] == held
        assert len(order) == world.slots or not world.open_now(order)


def chi_squared(cells: Sequence[tuple[int, float]]) -> tuple[float, int]:
    """Statistic and degrees of freedom of (seen, expected); rare ones joined, so that χ² holds."""
    seen = sum(n for n, _ in cells)
    kept = [(n, e) for n, e in cells if e >= 10]
    rare = sum(e for _, e in cells if e < 10)
    if rare >= 5:
        kept.append((seen - sum(n for n, _ in kept), rare))
    return sum((n - e) ** 2 / e for n, e in kept), len(kept) - 1


def check_orders(world: World, draws: int) -> None:
    """χ² of the frequencies of all whole pages, against what each page logged."""
    possible = dict(world.orders())
    assert sum(possible.values()) == pytest.approx(1.0, rel=1e-12)
    seen: Counter[tuple[str, ...]] = Counter()
    logged: dict[tuple[str, ...], float] = {}
    weights = np.empty(draws)
    for seed in range(draws):
        slots = world.fill(seed)
        order = world.order(slots)
        joint = math.prod(slot.propensity for slot in slots)
        assert logged.setdefault(order, joint) == joint
        seen[order] += 1
        # A policy that takes every possible page alike has the mean weight 1.
        weights[seed] = 1 / (len(possible) * joint)
    assert set(seen) <= set(possible)
    assert logged == pytest.approx({order: possible[order] for order in logged}, rel=1e-12)
    cells = [(seen[order], chance * draws) for order, chance in possible.items()]
    statistic, freedom = chi_squared(cells)
    assert freedom >= 2
    assert chi2.sf(statistic, freedom) > 1e-3, (statistic, freedom)
    assert abs(weights.mean() - 1) <= 3 * weights.std() / math.sqrt(draws)


def check_slots(world: World, draws: int) -> None:
    """χ² of every slot's conditional frequencies, and the inverse-propensity weights."""
    seen: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    logged: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    weights = []
    for seed in range(draws):
        slots = world.fill(seed)
        order = world.order(slots)
        for place, slot in enumerate(slots):
            above, name = order[:place], order[place]
            seen[above][name] += 1
            assert logged[above].setdefault(name, slot.propensity) == slot.propensity
            weights.append(1 / (len(slot.eligible) * slot.propensity))
    statistic, freedom = 0.0, 0
    for above, chosen in seen.items():
        drawn = chosen.total()
        chances = world.chances(above)
        assert logged[above] == pytest.approx({n: chances[n] for n in logged[above]}, rel=1e-12)
        found = chi_squared([(chosen[name], share * drawn) for name, share in chances.items()])
        if found[1] > 0:
            statistic, freedom = statistic + found[0], freedom + found[1]
    assert freedom >= 8
    assert chi2.sf(statistic, freedom) > 1e-3, (statistic, freedom)
    assert abs(np.mean(weights) - 1) <= 3 * np.std(weights) / math.sqrt(len(weights))


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_frequencies_of_whole_pages_match_what_is_logged(world: World) -> None:
    check_orders(world, 30_000 // len(WORLDS))


def test_frequencies_of_each_slot_match_what_is_logged_at_ten_modules() -> None:
    check_slots(TEN, 6_000)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_frequencies_of_whole_pages_over_a_million_draws(world: World) -> None:
    check_orders(world, 1_000_000 // len(WORLDS) + 1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_frequencies_of_each_slot_over_many_draws() -> None:
    check_slots(TEN, 150_000)


def test_a_pin_takes_its_slot_and_moves_up_where_nothing_else_is_left() -> None:
    modules = {"low": Told([0, 1], pin=9), "mid": Told([2, 3], pin=3), "a": Told([4, 5])}
    alone = World(modules, slots=10)
    more = World(modules | {"b": Told([6]), "c": Told([7]), "d": Told([8])}, slots=10)

    for seed in range(20):
        assert alone.order(alone.fill(seed)) == ("a", "mid", "low")
        filled = more.order(more.fill(seed))
        assert (filled[2], filled[5]) == ("mid", "low")


def test_a_pin_whose_items_are_gone_leaves_its_slot_to_others() -> None:
    world = World(
        {"a": Told([0, 1, 2, 3], 5.0, most=4), "pin": Told([2, 3], least=1, pin=2), "b": Told([9])}
    )
    slots, why = world.filled(explore=False)

    assert world.order(slots) == ("a", "b")
    assert why == {"pin": "0 of at least 1 items"}


def test_why_a_module_is_not_on_the_page() -> None:
    world = World(
        {
            "a": Told([0, 1], 9.0, most=2),
            "taken": Told([0, 1, 2], 8.0, least=2),
            "foe": Told([3], 7.0),
            "b": Told([4], 6.0),
            "under": Told([5], 5.0, below=["late"]),
            "late": Told([6], 1.0),
        },
        apart=[["a", "foe"]],
        slots=2,
    )
    slots, why = world.filled(explore=False)

    assert world.order(slots) == ("a", "b")
    assert why == {
        "taken": "1 of at least 2 items",
        "foe": "never together with a",
        "under": "waits for a module above it",
        "late": "the page is full",
    }


def test_below_what_cannot_come_is_free() -> None:
    """`below` is kept where the other comes at all."""
    world = World({"a": Told([0], below=["b"]), "b": Told([], 9.0), "c": Told([1], 0.1)})

    assert world.order(world.fill(1, explore=False)) == ("a", "c")


def test_without_exploration_the_best_stands_first_and_luck_has_no_part() -> None:
    """`worth` counts with half its variance, as the mean of a log-normal does."""
    world = World({"a": Told([0], 1.0, 0.1), "b": Told([1], 2.0, 0.1), "c": Told([2], 0.9, 2.0)})
    pages = [world.fill(seed, explore=False) for seed in range(20)]

    assert {world.order(slots) for slots in pages} == {("c", "b", "a")}
    assert {slot.propensity for slots in pages for slot in slots} == {1.0}
    tie = World({name: Told([k]) for k, name in enumerate("abc")})
    assert tie.order(tie.fill(1, explore=False)) == ("a", "b", "c")


def test_the_first_slots_do_not_depend_on_how_many_follow() -> None:
    for seed in range(30):  # nothing is rearranged afterwards
        few = World(TEN.modules, TEN.apart, slots=2).fill(seed)
        assert World(TEN.modules, TEN.apart, slots=7).fill(seed)[:2] == few


def test_the_same_seed_gives_the_same_page() -> None:
    rules = SlateSettings(explore=0.5)
    pages = [TEN.filled(seed, rules=rules) for seed in range(30)]

    assert pages == [TEN.filled(seed, rules=rules) for seed in range(30)]
    assert len({TEN.order(slots) for slots, _ in pages}) > 10


def test_nothing_is_offered() -> None:
    assert World({"a": Told([])}).filled() == ([], {"a": "0 of at least 1 items"})
    assert fill_page([], TEN.found, FIXED, Asked(3, 3, 1, True, FLOOR)) == ([], {})


NAMES = "abcdefg"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any modules whatever, of whose orders some can never be."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    modules = {}
    for place, name in enumerate(names):
        most = draw(st.integers(1, 4))
        modules[name] = Told(
            rows=draw(st.lists(st.integers(0, 11), max_size=6, unique=True)),
            worth=draw(st.sampled_from([1e-6, 0.1, 1.0, 3.0])),
            doubt=draw(st.sampled_from([1e-9, 0.3, 2.0])),
            least=draw(st.integers(1, most)),
            most=most,
            pin=draw(st.none() | st.integers(1, 6)),
            below=draw(st.lists(st.sampled_from(names[:place]), max_size=2)) if place else (),
        )
    pins = Counter(told.pin for told in modules.values())
    modules = {  # two never share a slot: the file is refused
        name: told if pins[told.pin] == 1 else replace(told, pin=None)
        for name, told in modules.items()
    }
    apart = draw(st.lists(st.lists(st.sampled_from(names), max_size=3, unique=True), max_size=2))
    return World(modules, apart, slots=draw(st.integers(1, 8)))


@settings(max_examples=100, deadline=None)
@given(world=worlds(), seed=st.integers(0, 2**63 - 1), explore=st.booleans())
def test_any_page_keeps_the_rules(world: World, seed: int, explore: bool) -> None:
    slots, why = world.filled(seed, explore)
    order = world.order(slots)

    assert len(set(order)) == len(order) <= world.slots
    assert set(why) == set(world.names) - set(order)
    shown = [choice.row for slot in slots for choice in slot.choices]
    assert len(set(shown)) == len(shown)
    for place, (name, slot) in enumerate(zip(order, slots, strict=True)):
        told = world.modules[name]
        assert told.least <= len(slot.choices) <= told.most
        assert {choice.row for choice in slot.choices} <= set(told.rows)
        assert not set(told.below) & set(order[place:])
        assert 0 < slot.propensity <= 1
        assert [world.names[n] for n in slot.eligible] == world.open_now(order[:place])
    assert len(order) == world.slots or not world.open_now(order)
    for group in world.apart:
        assert len(set(group) & set(order)) <= 1
