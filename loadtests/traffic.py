"""What is asked: bodies of pages, lists, events and pushes about the people of a town.

Events answer to what was shown: an impression of an answer that somebody got, and what they did
with its items. Where nothing was shown to a person lately, their phone tells where they are.
"""

from __future__ import annotations

import json
import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from loadtests.people import DAY_S, Moment, Town

KINDS = ("page", "recommend", "events", "push")
PATHS = {
    "page": "/v1/page",
    "recommend": "/v1/recommend",
    "events": "/v1/events",
    "push": "/v1/push/score",
}
# How long the service may take (docs/promises.md); what comes later is of no use.
DEADLINE_MS = {"page": 200, "recommend": 200, "events": 500, "push": 500}
MIX = {"page": 30.0, "recommend": 40.0, "events": 29.0, "push": 1.0}  # in a hundred requests
PUSHED = 100  # people in a call
REMEMBERED = 5_000  # answers that events can still be about
ACTS = ("click", "click", "click", "save", "cook", "dismiss")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is due."""

    kind: str
    user_id: str
    body: bytes

    @property
    def path(self) -> str:
        return PATHS[self.kind]


class Traffic:
    """Draws calls; `learn` takes what a page or list answered. Seeded, but for the time it is."""

    def __init__(self, town: Town, seconds: float, seed: int, mix: dict[str, float] = MIX) -> None:
        """`seconds` in which the town's day passes."""
        self._town = town
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._kinds = [kind for kind in KINDS if mix.get(kind, 0) > 0]
        self._weights = [mix[kind] for kind in self._kinds]
        self._run = f"{time.time_ns():x}"
        self._calls = 0
        self._shown: OrderedDict[str, bytes] = OrderedDict()

    def next(self, at_s: float) -> Call:
        """The call that is due `at_s` seconds after the start."""
        self._calls += 1
        moment = self._town.someone(at_s / self._seconds * DAY_S, self._rng)
        [kind] = self._rng.choices(self._kinds, self._weights)
        body = {
            "page": self._page,
            "recommend": self._recommend,
            "events": self._events,
            "push": self._push,
        }[kind](moment)
        return Call(kind, moment.user_id, json.dumps(body, separators=(",", ":")).encode())

    def learn(self, call: Call, answer: bytes) -> None:
        """Remember what somebody was shown, as JSON, until an event is about it."""
        self._shown[call.user_id] = answer
        while len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)

    def _page(self, moment: Moment) -> Any:
        return {"user_id": moment.user_id, "surface": "home", "modules": 6,
                "items_per_module": 8, "device": moment.device}  # fmt: skip

    def _recommend(self, moment: Moment) -> Any:
        body = {"user_id": moment.user_id, "size": 20, "device": moment.device}
        if self._rng.random() < 0.25:  # looks at an item, and gets more like it
            body |= {"item_id": self._rng.choice(self._town.items)}
        return body

    def _events(self, moment: Moment) -> Any:
        now = round(time.time(), 3)
        about = {"user_id": moment.user_id, "ts": now}
        answer = json.loads(self._shown.pop(moment.user_id, b"{}"))
        shown = _shown(answer)
        if not shown:
            told = about | {"type": "device", "event_id": self._id(0), "device": moment.device}
            opened = about | {"type": "interaction", "event_id": self._id(1), "action": "open"}
            return [told, opened]
        about |= {"decision_id": answer["decision_id"]}
        events = [about | {"type": "impression", "event_id": self._id(0), "shown": shown}]
        for number in range(1, self._rng.randint(1, 3)):
            module = self._rng.choice(shown)
            act = {"type": "interaction", "event_id": self._id(number),
                   "action": self._rng.choice(ACTS),
                   "item_id": self._rng.choice(module["item_ids"])}  # fmt: skip
            named = {"module_id": module["module_id"]} if "module_id" in module else {}
            events.append(about | act | named)
        return events

    def _push(self, moment: Moment) -> Any:
        users = self._rng.sample(self._town.users, min(PUSHED, len(self._town.users)))
        message = {"message_id": f"{self._run}-{self._calls}", "category": "dinner_ideas",
                   "expires_at": time.time() + DAY_S / 2}  # fmt: skip
        return {"requests": [{"user_id": user_id} for user_id in users], "message": message}

    def _id(self, number: int) -> str:
        return f"{self._run}-{self._calls}-{number}"


def _shown(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The `shown` of an impression that saw the whole answer; [] where it was empty."""
    modules = answer.get("modules") or [{"items": answer.get("items", [])}]
    return [
        {"position": position, "item_ids": [item["item_id"] for item in module["items"]]}
        | ({"module_id": module["module_id"]} if "module_id" in module else {})
        for position, module in enumerate(modules)
        if module["items"]
    ]
