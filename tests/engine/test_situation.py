"""Moments by the shipped file alone: known answers, fading, and nothing made of what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from engine.device import Device, read_device
from engine.situation import (
    NAMED,
    Moment,
    Situations,
    local_clock,
    newest_device,
    read_back,
    told_of,
)
from engine.situation_rules import load_situations
from engine.state import Situated, UserState

MONDAY = int(datetime(2026, 2, 2, 12, 30, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
SHOP = Device(place="supermarket")
SITUATIONS = Situations(load_situations())
NUMBER = {name: number for number, name in enumerate(SITUATIONS.names)}


def at(hour: float, device: dict[str, Any] | Device, state: UserState | None = None) -> Moment:
    told = device if isinstance(device, Device) else read_device(device)[0]
    ms = MONDAY + round((hour - 12.5) * 3_600_000)
    return SITUATIONS.read(state or UserState(), told, ms)


def believing(name: str, at_ms: int = MONDAY, p: float = 0.95, **told: Any) -> UserState:
    belief = np.full(len(NUMBER), (1 - p) / (len(NUMBER) - 1), np.float16)
    belief[NUMBER[name]] = p
    return UserState(situated=Situated(at_ms=at_ms, belief=belief.tobytes(), **told))


@pytest.mark.parametrize(
    ("device", "hour", "name"),
    [
        ({"place": "supermarket"}, 18, "shopping"),
        ({"place": "supermarket", "activity": "walking"}, 18, "shopping"),
        ({"place": "transit"}, 8, "commuting"),
        ({"activity": "in_vehicle"}, 8, "commuting"),
        ({"activity": "automotive", "network": "cellular"}, 17, "commuting"),
        ({"place": "work"}, 10, "at_work"),
        ({"place": "gym"}, 19, "exercising"),
        ({"activity": "running"}, 7, "exercising"),
        ({"place": "home", "activity": "lying"}, 23, "in_bed"),
        ({"place": "home", "activity": "still"}, 3, "in_bed"),
        ({"place": "home", "activity": "still", "network": "wifi"}, 20.5, "relaxing"),
        ({"screen": "on", "battery": 0.0, "charging": False}, 12, "unknown"),
        ({"activity": "still"}, 17, "unknown"),
        ({}, 12, "unknown"),
    ],
)
def test_known_answers(device: dict[str, Any], hour: float, name: str) -> None:
    moment = at(hour, device)

    assert moment.name == name
    assert SITUATIONS.names[moment.situation] == name
    assert sum(moment.probabilities) == pytest.approx(1, abs=1e-3)
    assert moment.confidence == (moment.probabilities[moment.situation] if name != "unknown" else 0)
    assert moment.confidence == 0 or moment.confidence >= NAMED


def test_nothing_known_has_no_age() -> None:
    moment = SITUATIONS.read(UserState(), None, MONDAY)

    assert (moment.name, moment.confidence, moment.age_s) == ("unknown", 0.0, None)
    assert (moment.hour, moment.weekday, moment.device_type) == (12.5, 0, None)
    assert moment.probabilities == (1.0, *[0.0] * (len(NUMBER) - 1))


def test_the_requests_own_device_comes_before_the_kept_ones() -> None:
    kept = UserState(devices={"phone": (MONDAY, SHOP)})
    told = Device(place="work", device_type="tablet")

    assert SITUATIONS.read(kept, told, MONDAY).name == "at_work"
    assert SITUATIONS.read(kept, told, MONDAY).device_type == "tablet"
    assert SITUATIONS.read(kept, None, MONDAY).name == "shopping"
    # one without a signal is no news: what is kept stands
    assert SITUATIONS.read(kept, Device(app_version="2"), MONDAY).name == "shopping"


def test_what_is_kept_speaks_for_its_person_only_where_they_are() -> None:
    tablet = Device(device_type="tablet", place="home", charging=True)
    used = Device(device_type="tablet", place="home", screen="on")
    phone = (MONDAY - 5 * MINUTE, SHOP)

    def kept(**devices: tuple[int, Device]) -> UserState:
        return UserState(devices=devices)

    # The tablet at home does not overwrite the phone in the shop …
    assert newest_device(kept(phone=phone, tablet=(MONDAY, tablet)), MONDAY) == phone
    assert SITUATIONS.read(kept(phone=phone, tablet=(MONDAY, tablet)), None, MONDAY).name == (
        "shopping"
    )
    # … unless somebody uses it, or nothing was heard of the phone for long.
    assert newest_device(kept(phone=phone, tablet=(MONDAY, used)), MONDAY) == (MONDAY, used)
    later = MONDAY + 60 * MINUTE
    assert newest_device(kept(phone=phone, tablet=(later, tablet)), later) == (later, tablet)
    assert newest_device(UserState(), MONDAY) is None
    assert newest_device(kept(phone=phone), MONDAY - 60 * MINUTE) is None  # as of a time before


def test_a_belief_fades_to_unknown_for_a_stranger() -> None:
    """Never to a false certainty: confidence only falls, and in the end nothing is named."""
    state = believing("shopping")
    moments = [
        SITUATIONS.read(state, None, MONDAY + age * MINUTE) for age in (0, 5, 20, 60, 240, 1440)
    ]
    chances = [moment.probabilities[NUMBER["shopping"]] for moment in moments]
    unknown = [moment.probabilities[0] for moment in moments]

    assert moments[0].name == moments[1].name == "shopping"
    assert chances == sorted(chances, reverse=True)
    assert unknown == sorted(unknown)
    assert moments[-1].name == "unknown"
    assert unknown[-1] > 0.99
    assert [moment.age_s for moment in moments] == [0, 300, 1200, 3600, 14400, 86400]


def test_a_belief_fades_to_the_routine_of_somebody_known() -> None:
    from engine import routine

    state = believing("shopping")
    assert state.situated is not None
    working = np.eye(len(NUMBER), dtype=np.float32)[NUMBER["at_work"]]
    for day in range(5):
        for _ in range(6):
            routine.add(state.situated.routine, day * 24 + 15, working)

    moment = SITUATIONS.read(state, None, MONDAY + 150 * MINUTE)  # 15:00

    assert moment.name == "at_work"
    assert moment.confidence < 0.95
    night = SITUATIONS.read(state, None, MONDAY + 15 * 60 * MINUTE)  # of that hour nothing is known
    assert night.name == "unknown"


def test_news_counts_beside_what_was_believed() -> None:
    """In the kitchen, phone on the table: a minute in which nothing is told changes nothing."""
    home = Device(place="home", activity={"still": 0.9})
    cooking = believing("cooking", MONDAY + 6 * 60 * MINUTE, p=0.9)
    fresh = SITUATIONS.read(UserState(), home, MONDAY + 361 * MINUTE)
    after = SITUATIONS.read(cooking, home, MONDAY + 361 * MINUTE)
    later = SITUATIONS.read(cooking, home, MONDAY + 500 * MINUTE)

    assert after.name == "cooking"
    assert fresh.probabilities[NUMBER["cooking"]] < later.probabilities[NUMBER["cooking"]] + 0.01
    assert later.probabilities[NUMBER["cooking"]] < after.probabilities[NUMBER["cooking"]]


def test_a_device_state_told_now_may_be_old() -> None:
    old = Device(place="supermarket", captured_at=MONDAY - 3 * 3_600_000)
    ahead = Device(place="supermarket", captured_at=MONDAY + MINUTE)

    assert SITUATIONS.read(UserState(), old, MONDAY).name == "unknown"
    assert SITUATIONS.read(UserState(), old, MONDAY).age_s == 3 * 3600
    assert SITUATIONS.read(UserState(), ahead, MONDAY).age_s == 0


def test_a_belief_from_later_says_nothing_of_before() -> None:
    moment = SITUATIONS.read(believing("shopping"), None, MONDAY - MINUTE)

    assert (moment.name, moment.age_s) == ("unknown", None)


@pytest.mark.parametrize(
    ("zone", "home", "clock"),
    [
        (None, None, (12.5, 0)),
        ("Asia/Tokyo", None, (21.5, 0)),
        (None, "Asia/Tokyo", (21.5, 0)),
        ("America/New_York", "Asia/Tokyo", (7.5, 0)),  # where the device is, not where home is
        ("Pacific/Kiritimati", None, (2.5, 1)),
        ("Asia/Kathmandu", None, (18.25, 0)),
        (None, "Mars/Olympus", (12.5, 0)),
    ],
)
def test_the_clock_is_local(zone: str | None, home: str | None, clock: tuple[float, int]) -> None:
    assert local_clock(Device(time_zone=zone), home, MONDAY) == clock
    assert local_clock(None, home, MONDAY) == local_clock(Device(), home, MONDAY)


def test_a_moment_comes_back_from_the_log_as_it_went_in() -> None:
    moment = at(18, {"place": "supermarket", "activity": "walking", "device_type": "phone"})

    assert read_back(told_of(moment), moment.at_ms) == Moment(
        **{name: getattr(moment, name) for name in Moment.__slots__}
        | {"activity": {name: round(share, 3) for name, share in moment.activity.items()}}
    )


def test_what_people_say_of_themselves_is_believed() -> None:
    silent, spoken = (at(20, {"place": "home", "label": label}) for label in (None, "cooking"))

    assert silent.name != "cooking"
    assert spoken.name == "cooking"
    assert at(20, {"label": "exercising"}).name == "exercising"
    assert at(20, {"label": "juggling"}).age_s is None  # a word that no situation has


def test_a_window_that_cannot_be_read_is_no_news() -> None:
    state = believing("shopping", MONDAY - 10 * MINUTE)
    window = {"rate_hz": 50, "acc": [[1, 2, 3]]}
    assert at(12.5, {"motion": window}, state).age_s == 600
    readable = {"rate_hz": 50, "acc": [[0, 0, 9.8 + 0.1 * (n % 3)] for n in range(200)]}
    assert at(12.5, {"motion": readable}, state).age_s == 0
