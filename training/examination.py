"""How much less is done with what stands lower, whatever it is: the position-based model.

An act on item i in slot k has the chance a_i · b_k, attraction times examination, with b = 1 in
the first slot (Richardson, Dominowska and Ragno, WWW 2007; Chuklin, Markov and de Rijke, "Click
Models for Web Search", 2015). Both are fitted in turns as a multiplicative Poisson model. The
same items in other slots tell the two apart: an old policy that put good items first does not
make its first slot look better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets import Seen

TURNS = 5_000  # at most …
# … until none moves b by more. Twenty left b 10 to 20 % too high in low slots, where a policy that
# puts good items first seldom shows the same items higher up.
SETTLED = 1e-6
PRIOR = 5.0  # showings at the mean rate that every item is given beforehand
LEAST = 0.05


@dataclass(frozen=True, slots=True)
class Examined:
    """How much is done at each place, of what the first gets: in lists, and in rows of pages.

    They are kept apart: a list is read down, a row is swiped, and a page's 31st item may be the
    first of its fourth row.
    """

    lists: NDArray[np.float64]  # [places]
    rows: NDArray[np.float64]

    def at(self, one: Seen) -> NDArray[np.float64]:
        """float64 [seen]: of what was seen of a decision."""
        known = self.rows if one.page else self.lists
        return known[np.minimum(one.seen_places, len(known) - 1)]


def examine(decisions: Sequence[Seen], acted: Sequence[NDArray[np.bool_]]) -> Examined:
    """From decisions and, for what was seen of each, whether something was done with it."""
    found = []
    for page in (False, True):
        of_kind = [number for number, one in enumerate(decisions) if one.page == page]
        if not of_kind:
            found.append(np.ones(1))
            continue
        seen = [decisions[number] for number in of_kind]
        items = [np.array(one.items, np.int32)[one.seen] for one in seen]
        places = [one.seen_places for one in seen]
        done = [acted[number] for number in of_kind]
        found.append(
            examination(np.concatenate(items), np.concatenate(places), np.concatenate(done))
        )
    return Examined(*found)


def examination(
    items: NDArray[np.int32], slots: NDArray[np.int32], acted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """float64 [slots]: b, from showings [n] that were seen; 1 where there were none."""
    size = int(slots.max(initial=0)) + 1
    b = np.ones(size)
    if not acted.any():
        return b
    _, row = np.unique(items, return_inverse=True)
    mean = float(acted.mean())
    acts, acts_at = np.bincount(row, acted), np.bincount(slots, acted, size)
    # Every item in every slot once, with how often: a turn costs the same however long the log.
    pairs, times = np.unique(row.astype(np.int64) * size + slots, return_counts=True)
    row, slot = np.divmod(pairs, size)
    for _ in range(TURNS):
        a = (acts + PRIOR * mean) / (np.bincount(row, b[slot] * times) + PRIOR)
        expected = np.bincount(slot, a[row] * times, size)
        before = b
        b = np.divide(acts_at, expected, out=np.ones(size), where=expected > 0)
        b /= b[0] or 1.0
        if np.abs(b - before).max() < SETTLED:
            break
    return np.maximum(b, LEAST)
