"""The log of a past: day by day, what an old system decided and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

import numpy as np

from training.world.arrays import DAY_S, Bools, Floats, Ints
from training.world.calendar import campaign, organic_visits, turns
from training.world.core import Core, generator
from training.world.lines import Line
from training.world.moments import Moments, offsets_s
from training.world.people import WEB
from training.world.policies import OldPolicy, PolicyName, Slates, random_slates
from training.world.pushes import CATEGORIES, receive
from training.world.reaction import chances

SEARCHES = 0.1  # visits in which someone looks for something of their own
FOUND = 24  # recipes that a search turns up
GLANCES = 0.3  # chance that a phone reports between visits on a day
ATTRIBUTED_S = 3 * 3600.0  # an organic visit so soon after a push may count as its opening
ATTRIBUTED = 0.3


def write_history(core: Core, days: int, policy: PolicyName) -> Iterator[Line]:
    """The next `days` days in time order; what reaches beyond the last waits for the next call."""
    old = OldPolicy(core.recipes, generator(core.seed, "old policy", core.day))
    pending, core.unwritten = core.unwritten, []
    for _ in range(days):
        day_s = core.begin_day()
        pending += _day(core, old, policy, day_s)
        pending.sort(key=attrgetter("ts"))
        end_ms = (day_s + DAY_S) * 1000
        ready = next((n for n, line in enumerate(pending) if line.ts >= end_ms), len(pending))
        yield from pending[:ready]
        pending = pending[ready:]
    core.unwritten = pending


def _day(core: Core, old: OldPolicy, policy: PolicyName, day_s: float) -> list[Line]:
    offset_s = offsets_s(day_s + DAY_S / 2)
    rng = generator(core.seed, "history", core.day)
    person, at_s = organic_visits(
        core.people, core.lives, day_s, offset_s, generator(core.seed, "visits", core.day)
    )
    out, person, at_s = _campaign(core, day_s, offset_s, person, at_s, rng)
    moments = core.moments(person, at_s, rng)
    out += _glances(core, day_s, rng)
    for rows in turns(person, at_s):
        now = moments.rows(rows)
        slates = (
            old.slates(day_s, now.mood)
            if policy == "legacy"
            else random_slates(core.recipes, day_s, len(rows), rng)
        )
        out += _visits(core, old, now, slates, rng)
    return out


def _visits(
    core: Core, old: OldPolicy, now: Moments, slates: Slates, rng: np.random.Generator
) -> list[Line]:
    ids = [core.diary.decision_id() for _ in range(len(now))]
    decided = core.diary.decisions(now, slates.items, slates.propensity, ids)
    searched = _searched(core, now, rng)
    reaction = core.meet(now, slates.items, rng)
    old.learn(slates.items, reaction.clicked)
    events = core.diary.visits(now, slates.items, reaction, ids, rng, searched)
    return decided + events + core.let_in(now, rng)


def _searched(core: Core, now: Moments, rng: np.random.Generator) -> Ints:
    """What people find on their own: the most suitable of a few, −1 where nobody searches."""
    found = np.full(len(now), -1)
    rows = np.flatnonzero(rng.random(len(now)) < SEARCHES)
    items = rng.integers(len(core.recipes), size=(len(rows), FOUND))
    out_already = core.recipes.available_s[items] <= now.at_s[rows, None]
    if len(rows):
        searching = now.rows(rows)
        given = chances(core.law, core.recipes, core.lives.need(searching), items)
        best = np.where(out_already, given.click, -1.0).argmax(axis=1)
        picked = items[np.arange(len(rows)), best]
        found[rows] = np.where(out_already.any(axis=1), picked, -1)
        there = rows[found[rows] >= 0]
        cuisine = core.recipes.cuisine[found[there]]
        core.lives.tire(now.person[there], found[there], cuisine, np.full(len(there), 0.4))
    return found


def _campaign(
    core: Core,
    day_s: float,
    offset_s: Floats,
    person: Ints,
    at_s: Floats,
    rng: np.random.Generator,
) -> tuple[list[Line], Ints, Floats]:
    """The day's old pushes: what is reported of them, and the visits as they have become."""
    account, sent_s = campaign(core.people, core.lives, day_s, offset_s, rng)
    pushed = core.moments(account, sent_s, rng)
    effect = receive(core.law, core.people, core.lives, pushed, rng)
    gone = _driven_away(account[effect.stays_away], sent_s[effect.stays_away], person, at_s)
    person, at_s = person[~gone], at_s[~gone]
    opened_s = _attributed(account, sent_s, person, at_s, rng)
    opened_s = np.where(effect.comes, sent_s + effect.delay_s, opened_s)
    opened_s[effect.failed] = np.nan
    opens = ~np.isnan(opened_s)
    ids = [core.diary.message_id() for _ in range(len(account))]
    category = rng.integers(len(CATEGORIES), size=len(account))
    out = core.diary.pushes(pushed, effect, ids, category, opens)
    out += [
        core.diary.opened(int(account[n]), float(opened_s[n]) - 0.2, ids[n], int(category[n]))
        for n in np.flatnonzero(opens)
    ]
    extra = effect.comes
    person = np.concatenate([person, account[extra]])
    return out, person, np.concatenate([at_s, opened_s[extra]])


def _driven_away(away: Ints, since_s: Floats, person: Ints, at_s: Floats) -> Bools:
    """Visits that are not made: those of these persons after these times."""
    from_s = np.full(int(max(person.max(initial=0), away.max(initial=0))) + 1, np.inf)
    from_s[away] = since_s
    return at_s > from_s[person]


def _attributed(
    account: Ints, sent_s: Floats, person: Ints, at_s: Floats, rng: np.random.Generator
) -> Floats:
    """Organic visits that a platform takes for openings of a push: when, or NaN."""
    soonest = np.full(int(max(person.max(initial=0), account.max(initial=0))) + 1, np.inf)
    after = np.full(len(soonest), np.inf)
    after[account] = sent_s
    later = at_s > after[person]
    np.minimum.at(soonest, person[later], at_s[later])
    when = soonest[account]
    counts = (when - sent_s < ATTRIBUTED_S) & (rng.random(len(account)) < ATTRIBUTED)
    return np.where(counts, when, np.nan)


def _glances(core: Core, day_s: float, rng: np.random.Generator) -> list[Line]:
    owners = np.flatnonzero((rng.random(core.people.accounts) < GLANCES)
                            & (core.people.platform != WEB) & ~core.lives.visitor)  # fmt: skip
    at_s = day_s + rng.random(len(owners)) * DAY_S
    return core.diary.glances(core.moments(owners, at_s, rng))
