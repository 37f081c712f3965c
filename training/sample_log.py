"""A seeded log of a recipe app, for the demo and the benchmarks.

It is a sample log: it has the shape of real traffic (meal times, places, sessions, pushes, log-ins)
and mild tastes, but no model of what would have happened otherwise. The simulated world, whose
right answers are known, comes later. The same arguments give the same events, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput

Event = dict[str, Any]
DAY_S = 86_400.0

VEGAN, VEGETARIAN, NEITHER = ("vegan", "vegetarian"), ("vegetarian",), ()
# (adjectives, ingredients by the diets they fit, dishes with cuisine and course)
SAVOURY = (
    "Smoky Crispy Creamy Spicy Roasted Weeknight Charred Garlicky Herby Golden Tangy",
    {VEGAN: "lentil tofu chickpea mushroom aubergine squash bean",
     VEGETARIAN: "halloumi paneer egg feta",
     NEITHER: "chicken salmon prawn beef pork turkey cod"},
    [("ramen", "japanese", "dinner"), ("donburi", "japanese", "lunch"),
     ("curry", "indian", "dinner"), ("biryani", "indian", "dinner"),
     ("tacos", "mexican", "dinner"), ("burrito bowl", "mexican", "lunch"),
     ("lasagne", "italian", "dinner"), ("panini", "italian", "lunch"),
     ("pitta", "greek", "lunch"), ("shakshuka", "levantine", "breakfast"),
     ("bibimbap", "korean", "dinner"), ("breakfast hash", "american", "breakfast")],
)  # fmt: skip
SWEET = (
    "Baked Toasted Chilled Sticky Fluffy Overnight",
    {VEGAN: "apple banana blueberry mango almond coconut", VEGETARIAN: "honey ricotta"},
    [("porridge", "british", "breakfast"), ("pancakes", "american", "breakfast"),
     ("crumble", "british", "dessert"), ("mochi", "japanese", "dessert"),
     ("tart", "french", "dessert")],
)  # fmt: skip
CUISINES = sorted({cuisine for part in (SAVOURY, SWEET) for _, cuisine, _ in part[2]})
ZONES = [("Europe/Berlin", "de-DE"), ("Europe/London", "en-GB"), ("America/New_York", "en-US"),
         ("Asia/Kolkata", "en-IN"), ("Asia/Tokyo", "ja-JP")]  # fmt: skip
DIETS = ("none", "none", "none", "vegetarian", "vegan")
# (local hour, how usual, place, activity, course that fits, charging)
MOMENTS = [(7.5, 0.5, "home", "still", "breakfast", 0.3),
           (12.5, 0.5, "work", "still", "lunch", 0.1),
           (17.3, 0.4, "supermarket", "walking", "dinner", 0.0),
           (19.2, 0.7, "home", "standing", "dinner", 0.1),
           (21.8, 0.8, "home", "lying", "dessert", 0.5)]  # fmt: skip
MODULES = ("for_you", "quick_tonight", "new_this_week", "back_to_it")
PUSH_CATEGORIES = ("dinner_ideas", "new_recipes", "weekly_plan")


@dataclass(frozen=True)
class Person:
    user_id: str
    visitor_id: str | None  # who they are until they log in, after their first session
    device_id: str
    time_zone: str
    habit: float  # 0–1, scales how often they open the app
    liking: NDArray[np.float64]  # float64 [items], unnormalised


@dataclass(frozen=True)
class Recipes:
    events: list[Event]
    course: NDArray[np.str_]  # [items]
    available_from_s: NDArray[np.float64]  # [items]


def sample_events(users: int, items: int, days: int, seed: int, end: datetime) -> Iterator[Event]:
    """Items, then users, then what people did in [end − days, end), all in time order.

    Memory holds one day of events. Raises InvalidInput, at once, if `end` names no time zone.
    """
    return _sample(users, items, days, np.random.default_rng(seed), _end_s(end))


def _sample(
    users: int, items: int, days: int, rng: np.random.Generator, end_s: float
) -> Iterator[Event]:
    start_s = end_s - days * DAY_S
    recipes = _recipes(items, rng, start_s, days)
    yield from recipes.events
    people = []
    for n in range(users):
        person, event = _person(n, recipes, rng, start_s)
        people.append(person)
        yield event

    busy_until = [0.0] * users
    visiting = [person.visitor_id is not None for person in people]
    pending: list[Event] = []
    for day in range(days):
        day_s = start_s + day * DAY_S
        for n, person in enumerate(people):
            if not visiting[n] and rng.random() < 0.35:
                pending += _push(person, rng, day_s)
            # Sessions begin within this UTC day, so only their ends reach into the next one.
            plan = [(_utc_s(day_s, m[0] + rng.uniform(-0.8, 0.8), person.time_zone), m)
                    for m in MOMENTS if rng.random() < m[1] * person.habit]  # fmt: skip
            for begin_s, moment in sorted(plan):
                if begin_s > busy_until[n]:
                    pending += _session(person, visiting[n], moment, recipes, rng, begin_s)
                    busy_until[n], visiting[n] = pending[-1]["ts"], False
        pending.sort(key=lambda event: event["ts"])
        ready = sum(event["ts"] < day_s + DAY_S for event in pending)
        yield from pending[:ready]
        pending = pending[ready:]


def _recipes(items: int, rng: np.random.Generator, start_s: float, days: int) -> Recipes:
    names = [(f"{adjective} {main} {dish}", cuisine, course, fits)
             for adjectives, mains, dishes in (SAVOURY, SWEET)
             for adjective in adjectives.split() for fits in mains for main in mains[fits].split()
             for dish, cuisine, course in dishes]  # fmt: skip
    order = rng.permutation(len(names))
    # A fifth of the recipes is published while the log runs; the first never is, so that
    # every moment has something to show.
    new = rng.random(items) < 0.2
    new[:1] = False
    age_s = np.where(new, -rng.uniform(0, days, items), rng.uniform(1, 400, items)) * DAY_S
    available_from_s = np.floor(start_s - age_s)
    minutes = rng.integers(2, 15, items) * 5
    events: list[Event] = []
    courses: list[str] = []
    for n in range(items):
        again, which = divmod(n, len(names))
        title, cuisine, course, fits = names[order[which]]
        quick = ["quick"] if minutes[n] <= 20 else []
        attributes = {
            "title": f"{title} no. {again + 1}" if again else title,
            "categories": [cuisine, course],
            "tags": [*fits, *quick],
            "minutes": int(minutes[n]),
        }
        available_from = datetime.fromtimestamp(available_from_s[n], UTC)
        events.append({"type": "item", "item_id": f"recipe-{n:05}", "ts": start_s,
                       "attributes": attributes,
                       "available_from": available_from.isoformat()})  # fmt: skip
        courses.append(course)
    return Recipes(events, np.array(courses, dtype=np.str_), available_from_s)


def _person(
    n: int, recipes: Recipes, rng: np.random.Generator, start_s: float
) -> tuple[Person, Event]:
    time_zone, locale = ZONES[rng.integers(len(ZONES))]
    diet = DIETS[rng.integers(len(DIETS))]
    taste = dict(zip(CUISINES, rng.dirichlet(np.full(len(CUISINES), 0.5)) + 0.01, strict=True))
    liking = np.array([
        taste[event["attributes"]["categories"][0]] / (rank + 10) ** 0.5
        * (1.0 if diet == "none" or diet in event["attributes"]["tags"] else 0.02)
        for rank, event in enumerate(recipes.events)
    ])  # fmt: skip
    user_id = f"user-{n:05}"
    visitor_id = f"visitor-{_uuid(rng)}" if n % 12 == 7 else None
    attributes = {"time_zone": time_zone, "locale": locale, "diet": diet}
    event = {"type": "user", "user_id": user_id, "ts": start_s, "attributes": attributes}
    habit = float(rng.beta(2, 3))
    return Person(user_id, visitor_id, f"phone-{_uuid(rng)}", time_zone, habit, liking), event


def _session(
    person: Person,
    visiting: bool,
    moment: tuple[float, float, str, str, str, float],
    recipes: Recipes,
    rng: np.random.Generator,
    begin_s: float,
) -> list[Event]:
    """One session in time order; a visitor logs in at its end. The last event is the latest."""
    hour, _, place, activity, course, p_charging = moment
    who = person.visitor_id if visiting and person.visitor_id else person.user_id
    now_s = begin_s
    out: list[Event] = []

    def add(kind: str, wait_s: float, **fields: Any) -> None:
        nonlocal now_s
        now_s = round(now_s + wait_s, 3)
        out.append({"type": kind, "event_id": _uuid(rng), "user_id": who, "ts": now_s} | fields)

    device: dict[str, Any] = {
        "device_id": person.device_id,
        "activity": activity,
        "place": place,
        "screen": "on",
        "charging": bool(rng.random() < p_charging),
        "battery": round(float(np.clip(1.1 - hour / 26 + rng.normal(0, 0.1), 0.05, 1.0)), 2),
        "time_zone": person.time_zone,
    }
    add("device", 0.0, device=device)

    weights = person.liking * np.where(recipes.course == course, 4.0, 1.0)
    weights = np.where(recipes.available_from_s <= begin_s, weights, 0.0)
    size = min(8, int(np.count_nonzero(weights)))
    chosen = rng.choice(len(weights), size, replace=False, p=weights / weights.sum())
    shown = [f"recipe-{item:05}" for item in chosen]
    names = rng.permutation(MODULES).tolist()
    rows = [(name, shown[at : at + 4]) for name, at in zip(names, range(0, size, 4), strict=False)]
    decision_id = _uuid(rng)
    add("impression", 1.0, decision_id=decision_id, shown=[
        {"module_id": name, "position": position, "item_ids": row}
        for position, (name, row) in enumerate(rows)
    ])  # fmt: skip

    for name, row in rows:
        for item_id in row:
            draws = rng.random(5)
            viewed, clicked = draws[0] < 0.6, draws[1] < 0.35
            acts = [("view", viewed), ("click", viewed and clicked),
                    ("save", viewed and clicked and draws[2] < 0.3),
                    ("cook", viewed and clicked and draws[3] < 0.15),
                    ("dismiss", viewed and not clicked and draws[4] < 0.06)]  # fmt: skip
            for action in (action for action, did in acts if did):
                fields = {"action": action, "item_id": item_id, "module_id": name}
                # Older app versions do not send the decision back.
                if rng.random() < 0.7:
                    fields["decision_id"] = decision_id
                add("interaction", rng.uniform(1, 25), surface="home", **fields)
    if who != person.user_id:
        add("alias", 3.0, previous_id=who, user_id=person.user_id)
        who = person.user_id
    add("device", rng.uniform(30, 300), device=device | {"screen": "off"})
    return out


def _push(person: Person, rng: np.random.Generator, day_s: float) -> list[Event]:
    local_hour = float(rng.choice([11.5, 17.0])) + rng.uniform(-0.5, 0.5)
    now_s = _utc_s(day_s, local_hour, person.time_zone)
    message = {"user_id": person.user_id, "message_id": f"message-{_uuid(rng)}",
               "category": str(rng.choice(PUSH_CATEGORIES)), "decision_id": _uuid(rng)}  # fmt: skip
    out = [{"type": "push", "event_id": _uuid(rng), "status": "sent", "ts": now_s} | message]
    answer = rng.choice(["opened", "dismissed", "ignored"], p=[0.2, 0.15, 0.65])
    if answer != "ignored":
        later_s = round(now_s + rng.uniform(20, 3600), 3)
        out.append({"type": "push", "event_id": _uuid(rng), "status": str(answer), "ts": later_s}
                   | message)  # fmt: skip
    return out


def uuid_events(
    users: int, events_per_user: int, items: int, seed: int, days: int, end: datetime
) -> Iterator[Event]:
    """Interactions alone, made fast and in time order, for memory and fold benchmarks.

    Each user has exactly `events_per_user` events, in sessions of five spread evenly over
    [end − days, end); user and event ids are UUIDs, items follow Zipf's law with exponent 1.
    Memory holds 16 bytes a user and one chunk. Raises InvalidInput if `end` names no time zone.
    """
    return _uuid_events(users, events_per_user, items, seed, days, _end_s(end))


def _uuid_events(
    users: int, events_per_user: int, items: int, seed: int, days: int, end_s: float
) -> Iterator[Event]:
    per_session, gap_s, chunk = 5, 60.0, 20_000
    rng = np.random.default_rng(seed)
    user_ids = _raw_uuids(rng, users)
    item_ids = [f"item-{n}" for n in range(items)]
    zipf = np.cumsum(1.0 / np.arange(1, items + 1))
    zipf /= zipf[-1]
    actions, shares = ("view", "click", "save", "cook"), np.cumsum([0.70, 0.20, 0.07])

    start_s = end_s - days * DAY_S
    rounds = -(-events_per_user // per_session)
    # In each round every user has one session; the last must end before `end`.
    round_s = (days * DAY_S - per_session * gap_s) / max(rounds, 1)
    late_ts, late_who = np.empty(0), np.empty(0, dtype=np.int64)
    for turn in range(rounds):
        size = min(per_session, events_per_user - turn * per_session)
        begins_s = start_s + round_s * (turn + np.sort(rng.random(users)))
        order = rng.permutation(users)
        for at in range(0, users, chunk):
            begin_s = begins_s[at : at + chunk]
            gaps_s = rng.uniform(1.0, gap_s, (len(begin_s), size))
            gaps_s[:, 0] = 0.0
            ts = np.concatenate([late_ts, (begin_s[:, None] + gaps_s.cumsum(axis=1)).ravel()])
            who = np.concatenate([late_who, np.repeat(order[at : at + chunk], size)])
            # What the next sessions could still precede waits for them.
            if at + chunk < users:
                until_s = begins_s[at + chunk]
            else:
                until_s = start_s + round_s * (turn + 1) if turn + 1 < rounds else np.inf
            by_time = np.argsort(ts, kind="stable")
            cut = np.searchsorted(ts[by_time], until_s)
            late_ts, late_who = ts[by_time[cut:]], who[by_time[cut:]]
            ts, who = ts[by_time[:cut]], who[by_time[:cut]]
            yield from (
                {"type": "interaction", "event_id": event_id, "user_id": user_id,
                 "action": actions[action], "item_id": item_ids[item], "ts": when}
                for event_id, user_id, action, item, when in zip(
                    _texts(_raw_uuids(rng, len(ts))),
                    _texts(user_ids[who]),
                    np.searchsorted(shares, rng.random(len(ts)), side="right").tolist(),
                    np.searchsorted(zipf, rng.random(len(ts)), side="right").tolist(),
                    ts.round(3).tolist(),
                    strict=True,
                )
            )  # fmt: skip


def _raw_uuids(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """Random UUIDs of version 4, uint8 [n, 16]."""
    raw = np.frombuffer(rng.bytes(16 * n), dtype=np.uint8).reshape(n, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw


def _texts(raw: NDArray[np.uint8]) -> Iterator[str]:
    digits = raw.tobytes().hex()
    for at in range(0, len(digits), 32):
        h = digits[at : at + 32]
        yield f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def _uuid(rng: np.random.Generator) -> str:
    return str(UUID(bytes=rng.bytes(16), version=4))


def _utc_s(day_s: float, local_hour: float, time_zone: str) -> float:
    """The time of `local_hour` within the 24 hours from `day_s`, unix seconds."""
    offset = datetime.fromtimestamp(day_s, ZoneInfo(time_zone)).utcoffset() or timedelta()
    wanted_s = local_hour * 3600 - offset.total_seconds()
    return round(day_s + (wanted_s - day_s) % DAY_S, 3)


def _end_s(end: datetime) -> float:
    if end.tzinfo is None:
        raise InvalidInput("end", f"expected a time with a time zone, got {end.isoformat()}")
    return end.timestamp()
