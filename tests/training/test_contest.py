"""Whether the hybrid earns its place: on items that nobody had liked when the models were fitted.

Two tribes like items of opposite kinds. All take up the early ones, then the late ones come.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.actions import load_actions
from engine.archive import Archive
from engine.ids import ITEMS, pack_position
from engine.objective import Objective, Outcome
from engine.recommending import Recommending
from engine.records import Entry, ItemRecord, TermRecord, encode
from engine.settings import Settings
from engine.situation_rules import load_situations
from models.shipped import shipped_situations
from training.contest import TOO_FEW_COLD, WITH_HYBRID, WITHOUT_HYBRID, Verdict, hybrid_verdict
from training.fitting import fit_sources
from training.material import Job, Material, gather_material
from training.run import read
from training.settings import TrainingSettings

BORN = 1_770_000_000_000
MINUTE, HOUR = 60_000, 3_600_000
USERS, EARLY, LATE, TOUCHES = 60, 40, 60, 14
LATE_BORN = BORN + 1_000 * HOUR

Weigh = Callable[..., tuple[Material, Verdict]]

SITUATIONS = shipped_situations(load_situations())


@pytest.fixture
def weigh(tmp_path: Path, log: Any, make: Any) -> Weigh:
    """The verdict in the world of two tribes, whose items tell of their tribe or of nothing."""

    def told(telling: bool, of_user: int = 10) -> tuple[Material, Verdict]:
        _fill(log, make, telling)
        settings = Settings(home=str(tmp_path), partitions=4)
        log.archive(Archive(settings.archive_path))
        training = msgspec.convert(
            {
                "factors": [{"kind": "spectral", "dimensions": 4}],
                "hybrid": {"epochs": 20, "factors": 4},
                "rows": {"decisions": 100},
                "evaluation": {"moments": 50, "of_user": of_user, "resamples": 200},
            },
            TrainingSettings,
        )
        objective = Objective({"view": Outcome(1, ["view"], within_hours=48)})
        job = Job(settings, training, load_actions(), objective, Recommending(), SITUATIONS, ())
        history = read(job)
        material = gather_material(job, history)
        sources = fit_sources(history, material.acts_upto(material.cuts.rows), training)
        return material, hybrid_verdict(material, sources)

    return told


def _fill(log: Any, make: Any, telling: bool) -> None:
    rng = np.random.default_rng(3)
    records: list[Any] = [TermRecord(space="action", name="view", term=0, ts=BORN, arrived=BORN)]
    for item in range(EARLY + LATE):
        at = BORN if item < EARLY else LATE_BORN
        kind = item % 2 if telling else int(rng.integers(2))
        attributes = {"kind": "odd" if kind else "even"}
        records.append(
            ItemRecord(item_id=f"i{item}", item=item, attributes=attributes, ts=at, arrived=at)
        )
    log.entries[ITEMS].append(Entry(pack_position("1-0"), [encode(one) for one in records]))
    for start, first, count in ((BORN, 0, EARLY), (LATE_BORN, EARLY, LATE)):
        wishes = [rng.permutation(count // 2)[:TOUCHES] for _ in range(USERS)]
        for step in range(TOUCHES):
            for user in range(USERS):
                item = first + 2 * int(wishes[user][step]) + user % 2
                at = start + (step + 1) * 24 * HOUR + user * MINUTE
                log.add(make.act(f"u{user}", at, item=item))


def test_the_hybrid_earns_its_place_where_attributes_tell_of_taste(weigh: Weigh) -> None:
    material, verdict = weigh(telling=True)
    assert (verdict.what, verdict.over) == (WITH_HYBRID, WITHOUT_HYBRID)
    assert verdict.proved
    assert verdict.difference.value > 0.02
    assert verdict.moments == len(material.cold.cases) >= 100

    assert not material.cold.items[:EARLY].any()
    assert material.cold.items[EARLY:].all()
    assert all((case.truth >= EARLY).all() for case in material.cold.cases)


def test_it_earns_none_where_they_are_noise(weigh: Weigh) -> None:
    _, verdict = weigh(telling=False)
    assert verdict.over == WITHOUT_HYBRID
    assert not verdict.proved


def test_few_moments_prove_nothing(weigh: Weigh) -> None:
    _, verdict = weigh(telling=True, of_user=1)
    assert verdict.moments == USERS
    assert (verdict.over, verdict.proved) == (TOO_FEW_COLD, False)
