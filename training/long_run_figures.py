"""What our own log tells of weeks under another policy, beside the truth of simulated weeks.

python -m training.long_run_figures [law] [people] [worlds]

The log is that of a new category: a coin sends each message or leaves it out, half and half. Asked
for is what it would be to send a quarter of them. Whoever is pushed less is less tired, so opens of
a person are told by whole trajectories (training.long_run), and by one step for comparison. The
truth is lived: the same weeks of the same people, every second of their sends taken back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.push_message import COIN
from training.long_run import per_user, trajectories
from training.off_policy import Estimate, Logged, estimate
from training.push_engine import kairos
from training.push_gain import RECIPES
from training.push_log import Pushes
from training.push_open_figures import Watched, pushes_of
from training.world import Line, World
from training.world.push_course import live
from training.world.push_oracle import Openness
from training.world.push_policy import Looks, Policy, Verdicts
from training.world.push_weeks import WEEK, PushWeeks, push_weeks
from training.world.pushes import FAILS

Doubles = NDArray[np.float64]
Figures = dict[str, Any]
RARELY = 0.25  # of the messages
WEEKS = (1, 2)


@dataclass
class Thinned:
    """A policy that takes back some of what another would send."""

    policy: Policy
    kept: float
    rng: np.random.Generator
    reads_events: bool = True

    def decide(self, looks: Looks) -> Verdicts:
        """Sent by the other, and kept by chance."""
        verdicts = self.policy.decide(looks)
        send = verdicts.send & (self.rng.random(len(looks)) < self.kept)
        return Verdicts(send, np.where(verdicts.send, np.nan, verdicts.until_s))

    def observe(self, lines: Sequence[Line]) -> None:
        """As the other does."""
        self.policy.observe(lines)

    def week_over(self, at_s: float) -> None:
        """As the other does."""
        self.policy.week_over(at_s)


def measure(law: str, people: int, worlds: int) -> Figures:
    """Opens a person in the first weeks of so many worlds: estimates beside the truth."""
    found = [_of_world(law, people, seed) for seed in range(1, worlds + 1)]
    told = {"law": law, "people": people, "worlds": worlds, "sent": {"log": COIN, "asked": RARELY}}
    return told | {f"{count} weeks": _together([one[count] for one in found]) for count in WEEKS}


def _of_world(law: str, people: int, seed: int) -> dict[int, list[Figures]]:
    world = World(law, people, RECIPES, seed=seed)
    weeks = push_weeks(world, max(WEEKS) + 1)  # what the last ones brought is known a day later
    openness = Openness.of(weeks)
    usual, often = _live(world, weeks, openness, 1.0, seed)
    _, seldom = _live(world, weeks, openness, RARELY / COIN, seed)
    found = {}
    for count in WEEKS:
        until_ms = round(weeks.at_s(count * WEEK) * 1000)
        log = usual.some(usual.measured & (usual.at_ms < until_ms))
        found[count] = _judge(log, often.before(until_ms), seldom.before(until_ms))
    return found


@dataclass(frozen=True, slots=True)
class _Truth:
    """The true chances of an open of all that was sent, [n], and of how many people."""

    at_ms: NDArray[np.int64]
    chance: Doubles
    people: int

    def before(self, until_ms: int) -> float:
        """Opens a person, to be expected."""
        return float(self.chance[self.at_ms < until_ms].sum()) / self.people


def _live(
    world: World, weeks: PushWeeks, openness: Openness, kept: float, seed: int
) -> tuple[Pushes, _Truth]:
    """Weeks of sending by chance, of which this much is kept."""
    learner, state = kairos(world, weeks, seed), weeks.begin()
    thinned = Thinned(learner, kept, np.random.default_rng((seed, 5)))
    watched = Watched(thinned, state, openness)
    live(weeks, watched, state, range(weeks.ticks))
    pushes = pushes_of(learner, weeks.at_s(weeks.ticks))
    sent = [n for n, one in enumerate(pushes.messages) if one.message_id in watched.chances]
    chance = [watched.chances[pushes.messages[n].message_id][0] * (1 - FAILS) for n in sent]
    return pushes, _Truth(pushes.at_ms[sent], np.array(chance), len(np.unique(pushes.user)))


def _judge(log: Pushes, often: float, seldom: float) -> list[Figures]:
    """Of the log's own policy, then of the one that is asked for, per person."""
    opened = np.where(log.sent & ~log.failed, log.opened, 0.0)
    target = np.where(log.sent, RARELY, 1 - RARELY)
    logged = Logged(opened, log.propensity, target, log.user)
    each = len(log) / len(np.unique(log.user))
    return [
        _told("log, as lived", often, per_user(opened, log.user)),
        _told("asked, trajectories", seldom, trajectories(logged, log.at_ms)),
        _told("asked, one step", seldom, estimate(logged, "snips"), each),
    ]


def _told(name: str, truth: float, found: Estimate, times: float = 1.0) -> Figures:
    value, low, high = (x * times for x in (found.value, found.low, found.high))
    told = {"truth": truth, "value": value, "width": high - low, "effective": found.effective}
    return {"name": name, "covers": low <= truth <= high} | told


def _together(worlds: Sequence[Sequence[Figures]]) -> Figures:
    """Means over worlds, and in how many of them the interval has the truth in it."""
    found = {}
    for some in zip(*worlds, strict=True):
        columns = {key: [one[key] for one in some] for key in some[0] if key != "name"}
        off = np.array(columns["value"]) - columns["truth"]
        found[some[0]["name"]] = {key: float(np.mean(all_)) for key, all_ in columns.items()} | {
            "off": float(off.mean()),
            "off_error": float(off.std(ddof=1) / np.sqrt(len(off))),
        }
    return found


if __name__ == "__main__":
    asked = dict(enumerate(sys.argv[1:]))
    args = asked.get(0, "amber"), int(asked.get(1, 400)), int(asked.get(2, 8))
    print(json.dumps(measure(*args), indent=1))
