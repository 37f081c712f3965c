"""What each candidate is worth: by the ranker and the operator's weights, or by retrieval alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.candidates import FACTORS, FRESH, HYBRID, POPULAR, SIMILAR, Candidates, Scores

Rows = NDArray[np.float32]

# A whole history tells what a person likes, the last touches what they are after. On MovieLens, up
# to 80 % of its time, a quarter helps every model; a half helps more late, and nothing early on.
SESSION_SHARE = 0.25


class Ranker(Protocol):
    """A fitted ranker: chances of outcomes from feature rows."""

    @property
    def outcomes(self) -> Sequence[str]: ...

    def chances(self, rows: Rows) -> NDArray[np.float32]:
        """float32 [n, outcomes], each 0–1, by the whole model."""

    def first_chances(self, rows: Rows) -> NDArray[np.float32]:
        """The same by the model's first trees alone: coarser, and several times cheaper."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The pool that a slate is filled from."""

    rows: NDArray[np.intp]  # [m] of the candidates, in falling order of value
    values: Rows  # [m]


def rank(ranker: Ranker, weights: Rows, features: Rows, most: int) -> Ranked:
    """The best `most` candidates: chosen by the first trees, valued by all.

    features float32 [n, engine.features.COUNT]; weights float32 [outcomes].
    """
    rows = np.arange(len(features))
    if len(features) > most:
        rows = _best(ranker.first_chances(features) @ weights, most)
    values = ranker.chances(features[rows]) @ weights
    order = _best(values, len(values))
    return Ranked(rows[order], values[order])


def rank_every(ranker: Ranker, weights: Rows, features: Rows, best: int) -> Ranked:
    """All candidates: the `best` by the first trees are valued by all, the rest by the first."""
    values = ranker.first_chances(features) @ weights
    rows = _best(values, best)
    values[rows] = ranker.chances(features[rows]) @ weights
    order = _best(values, len(values))
    return Ranked(order, values[order])


def rank_by_retrieval(candidates: Candidates, most: int) -> Ranked:
    """Where no ranker is published: by the factors, and some by likeness to the last touches.

    What the factors don't know stands below, by what else knows it.
    """
    scores = candidates.scores.copy()
    wanted = _unit(scores[:, FACTORS]) + SESSION_SHARE * _unit(scores[:, SIMILAR])
    scores[:, FACTORS] = np.where(np.isnan(scores[:, FACTORS]), np.nan, wanted)
    values = stacked(scores, (FACTORS, HYBRID, POPULAR, FRESH))
    rows = _best(values, most)
    return Ranked(rows, values[rows])


def rank_by_likeness(candidates: Candidates, most: int) -> Ranked:
    """ "More like this": by likeness to the item asked about."""
    scores = candidates.scores.copy()
    known = ~np.isnan(scores[:, [SIMILAR, FACTORS]]).all(axis=1)
    likeness = _unit(scores[:, SIMILAR]) + _unit(scores[:, FACTORS])
    scores[:, FACTORS] = np.where(known, likeness, np.nan)
    values = stacked(scores, (FACTORS, HYBRID, POPULAR, FRESH))
    rows = _best(values, most)
    return Ranked(rows, values[rows])


def rank_plainly(candidates: Candidates, most: int) -> Ranked:
    """A popular list, for a degraded answer."""
    values = stacked(candidates.scores, (POPULAR, FRESH))
    rows = _best(values, most)
    return Ranked(rows, values[rows])


def stacked(scores: Scores, sources: Sequence[int]) -> Rows:
    """float32 [n]: each source's scores in [0, 1] one whole step above the next one's.

    An item takes the first source that knows it. Within a step the order is the source's.
    """
    values = np.full(len(scores), -1.0, np.float32)
    for step, source in enumerate(reversed(sources)):
        known = ~np.isnan(scores[:, source])
        values[known] = 2 * step + _unit(scores[known, source])
    return values


def _unit(scores: Rows) -> Rows:
    """Scores stretched to [0, 1]; what is not known stands at 0."""
    known = ~np.isnan(scores)
    if not known.any():
        return np.zeros(len(scores), np.float32)
    low, high = scores[known].min(), scores[known].max()
    unit = (scores - low) / (high - low) if high > low else np.where(known, 1.0, np.nan)
    return np.nan_to_num(unit, nan=0.0).astype(np.float32)


def _best(values: Rows, most: int) -> NDArray[np.intp]:
    """Rows in falling order of value, at most `most`; NaN comes last."""
    return np.argsort(-values, kind="stable")[:most]
