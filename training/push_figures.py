"""How near a push model comes to the truth of `training/push_world.py`, and what that takes.

python -m training.push_figures [people] [days]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.ids import pack_position, partition_of
from engine.records import Entry, Record, encode
from engine.settings import Settings
from engine.times import HOUR_MS
from models.push import LearnedPush
from models.registry import open_registry
from training.push import PushSettings, cut, learn_push
from training.push_fit import build, find_parts, learn_uplift, see, table_of
from training.push_judge import area
from training.push_log import Pushes, read_pushes
from training.push_parts import Fatigue, Priors
from training.push_world import SITUATIONS, PushWorld

PARTITIONS = 4
COSTS = (0.02, 0.05)  # of a push, in goals
Doubles = NDArray[np.float64]
Figures = dict[str, Any]


@dataclass
class MemoryLog:
    """A log in memory; records are appended in order."""

    entries: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def add(self, record: Record) -> None:
        partition = partition_of(getattr(record, "user_id", ""), PARTITIONS)
        self.count += 1
        self.entries[partition].append(Entry(pack_position(f"{self.count}-0"), [encode(record)]))

    def read(self, partitions: Sequence[int]) -> Iterator[tuple[int, list[Entry]]]:
        for partition in partitions:
            yield partition, self.entries[partition]


def measure(people: int, days: int, **world: Any) -> Figures:
    """A world lived, learned from and held against its own truth."""
    lived = PushWorld(MemoryLog(), **world)
    lived.live(people, days)
    start = time.perf_counter()
    log = read_pushes(lived.log, PARTITIONS)
    pushes = log.pushes(len(SITUATIONS))
    read_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        report = learn_push(log, SITUATIONS, open_registry(Settings(home=home)), publish=True)
        learn_s = time.perf_counter() - start
    settings = PushSettings()
    earlier, later, _ = cut(pushes, settings)
    seen = see(earlier, SITUATIONS)
    parts = find_parts(seen, Priors())
    later = later.some(later.evidence)
    effect, left, opens = truth(lived, later, {number: name for name, number in log.names.items()})
    table = table_of(later, seen.categories, len(SITUATIONS))
    models = {
        "shrunk": build(seen, parts, None)[0],
        "trees": build(seen, parts, learn_uplift(seen, ("dr",)))[0],
    }
    sent = later.readable
    opened = later.opened[sent] == 1
    return {
        "random decisions": report.random,
        "seconds": {"reading": round(read_s, 1), "learning": round(learn_s, 1)},
        "fatigue": [report.fatigue_per_push, report.half_life_h],
        "lift of commuting over at_work": report.situation_lift["commuting"]
        / report.situation_lift["at_work"],
        "calibration error": report.opens.calibration_error if report.opens else None,
        "auc": [
            area(opened, models["shrunk"].of(table).p_open[sent]),
            area(opened, opens[sent]),
        ],
        "gate": report.gate.reason if report.gate else "",
        "effects": {
            name: _held(model, table, later, effect, left) for name, model in models.items()
        },
    }


def truth(
    lived: PushWorld, pushes: Pushes, names: dict[int, str]
) -> tuple[Doubles, Doubles, Doubles]:
    """float64 [n] each: effects of the fresh, share that fatigue leaves, chances of an open."""
    who = [int(names[number].removeprefix("u")) for number in pushes.user.tolist()]
    willing = np.array(who) % 2 == 0
    lift = pushes.probabilities @ np.array([lived.lift(n) for n in range(len(SITUATIONS))])
    left = np.array(
        [
            lived.left([(at - one) / HOUR_MS for one in lived.sent.get(person, []) if one < at])
            for person, at in zip(who, pushes.at_ms.tolist(), strict=True)
        ]
    )
    effect = np.where(willing, lived.effect, lived.repelled) * lift
    return effect, left, np.where(willing, 0.3, 0.04) * lift * left


def _held(
    model: LearnedPush, table: NDArray[np.float32], later: Pushes, effect: Doubles, left: Doubles
) -> Figures:
    """Against the truth; value per decision where the model decides, and where the truth does."""
    fatigue = Fatigue(model.fatigue_per_push, model.half_life_h)
    told, true = model.of(table).uplift * fatigue.left(later.rows), effect * left
    values = {}
    for cost in COSTS:
        gains = true - cost
        values[f"{cost:g}"] = {
            name: float((gains * sends).mean())
            for name, sends in (("model", told > cost), ("truth", gains > 0), ("all", True))
        }
    return {
        "correlation": float(np.corrcoef(told, true)[0, 1]),
        "absolute error": float(np.abs(told - true).mean()),
        "mean": [float(told.mean()), float(true.mean())],
        "value by cost": values,
    }


def nulls(worlds: int, people: int = 120, days: int = 35) -> Figures:
    """Worlds in which pushes do nothing: gates that opened, shares of messages to be sent."""
    opened, sent = 0, []
    for seed in range(worlds):
        lived = PushWorld(MemoryLog(), seed=100 + seed, effect=0.0, repelled=0.0)
        lived.live(people, days)
        with tempfile.TemporaryDirectory() as home:
            registry = open_registry(Settings(home=home))
            report = learn_push(read_pushes(lived.log, PARTITIONS), SITUATIONS, registry, False)
        opened += report.gate is not None and report.gate.opened
        sent.append(round(report.values["learned"].sent, 3))
    return {"worlds": worlds, "gate opened": opened, "sent": sent}


if __name__ == "__main__":
    if sys.argv[1:2] == ["null"]:
        print(json.dumps(nulls(int((sys.argv[2:] or ["16"])[0]))))
    else:
        told = [int(one) for one in sys.argv[1:]] or [2300, 28]
        print(json.dumps(measure(*told), indent=1))
