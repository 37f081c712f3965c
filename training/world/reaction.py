"""What people do with a list they are shown, and what it does to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.world.appeal import Facts, Need, appeal
from training.world.arrays import DAY_S, Bools, Floats, Ints
from training.world.attention import COLUMNS
from training.world.laws import Law
from training.world.lives import Lives
from training.world.moments import Moments
from training.world.people import People
from training.world.recipes import Recipes

# What a visit is worth: the measure of every policy in this world.
WORTH = {"click": 0.1, "add_to_cart": 0.4, "save": 0.4, "cook": 1.0, "dismiss": -0.3}
# Chances once a recipe is open and suits, by purpose: cook, shop, plan, browse, pass.
COOKS = np.array([0.9, 0.6, 0.2, 0.12, 0.08])
SAVES = np.array([0.1, 0.2, 0.6, 0.35, 0.15])
CARTS = np.array([0.1, 0.6, 0.15, 0.02, 0.01])
DISMISSES = 0.05
AWAY_SPREAD = 1.5  # of the logarithm of an absence: some never come back
PLEASED = 0.06  # goodwill of a recipe cooked


@dataclass(frozen=True)
class Chances:
    """Of each recipe for those who look at it, [n, k]; the later four once it is opened."""

    click: Floats
    dismiss: Floats
    cook: Floats
    save: Floats
    cart: Floats
    disappoint: Floats

    @property
    def there(self) -> Bools:
        """Where there is a recipe at all: bool [n, k]."""
        return np.asarray(self.click > 0)  # curiosity alone makes it more than nothing

    @property
    def use(self) -> Floats:
        """Chance that it is of use, once it is opened: float [n, k]."""
        return np.asarray(1.0 - (1.0 - self.cook) * (1.0 - self.save) * (1.0 - self.cart))

    def of_rows(self, rows: int, there: Bools) -> Chances:
        """Cut into so many rows, and nothing where no recipe is `there`: bool [rows, k]."""
        cut = {name: column.reshape(rows, -1) for name, column in vars(self).items()}
        bare = Chances(**cut)
        return replace(bare, click=bare.click * there, dismiss=bare.dismiss * there)

    @property
    def value(self) -> Floats:
        """Expected worth of a recipe that is looked at: float [n, k]."""
        opened = WORTH["click"] + self.cook * WORTH["cook"]
        opened = opened + self.save * WORTH["save"] + self.cart * WORTH["add_to_cart"]
        return self.click * opened + (1.0 - self.click) * self.dismiss * WORTH["dismiss"]


@dataclass(frozen=True)
class Reaction:
    """What happened, bool [n, k] unless said."""

    looked: Bools
    clicked: Bools
    dismissed: Bools
    cooked: Bools
    saved: Bools
    carted: Bools
    disappointed: Bools
    seen: Bools  # came into view, whether anyone looked or not

    @property
    def acts(self) -> dict[str, Bools]:
        """What the log calls them, in the order in which they follow each other."""
        return {"click": self.clicked, "dismiss": self.dismissed, "save": self.saved,
                "add_to_cart": self.carted, "cook": self.cooked}  # fmt: skip

    @property
    def value(self) -> Floats:
        """Worth of each visit: float [n]."""
        return np.asarray(sum(WORTH[name] * acts.sum(axis=1) for name, acts in self.acts.items()))

    @property
    def useful(self) -> Bools:
        """Whether anything was of use: bool [n]."""
        return np.asarray((self.cooked | self.saved | self.carted).any(axis=1))

    def only(self, where: Bools, seen: Bools) -> Reaction:
        """What happened there and nowhere else, having seen what was seen."""
        rest = {name: column & where for name, column in vars(self).items()}
        return Reaction(**(rest | {"seen": seen}))

    def reshape(self, rows: int) -> Reaction:
        """The same in so many rows."""
        return Reaction(**{name: column.reshape(rows, -1) for name, column in vars(self).items()})


def facts(recipes: Recipes, items: Ints) -> Facts:
    """What a choice turns on; `items` int [n, k] or [1, k]."""
    return Facts(
        cuisine=recipes.cuisine[items],
        course=recipes.course[items],
        ingredients=recipes.ingredients[items],
        diet=recipes.diet[items],
        spoils=recipes.spoils[items],
        minutes=recipes.minutes[items],
        servings=recipes.servings[items],
        hearty=recipes.hearty[items],
        showy=recipes.showy[items],
        item=items,
    )


def chances(law: Law, recipes: Recipes, need: Need, items: Ints) -> Chances:
    """What each recipe (int [n, k] or [1, k]) would bring from those who look at it."""
    suits = appeal(need, facts(recipes, items), law.combine, law.situation_matters)
    lure, substance = recipes.lure[items], recipes.substance[items]
    click = 1.0 - np.exp(-law.gain * suits - law.curiosity * lure)
    # Who opens a thing out of need has a use for it; who was lured has none.
    use = suits**0.35 * substance
    purpose = need.purpose[:, None]
    return Chances(
        click=click,
        dismiss=DISMISSES * (1.0 - suits),
        cook=use * COOKS[purpose],
        save=use * SAVES[purpose],
        cart=use * CARTS[purpose],
        disappoint=np.broadcast_to(0.75 * (1.0 - substance) ** 2, suits.shape),
    )


def react(
    law: Law, people: People, moments: Moments, given: Chances, rng: np.random.Generator
) -> Reaction:
    """Look, open, use."""
    luck = rng.random((7, *given.click.shape))
    clicks = luck[0] < given.click
    looked = np.where(
        moments.on_tablet[:, None],
        luck[1] < law.grid(luck.shape[2], COLUMNS),
        cascade(law, people.patience[moments.person], clicks, luck[1]),
    )
    # Whole screens: two rows of a tablet's grid, two recipes of a phone's list.
    seen = whole_screens(looked, np.where(moments.on_tablet, 2 * COLUMNS, 2))
    return act(given, looked, seen, clicks, luck[2:])


def act(given: Chances, looked: Bools, seen: Bools, clicks: Bools, luck: Floats) -> Reaction:
    """What those who look do: `clicks` are theirs if they look; luck float [5, n, k]."""
    clicked = looked & clicks
    return Reaction(
        looked=looked,
        clicked=clicked,
        dismissed=looked & ~clicked & (luck[0] < given.dismiss),
        cooked=clicked & (luck[1] < given.cook),
        saved=clicked & (luck[2] < given.save),
        carted=clicked & (luck[3] < given.cart),
        disappointed=clicked & (luck[4] < given.disappoint),
        seen=seen,
    )


def expected_worth(law: Law, people: People, moments: Moments, given: Chances) -> Floats:
    """Mean worth of each visit, float [n]: what `react` comes to if luck is drawn again and again.

    What happened scatters three times as widely as this over people and moments.
    """
    total, _ = cascade_worth(law, people.patience[moments.person], given)
    worth = given.value
    return np.where(moments.on_tablet, worth @ law.grid(worth.shape[1], COLUMNS), total)


def cascade_worth(
    law: Law, patience: Floats, given: Chances, at_once: Ints | int = 1
) -> tuple[Floats, Floats]:
    """Mean worth of each row and the chance that something in it is of use: float [n] each."""
    worth, use = given.value, given.use
    total, useful = np.zeros(len(worth)), np.zeros(len(worth))
    reached, in_vain = np.ones(len(worth)), np.ones(len(worth))  # in vain so far
    opened = np.ones(len(worth), dtype=np.bool_)
    for position in range(worth.shape[1]):
        opens, of_use = given.click[:, position], use[:, position]
        total += reached * worth[:, position]
        useful += in_vain * opens * of_use
        all_go = position + 1 < at_once
        on = np.where(all_go, 1.0, law.keep_looking(position, patience, opened))
        past = np.where(all_go, 1.0, law.keep_looking(position, patience, ~opened))
        reached = reached * (opens * on + (1.0 - opens) * past)
        in_vain = in_vain * (opens * (1.0 - of_use) * on + (1.0 - opens) * past)
    return total, useful


def cascade(
    law: Law, patience: Floats, clicks: Bools, luck: Floats, at_once: Ints | int = 1
) -> Bools:
    """On and on until someone stops; the first `at_once` are looked at by all."""
    looked = np.zeros(clicks.shape, dtype=np.bool_)
    going = np.ones(len(clicks), dtype=np.bool_)
    for position in range(clicks.shape[1]):
        looked[:, position] = going
        on = luck[:, position] < law.keep_looking(position, patience, clicks[:, position])
        going &= on | (position + 1 < at_once)
    return looked


def whole_screens(looked: Bools, step: Ints | int) -> Bools:
    """What came into view, bool [n, k]: full screens of `step`, the first one at least."""
    length = looked.shape[1]
    deepest = np.where(looked.any(axis=1), length - looked[:, ::-1].argmax(axis=1), 1)
    return np.arange(length) < (-(-deepest // step) * step)[:, None]


def settle(
    law: Law,
    lives: Lives,
    recipes: Recipes,
    moments: Moments,
    items: Ints,
    reaction: Reaction,
    rng: np.random.Generator,
) -> None:
    """What the visit leaves behind in people: satiation, goodwill, an absence."""
    person = moments.person
    for position in range(items.shape[1]):
        rows = np.flatnonzero(reaction.clicked[:, position])
        if len(rows):
            item = items[rows, position]
            weight = 0.4 + 0.6 * reaction.cooked[rows, position]
            lives.tire(person[rows], item, recipes.cuisine[item], weight)
    sour = reaction.disappointed.sum(axis=1)
    lives.feel(person, PLEASED * reaction.cooked.sum(axis=1) - law.hurt * sour)
    luck = rng.random(len(person))
    days = law.away_days * rng.lognormal(0.0, AWAY_SPREAD, len(person))
    leaves = luck < 1.0 - (1.0 - law.leave) ** sour
    until_s = np.where(leaves, moments.at_s + days * DAY_S, 0.0)
    lives.away_until_s[person] = np.maximum(lives.away_until_s[person], until_s)
