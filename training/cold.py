"""Moments at which users took up items that nobody had taken up when the factors were fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.candidates import Mask
from engine.columns import Columns
from training.history import History
from training.moments import Case

MOST_MOMENTS = 400  # each puts every cold item in order
FEWEST_MOMENTS = 100  # with fewer nothing is proved


@dataclass(frozen=True, slots=True)
class Cold:
    """What the factors cannot know, and moments that show who wanted it."""

    items: Mask  # [items]
    cases: list[Case]  # their truth is cold items alone; in time order

    @property
    def enough(self) -> bool:
        """Whether there are moments enough to prove anything."""
        return len(self.cases) >= FEWEST_MOMENTS


def cold_items(history: History, at_ms: int) -> Mask:
    """bool [items]: those that nobody had liked before a time."""
    acts = history.acts.rows(slice(0, history.acts.upto(at_ms)))
    cold = np.ones(history.catalog.columns.size, np.bool_)
    cold[acts.item[(acts.item >= 0) & (acts.weight > 0)]] = False
    return cold


def narrow(cases: Sequence[Case], items: Mask, columns: Columns) -> Iterator[Case]:
    """The cases with these items alone, where they were available then."""
    for case in cases:
        there = (items & columns.available(case.point.at_ms))[case.truth]
        if there.any():
            yield replace(case, truth=case.truth[there], gains=case.gains[there])
