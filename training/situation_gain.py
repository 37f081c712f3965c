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

from engine.device import read_device
from engine.features import COLUMN
from engine.pipeline import NOBODY, Request, recommend_known
from engine.ranking import Ranker, rank
from models.loading import Models
from models.release import Metric
from training.closed_loop import Decider
from training.contest import hybrid_verdict
from training.datasets import Rows, join
from training.fitting import RETRIEVAL, fit_sources
from training.material import Job, gather_material
from training.ranking import fit_ranker
from training.run import read
from training.search import choose_factors
from training.world import World
from training.world_situations import visits

SITUATION = ("situation", "situation_confidence", "here", "affinity_here")
# The popular source goes by the situation, too: its order among candidates is left out of both,
# its score is brought back to everyone's.
POPULAR, RANK, HERE = COLUMN["score_popular"], COLUMN["rank_popular"], COLUMN["here"]
SLOTS = 10
RESAMPLES = 1000
SEEDS = 6
Floats = NDArray[np.float32]


class Gain(msgspec.Struct, frozen=True):
    """Worth of a list by the law, items weighed by 1/log2(slot + 1), with and without."""

    law: str
    visits: int
    people: int
    with_situation: float
    without: float
    gain: Metric  # paired, 95 % over people


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
    weights = decider.objective.weights(seeing.outcomes)
    discount = 1 / np.log2(np.arange(2, SLOTS + 2))
    people, worth = [], []
    for visit in visits(world, days):
        at_ms = int(visit.at_s * 1000)
        log.advance(at_ms)
        log.rank(at_ms)
        device, _ = read_device(visit.device)
        state = log.states.get(visit.user_id, NOBODY)
        asked = Request(visit.user_id, at_ms, SLOTS, visit.number, device, explore=False)
        slate = recommend_known(asked, state, parts)
        items, of_visit = slate.candidates.items, []
        for models in (seeing, blind):
            assert models.ranker is not None
            best = rank(models.ranker, weights, slate.rows, SLOTS).rows[:SLOTS]
            ids = [log.catalog.id_of(int(item)) or "" for item in items[best]]
            of_visit.append(float(discount[: len(ids)] @ world.oracle_value(visit, ids)))
        people.append(visit.user_id)
        worth.append(of_visit)
        shown = [log.catalog.id_of(item) or "" for item in slate.items()]
        log.take(world.respond(visit, shown))
    return _gain(world.core.law.name, people, np.array(worth))


def _masked(rows: Rows, blind: bool) -> Rows:
    return replace(rows, features=masked(rows.features, blind))


def _gain(law: str, people: list[str], worth: NDArray[np.float64]) -> Gain:
    _, who = np.unique(people, return_inverse=True)
    count = int(who.max()) + 1
    sums = np.bincount(who, worth[:, 0] - worth[:, 1], count)
    sizes = np.bincount(who, minlength=count)
    drawn = np.random.default_rng(1).integers(count, size=(RESAMPLES, count))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    mean = worth.mean(axis=0)
    gain = Metric(float(mean[0] - mean[1]), low, high)
    return Gain(law, len(worth), count, float(mean[0]), float(mean[1]), gain)
