"""When people open the app of themselves on a day, and whom the old campaigns wrote to."""

from __future__ import annotations

import numpy as np

from training.world.arrays import DAY_S, Bools, Floats, Ints
from training.world.lives import Lives
from training.world.people import WEB, People

CHANCES = 3  # occasions a day on which someone may open the app
APART_S = 900.0  # less than this between two is one visit


def organic_visits(
    people: People, lives: Lives, day_s: float, offset_s: Floats, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Who (int [n]) and when (float [n], unix seconds), by person and then time."""
    persons = len(people)
    luck = rng.random((3, persons, CHANCES))  # drawn for all, so that a day is alike whoever comes
    rate = people.habit * np.where(lives.away_until_s > day_s, 0.0, lives.goodwill / 0.9)
    happens = luck[0] < (rate / CHANCES)[:, None]
    offset = offset_s[people.zone[people.account]]
    weekend = (((day_s + DAY_S / 2 + offset) // DAY_S + 3) % 7 >= 5).astype(np.int64)
    below = np.cumsum(people.visiting[np.arange(persons), weekend], axis=1)
    hour = (luck[1][:, :, None] > below[:, None, :]).sum(axis=2)
    local_s = (np.minimum(hour, 23) + luck[2]) * 3600.0
    at_s = np.where(happens, day_s + (local_s - offset[:, None] - day_s) % DAY_S, np.inf)
    at_s = np.sort(at_s, axis=1)
    real = np.isfinite(at_s)
    real[:, 1:] &= np.diff(np.where(real, at_s, 1e12), axis=1) > APART_S
    person, occasion = np.nonzero(real)
    return person, at_s[person, occasion]


def turns(person: Ints, at_s: Floats) -> list[Ints]:
    """Rows of everyone's first visit, of everyone's second, and so on."""
    order = np.lexsort((at_s, person))
    first = np.flatnonzero(np.append(True, np.diff(person[order]) > 0)) if len(order) else order
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return [order[rank == turn] for turn in range(int(rank.max(initial=-1)) + 1)]


def campaign(
    people: People, lives: Lives, day_s: float, offset_s: Floats, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Accounts and times of the old pushes: to who was just here, when they come anyway."""
    owners = np.arange(people.accounts)
    idle_days = (day_s - lives.visited_s) / DAY_S
    eager = np.where(idle_days < 3, 0.4, 0.08) * np.minimum(people.habit[owners] + 0.4, 1.5)
    chosen = np.flatnonzero(reachable(people, lives) & (rng.random(len(owners)) < eager))
    usual = people.visiting[chosen].mean(axis=1).argmax(axis=1)
    local_s = (usual + rng.uniform(-0.7, 0.7, len(chosen))) * 3600.0
    offset = offset_s[people.zone[chosen]]
    return chosen, day_s + (local_s - offset - day_s) % DAY_S


def reachable(people: People, lives: Lives) -> Bools:
    """Accounts that a push can reach: bool [accounts]."""
    return np.asarray((people.platform != WEB) & ~lives.visitor & ~lives.push_off)
