"""What may be shown, and why the rest may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.candidates import Items, Mask
from engine.catalog import Catalog
from engine.rules import NO_ITEMS, NO_RULES, Rules
from engine.spans import span
from engine.state import UserState, seen_array


@dataclass(frozen=True, slots=True)
class Eligible:
    """The rules of one request, as masks over dense ids."""

    allowed: Mask  # [items]: everything holds
    available: Mask  # [items]: known, not deleted, within its times
    matches: Mask | None  # [items]: the request's filter; None: it has none
    excluded: Items
    acted: Items  # on which the user acted, and which are therefore left out
    rules: Rules = NO_RULES  # the operator's
    already: Items = field(default_factory=lambda: NO_ITEMS)  # what their `already` leaves out

    def why_not(self, item: int, catalog: Catalog, at_ms: int) -> str | None:
        """The first rule that drops the item, None where it may be shown."""
        state = catalog.at(item)
        if state is None or item >= len(self.allowed):
            return "unknown: no event named it"
        if not self.available[item]:
            return state.why_not(at_ms) or "not available"
        if (banned := self.rules.why_banned(state, catalog)) is not None:
            return banned
        if self.matches is not None and not self.matches[item]:
            return "filter"
        if item in self.excluded:
            return "excluded by the request"
        if item in self.acted:
            return "the user acted on it"
        if item in self.already:
            return "already: the user did lately what rules.yaml names"
        return None


@span("eligible")
def find_eligible(
    catalog: Catalog,
    state: UserState,
    at_ms: int,
    filter_: Mapping[str, Any],
    excluded: Items,
    include_seen: bool,
    rules: Rules = NO_RULES,
) -> Eligible:
    """The rules of a request over the whole catalogue; `filter_` was checked before."""
    available = catalog.columns.available(at_ms)
    n = len(available)
    allowed = available.copy()
    matches = None
    if filter_:
        matches = catalog.attributes.mask(filter_, n)
        allowed &= matches
    permitted = rules.permitted(catalog)
    if permitted is not None:
        allowed &= permitted[:n]
    acted = NO_ITEMS if include_seen else seen_array(state)
    already = rules.done_already(state, catalog, at_ms)
    for out in (excluded, acted, already):
        allowed[out[(out >= 0) & (out < n)]] = False
    return Eligible(allowed, available, matches, excluded, acted, rules, already)


def keep_eligible(items: Items, eligible: Eligible) -> NDArray[np.intp]:
    """Rows of `items` that may be shown, in their order."""
    inside = (items >= 0) & (items < len(eligible.allowed))
    inside[inside] = eligible.allowed[items[inside]]
    return np.flatnonzero(inside)


def dropped(
    items: Sequence[int], eligible: Eligible, catalog: Catalog, at_ms: int
) -> list[tuple[int, str]]:
    """(dense id, rule) of each item that may not be shown."""
    found = ((item, eligible.why_not(item, catalog, at_ms)) for item in items)
    return [(item, why) for item, why in found if why is not None]
