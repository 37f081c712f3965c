"""What the situation is worth to the ranker: the same trees with it and without, in one world.

Two rankers are fitted to the same rows. One reads every feature; the other reads the hour, habits
and all else, but nothing of the situation. Both rank the same candidates of the same requests, and
the world's own law says what each list is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.device import Device, read_device
from engine.features import COLUMN
from engine.pipeline import NOBODY, Parts, Request, Slate, recommend_known
from engine.ranking import Ranker, rank
from models.loading import Models
from models.release import Metric
from training.closed_loop import Decider
from training.contest import hybrid_verdict
from training.datasets import Rows, join
from training.fitting import RETRIEVAL, fit_sources
from training.material import Job, gather_material
from training.over_people import mean_over
from training.ranking import fit_ranker
from training.run import read
from training.search import choose_factors
from training.world import Visit, World
from training.world_situations import visits

SITUATION = ("situation", "situation_confidence", "here", "affinity_here")
# The popular source goes by the situation, too: its order among candidates is left out of both,
# its score is brought back to everyone's.
POPULAR, RANK, HERE = COLUMN["score_popular"], COLUMN["rank_popular"], COLUMN["here"]
SLOTS = 10
DISCOUNT = 1 / np.log2(np.arange(2, SLOTS + 2))
TOLD = ("place", "activity", "charging", "network", "battery", "brightness", "screen")
SEEDS = 6
EVERY = 5  # visits: so many make one of which signals are dropped
Floats = NDArray[np.float32]


class Lost(msgspec.Struct, frozen=True):
    """What is lost where the request's device does not tell one signal."""

    visits: int  # that were looked at: every fifth whose device tells it
    named_rightly: Metric  # share of these visits whose situation is named rightly, with − without
    worth: Metric  # of their lists


class Gain(msgspec.Struct, frozen=True):
    """Worth of a list by the law, items weighed by 1/log2(slot + 1), with and without.

    Intervals are paired, 95 % over people.
    """

    law: str
    visits: int
    people: int
    with_situation: float
    without: float
    gain: Metric
    signals: dict[str, Lost]


@dataclass(frozen=True, slots=True)
class Council:
    """The mean of rankers that differ by seed alone: one refit moves a list more than a feature."""

    rankers: Sequence[Ranker]
    blind: bool  # told nothing of the situation

    @property
    def outcomes(self) -> list[str]:
        return list(self.rankers[0].outcomes)

    def chances(self, rows: Floats) -> Floats:
        seen = masked(rows, self.blind)
        return np.asarray(np.mean([one.chances(seen) for one in self.rankers], axis=0))

    first_chances = chances


def masked(rows: Floats, blind: bool) -> Floats:
    """The rows as one of the two rankers sees them; float32 [n, features.COUNT]."""
    seen = rows.copy()
    seen[:, RANK] = np.nan
    if blind:
        seen[:, POPULAR] /= np.exp(seen[:, HERE])
        seen[:, [COLUMN[name] for name in SITUATION]] = 0
    return seen


def fit_both(job: Job) -> tuple[Models, Models] | None:
    """Models with and without the situation, of the log so far; None where no ranker is learned."""
    history = read(job)
    material = gather_material(job, history)
    _, factors = choose_factors(material, 0, lambda line: None)
    earliest = material.acts_upto(material.cuts.rows)
    others = [name for name in RETRIEVAL if name != "factors"]
    sources = replace(fit_sources(history, earliest, job.training, others), factors=factors)
    proved = hybrid_verdict(material, sources).proved
    sources = sources if proved else replace(sources, hybrid=None)
    rows = join(
        [material.rows(part, sources) for part in (material.train_rows, material.test_rows)]
    )
    kept = RETRIEVAL if proved else tuple(name for name in RETRIEVAL if name != "hybrid")
    final = fit_sources(history, history.acts, job.training, kept)
    found = []
    for blind in (False, True):
        rankers = []
        for seed in range(SEEDS):
            training = msgspec.structs.replace(job.training, seed=seed)
            material = replace(material, job=replace(job, training=training))
            fitted = fit_ranker(material, _masked(rows, blind))
            if fitted is None:
                return None
            rankers.append(fitted.ranker)
        found.append(Models(final, Council(rankers, blind)))
    return found[0], found[1]


def compare(world: World, decider: Decider, both: tuple[Models, Models], days: int) -> Gain:
    """Rank each visit's candidates by both; what the ranker with the situation says is shown."""
    log, (seeing, blind) = decider.log, both
    parts = replace(decider, models=seeing, release="with").parts()
    judge = _Judge(world, decider, parts)
    people, worth = [], []
    dropped: dict[str, list[tuple[str, float, float]]] = {name: [] for name in TOLD}
    for visit in visits(world, days):
        log.advance(int(visit.at_s * 1000))
        log.rank(int(visit.at_s * 1000))
        device, _ = read_device(visit.device)
        slate = judge.slate(visit, device)
        found = [judge.worth(visit, slate, models) for models in (seeing, blind)]
        people.append(visit.user_id)
        worth.append(found)
        right = slate.moment.name == world.situation(visit)
        for name, lost in dropped.items():
            if len(people) % EVERY == 0 and getattr(device, name) is not None:
                poorer = judge.slate(visit, msgspec.structs.replace(device, **{name: None}))
                wrong = right - float(poorer.moment.name == world.situation(visit))
                less = found[0] - judge.worth(visit, poorer, seeing)
                lost.append((visit.user_id, wrong, less))
        shown = [log.catalog.id_of(item) or "" for item in slate.items()]
        log.take(world.respond(visit, shown))
    of_both = np.array(worth)
    mean = of_both.mean(axis=0).tolist()
    return Gain(
        law=world.core.law.name,
        visits=len(people),
        people=len(set(people)),
        with_situation=mean[0],
        without=mean[1],
        gain=mean_over(people, of_both[:, 0] - of_both[:, 1]),
        signals={name: _lost(lost) for name, lost in dropped.items() if lost},
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Makes lists and asks the law what they are worth."""

    world: World
    decider: Decider
    parts: Parts

    def slate(self, visit: Visit, device: Device) -> Slate:
        state = self.decider.log.states.get(visit.user_id, NOBODY)
        at_ms = int(visit.at_s * 1000)
        asked = Request(visit.user_id, at_ms, SLOTS, visit.number, device, explore=False)
        return recommend_known(asked, state, self.parts)

    def worth(self, visit: Visit, slate: Slate, models: Models) -> float:
        assert models.ranker is not None
        weights = self.decider.objective.weights(models.outcomes)
        best = rank(models.ranker, weights, slate.rows, SLOTS).rows[:SLOTS]
        catalog = self.decider.log.catalog
        ids = [catalog.id_of(int(item)) or "" for item in slate.candidates.items[best]]
        return float(DISCOUNT[: len(ids)] @ self.world.oracle_value(visit, ids))


def _lost(lost: Sequence[tuple[str, float, float]]) -> Lost:
    people, wrong, less = zip(*lost, strict=True)
    return Lost(
        len(people),
        mean_over(people, np.array(wrong, np.float64)),
        mean_over(people, np.array(less)),
    )


def _masked(rows: Rows, blind: bool) -> Rows:
    return replace(rows, features=masked(rows.features, blind))
