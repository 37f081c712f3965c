"""Invented push.yaml files, people on the move, and messages: what the gates are tried with."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from engine.push_message import Channel, Message, Urgency

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
CATEGORIES = tuple(f"category-{n}" for n in range(5))
CAMPAIGNS = (None, None, "spring", "autumn", "sale")
# Around a night on which the clock is put forward or back, or a zone changes its rules.
NIGHTS = (
    ("Europe/Paris", "2027-03-28"),
    ("Europe/Berlin", "2026-10-25"),
    ("Europe/London", "2028-03-26"),
    ("America/New_York", "2027-03-14"),
    ("America/Los_Angeles", "2026-11-01"),
    ("America/Sao_Paulo", "2018-11-04"),  # at midnight
    ("America/St_Johns", "2027-11-07"),
    ("Australia/Lord_Howe", "2027-04-04"),  # half an hour
    ("Australia/Lord_Howe", "2027-10-03"),
    ("Pacific/Auckland", "2027-09-26"),
    ("Pacific/Chatham", "2027-04-04"),  # +12:45
    ("Antarctica/Troll", "2027-03-28"),  # two hours
    ("Pacific/Apia", "2011-12-30"),  # a day that never was
    ("Asia/Almaty", "2024-03-01"),
    ("Europe/Volgograd", "2020-12-27"),
    ("Asia/Pyongyang", "2018-05-05"),
    ("America/Nuuk", "2023-03-26"),
    ("Africa/Casablanca", "2027-02-07"),
    ("Asia/Gaza", "2022-10-29"),
)
ZONES = (
    *sorted({zone for zone, _ in NIGHTS}),
    *("UTC", "Asia/Tokyo", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati"),
    *("Pacific/Pago_Pago", "America/Phoenix", "Africa/Lagos"),
)
URGENCIES: tuple[Urgency, ...] = ("low", "normal", "normal", "normal", "high", "transactional")
GATES = ("quiet_hours", "caps", "gap", "situation", "ringer", "digest", "seen", "preferences")


def invent_policy(rng: random.Random, real: bool) -> str:
    """A push.yaml; `real`: of short times, since the clock is the store's."""
    caps = [_cap(rng) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
    policy: dict[str, Any] = {
        "time_zone": rng.choice(ZONES),
        "clocks_differ_min": 5,
        "caps": caps,
        "gap_min": rng.choice((0, 0.02) if real else (0, 1, 7.5, 60, 60, 240)),
        "hold_while": rng.choice(({}, {"driving": 0.5, "sleeping": 0.6})),
        "ringer": rng.choice(([], ["silent"])),
        "digest_at": f"{rng.randrange(24):02}:{rng.choice((0, 7, 30, 55)):02}",
        "passes": _passes(rng),
        "reserve_min": rng.choice((1, 2, 15, 60, 600)),
        "holdout": rng.choice((0.0, 0.02)),
        "explore": {"share": rng.choice((0.05, 0.5)), "new_category": rng.choice((0.0, 0.5))},
        "costs": {"opt_out": rng.choice((0, 20)), "wait_per_h": rng.choice((0.0, 0.01, 0.2))},
        "assumed": {
            "uplift": rng.choice((0.04, 0.2, 0.2)),
            "fatigue_per_push": rng.choice((0.0, 0.1)),
            "half_life_h": rng.choice((6, 48)),
        },
    }
    if rng.random() < 0.85:
        hours = invent_hours(rng)
        policy["quiet_hours"] = dict(zip(("from", "until"), hours.split("-"), strict=True))
    return yaml.safe_dump(policy, sort_keys=False)


def invent_hours(rng: random.Random) -> str:
    """Quiet hours, mostly at night."""
    start = rng.choice((21 * 60, 22 * 60, 23 * 60 + 30, 30, rng.randrange(1440)))
    end = (start + rng.choice((30, 120, 420, 600, 600, 900))) % 1440
    return f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"


def _cap(rng: random.Random) -> dict[str, Any]:
    per = rng.choice(("hour", "hour", "day", "day", "week", "month"))
    most = {"hour": (0, 1, 1, 2), "day": (1, 2, 3), "week": (2, 5, 8), "month": (4, 12)}[per]
    cap: dict[str, Any] = {"per": per, "most": rng.choice(most)}
    if cap["most"] == 0:
        cap["only"] = [CATEGORIES[0]]
    elif rng.random() < 0.5:
        cap["of"] = rng.choice(("category", "campaign"))
    if rng.random() < 0.2:
        cap["only"] = rng.sample(CATEGORIES, 2)
    return cap


def _passes(rng: random.Random) -> dict[str, list[str]]:
    if rng.random() < 0.5:
        return {
            "high": ["gap"],
            "transactional": [*GATES[:-1], "holdout"],
            "in_app": ["quiet_hours", "gap", "situation", "ringer"],
        }
    names = rng.sample(("low", "high", "transactional", "in_app"), rng.randint(0, 3))
    return {name: rng.sample(GATES, rng.randint(1, 4)) for name in names}


def start_of(rng: random.Random) -> tuple[str, int]:
    """A zone, and a time up to three days before its night; unix ms."""
    zone, night = rng.choice(NIGHTS)
    day = datetime.fromisoformat(night).replace(tzinfo=UTC)
    return zone, int(day.timestamp() * 1000) - rng.randrange(72 * 60) * MINUTE_MS


def stride(rng: random.Random) -> int:
    """How far the true time goes on until the next questions; whole seconds, in ms."""
    kind = rng.random()
    if kind < 0.15:
        return 0
    if kind < 0.4:
        return rng.randrange(1, 120) * 1000
    if kind < 0.75:
        return rng.randrange(1, 30) * MINUTE_MS + rng.randrange(60) * 1000
    if kind < 0.97:
        return rng.randrange(30, 300) * MINUTE_MS
    return rng.randrange(10, 30) * HOUR_MS


@dataclass(slots=True)
class Wanderer:
    """Somebody who may be anywhere, with a phone whose clock is off."""

    user_id: str
    clock_ms: int  # what the phone is ahead
    zone: str | None  # of the phone
    home: str | None
    digest: bool


def invent_people(rng: random.Random, world: int, count: int, zone: str) -> list[Wanderer]:
    """Of a night's zone, mostly."""
    found = []
    for number in range(count):
        here = zone if rng.random() < 0.6 else rng.choice(ZONES)
        phone = here if rng.random() < 0.8 else None
        home = rng.choice((here, rng.choice(ZONES), None))
        clock_ms = rng.randrange(-300, 300) * 1000
        digest = rng.random() < 0.2
        found.append(Wanderer(f"w{world}-{number}", clock_ms, phone, home, digest))
    return found


def invent_message(rng: random.Random, name: str, at_ms: int) -> Message:
    """One that expires some time, at times soon."""
    channel: Channel = "in_app" if rng.random() < 0.1 else "push"
    lasts = rng.choice((2, 10, 45, 90, 180, 600, 1440)) * MINUTE_MS
    late = rng.random() < 0.1
    return Message(
        name,
        rng.choice(CATEGORIES),
        at_ms + lasts,
        rng.choice(CAMPAIGNS),
        channel,
        value=rng.choice((1.0, 3.0, 20.0)),
        not_before_ms=at_ms + lasts // 3 if late else 0,
        urgency=rng.choice(URGENCIES),
    )
