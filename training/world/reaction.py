"""What people do with a list they are shown, and what it does to them."""

from __future__ import annotations

from dataclasses import dataclass

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
    def value(self) -> Floats:
        """Worth of each visit: float [n]."""
        happened = {"click": self.clicked, "add_to_cart": self.carted, "save": self.saved,
                    "cook": self.cooked, "dismiss": self.dismissed}  # fmt: skip
        return np.asarray(sum(WORTH[name] * acts.sum(axis=1) for name, acts in happened.items()))


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
    worth = given.value
    length = worth.shape[1]
    reached, total = np.ones(len(worth)), np.zeros(len(worth))
    patience = people.patience[moments.person]
    for position in range(length):
        total += reached * worth[:, position]
        opens = given.click[:, position]
        on = law.keep_looking(position, patience, np.ones(len(worth), dtype=np.bool_))
        past = law.keep_looking(position, patience, np.zeros(len(worth), dtype=np.bool_))
        reached = reached * (opens * on + (1.0 - opens) * past)
    return np.where(moments.on_tablet, worth @ law.grid(length, COLUMNS), total)


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
