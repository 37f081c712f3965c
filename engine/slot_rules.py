"""What the operator's rules say of one pool: arrays that the compiled fill reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


# Of no rule at all: nothing writes to them.
NO_NUMBERS: NDArray[np.float32] = np.zeros(0, np.float32)
NO_GROUPS: NDArray[np.int32] = np.zeros((0, 0), np.int32)
NO_COUNTS: NDArray[np.int64] = np.zeros((0, 2), np.int64)
NO_SLOTS: NDArray[np.int64] = np.zeros(0, np.int64)
NO_ROWS: Mask = np.zeros((0, 0), np.bool_)


@dataclass(frozen=True, slots=True)
class SlotRules:
    """The rules in force for one list, by row of its pool; the empty one holds nothing back.

    added           [n] to values, in standard deviations of the pool's values
    groups, most    [n, rules] the item's group, −1: none; [rules, 2] at most so many of one group
                    in so many slots, 0: in the list
    first, second   [n, pairs] an item of one side above closes the other side below
    pinned          [n, pins] what the slot of each is taken from; pin_slots [pins]
    paid            [n, sponsored rules]; paid_slots [sponsored rules, slots]: may stand there
    pins, sponsored  where rules.yaml names each, as `pin[0]`; see `label`
    moved           what `added` is made of: (where rules.yaml names it, [n])

    Slots count from 0 here.
    """

    added: NDArray[np.float32] = field(default_factory=lambda: NO_NUMBERS)
    groups: NDArray[np.int32] = field(default_factory=lambda: NO_GROUPS)
    most: NDArray[np.int64] = field(default_factory=lambda: NO_COUNTS)
    first: Mask = field(default_factory=lambda: NO_ROWS)
    second: Mask = field(default_factory=lambda: NO_ROWS)
    pinned: Mask = field(default_factory=lambda: NO_ROWS)
    pin_slots: NDArray[np.int64] = field(default_factory=lambda: NO_SLOTS)
    paid: Mask = field(default_factory=lambda: NO_ROWS)
    paid_slots: Mask = field(default_factory=lambda: NO_ROWS)
    pins: tuple[str, ...] = ()  # where each stands in rules.yaml
    sponsored: tuple[str, ...] = ()
    moved: tuple[tuple[str, NDArray[np.float32]], ...] = ()

    def rows(self, rows: NDArray[np.intp]) -> SlotRules:
        """The same of some rows of the pool, in this order."""
        taken = {
            name: getattr(self, name)[rows]
            for name in ("added", "groups", "first", "second", "pinned", "paid")
            if len(getattr(self, name))
        }
        moved = tuple((label, by[rows]) for label, by in self.moved)
        return replace(self, moved=moved, **taken)

    @property
    def closes(self) -> bool:
        """Whether any rule can close an item or a slot."""
        return bool(
            self.groups.shape[1] + self.first.shape[1] + len(self.pin_slots) + self.paid.shape[1]
        )

    def label(self, rule: int) -> str | None:
        """The rule of a choice by the place where rules.yaml names it, as `pin[0]`."""
        if rule < 0:
            return None
        if rule < len(self.pins):
            return self.pins[rule]
        return self.sponsored[rule - len(self.pins)]

    def is_sponsored(self, rule: int) -> bool:
        """Whether the rule of a choice is one of `sponsored`."""
        return rule >= len(self.pins)


NO_SLOT_RULES = SlotRules()
