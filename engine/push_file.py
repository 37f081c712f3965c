"""When a message may go out: the operator's file `push.yaml`, read and checked."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from engine.push_ahead import MINUTE_MS
from engine.push_history import HEARD
from engine.push_message import Channel, Urgency
from engine.senses import ACTIVITIES, AXES
from engine.times import DAY_MS, HOUR_MS, zone
from engine.yaml_file import YamlFile, read_yaml

CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Stretch = Literal["hour", "day", "week", "month"]
STRETCH_MS: Mapping[Stretch, int] = {
    "hour": HOUR_MS,
    "day": DAY_MS,
    "week": 7 * DAY_MS,
    "month": 28 * DAY_MS,
}
Gate = Literal[
    "quiet_hours",
    "caps",
    "gap",
    "situation",
    "ringer",
    "digest",
    "seen",
    "preferences",
    "holdout",
]


class QuietHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A stretch of the local day, as "22:00"; it may pass midnight."""

    from_: str
    until: str

    @property
    def minutes(self) -> tuple[int, int]:
        """Both ends, in minutes of the day."""
        return minute_of(self.from_), minute_of(self.until)


class Cap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most so many messages in any stretch of that length."""

    per: Stretch
    most: Annotated[int, msgspec.Meta(ge=0, le=HEARD)]
    of: Literal["all", "category", "campaign"] = "all"
    only: list[str] = []  # categories that it is for; none: every one

    def says(self) -> str:
        """As people read it."""
        names = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}
        of = "" if self.of == "all" else f" of a {self.of}"
        return f"{names[self.per]} cap{of} of {self.most}"


class Explore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is drawn by chance."""

    share: Annotated[float, msgspec.Meta(ge=0.05, le=1)] = 0.05
    new_category: Share = 1.0
    until: Annotated[int, msgspec.Meta(ge=0)] = 2000
    # Not 0: what is never sent tells nothing.
    unwanted: Annotated[float, msgspec.Meta(ge=0.02, le=0.5)] = 0.1


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In goals; of waiting, the share of a moment's worth that each hour away takes."""

    opt_out: NotNegative = 20.0
    wait_per_h: Share = 0.005


class Assumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds while no model is published; see engine.push_value."""

    p_open: Share = 0.08
    uplift: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.04
    opt_out: Share = 0.0005
    fatigue_per_push: Share = 0.2
    half_life_h: Annotated[float, msgspec.Meta(gt=0)] = 48.0
    situations: dict[str, NotNegative] = {}


class PushFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    time_zone: str = "UTC"
    quiet_hours: QuietHours | None = None
    clocks_differ_min: Annotated[int, msgspec.Meta(ge=0, le=60)] = 5
    caps: list[Cap] = []
    gap_min: Annotated[float, msgspec.Meta(ge=0, le=7 * 24 * 60)] = 0.0
    hold_while: dict[str, Share] = {}
    ringer: list[Literal["vibrate", "silent"]] = []
    digest_at: str = "18:00"
    seen_h: NotNegative = 12.0
    demote_h: NotNegative = 12.0
    passes: dict[Urgency | Channel, list[Gate]] = {}
    reserve_min: Annotated[float, msgspec.Meta(ge=1, le=24 * 60)] = 10.0
    holdout: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.02
    explore: Explore = Explore()
    costs: Costs = Costs()
    assumed: Assumed = Assumed()

    @property
    def clocks_apart_ms(self) -> int:
        """How far two clocks may be apart, one ahead and one behind."""
        return 2 * self.clocks_differ_min * MINUTE_MS

    def passed(self, urgency: Urgency, channel: Channel) -> frozenset[str]:
        """Gates that such a message need not wait for."""
        return frozenset([*self.passes.get(urgency, []), *self.passes.get(channel, [])])


@functools.lru_cache(maxsize=4096)
def minute_of(clock: str) -> int:
    """Minute of the day of "22:00"; raises ValueError."""
    found = CLOCK.fullmatch(clock)
    if found is None:
        raise ValueError(f'expected a time of day as "22:00", got {clock!r}')
    return int(found[1]) * 60 + int(found[2])


def read_quiet_hours(text: object) -> tuple[int, int] | None:
    """Minutes of a person's own quiet hours, "21:00-09:30"; None for anything else."""
    start, _, end = text.partition("-") if isinstance(text, str) else ("", "", "")
    try:
        found = minute_of(start.strip()), minute_of(end.strip())
    except ValueError:
        return None
    return found if found[0] != found[1] else None


def load_push(situations: tuple[str, ...], path: Path | None = None) -> PushFile:
    """Read `path`, or the shipped file; raises SettingsError naming line and key.

    Of the shipped file, what speaks of situations that are not declared is left out.
    """
    file = read_yaml(path, "push.yaml", PushFile)
    if path is None:
        file.value = _declared(file.value, situations)
    _check(file, situations)
    return file.value


def _declared(file: PushFile, situations: tuple[str, ...]) -> PushFile:
    kept = {name: lift for name, lift in file.assumed.situations.items() if name in situations}
    assumed = msgspec.structs.replace(file.assumed, situations=kept)
    return msgspec.structs.replace(file, assumed=assumed)


def _check(file: YamlFile[PushFile], situations: tuple[str, ...]) -> None:
    value = file.value
    if zone(value.time_zone) is None:
        raise file.error(("time_zone",), f"there is no time zone {value.time_zone!r}")
    clocks = [("digest_at", value.digest_at)]
    if value.quiet_hours is not None:
        clocks += [
            ("quiet_hours.from", value.quiet_hours.from_),
            ("quiet_hours.until", value.quiet_hours.until),
        ]
    for path, clock in clocks:
        try:
            minute_of(clock)
        except ValueError as error:
            raise file.error(tuple(path.split(".")), str(error)) from None
    if value.quiet_hours is not None and len(set(value.quiet_hours.minutes)) == 1:
        raise file.error(("quiet_hours",), "expected hours that last and end")
    known = {*situations, *ACTIVITIES, *AXES["doing"]}
    for name in value.hold_while:
        if name not in known:
            raise file.error(("hold_while", name), f"expected one of {', '.join(sorted(known))}")
    for name in value.assumed.situations:
        if name not in situations:
            detail = f"expected one of {', '.join(situations)}"
            raise file.error(("assumed", "situations", name), detail)
    for name, gates in value.passes.items():
        if len(set(gates)) < len(gates):
            raise file.error(("passes", name), "a gate is named twice")
