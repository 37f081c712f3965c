"""What is learned from coins that send seldom to those whom messages drive away is no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.push_features import NAMES
from training.push_fit import PEOPLE, Seen, find_parts, proved, see
from training.push_log import read_pushes
from training.push_parts import Priors
from training.push_world import SITUATIONS, PushWorld
from training.qini import qini
from training.uplift import doubly_robust

PARTITIONS = 4
PLAIN = {"per_push": 0.0, "commuting": 1.0, "random": 1.0}
MEAN = (0.25 - 0.08) / 2  # effect of a push in such a world


@pytest.fixture(scope="module")
def seen(new_log: Any) -> Seen:
    """Nobody tires, and people are unlike: half of them are seldom sent anything."""
    world = PushWorld(new_log(), unwanted=0.1, **PLAIN)  # type: ignore[arg-type]
    world.live(250, 35)
    return see(read_pushes(world.log, PARTITIONS).pushes(len(SITUATIONS)), SITUATIONS)


def test_means_are_those_of_everybody(seen: Seen) -> None:
    random = seen.pushes.some(seen.pushes.evidence)
    apart = float(random.goal[random.sent].mean() - random.goal[~random.sent].mean())
    scores, ones = doubly_robust(seen.trial(blinded=False)), np.ones(len(random))
    told = random.sent, random.propensity, random.goal, random.user
    judged = qini(random.rows[:, NAMES.index("open_rate")].astype(np.float64), *told, resamples=50)

    assert set(random.propensity.tolist()) == {0.1, 0.5}
    assert apart > 1.6 * MEAN  # the arms are not of the same people
    assert float(scores.mean()) == pytest.approx(MEAN, abs=0.03)
    assert proved(scores, ones, random.user) == pytest.approx(MEAN, abs=0.03)
    assert judged.average.value == pytest.approx(MEAN, abs=0.03)
    assert judged.low > 0


def test_models_tell_both_kinds_of_people(seen: Seen) -> None:
    parts = find_parts(seen, Priors())
    likes = seen.pushes.rows[:, NAMES.index("open_rate")] > 0.2
    meta = parts.meta
    added = meta.person.sums(seen.people[:, [PEOPLE.index(name) for name in meta.person.names]])
    effects = np.mean([list(row) for row in meta.cells.values()]) + added

    assert effects[likes].mean() == pytest.approx(0.25, abs=0.06)
    assert effects[~likes].mean() == pytest.approx(-0.08, abs=0.06)
