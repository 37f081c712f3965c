"""What another choice of modules would have been worth, told from pages that were drawn.

Each slot that was looked at was drawn from a distribution that the log knows. A policy that gives
it to the best of those eligible would have been worth, by the doubly robust estimate (Dudík,
Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011),

    mean of  q(best) + 1[drawn = best] / π(drawn) · (worth − q(drawn))

with q the worth by the counts. It is unbiased whatever q is; q only takes variance away. Where a
weight 1/π is cut off, what is lacking leans to q, so to the counts and against what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.module_choice import ModuleScorer
from models.release import Metric
from training.evaluate import interval
from training.page_log import SeenPage

CLIP = 50.0  # the largest weight
RESAMPLES = 1000
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots that were looked at and had been drawn among several modules."""

    user: NDArray[np.int64]  # [n]
    page: NDArray[np.int64]  # [n]
    worth: Doubles  # [n] of what was done
    weight: Doubles  # [n] 1/π of what was drawn
    drawn: NDArray[np.int64]  # [n] the module, by its number on the page
    best: NDArray[np.int64]  # [n, policies] what each would have taken
    q: Doubles  # [n] of what was drawn, by the counts
    q_best: Doubles  # [n, policies] of what each would have taken

    def __len__(self) -> int:
        return len(self.worth)

    @property
    def taken(self) -> Flags:
        """bool [n, policies]: whether what each would have taken was drawn."""
        return np.asarray(self.best == self.drawn[:, np.newaxis])


class Judged(msgspec.Struct, frozen=True):
    """A model against the counts, in worth a look."""

    slots: int
    pages: int
    users: int
    differ: int  # slots for which the two would have taken different modules
    effective: float  # sample size of the model's policy: (Σ w)² / Σ w²
    clipped: int  # weights of either policy that were cut off
    value: dict[str, float]  # of both, by self-normalised weights
    gain: Metric  # doubly robust, interval over users


COUNTED, LEARNED = "counted", "learned"


def drawn_slots(pages: Sequence[SeenPage], scorer: ModuleScorer) -> Slots:
    """Every such slot, and what the two policies would have done with it."""
    users: dict[str, int] = {}
    wholes: list[tuple[int, ...]] = []  # user, page, drawn, best by either
    reals: list[tuple[float, ...]] = []  # worth, weight, q of these three
    for number, page in enumerate(pages):
        decided, counted = page.decided, page.counted
        slots = list(zip(page.looked, page.worth.tolist(), decided.placed, strict=False))
        slots = [one for one in slots if page.explored and len(one[2].eligible) > 1]
        if not slots:
            continue
        user = users.setdefault(page.user, len(users))
        learned = scorer.worth(decided.modules, counted, page.moment, decided.segment)
        for drawn, worth, placed in slots:
            chosen = [drawn, _best(counted, placed.eligible), _best(learned, placed.eligible)]
            wholes.append((user, number, *chosen))
            reals.append((worth, 1 / placed.propensity, *counted[chosen]))
    whole = np.array(wholes, np.int64).reshape(-1, 5)
    real = np.array(reals, np.float64).reshape(-1, 5)
    user_, page_, drawn_ = whole[:, :3].T
    worth_, weight, q = real[:, :3].T
    return Slots(user_, page_, worth_, weight, drawn_, whole[:, 3:], q, real[:, 3:])


def _best(worth: Doubles, eligible: Sequence[int]) -> int:
    """As engine.module_slots takes it without exploration."""
    return max(eligible, key=lambda number: (float(worth[number]), -number))


def judge(slots: Slots, clip: float = CLIP) -> Judged:
    """How much more a look is worth where the model chooses than where the counts do."""
    taken = slots.taken
    weight = np.minimum(slots.weight, clip)[:, np.newaxis] * taken
    robust = slots.q_best + weight * (slots.worth - slots.q)[:, np.newaxis]
    total = weight.sum(axis=0)
    normalised = (weight * slots.worth[:, np.newaxis]).sum(axis=0) / np.maximum(total, 1e-12)
    square = float((weight[:, 1] ** 2).sum())
    return Judged(
        slots=len(slots),
        pages=len(np.unique(slots.page)),
        users=len(np.unique(slots.user)),
        differ=int((slots.best[:, 0] != slots.best[:, 1]).sum()),
        effective=round(float(total[1]) ** 2 / square, 1) if square else 0.0,
        clipped=int((taken.any(axis=1) & (slots.weight > clip)).sum()),
        value=dict(zip((COUNTED, LEARNED), normalised.tolist(), strict=True)),
        gain=interval(slots.user, robust[:, 1] - robust[:, 0], RESAMPLES),
    )
