"""What happened, written down as events: only what an app and its platform would report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.world.arrays import Bools, Floats, Ints
from training.world.lines import (
    Alias,
    Decision,
    DeviceState,
    Impression,
    Interaction,
    Item,
    Line,
    Push,
    Shown,
    Slot,
    User,
)
from training.world.lives import Lives
from training.world.moments import Moments, device_of, unused_device
from training.world.people import ANDROID, CALLED, LOCALES, ZONES, People
from training.world.pushes import CATEGORIES, Effect
from training.world.reaction import Reaction
from training.world.recipes import COURSES, CUISINES, OMNIVORE, Recipes

SURFACE = "home"
COOKING_MS = 45 * 60_000
LABELLED = 0.03  # share of visits whose person says what they are in the middle of
DIETS = ("vegan", "vegetarian", "none")


class Diary:
    """Names and numbers events; the order of calls is the order of the numbers."""

    def __init__(self, people: People, recipes: Recipes, lives: Lives, start_s: float) -> None:
        self._people, self._recipes, self._lives = people, recipes, lives
        self._start_ms = int(start_s * 1000)
        self._events = self._decisions = self._messages = 0

    def user_id(self, account: int) -> str:
        """Who an account is by now: a visitor until the end of their first visit."""
        return f"visitor-{account:05}" if self._lives.visitor[account] else _known_id(account)

    def items(self) -> list[Line]:
        """One event a recipe."""
        recipes = self._recipes
        return [
            Item(
                ts=self._start_ms,
                item_id=recipes.ids[n],
                available_from=int(recipes.available_s[n] * 1000),
                attributes={
                    "title": recipes.titles[n],
                    "categories": [CUISINES[recipes.cuisine[n]], COURSES[recipes.course[n]]],
                    "tags": recipes.tags(n),
                    "minutes": int(recipes.minutes[n]),
                    "servings": int(recipes.servings[n]),
                    "ingredients": recipes.contents(n),
                },
            )
            for n in range(len(recipes))
        ]

    def users(self) -> list[Line]:
        """One event an account that has logged in."""
        accounts = np.flatnonzero(~self._lives.visitor)
        return [self._user(account, self._start_ms) for account in accounts.tolist()]

    def decision_id(self) -> str:
        """The next one."""
        self._decisions += 1
        return f"d{self._decisions:07}"

    def message_id(self) -> str:
        """The next one."""
        self._messages += 1
        return f"m{self._messages:07}"

    def visits(
        self,
        moments: Moments,
        items: Ints,
        reaction: Reaction,
        decision_ids: Sequence[str],
        rng: np.random.Generator,
        searched: Ints | None = None,
        modules: Sequence[str | None] = (None,),
    ) -> list[Line]:
        """The events of visits; `searched` int [n] is what else someone found, −1 for nothing.

        `modules` share the columns of `items` evenly, from the top down; a list is one without id.
        """
        width = items.shape[1] // len(modules)
        pace = rng.integers(2_000, 25_000, items.shape).tolist()
        acts = _acts(reaction)
        out: list[Line] = []
        starts = (moments.at_s * 1000).astype(np.int64).tolist()
        for row, (start, account) in enumerate(
            zip(starts, self._people.account[moments.person].tolist(), strict=True)
        ):
            user_id, decision_id = self.user_id(account), decision_ids[row]
            shown = self._shown(items[row], reaction.seen[row], modules)
            device = device_of(self._people, moments, row) | _label(moments, row)
            out += self.opens(start, user_id, device)
            now = start + 1_500 + 400 * sum(len(module.item_ids) for module in shown)
            out.append(
                Impression(ts=now, event_id=self._next(), user_id=user_id,
                           decision_id=decision_id, shown=shown)
            )  # fmt: skip
            for position, action in acts[row]:
                item_id = self._recipes.ids[items[row, position]]
                now += pace[row][position]
                if action == "cook":  # takes its time: a visitor has logged in by then
                    when, who = now + COOKING_MS, _known_id(account)
                else:
                    when, who = now, user_id
                of = modules[position // width]
                out.append(self._act(when, who, action, item_id, decision_id, of))
            if searched is not None and searched[row] >= 0:
                out += self._search(now + 4_000, user_id, int(searched[row]))
            if self._lives.visitor[account]:
                self._lives.visitor[account] = False
                out += self._log_in(now + 60_000, account, user_id)
        return out

    def opens(self, start: int, user_id: str, device: dict[str, object]) -> list[Line]:
        """The app is opened: what the phone tells, and the visit itself."""
        return [
            DeviceState(ts=start, event_id=self._next(), user_id=user_id, device=device),
            self._act(start + 150, user_id, "open"),
        ]

    def _shown(self, items: Ints, seen: Bools, modules: Sequence[str | None]) -> list[Shown]:
        rows = zip(items.reshape(len(modules), -1), seen.reshape(len(modules), -1), strict=True)
        return [
            Shown(position, [self._recipes.ids[n] for n in of[in_view].tolist()], modules[position])
            for position, (of, in_view) in enumerate(rows)
            if in_view.any()
        ]

    def decisions(
        self, moments: Moments, items: Ints, propensity: Floats | None, decision_ids: Sequence[str]
    ) -> list[Line]:
        """What another system decided."""
        out: list[Line] = []
        accounts = self._people.account[moments.person].tolist()
        starts = (moments.at_s * 1000).astype(np.int64).tolist()
        for row, chosen in enumerate(items.tolist()):
            odds = [None] * len(chosen) if propensity is None else propensity[row].tolist()
            slots = [Slot(self._recipes.ids[n], position, p)
                     for position, (n, p) in enumerate(zip(chosen, odds, strict=True))]  # fmt: skip
            out.append(Decision(ts=starts[row] + 300, decision_id=decision_ids[row],
                                user_id=self.user_id(accounts[row]), surface=SURFACE,
                                slots=slots))  # fmt: skip
        return out

    def glances(self, moments: Moments) -> list[Line]:
        """What phones tell between visits."""
        out: list[Line] = []
        for row, at_s in enumerate(moments.at_s.tolist()):
            account = int(self._people.account[moments.person[row]])
            device = unused_device(self._people, moments, row)
            out.append(DeviceState(ts=int(at_s * 1000), event_id=self._next(),
                                   user_id=self.user_id(account), device=device))  # fmt: skip
        return out

    def pushes(
        self,
        moments: Moments,
        effect: Effect,
        message_ids: Sequence[str],
        category: Ints,
        will_open: Bools,
    ) -> list[Line]:
        """What is reported of messages before anyone opens them."""
        out: list[Line] = []
        for row, account in enumerate(moments.person.tolist()):
            sent = int(moments.at_s[row] * 1000)
            told = [(sent, "failed" if effect.failed[row] else "sent")]
            # iOS tells no app of delivery and dismissal.
            if self._people.platform[account] == ANDROID and not effect.failed[row]:
                told.append((sent + 1_200, "delivered"))
                if effect.swipes[row] and not will_open[row]:
                    told.append((sent + 95_000, "dismissed"))
            name = CATEGORIES[category[row]]
            out += [self._push(ts, account, message_ids[row], status, name) for ts, status in told]
            if effect.opts_out[row]:
                out.append(self._push(sent + 120_000, account, message_ids[row], "disabled"))
        return out

    def opened(self, account: int, at_s: float, message_id: str, category: int) -> Line:
        """Someone came by a message, or so it seems."""
        return self._push(int(at_s * 1000), account, message_id, "opened", CATEGORIES[category])

    def let_in(self, account: int, at_s: float) -> Line:
        """Someone switches pushes on again."""
        return self._push(int(at_s * 1000) + 30_000, account, "settings", "enabled")

    def _push(
        self, ts: int, account: int, message_id: str, status: str, category: str | None = None
    ) -> Line:
        return Push(ts=ts, event_id=self._next(), user_id=self.user_id(account),
                    message_id=message_id, status=status, category=category)  # fmt: skip

    def _next(self) -> str:
        self._events += 1
        return f"e{self._events:08}"

    def _act(
        self,
        ts: int,
        user_id: str,
        action: str,
        item_id: str | None = None,
        decision_id: str | None = None,
        module_id: str | None = None,
    ) -> Line:
        return Interaction(ts=ts, event_id=self._next(), user_id=user_id, action=action,
                           item_id=item_id, decision_id=decision_id, module_id=module_id,
                           surface=SURFACE)  # fmt: skip

    def _search(self, ts: int, user_id: str, item: int) -> list[Line]:
        query = CUISINES[self._recipes.cuisine[item]]
        return [
            Interaction(ts=ts, event_id=self._next(), user_id=user_id, action="search",
                        query=query, surface="search"),
            Interaction(ts=ts + 6_000, event_id=self._next(), user_id=user_id, action="click",
                        item_id=self._recipes.ids[item], surface="search"),
        ]  # fmt: skip

    def _log_in(self, ts: int, account: int, visitor_id: str) -> list[Line]:
        user = self._user(account, ts + 1)
        alias = Alias(ts=ts, event_id=self._next(), previous_id=visitor_id,
                      user_id=self.user_id(account))  # fmt: skip
        return [alias, user]

    def _user(self, account: int, ts: int) -> Line:
        people = self._people
        zone = int(people.zone[account])
        attributes: dict[str, object] = {"time_zone": ZONES[zone], "locale": LOCALES[zone]}
        if people.tells_diet[account]:
            attributes["diet"] = DIETS[people.diet[account]]
        return User(ts=ts, user_id=self.user_id(account), attributes=attributes)


def _label(moments: Moments, row: int) -> dict[str, object]:
    """What few say when asked what they are doing; drawn from the clock, so that no luck moves."""
    asked = int(moments.at_s[row] * 1000) * 2_654_435_761 % 2**32 < LABELLED * 2**32
    return {"label": CALLED[moments.situation[row]]} if asked else {}


def _known_id(account: int) -> str:
    return f"user-{account:05}"


def _acts(reaction: Reaction) -> list[list[tuple[int, str]]]:
    """For each visit, in order: position and action."""
    acts: list[list[tuple[int, str]]] = [[] for _ in range(len(reaction.seen))]
    for action, where in reaction.acts.items():
        for row, position in np.argwhere(where).tolist():
            acts[row].append((position, action))
    for of_one in acts:
        of_one.sort(key=lambda act: act[0])  # stable: a click comes before what it led to
    return acts


assert len(DIETS) == OMNIVORE + 1
