"""A hash table for compiled loops: the places of dense ids in an array of them.

Open addressing with linear probing and Knuth's multiplicative hashing. Ids are int32, each once in
`ids`; the table holds their places there, −1 where a slot is empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled

Ints = NDArray[np.int32]
HASH = 0x9E3779B1  # 2^32 over the golden ratio


@compiled("i4[::1](i8)")
def no_places(most: int) -> Ints:
    """An empty table with room for so many ids: int32 [a power of two]."""
    slots = 16
    while slots < 2 * most:
        slots *= 2
    return np.full(slots, -1, np.int32)


@compiled("i8(i4[::1], i4[::1], i4)")
def slot_of(places: Ints, ids: Ints, wanted: int) -> int:
    """The slot with the place of an id, or the empty one that it would take."""
    slot = (wanted * HASH) & (len(places) - 1)
    while places[slot] >= 0 and ids[places[slot]] != wanted:
        slot = (slot + 1) & (len(places) - 1)
    return slot
