"""People with daily routines: when a phone tells what of its person, as the simulated world has it.

Read from the JSON Lines that `kairos simulate` writes. Every `device` event in it is a moment of
somebody's day: at home in the morning, on the bus, in the supermarket, on the sofa. A load test
goes through one day, from midnight to midnight, however long it takes: whoever is asked about is
drawn from those whose moment it is then, with the device state of that moment, so that states
change as people move.
"""

from __future__ import annotations

import bisect
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAY_S = 86_400
NEAR = 200  # moments around the clock's from which one is drawn


@dataclass(frozen=True, slots=True)
class Moment:
    """What one phone told at a second of the day (UTC)."""

    at_s: float
    user_id: str
    device: dict[str, Any]


class Town:
    """Moments of one day, in order of time, and the items that the app has."""

    def __init__(self, moments: list[Moment], items: list[str]) -> None:
        if not moments or not items:
            raise ValueError("expected device events and items, as `kairos simulate` writes them")
        self.moments = sorted(moments, key=lambda moment: moment.at_s)
        self.items = items
        self.users = sorted({moment.user_id for moment in moments})
        self._times = [moment.at_s for moment in self.moments]

    def someone(self, at_s: float, rng: random.Random) -> Moment:
        """A person whose moment it is at a second of the day; over midnight, day follows day."""
        here = bisect.bisect(self._times, at_s % DAY_S)
        return self.moments[(here + rng.randrange(-NEAR, NEAR)) % len(self.moments)]


def read_town(file: Path) -> Town:
    """The people of a simulated log; its days are laid upon each other."""
    moments, items = [], []
    with file.open("rb") as lines:
        for line in lines:
            if b'"type":"device"' in line:
                event = json.loads(line)
                at_s = event["ts"] / 1000 % DAY_S
                moments.append(Moment(at_s, event["user_id"], event["device"]))
            elif b'"type":"item"' in line:
                items.append(json.loads(line)["item_id"])
    return Town(moments, items)
