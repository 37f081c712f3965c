"""Events of an invented crowd, and what a service that counts each once must say of them.

The oracle is deliberately naive: lists of what happened, added up by the formula in the docs. It
shares no code with the engine; weights are read from the shipped actions.yaml.
"""

from __future__ import annotations

import functools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ACTIONS_FILE = Path(__file__).resolve().parents[1] / "engine" / "actions.yaml"
ACTIONS = ("view", "view", "view", "click", "save", "cook", "dismiss", "unsave", "open")
DAY_MS = 86_400_000
HALF_LIVES_MS = {"day": DAY_MS, "month": 30 * DAY_MS}
SPREAD_MS = 6 * DAY_MS  # live events are taken up to 7 days old
CATEGORIES = tuple(f"category-{n}" for n in range(12))
ERASED, ERASED_VISITOR, ERASED_ITEMS = "erased", "erased-visitor", ("private-0", "private-1")

Event = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Who there is and what they did; `aliases` are in three parts: before, amid, after."""

    items: dict[str, list[str]]  # item -> its categories
    events: list[Event]
    aliases: tuple[list[Event], list[Event], list[Event]]

    @functools.cached_property
    def people(self) -> dict[str, str]:
        """user id -> the id under which their events count, through all aliases."""
        leads = {a["previous_id"]: a["user_id"] for part in self.aliases for a in part}
        named = {e["user_id"] for e in self.events} | set(leads) | set(leads.values())
        return {user: _end(user, leads) for user in sorted(named)}


def make_world(count: int, seed: int, now_ms: int) -> World:
    """`count` events of several hundred people, some of whom log in under another id."""
    rng = random.Random(seed)
    items = {f"item-{n}": rng.sample(CATEGORIES, rng.randint(0, 3)) for n in range(200)}
    items |= {name: [CATEGORIES[0]] for name in ERASED_ITEMS}
    users = [f"user-{n}" for n in range(max(40, min(400, count // 40)))]
    visitors = [f"visitor-{n}" for n in range(len(users) // 5)]
    public = [name for name in items if name not in ERASED_ITEMS]
    events = []
    for number in range(count):
        if number % 50 == 0:  # nobody else touches these items: their totals may fall
            user, choice = rng.choice((ERASED, ERASED_VISITOR)), list(ERASED_ITEMS)
        else:
            user, choice = rng.choice(users + visitors), public
        ts = now_ms - rng.randrange(SPREAD_MS)
        events.append(_event(f"e-{number}", user, choice, ts, rng))
    parts: tuple[list[Event], list[Event], list[Event]] = ([], [], [])
    parts[0].append(_alias(ERASED_VISITOR, ERASED, now_ms - SPREAD_MS))
    for n, visitor in enumerate(visitors):
        parts[n % 3].append(_alias(visitor, rng.choice(users[10:]), now_ms - rng.randrange(DAY_MS)))
    for n in range(3):  # and chains: an id that others led to leads on
        parts[n].append(_alias(f"user-{10 + n}", f"user-{n}", now_ms - rng.randrange(DAY_MS)))
    return World(items, events, parts)


def events_after_erasure(asked_ms: int, now_ms: int, seed: int) -> list[Event]:
    """What the erased person does next."""
    rng = random.Random(seed + 1)
    return [
        _event(f"after-{n}", ERASED, list(ERASED_ITEMS), rng.randint(asked_ms, now_ms), rng)
        for n in range(20)
    ]


def probe_events(number: int, now_ms: int) -> list[Event]:
    """One act each of people never seen before, so many that every partition has some."""
    rng = random.Random(number)
    people = [f"probe-{number}-{n}" for n in range(64)]
    return [_event(f"{user}-event", user, ["item-0"], now_ms, rng) for user in people]


def item_events(world: World) -> list[Event]:
    """The catalogue, to be sent before all else."""
    return [
        {"type": "item", "item_id": name, "attributes": {"categories": categories}}
        for name, categories in world.items.items()
    ]


def _event(event_id: str, user: str, items: Sequence[str], ts: int, rng: random.Random) -> Event:
    event: Event = {"event_id": event_id, "user_id": user, "ts": ts}
    kind = rng.random()
    if kind < 0.05:
        shown = [{"position": 0, "item_ids": rng.choices(items, k=rng.randint(1, 6))}]
        return event | {"type": "impression", "decision_id": event_id, "shown": shown}
    if kind < 0.10:
        return event | {"type": "push", "message_id": event_id, "status": "opened"}
    action = rng.choice(ACTIONS)
    event |= {"type": "interaction", "action": action}
    return event if action == "open" else event | {"item_id": rng.choice(items)}


def _alias(previous: str, user: str, ts: int) -> Event:
    ids = {"event_id": f"alias-{previous}", "previous_id": previous, "user_id": user}
    return {"type": "alias", "ts": ts} | ids


def _end(user: str, leads: dict[str, str]) -> str:
    while user in leads:
        user = leads[user]
    return user


# ---- what must come of it


@dataclass(slots=True)
class Decayed:
    """What one decayed counter was fed: (weight, unix ms) each."""

    fed: list[tuple[float, int]] = field(default_factory=list)

    def at(self, at_ms: int, half_life_ms: int) -> tuple[float, float]:
        """Σ w·2^(−(t − tᵢ)/half-life), and the same of |w|: what rounding is measured by."""
        terms = [w * 2.0 ** (-(at_ms - ts) / half_life_ms) for w, ts in self.fed]
        return math.fsum(terms), math.fsum(map(abs, terms))


@dataclass(slots=True)
class Person:
    """What the service must say of one person."""

    counters: Counter[str] = field(default_factory=Counter)
    impressions: int = 0
    opened: int = 0
    actions: dict[str, Decayed] = field(default_factory=lambda: defaultdict(Decayed))
    categories: dict[str, Decayed] = field(default_factory=lambda: defaultdict(Decayed))


def tally(
    world: World, events: Sequence[Event]
) -> tuple[dict[str, Person], dict[str, Counter[str]]]:
    """People by the id they count under, and item totals by item and action; each event once."""
    weights = _weights()
    ends = world.people
    people: dict[str, Person] = defaultdict(Person)
    items: dict[str, Counter[str]] = defaultdict(Counter)
    for event in {event["event_id"]: event for event in events}.values():
        user: str = event["user_id"]
        person = people[ends.get(user, user)]
        if event["type"] == "impression":
            shown = event["shown"][0]["item_ids"]
            person.impressions += len(shown)
            for item in shown:
                items[item]["impression"] += 1
        elif event["type"] == "push":
            person.opened += 1
        else:
            _act(person, event, world, weights)
            if "item_id" in event:
                items[event["item_id"]][event["action"]] += 1
    return dict(people), dict(items)


def _act(person: Person, event: Event, world: World, weights: dict[str, float]) -> None:
    action = event["action"]
    person.counters[action] += 1
    person.actions[action].fed.append((1.0, event["ts"]))
    for category in world.items[event["item_id"]] if "item_id" in event else ():
        person.categories[category].fed.append((weights[action], event["ts"]))


def _weights() -> dict[str, float]:
    declared = yaml.safe_load(ACTIONS_FILE.read_text())
    return {name: action["weight"] * action.get("sign", 1) for name, action in declared.items()}


def differences(
    user: str, person: Person, said: Event, between: tuple[int, int]
) -> tuple[list[str], float, int]:
    """Where an answer of GET /v1/users/{id} differs, the worst decayed error, and its time.

    The service evaluates at a millisecond of its own between two of ours. One decayed value says
    which: a step of 1 ms changes a day's value by 8e-9. All others must then agree to 1e-9.
    """
    wrong = []
    for what, wanted, got in (
        ("user_id", user, said["user_id"]),
        ("counters", dict(person.counters), said["counters"]),
        ("impressions", person.impressions, said["impressions"]),
        ("opened", person.opened, said["push"]["totals"].get("opened", 0)),
    ):
        if wanted != got:
            wrong.append(f"{user}: {what}: expected {wanted}, got {got}")
    if wrong or not person.counters:
        return wrong, 0.0, between[1]
    at_ms = _answered_at(person, said, between[1])
    if not between[0] <= at_ms <= between[1]:
        lag = f"{at_ms - between[0]} ms after the question, {between[1] - at_ms} before the answer"
        return [f"{user}: its first decayed value is that of {lag}"], 0.0, at_ms
    worst = 0.0
    for where, name, error in _errors(person, said, at_ms):
        worst = max(worst, error)
        if error > 1e-9:
            wrong.append(f"{user}: {where} {name} is off by {error:.1e}")
    return wrong, worst, at_ms


def _answered_at(person: Person, said: Event, near_ms: int) -> int:
    name = next(iter(person.counters))
    expected, _ = person.actions[name].at(near_ms, DAY_MS)
    return near_ms - round(math.log2(said["actions"][name]["day"] / expected) * DAY_MS)


def _errors(person: Person, said: Event, at_ms: int) -> Iterator[tuple[str, str, float]]:
    for where, wanted in (("actions", person.actions), ("categories", person.categories)):
        if set(wanted) != set(said[where]):
            yield where, f"names {sorted(set(wanted) ^ set(said[where]))}", math.inf
            continue
        for name, fed in wanted.items():
            if said[where][name]["total"] != len(fed.fed):
                yield where, f"{name}.total", math.inf
            for span, half_life_ms in HALF_LIVES_MS.items():
                value, scale = fed.at(at_ms, half_life_ms)
                yield where, f"{name}.{span}", abs(said[where][name][span] - value) / scale
