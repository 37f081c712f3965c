"""A moment of a person: where they are and how they feel, and what their device says of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from training.world.arrays import DAY_S, Bools, Floats, Ints, draw, shares
from training.world.people import ALLOWED, DENIED, PLATFORMS, WEB, ZONES, People
from training.world.sensors import ACTIVITIES, NETWORKS, UNKNOWN, UNTOLD, Sensors, Signals

PLACES = ("home", "work", "supermarket", "transit", "gym", "restaurant")
PLACE_OF = np.array([0, 0, 0, 1, 2, 3, 4, 5])  # by situation
# Where people are when they are not where they usually are.
ELSEWHERE = np.array([0.08, 0.22, 0.12, 0.08, 0.14, 0.12, 0.08, 0.16])
ON_TABLET = np.array([0.35, 0.55, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])  # for those who have one
# What the device tells of the place, by permission: the truth, "home", or any place at all.
PLACE_ODDS = np.array([[0.0, 0.0, 0.0], [0.45, 0.30, 0.25], [0.97, 0.0, 0.03]])


@dataclass(frozen=True)
class Moments:
    """Columns over moments. What is `hidden` nobody but the law may read."""

    person: Ints
    at_s: Floats  # unix seconds
    hour: Ints  # local, 0–23
    weekend: Ints  # 0 or 1
    weekday: Ints
    on_tablet: Bools
    place: Ints  # as told, UNTOLD where it is not
    signals: Signals
    situation: Ints  # hidden
    off_routine: Bools  # hidden
    purpose: Ints  # hidden
    mood: Ints  # hidden
    guests: Bools  # hidden

    @property
    def block(self) -> Ints:
        return self.hour // 4

    def __len__(self) -> int:
        return len(self.person)

    def rows(self, rows: Ints) -> Moments:
        """These rows only."""
        return _take(self, rows)


def _take(moments: Moments, rows: Ints) -> Moments:
    columns = {f.name: getattr(moments, f.name) for f in fields(moments)}
    signals = columns.pop("signals")
    taken = {name: column[rows] for name, column in columns.items()}
    return Moments(signals=Signals(**{n: c[rows] for n, c in vars(signals).items()}), **taken)


def offsets_s(at_s: float) -> Floats:
    """Each zone's distance from UTC at a time, in seconds: float [zones]."""
    then = datetime.fromtimestamp(at_s, UTC)
    offsets = [then.astimezone(ZoneInfo(zone)).utcoffset() for zone in ZONES]
    return np.array([offset.total_seconds() for offset in offsets if offset is not None])


def local(people: People, person: Ints, at_s: Floats, offset_s: Floats) -> tuple[Ints, Ints]:
    """Local hour 0–23 and weekday 0–6 of each person's time."""
    local_s = at_s + offset_s[people.zone[people.account[person]]]
    hour = (local_s % DAY_S // 3600).astype(np.int64)
    return hour, ((local_s // DAY_S + 3) % 7).astype(np.int64)  # 1970 began on a Thursday


def situation_odds(people: People, person: Ints, weekend: Ints, hour: Ints) -> Floats:
    """Chance of each situation, knowing only who and when: float [n, situations]."""
    usual = people.routine[person, weekend, hour]
    rows = np.arange(len(person))
    odds = np.tile(ELSEWHERE, (len(person), 1))
    odds[rows, usual] = 0.0
    odds = shares(odds) * people.off_routine[person, None]
    odds[rows, usual] = 1.0 - people.off_routine[person]
    return odds


def draw_moments(
    people: People,
    sensors: Sensors,
    person: Ints,
    at_s: Floats,
    offset_s: Floats,
    rng: np.random.Generator,
) -> Moments:
    """What each person's moment is like at each time."""
    hour, weekday = local(people, person, at_s, offset_s)
    weekend = (weekday >= 5).astype(np.int64)
    account = people.account[person]
    situation = draw(situation_odds(people, person, weekend, hour), rng)
    on_tablet = people.tablet[account] & (rng.random(len(person)) < ON_TABLET[situation])
    # The web tells nothing; what is drawn for it here is left out of its device.
    platform = np.minimum(people.platform[account], WEB - 1)
    return Moments(
        person=person,
        at_s=at_s,
        hour=hour,
        weekend=weekend,
        weekday=weekday,
        on_tablet=on_tablet,
        place=_told_place(people.permission[account], people.platform[account], situation, rng),
        signals=sensors.read(platform, situation, hour // 4, rng),
        situation=situation,
        off_routine=situation != people.routine[person, weekend, hour],
        purpose=draw(people.purposes[person, situation], rng),
        mood=draw(people.moods[person, weekend, hour // 4], rng),
        guests=rng.random(len(person)) < people.guests[person, weekend, hour // 4],
    )


def _told_place(
    permission: Ints, platform: Ints, situation: Ints, rng: np.random.Generator
) -> Ints:
    true, home = PLACE_ODDS[permission, 0], PLACE_ODDS[permission, 1]
    chance = rng.random(len(permission))
    anywhere = rng.integers(len(PLACES), size=len(permission))
    told = np.where(chance < true, PLACE_OF[situation], anywhere)
    told = np.where((chance >= true) & (chance < true + home), 0, told)
    return np.where((permission == DENIED) | (platform == WEB), UNTOLD, told)


def place_likelihood(permission: Ints, told: Ints) -> Floats:
    """How likely a told place is in each situation: float [n, situations]."""
    true, home, anywhere = PLACE_ODDS[permission].T[:, :, None]
    place = told[:, None]
    likely = true * (place == PLACE_OF) + home * (place == 0) + anywhere / len(PLACES)
    return np.where(place == UNTOLD, 1.0, likely)


def device_of(people: People, moments: Moments, row: int) -> dict[str, object]:
    """The device state of a moment, as the contract names its fields."""
    account = int(people.account[moments.person[row]])
    platform = int(people.platform[account])
    tablet = bool(moments.on_tablet[row])
    owner = int(people.tablet_of[account]) if tablet else account
    kind = "tablet" if tablet else "web" if platform == WEB else "phone"
    device: dict[str, object] = {
        "device_id": f"{kind}-{owner:05}",
        "time_zone": ZONES[people.zone[account]],
        "platform": PLATFORMS[platform],
        "device_type": kind,
        "screen": "on",
    }
    if platform == WEB:
        return device
    signals = moments.signals
    if moments.place[row] != UNTOLD:
        device["place"] = PLACES[moments.place[row]]
    if not tablet:
        device["activity"] = _activity(signals, row, platform)
    if signals.charging[row] != UNKNOWN:
        device["charging"] = bool(signals.charging[row])
    if (network := NETWORKS[signals.network[row]]) is not None:
        device["network"] = network
    for name, value in (("battery", signals.battery[row]), ("brightness", signals.brightness[row])):
        if value == value:
            device[name] = round(float(value), 2)
    return device


def unused_device(people: People, moments: Moments, row: int) -> dict[str, object]:
    """What it tells while nobody looks at it."""
    device = device_of(people, moments, row) | {"screen": "off"}
    device.pop("brightness", None)
    return device


def _activity(signals: Signals, row: int, platform: int) -> dict[str, object]:
    """Android counts to a hundred, iOS has three words."""
    name, confidence = ACTIVITIES[signals.activity[row]], int(signals.confidence[row])
    if platform == 0:
        return {"name": name, "confidence": confidence}
    return {"name": name, "confidence": ("low", "medium", "high")[(confidence - 40) // 21]}


assert PLACE_ODDS[ALLOWED, 0] > PLACE_ODDS[DENIED, 0]
