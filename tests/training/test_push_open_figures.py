"""The true chance of an open, beside which models of it stand, is borne out by what is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from training.over_people import calibration_error
from training.push_open_figures import Watched, by_chance, comes_anyway
from training.world import Line, World
from training.world.history import ATTRIBUTED_S
from training.world.lines import Push
from training.world.push_course import live
from training.world.push_oracle import Openness
from training.world.push_policy import Looks, Verdicts
from training.world.push_weeks import PushWeeks, push_weeks


@dataclass
class SendsAll:
    """Sends whatever is due and takes down what was opened, and what failed."""

    opened: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    reads_events: bool = True

    def decide(self, looks: Looks) -> Verdicts:
        # One a person: a second at the same time would find them more tired than the first.
        _, first = np.unique(looks.account, return_index=True)
        return Verdicts.of([row in first for row in range(len(looks))])

    def observe(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if isinstance(line, Push) and line.status in ("opened", "failed"):
                getattr(self, line.status).add(line.message_id)

    def week_over(self, at_s: float) -> None: ...


@pytest.fixture(scope="module")
def weeks() -> PushWeeks:
    return push_weeks(World("amber", users=150, items=20, seed=5), 3)


def test_true_chances_are_those_of_what_is_opened(weeks: PushWeeks) -> None:
    policy, state = SendsAll(), weeks.begin()
    watched = Watched(policy, state, Openness.of(weeks))
    live(weeks, watched, state, range(weeks.ticks))

    arrived = [name for name in watched.chances if name not in policy.failed]
    true = np.array([watched.chances[name] for name in arrived])
    opened = np.array([name in policy.opened for name in arrived])

    assert len(arrived) > 500
    scatter = np.sqrt((true * (1 - true)).sum(axis=0))
    assert (abs(true.sum(axis=0) - opened.sum()) < 3 * scatter).all()
    for column in (0, 1):  # right among those who open much, too
        chances = true[:, column]
        assert calibration_error(opened, chances) < 1.6 * by_chance(chances)
    assert true[:, 0].var() > true[:, 1].var()  # who knows the situation tells more


def test_visits_of_peoples_own_accord_are_as_likely_as_said(weeks: PushWeeks) -> None:
    person = np.arange(len(weeks.core.people))
    said, came = [], []
    for tick in range(5, weeks.ticks - 3, 7):
        at_s = np.full(len(person), weeks.at_s(tick))
        said.append(comes_anyway(weeks, tick, person))
        came.append(weeks.visits.count(person, at_s, at_s + ATTRIBUTED_S) > 0)
    likely, truth = np.array(said), np.array(came)

    assert truth.mean() == pytest.approx(likely.mean(), rel=0.06)
    often = likely > np.quantile(likely, 0.9)
    assert truth[often].mean() == pytest.approx(likely[often].mean(), rel=0.06)


def test_few_sends_scatter_about_right_chances() -> None:
    chances = np.random.default_rng(2).beta(2, 10, 4_000)

    assert by_chance(chances) < 0.025 < by_chance(chances[:400]) < 0.08
