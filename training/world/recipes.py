"""Recipes: what everyone can read of them, and how good they really are, which nobody can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.arrays import DAY_S, Bools, Floats, Ints, shares

CUISINES = ("italian", "indian", "japanese", "mexican", "greek", "korean", "thai", "french",
            "levantine", "american", "german", "ethiopian")  # fmt: skip
COURSES = ("breakfast", "lunch", "dinner", "dessert", "snack")
COURSE_SHARE = (0.13, 0.22, 0.38, 0.17, 0.10)
DISHES = (("porridge", "pancakes", "hash"), ("salad", "wrap", "soup"), ("stew", "bake", "curry"),
          ("tart", "crumble", "mousse"), ("bites", "dip", "skewers"))  # fmt: skip
ADJECTIVES = ("Smoky", "Crispy", "Creamy", "Spicy", "Roasted", "Golden", "Tangy", "Herby")
VEGAN, VEGETARIAN, OMNIVORE = range(3)
# (name, who may eat it, whether it spoils)
PANTRY = (
    *((name, VEGAN, False) for name in ("lentil", "chickpea", "rice", "pasta", "oat", "bean",
                                        "coconut", "almond", "flour", "tomato", "chocolate")),
    *((name, VEGAN, True) for name in ("mushroom", "aubergine", "spinach", "squash", "tofu",
                                       "pepper", "apple", "mango", "berry", "avocado")),
    *((name, VEGETARIAN, True) for name in ("egg", "feta", "paneer", "cream", "yoghurt")),
    *((name, OMNIVORE, True) for name in ("chicken", "salmon", "prawn", "beef", "pork", "cod")),
)  # fmt: skip
INGREDIENTS = tuple(name for name, _, _ in PANTRY)
NONE = len(INGREDIENTS)  # fills the ingredient lists of short recipes
MOST_INGREDIENTS = 6
MEDIAN_MINUTES = (15, 20, 40, 35, 15)  # by course
CLICKBAIT = 0.12
LATER = 0.15  # share published in the eight weeks after the world begins


@dataclass(frozen=True)
class Recipes:
    """Columns over recipes; `lure` and `substance` are hidden, the rest is in the item events."""

    ids: list[str]
    titles: list[str]
    cuisine: Ints  # [n]
    course: Ints  # [n]
    ingredients: Ints  # [n, 6], NONE where there are fewer
    diet: Ints  # [n], the strictest eater it suits
    spoils: Floats  # [n], share of ingredients that have to be fresh
    minutes: Floats  # [n]
    servings: Ints  # [n]
    hearty: Bools  # [n]
    showy: Bools  # [n], something to put before guests
    lure: Floats  # [n] 0–1, how well title and photo sell it
    substance: Floats  # [n] 0–1, how good it is once opened
    clickbait: Bools  # [n]
    available_s: Floats  # [n], unix seconds

    def __len__(self) -> int:
        return len(self.ids)

    def tags(self, n: int) -> list[str]:
        """What a recipe is labelled with."""
        suits = ("vegan", "vegetarian")[self.diet[n] :]
        flags = {"quick": self.minutes[n] <= 20, "hearty": self.hearty[n], "showy": self.showy[n]}
        return [*suits, *(name for name, holds in flags.items() if holds)]

    def contents(self, n: int) -> list[str]:
        """The names of its ingredients."""
        return [INGREDIENTS[i] for i in self.ingredients[n] if i != NONE]


def make_recipes(count: int, start_s: float, rng: np.random.Generator) -> Recipes:
    """A seeded catalogue."""
    cuisine = rng.choice(len(CUISINES), count, p=shares(1.0 / np.arange(2, len(CUISINES) + 2)))
    course = rng.choice(len(COURSES), count, p=COURSE_SHARE)
    ingredients = _ingredients(cuisine, course, rng)
    real = ingredients != NONE
    eaters = np.append([diet for _, diet, _ in PANTRY], VEGAN)
    fresh = np.append([spoils for _, _, spoils in PANTRY], False)
    minutes = np.array(MEDIAN_MINUTES)[course] * rng.lognormal(0.0, 0.5, count)
    clickbait = rng.random(count) < CLICKBAIT
    later = rng.random(count) < LATER
    later[:1] = False  # there is always something to show
    age_s = np.where(later, -rng.uniform(0, 56, count), rng.uniform(1, 400, count)) * DAY_S
    return Recipes(
        ids=[f"recipe-{n:05}" for n in range(count)],
        titles=_titles(course, ingredients[:, 0], rng),
        cuisine=cuisine,
        course=course,
        ingredients=ingredients,
        diet=eaters[ingredients].max(axis=1),
        spoils=(fresh[ingredients] & real).sum(axis=1) / real.sum(axis=1),
        minutes=np.clip(np.round(minutes / 5) * 5, 5, 150),
        servings=rng.choice([1, 2, 4, 6, 8], count, p=[0.1, 0.35, 0.35, 0.12, 0.08]),
        hearty=rng.random(count) < 0.35,
        showy=rng.random(count) < 0.25,
        lure=np.where(clickbait, rng.uniform(0.8, 1.0, count), rng.beta(2, 6, count)),
        substance=np.where(clickbait, rng.uniform(0.02, 0.15, count), rng.beta(8, 2, count)),
        clickbait=clickbait,
        available_s=np.floor(start_s - age_s),
    )


def _ingredients(cuisine: Ints, course: Ints, rng: np.random.Generator) -> Ints:
    """Each cuisine and each course has its own larder."""
    larder = rng.gamma(0.5, 1.0, (len(CUISINES), len(INGREDIENTS))) + 0.02
    fits = rng.gamma(0.7, 1.0, (len(COURSES), len(INGREDIENTS))) + 0.02
    keys = np.log(larder[cuisine] * fits[course]) + rng.gumbel(size=(len(cuisine), NONE))
    chosen = np.argsort(-keys, axis=1)[:, :MOST_INGREDIENTS]
    chosen[np.arange(MOST_INGREDIENTS) >= rng.integers(3, 7, len(cuisine))[:, None]] = NONE
    return chosen


def _titles(course: Ints, main: Ints, rng: np.random.Generator) -> list[str]:
    adjectives = rng.integers(len(ADJECTIVES), size=len(course))
    dishes = rng.integers(len(DISHES[0]), size=len(course))
    seen: dict[str, int] = {}
    titles = []
    for a, m, c, d in zip(adjectives, main, course, dishes, strict=True):
        title = f"{ADJECTIVES[a]} {INGREDIENTS[m]} {DISHES[c][d]}"
        seen[title] = again = seen.get(title, 0) + 1
        titles.append(title if again == 1 else f"{title} no. {again}")
    return titles
