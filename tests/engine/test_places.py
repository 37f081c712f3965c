"""The table of places against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest

from engine.places import no_places, slot_of


@pytest.mark.parametrize("count", [0, 1, 8, 9, 1000])
def test_ids_are_found_where_they_were_put(count: int) -> None:
    rng = np.random.default_rng(count)
    ids = rng.choice(2**31 - 1, count, replace=False).astype(np.int32)
    places = no_places(count)
    for place, wanted in enumerate(ids):
        slot = slot_of(places, ids, wanted)
        assert places[slot] == -1
        places[slot] = place
    assert [int(places[slot_of(places, ids, wanted)]) for wanted in ids] == list(range(count))
    strangers = [n for n in (0, 1, 17, 2**31 - 1) if n not in ids]
    assert all(places[slot_of(places, ids, np.int32(n))] == -1 for n in strangers)
