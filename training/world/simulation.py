"""The world as its users meet it: a past to learn from, and days that answer to what is shown."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from training.world.arrays import DAY_S, Floats, Ints
from training.world.calendar import organic_visits, reachable
from training.world.core import generator, make_core
from training.world.diary import SURFACE
from training.world.history import ATTRIBUTED, ATTRIBUTED_S, write_history
from training.world.laws import LAWS
from training.world.ledger import Ledger
from training.world.lines import Line
from training.world.moments import Moments, device_of, local, offsets_s
from training.world.oracle import (
    candidates,
    expected,
    expected_of_modules,
    situation_given_signals,
)
from training.world.people import CALLED
from training.world.policies import PolicyName
from training.world.pushes import CATEGORIES, away_chance, openness, receive, visit_chance
from training.world.reaction import Reaction
from training.world.sensors import Sensors, synthetic_sensors

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday


@dataclass(frozen=True)
class Visit:
    """Someone opens the app: what a request would carry."""

    number: int
    user_id: str
    at_s: float  # unix seconds
    device: dict[str, Any]
    surface: str


@dataclass(order=True)
class _Coming:
    at_s: float
    number: int
    moment: Moments  # one row
    opened: tuple[str, int] | None = None  # message and category that they come by


class World:
    """A seeded world under one law. Days follow each other, by `history` or by `sessions`."""

    def __init__(
        self,
        law: str,
        users: int,
        items: int = 3000,
        seed: int = 0,
        start: datetime = START,
        sensors: Sensors | None = None,
    ) -> None:
        """Raises KeyError for a law that is not in LAWS, ValueError for no users or items."""
        if users < 1 or items < 1:
            raise ValueError(f"expected at least one user and one item, got {users} and {items}")
        sensors = sensors or synthetic_sensors(seed)
        self.core = make_core(LAWS[law], users, items, seed, start.timestamp() // 1, sensors)
        self._numbers = {item_id: n for n, item_id in enumerate(self.core.recipes.ids)}
        self._luck = generator(seed, "answers")
        self._coming: list[_Coming] = []  # a heap
        self._arrived: dict[int, _Coming] = {}
        self._visits = 0

    @property
    def ledger(self) -> Ledger:
        """What the visits so far were worth."""
        return self.core.ledger

    @property
    def day(self) -> int:
        """The next day, counted from the world's beginning."""
        return self.core.day

    def item_events(self) -> list[Line]:
        """One a recipe."""
        return self.core.diary.items()

    def user_events(self) -> list[Line]:
        """One a person who has logged in; the others' follow their alias."""
        return self.core.diary.users()

    def history(self, days: int, policy: PolicyName = "legacy") -> Iterator[Line]:
        """The next `days` days under the old policy, or under chance, in time order."""
        return write_history(self.core, days, policy)

    def sessions(self, day: int) -> Iterator[Visit]:
        """Those who come on the next day, by time; answer each before taking the next.

        Raises ValueError if `day` is not the next one.
        """
        if day != self.core.day:
            raise ValueError(f"expected day {self.core.day}, the next one, got {day}")
        core = self.core
        day_s = core.begin_day()
        person, at_s = organic_visits(
            core.people, core.lives, day_s, offsets_s(day_s + DAY_S / 2),
            generator(core.seed, "visits", core.day),
        )  # fmt: skip
        moments = core.moments(person, at_s, generator(core.seed, "moments", core.day))
        self._coming = []
        for row in np.argsort(at_s, kind="stable"):
            self._expect(moments.rows(np.array([row])))
        return self._arrivals()

    def _arrivals(self) -> Iterator[Visit]:
        while self._coming:
            coming = heapq.heappop(self._coming)
            self._arrived[coming.number] = coming
            account = int(self.core.people.account[coming.moment.person[0]])
            yield Visit(
                number=coming.number,
                user_id=self.core.diary.user_id(account),
                at_s=coming.at_s,
                device=device_of(self.core.people, coming.moment, 0),
                surface=SURFACE,
            )

    def _expect(self, moment: Moments, opened: tuple[str, int] | None = None) -> None:
        self._visits += 1
        coming = _Coming(float(moment.at_s[0]), self._visits, moment, opened)
        heapq.heappush(self._coming, coming)

    def respond(
        self, visit: Visit, shown: Sequence[str], decision_id: str | None = None
    ) -> list[Line]:
        """What the person does with a list: the visit's events, by time.

        Raises ValueError for an empty list, an unknown item, or a visit answered before.
        """
        items, core = self._items(shown)[None, :], self.core
        meets = partial(core.meet, items=items, rng=self._luck)
        return self._answer(visit, meets, items, (None,), decision_id)

    def respond_page(
        self,
        visit: Visit,
        modules: Sequence[tuple[str, Sequence[str]]],
        decision_id: str | None = None,
    ) -> list[Line]:
        """What the person does with a page of modules, (id, items) from the top down.

        Raises ValueError for an empty page or module, an unknown item, or a visit answered before.
        """
        names, items = self._page(modules)
        meets = partial(self.core.meet_page, modules=names, items=items, rng=self._luck)
        return self._answer(visit, meets, items.reshape(1, -1), names, decision_id)

    def _answer(
        self,
        visit: Visit,
        meets: Callable[[Moments], Reaction],
        items: Ints,
        modules: Sequence[str | None],
        decision_id: str | None,
    ) -> list[Line]:
        core, coming = self.core, self._waiting(visit)
        moment = coming.moment
        del self._arrived[visit.number]
        account = int(core.people.account[moment.person[0]])
        out: list[Line] = []
        if coming.opened is not None:
            message_id, category = coming.opened
            out.append(core.diary.opened(account, coming.at_s - 0.2, message_id, category))
        reaction = meets(moment)
        ids = [decision_id or core.diary.decision_id()]
        out += core.diary.visits(moment, items, reaction, ids, self._luck, modules=modules)
        out += core.let_in(moment, self._luck)
        return sorted(out, key=lambda line: line.ts)

    def send(self, user_id: str, at_s: float, message_id: str, category: str) -> list[Line]:
        """Push to a person of the day that runs: what is reported of it so far.

        Raises ValueError where no push can reach them.
        """
        core, account = self.core, self._account(user_id)
        if not reachable(core.people, core.lives)[account]:
            raise ValueError(f"{user_id} cannot be reached by a push")
        number = CATEGORIES.index(category)
        moment = core.moments(np.array([account]), np.array([at_s]), self._luck)
        effect = receive(core.law, core.people, core.lives, moment, self._luck)
        opens = bool(effect.comes[0])
        if effect.stays_away[0]:
            self._coming = [c for c in self._coming
                            if c.moment.person[0] != account or c.at_s < at_s]  # fmt: skip
            heapq.heapify(self._coming)
        if opens:
            then = core.moments(moment.person, moment.at_s + effect.delay_s, self._luck)
            self._expect(then, (message_id, number))
        elif not effect.failed[0]:
            opens = self._taken_for_opening(account, at_s, (message_id, number))
        return core.diary.pushes(
            moment, effect, [message_id], np.array([number]), np.array([opens])
        )

    def _taken_for_opening(self, account: int, at_s: float, message: tuple[str, int]) -> bool:
        soon = [c for c in self._coming
                if c.moment.person[0] == account and 0 < c.at_s - at_s < ATTRIBUTED_S]  # fmt: skip
        if not soon or self._luck.random() >= ATTRIBUTED:
            return False
        min(soon).opened = message
        return True

    def oracle_value(self, visit: Visit, item_ids: Sequence[str]) -> Floats:
        """Expected worth of each item to this visit if it is looked at: float [k]."""
        return self._expected(visit, item_ids)[0]

    def oracle_goodwill(self, visit: Visit, item_ids: Sequence[str]) -> Floats:
        """Expected change of goodwill, which brings people back or keeps them away: float [k]."""
        return self._expected(visit, item_ids)[1]

    def oracle_modules(self, visit: Visit, modules: Sequence[tuple[str, Sequence[str]]]) -> Floats:
        """Expected worth of each module to this visit if it is come to: float [m]."""
        core, moment = self.core, self._waiting(visit).moment
        offer = core.offer(*self._page(modules))
        worth, _ = expected_of_modules(
            core.law, core.recipes, core.people, core.lives, core.sensors, moment, offer
        )
        return np.asarray(worth[0])

    def situation(self, visit: Visit) -> str:
        """What it really is, by the name that an app has for it; nothing but a judge may ask."""
        return CALLED[int(self._waiting(visit).moment.situation[0])]

    def oracle_situation(self, visit: Visit) -> dict[str, float]:
        """How likely each situation is to somebody who knows the law and everyone's routine."""
        core, moment = self.core, self._waiting(visit).moment
        row, person = candidates(core.people, moment)
        odds = situation_given_signals(core.people, core.sensors, moment, row, person).sum(axis=0)
        return dict(zip(CALLED, odds.tolist(), strict=True))

    def oracle_push(self, user_id: str, at_s: float) -> float:
        """Expected visits more, or fewer, on that day if a push went out then."""
        core, account = self.core, self._account(user_id)
        if not reachable(core.people, core.lives)[account]:
            return 0.0
        people, who, when = core.people, np.array([account]), np.array([at_s])
        hour, weekday = local(people, who, when, offsets_s(at_s))
        weekend = (weekday >= 5).astype(np.int64)
        kind, fatigue = people.push_kind[who], core.lives.fatigue(who, when)
        comes = visit_chance(core.law, kind, fatigue, openness(people, who, weekend, hour))
        later = people.visiting[account, weekend[0], hour[0] + 1 :].sum() * people.habit[account]
        return float((comes - away_chance(core.law, kind, fatigue) * later)[0])

    def _expected(self, visit: Visit, item_ids: Sequence[str]) -> tuple[Floats, Floats]:
        core, moment = self.core, self._waiting(visit).moment
        items = self._items(item_ids)
        return expected(
            core.law, core.recipes, core.people, core.lives, core.sensors, moment, items
        )

    def _waiting(self, visit: Visit) -> _Coming:
        if visit.number not in self._arrived:
            raise ValueError(f"visit {visit.number} is not waiting for an answer")
        return self._arrived[visit.number]

    def _page(self, modules: Sequence[tuple[str, Sequence[str]]]) -> tuple[tuple[str, ...], Ints]:
        """Ids, and items int [1, m, k], −1 where a row has ended."""
        if not modules:
            raise ValueError("expected at least one module")
        rows = [self._items(item_ids) for _, item_ids in modules]
        items = np.full((1, len(rows), max(map(len, rows))), -1)
        for place, row in enumerate(rows):
            items[0, place, : len(row)] = row
        return tuple(module_id for module_id, _ in modules), items

    def _items(self, item_ids: Sequence[str]) -> Ints:
        if not item_ids:
            raise ValueError("expected at least one item")
        try:
            return np.array([self._numbers[item_id] for item_id in item_ids], dtype=np.int64)
        except KeyError as unknown:
            raise ValueError(f"no such item in this world: {unknown}") from None

    def _account(self, user_id: str) -> int:
        kind, _, number = user_id.partition("-")
        if kind not in ("user", "visitor") or not number.isdigit():
            raise ValueError(f"no such user in this world: {user_id!r}")
        return int(number)
