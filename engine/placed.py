"""What makes a slate a page: the modules that stand on it, and why the others do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from engine.slate import Choice


@dataclass(frozen=True, slots=True)
class Placed:
    """One module on the page."""

    module_id: str
    title: str
    choices: list[Choice]  # rows of the page's pool
    propensity: float  # of this module in this slot, given all above
    score: float  # what a look at it is worth to this person now, as estimated
    eligible: tuple[str, ...]  # the modules that the slot might have gone to
    pinned: bool
    because: int | None  # dense id of the item that explains it


@dataclass(frozen=True, slots=True)
class Page:
    """The modules of a slate, from the top."""

    placed: list[Placed]
    scores: Mapping[str, float]  # of every module that had a chance
    counted: Mapping[str, float]  # the same by counts alone, before models and boosts
    closed: Mapping[str, str]  # why the others do not stand here
    situation: int  # the likeliest, by number, whether it is named or not
    part: int  # of the local day
    segments: list[str]  # the person's
    asked: int  # how many modules
    locale: str | None = None

    @property
    def propensity(self) -> float:
        """Of all the modules in their order."""
        return math.prod(one.propensity for one in self.placed)

    @property
    def segment(self) -> str:
        """The one that what is learned goes by."""
        return self.segments[0] if self.segments else ""
