"""A recorded log cut by time: what is imported and trained on, and what comes live afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from training.prequential import Group, groups

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Items by row, and acts in time order, of which the first `past` are imported."""

    items: list[Event]
    acts: list[Event]
    past: int
    users: list[str]  # ids by number
    rows: Mapping[str, int]  # of items, by id
    user: NDArray[np.int64]  # of each act
    item: NDArray[np.int64]

    def groups(self, live: bool) -> list[Group]:
        """The acts to come, or those of the past."""
        part = slice(self.past, None) if live else slice(0, self.past)
        at_s = np.array([act["ts"] for act in self.acts[part]], np.int64)
        return groups(self.user[part], self.item[part], at_s)

    def past_events(self, end_s: float, without: Collection[int] = ()) -> Iterator[Event]:
        """The past as events for `kairos import`, moved in time so that it ends at `end_s`.

        `without` rows of items: neither they nor what was done with them is there.
        """
        left_out = frozenset(without)
        moved_s = int(end_s) - int(self.acts[self.past - 1]["ts"])
        born_s = int(self.acts[0]["ts"]) + moved_s
        for row, item in enumerate(self.items):
            if row not in left_out:
                yield {**item, "ts": born_s}
        for act, row in zip(self.acts[: self.past], self.item.tolist(), strict=False):
            if row not in left_out:
                yield {**act, "ts": int(act["ts"]) + moved_s}

    def matrix(self) -> sp.csr_matrix:
        """Who touched what in the past: float32 CSR [users, items] of ones."""
        places = (self.user[: self.past], self.item[: self.past])
        shape = (len(self.users), len(self.items))
        touched = sp.csr_matrix((np.ones(self.past, np.float32), places), shape=shape)
        touched.data[:] = 1
        return touched


def record(events: Iterable[Event], share: float) -> Recorded:
    """Item events and interactions with `ts` in seconds, in time order; `share` of these is past.

    Acts of one time are never parted.
    """
    items: list[Event] = []
    acts: list[Event] = []
    for event in events:
        (items if event["type"] == "item" else acts).append(event)
    past = int(len(acts) * share)
    while 0 < past < len(acts) and acts[past]["ts"] == acts[past - 1]["ts"]:
        past -= 1
    rows = {item["item_id"]: row for row, item in enumerate(items)}
    users: dict[str, int] = {}
    user = [users.setdefault(act["user_id"], len(users)) for act in acts]
    item = [rows[act["item_id"]] for act in acts]
    return Recorded(
        items, acts, past, list(users), rows, np.array(user, np.int64), np.array(item, np.int64)
    )
