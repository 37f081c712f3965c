"""What situations look like, learned from moments that people labelled.

Each table is the operator's own, counted as so many moments, with the labelled ones on top: the
most likely table under a Dirichlet prior, found by EM because an answer is known only as far as
its sense tells. How far each sense is believed is learned as well (a log-linear pool of opinions;
Genest and Zidek 1986), since senses share signals and are not independent witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from engine.senses import SENSES
from engine.situation_rules import LEAST, Looks
from models.artifact import Artifact, BadArtifact, Meta

KIND = "looks"
TABLE_COUNTS = 10.0  # labelled moments that the file's own figures count as, by situation
HOUR_COUNTS = 3.0  # … and by hour of a working day or weekend
NEAR_HOURS = (0.25, 0.5, 0.25)  # a label speaks for the hours beside its own, too
ROUNDS = 20  # of EM
Table = NDArray[np.float32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Moments with what people said that they were, one row each."""

    situation: NDArray[np.int64]  # [n] number
    user: NDArray[np.int64]  # [n]
    hour: NDArray[np.int64]  # [n] local, 0–23
    weekend: NDArray[np.int64]  # [n] 0 or 1
    answers: Mapping[str, Floats]  # sense -> [n, answers], NaN where it did not answer

    def rows(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Labelled:
        """Some of them."""
        return Labelled(
            self.situation[rows],
            self.user[rows],
            self.hour[rows],
            self.weekend[rows],
            {sense: fits[rows] for sense, fits in self.answers.items()},
        )

    def __len__(self) -> int:
        return len(self.situation)


@dataclass(frozen=True, slots=True)
class LearnedLooks:
    """Tables over situations by name; see engine.situation_rules.Looks."""

    names: tuple[str, ...]
    tables: Mapping[str, Table]  # sense -> [situations, answers]
    usual: Table  # [2, 24, situations]
    believed: Mapping[str, float]

    def on(self, looks: Looks, names: Sequence[str]) -> Looks:
        """The operator's tables with these in place of what they know, by situation's name."""
        known = [(names.index(name), row) for row, name in enumerate(self.names) if name in names]
        ours = np.array([place for place, _ in known], np.intp)
        theirs = np.array([row for _, row in known], np.intp)
        tables = dict(looks.tables)
        for sense, table in self.tables.items():
            kept = tables.get(sense)
            merged = np.tile(table.mean(axis=0), (len(names), 1)) if kept is None else kept.copy()
            merged[ours] = table[theirs]
            tables[sense] = merged.astype(np.float32)
        usual = looks.usual.copy()
        share = looks.usual[:, :, ours].sum(axis=2, keepdims=True)
        own = self.usual[:, :, theirs]
        usual[:, :, ours] = share * own / np.maximum(own.sum(axis=2, keepdims=True), LEAST)
        return Looks(tables, usual, {**looks.believed, **self.believed})

    def to_artifact(self) -> Artifact:
        """The tables as files."""
        settings = {"names": list(self.names), "believed": dict(self.believed)}
        arrays = {"usual": self.usual, **{f"sense_{name}": t for name, t in self.tables.items()}}
        return Artifact(Meta(kind=KIND, settings=settings), arrays)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> LearnedLooks:
        """Raises BadArtifact where a table is none of chances."""
        names = tuple(str(name) for name in artifact.meta.settings["names"])
        believed = {str(n): float(w) for n, w in artifact.meta.settings["believed"].items()}
        usual = np.asarray(artifact.arrays["usual"], np.float32)
        if usual.shape != (2, 24, len(names)) or (usual < 0).any():
            raise BadArtifact(f"looks: usual is {usual.shape}, expected (2, 24, {len(names)})")
        tables = {}
        for sense, answers in SENSES.items():
            if (array := artifact.arrays.get(f"sense_{sense}")) is not None:
                if array.shape != (len(names), len(answers)) or not (array > 0).all():
                    raise BadArtifact(f"looks: {sense} is no table of chances by situation")
                tables[sense] = np.asarray(array, np.float32)
        return cls(names, tables, usual, believed)


def fit(labelled: Labelled, looks: Looks, names: Sequence[str]) -> LearnedLooks:
    """What labelled moments say, on top of what the file says."""
    tables = {
        sense: _table(looks.tables.get(sense), labelled.situation, fits, len(names))
        for sense, fits in labelled.answers.items()
        if not np.isnan(fits).all()
    }
    usual = _usual(looks.usual, labelled)
    learned = Looks({**looks.tables, **tables}, usual, looks.believed)
    return LearnedLooks(tuple(names), tables, usual, _believed(learned, labelled))


def chances(looks: Looks, labelled: Labelled) -> Floats:
    """float32 [n, situations] by these looks: the hour and the senses, without habit or past."""
    return _chances(_logs(looks, labelled), _weights(looks, labelled.answers))


def log_loss(given: Floats, situation: NDArray[np.int64]) -> Floats:
    """float32 [n]: −log of the chance given to what it was."""
    return np.asarray(-np.log(np.maximum(given[np.arange(len(given)), situation], 1e-6)))


def _table(prior: Table | None, situation: NDArray[np.int64], fits: Floats, size: int) -> Table:
    """One sense's table [situations, answers]."""
    told = ~np.isnan(fits[:, 0])
    situation, fits = situation[told], fits[told]
    if prior is None:  # the file says nothing of it: everyone's shares
        everyone = (fits / fits.sum(axis=1, keepdims=True)).mean(axis=0)
        prior = np.tile(np.maximum(everyone, LEAST), (size, 1))
    counts = np.bincount(situation, minlength=len(prior)).astype(np.float64)[:, np.newaxis]
    table = np.asarray(prior, np.float64)
    for _ in range(ROUNDS):
        shares = table[situation] * fits
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
        found = TABLE_COUNTS * np.asarray(prior, np.float64)
        np.add.at(found, situation, shares)
        table = np.maximum(found / (TABLE_COUNTS + counts), LEAST)
        table /= table.sum(axis=1, keepdims=True)
    return table.astype(np.float32)


def _usual(prior: Table, labelled: Labelled) -> Table:
    counts = np.zeros(prior.shape)
    for away, share in zip((-1, 0, 1), NEAR_HOURS, strict=True):
        hours = (labelled.hour + away) % 24
        np.add.at(counts, (labelled.weekend, hours, labelled.situation), share)
    found = HOUR_COUNTS * prior + counts
    return np.asarray(found / found.sum(axis=2, keepdims=True), np.float32)


def _believed(looks: Looks, labelled: Labelled) -> dict[str, float]:
    """How far each sense is to be believed, 0–1: the weights of least log loss."""
    logs, senses = _logs(looks, labelled), list(labelled.answers)
    before = _weights(looks, labelled.answers)
    rows, true = np.arange(len(labelled)), labelled.situation

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        given = _chances(logs, weights)
        error = given.astype(np.float64)
        error[rows, true] -= 1
        slope = np.einsum("ns,kns->k", error, logs[1:]) / len(rows)
        kept = weights - before  # a sense that says little keeps the file's figure
        return (
            float(log_loss(given, true).mean()) + 0.5 * float(kept @ kept) / len(rows),
            slope + kept / len(rows),
        )

    found = minimize(loss, before, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * len(senses))
    return {sense: round(float(w), 4) for sense, w in zip(senses, found.x, strict=True)}


def _logs(looks: Looks, labelled: Labelled) -> Floats:
    """float32 [1 + senses, n, situations]: what is usual, then each sense at full weight."""
    usual = looks.usual[labelled.weekend, labelled.hour]
    found = [np.log(np.maximum(usual, 1e-6))]
    for sense, fits in labelled.answers.items():
        table = looks.tables.get(sense)
        if table is None:
            found.append(np.zeros_like(usual))
        else:
            found.append(np.nan_to_num(np.log(np.nan_to_num(fits, nan=1.0) @ table.T)))
    return np.stack(found).astype(np.float32)


def _weights(looks: Looks, answers: Mapping[str, Floats]) -> NDArray[np.float64]:
    return np.array([looks.believed.get(sense, 1.0) for sense in answers])


def _chances(logs: Floats, weights: NDArray[np.float64]) -> Floats:
    total = logs[0] + np.tensordot(weights.astype(np.float32), logs[1:], 1)
    given = np.exp(total - total.max(axis=1, keepdims=True))
    found: Floats = given / given.sum(axis=1, keepdims=True)
    return found
