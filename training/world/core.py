"""The parts of a world and the three steps of every visit, whoever decided what is shown."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training.world.arrays import DAY_S, Floats, Ints
from training.world.diary import Diary
from training.world.laws import Law
from training.world.ledger import Ledger
from training.world.lines import Line
from training.world.lives import Lives
from training.world.modules import headings_of, lasting_liking
from training.world.moments import Moments, draw_moments, offsets_s
from training.world.page import Offer, prospect, react_to_page
from training.world.people import People, make_people
from training.world.reaction import Reaction, chances, expected_worth, react, settle
from training.world.recipes import Recipes, make_recipes
from training.world.sensors import Sensors

LETS_IN_AGAIN = 0.02  # per visit of someone who had switched pushes off


def generator(seed: int, name: str, day: int = 0) -> np.random.Generator:
    """Luck of its own for each purpose, so that one draw more here changes nothing there."""
    return np.random.default_rng((seed, zlib.crc32(name.encode()), day))


@dataclass
class Core:
    """Law, people and things; what changes is in `lives`, `ledger`, `day` and `unwritten`."""

    law: Law
    seed: int
    start_s: float
    sensors: Sensors
    recipes: Recipes
    people: People
    lives: Lives
    ledger: Ledger
    diary: Diary
    day: int = 0  # the next one to begin
    unwritten: list[Line] = field(default_factory=list)  # events dated after the last day
    _liking: dict[str, Floats] = field(default_factory=dict)  # of modules, by id

    def begin_day(self) -> float:
        """A night passes; when the day begins, in unix seconds."""
        self.lives.sleep(self.day, generator(self.seed, "night", self.day))
        self.day += 1
        return self.start_s + (self.day - 1) * DAY_S

    def moments(self, person: Ints, at_s: Floats, rng: np.random.Generator) -> Moments:
        """What each person's moment is like; zones change their clocks at the day's noon."""
        offset_s = offsets_s(self.start_s + (self.day - 0.5) * DAY_S)
        return draw_moments(self.people, self.sensors, person, at_s, offset_s, rng)

    def meet(self, moments: Moments, items: Ints, rng: np.random.Generator) -> Reaction:
        """People (each at most once) see lists (int [n, k]), act, and are changed by it."""
        given = chances(self.law, self.recipes, self.lives.need(moments), items)
        reaction = react(self.law, self.people, moments, given, rng)
        expected = expected_worth(self.law, self.people, moments, given)
        self._leave(moments, items, reaction, expected, rng)
        return reaction

    def meet_page(
        self, moments: Moments, modules: Sequence[str], items: Ints, rng: np.random.Generator
    ) -> Reaction:
        """The same for pages of modules (int [n, m, k], −1 where a row has ended)."""
        need, offer = self.lives.need(moments), self.offer(modules, items)
        due = prospect(self.law, self.people, self.recipes, moments, need, offer)
        reaction, expected = react_to_page(self.law, self.people, moments, due, rng)
        self._leave(moments, items.reshape(len(items), -1), reaction, expected, rng)
        return reaction

    def offer(self, modules: Sequence[str], items: Ints) -> Offer:
        """Modules by id with their recipes, int [n, m, k]; a liking of them lasts."""
        for name in modules:
            if name not in self._liking:
                luck = generator(self.seed, f"module {name}")
                self._liking[name] = lasting_liking(len(self.people), luck)
        liking = np.stack([self._liking[name] for name in modules], axis=1)
        return Offer(headings_of(modules), liking, items)

    def _leave(
        self,
        moments: Moments,
        items: Ints,
        reaction: Reaction,
        expected: Floats,
        rng: np.random.Generator,
    ) -> None:
        """Visits end: what they leave behind in people and in the ledger."""
        settle(self.law, self.lives, self.recipes, moments, items, reaction, rng)
        account = self.people.account[moments.person]
        self.lives.visited_s[account] = moments.at_s
        self.ledger.enter(account, moments.at_s, reaction.value, expected, items, reaction.seen)

    def let_in(self, moments: Moments, rng: np.random.Generator) -> list[Line]:
        """Some of those who had switched pushes off think better of it during a visit."""
        account = self.people.account[moments.person]
        changes = self.lives.push_off[account] & (rng.random(len(account)) < LETS_IN_AGAIN)
        self.lives.push_off[account[changes]] = False
        return [
            self.diary.let_in(int(account[row]), float(moments.at_s[row]))
            for row in np.flatnonzero(changes)
        ]


def make_core(
    law: Law, users: int, items: int, seed: int, start_s: float, sensors: Sensors
) -> Core:
    """Everything as it is before the first day."""
    recipes = make_recipes(items, start_s, generator(seed, "recipes"))
    people = make_people(users, law, generator(seed, "people"))
    lives = Lives(people, law)
    return Core(
        law=law,
        seed=seed,
        start_s=start_s,
        sensors=sensors,
        recipes=recipes,
        people=people,
        lives=lives,
        ledger=Ledger(start_s, items),
        diary=Diary(people, recipes, lives, start_s),
    )
