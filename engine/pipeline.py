"""The request's way: `recommend`, from a user id to a slate. Read this file first.

What happens when something is gone is decided here and nowhere else:

    reason              what is missing              what is answered
    store               the user can't be read       the same road for somebody unknown
    no_release          no model is published        popular and new items
    deadline            it took too long             popular items, not ranked

Each answer still obeys filter, exclude and candidates, says why in `degraded`, and is counted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine import features
from engine.candidates import Candidates, Items, Sources, gather, given
from engine.catalog import Catalog
from engine.device import Device
from engine.diversity import category_mix
from engine.eligibility import Eligible, find_eligible, keep_eligible
from engine.errors import StoreUnavailable
from engine.module_choice import ModuleScorer
from engine.placed import Page
from engine.ranking import (
    Ranked,
    Ranker,
    rank,
    rank_by_likeness,
    rank_by_retrieval,
    rank_every,
    rank_plainly,
)
from engine.recommending import Recommending
from engine.rules import NO_RULES, Rules
from engine.situation import Moment, Situations
from engine.slate import Choice, Pool, fill
from engine.slot_rules import SlotRules
from engine.spans import span
from engine.state import UserState
from engine.taste import Taste, read_taste

NOBODY = UserState()
NO_ITEMS: Items = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, with dense ids; checked, and complete."""

    user_id: str
    at_ms: int
    size: int
    seed: int = field(default_factory=lambda: secrets.randbits(63))
    device: Device | None = None
    surface: str | None = None
    module_id: str | None = None
    like: int | None = None  # "more like this"
    only: Items | None = None  # candidates to rank, instead of ours
    excluded: Items = field(default_factory=lambda: NO_ITEMS)
    filter: Mapping[str, Any] = field(default_factory=dict)
    include_seen: bool = False
    explore: bool = True


class Users(Protocol):
    """Where user states are read."""

    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        """The id that aliases lead to, and its state; raises StoreUnavailable."""


class _Unread:
    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        raise NotImplementedError("these parts read no users: see recommend_known")


UNREAD: Users = _Unread()  # where every state is at hand


@dataclass(frozen=True, slots=True)
class Parts:
    """What a request is answered with. A new release makes new Parts; a request keeps its own."""

    users: Users
    catalog: Catalog
    settings: Recommending
    action_weights: NDArray[np.float32]  # [256] by action term
    situations: Situations
    sources: Sources = field(default_factory=Sources)
    ranker: Ranker | None = None
    outcome_weights: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    release: str | None = None  # its id; None: nothing is published
    config_version: str = ""
    rules: Rules = NO_RULES
    clock: Callable[[], float] = time.monotonic
    module_scorer: ModuleScorer | None = None  # None: modules go by what is counted
    demote_ms: int = 0  # so long an item that was pushed stands last


@dataclass(frozen=True, slots=True)
class Slate:
    """A decision: what was chosen, and all that is needed to see why and to learn from it."""

    request: Request
    user_id: str  # whose state was read: the request's, or what its aliases lead to
    position: int  # in the log, at which that state stood
    moment: Moment
    taste: Taste
    candidates: Candidates
    rows: NDArray[np.float32]  # [candidates, features.COUNT]
    ranked: Ranked  # the pool, best first
    choices: list[Choice]  # slot by slot; their rows are places in the pool
    eligible: Eligible
    release: str | None
    config_version: str
    degraded: str | None = None
    held: Sequence[SlotRules] = ()  # of each choice, the operator's rules by row of its pool
    page: Page | None = None  # None: a list

    def candidate(self, choice: Choice) -> int:
        """The choice's row among the candidates."""
        return int(self.ranked.rows[choice.row])

    def items(self) -> list[int]:
        """Dense ids in slot order."""
        return [int(self.candidates.items[self.candidate(choice)]) for choice in self.choices]


async def recommend(request: Request, parts: Parts) -> Slate:
    """Decide what to show. Raises nothing that a caller has to handle."""
    deadline = parts.clock() + parts.settings.deadline_ms / 1000
    user_id, state, degraded = await read_state(request, parts)
    moment = parts.situations.read(state, request.device, request.at_ms)
    eligible = _eligible(request, state, parts)
    taste = _taste(request, state, moment, parts)
    candidates = _gather(request, parts, taste, moment, eligible)
    rows = features.matrix(state, moment, candidates, parts.catalog.columns)
    late = parts.clock() > deadline
    most = max(parts.settings.ranked, 2 * request.size)
    ranked = rank_pool(request, parts, candidates, rows, most, late)
    pool = make_pool(request, state, parts, taste, candidates.items[ranked.rows], ranked.values)
    choices = fill(pool, request.size, parts.settings.slate, request.seed, request.explore)
    return Slate(
        request,
        user_id,
        state.position,
        moment,
        taste,
        candidates,
        rows,
        ranked,
        choices,
        eligible,
        parts.release,
        parts.config_version,
        why_degraded(degraded, late, parts),
        [pool.held] * len(choices),
    )


def why_degraded(unread: str | None, late: bool, parts: Parts) -> str | None:
    """The reason of a plainer answer; None where nothing was missing."""
    if late:
        return "deadline"
    return unread or ("no_release" if parts.release is None else None)


def recommend_known(request: Request, state: UserState, parts: Parts) -> Slate:
    """`recommend` for a state that was read already: evaluation, a probe, a what-if."""
    return at_once(recommend(request, replace(parts, users=Known(state))))


def at_once(road: Coroutine[None, None, Slate]) -> Slate:
    """The slate of a road that waits for nothing, since its user is Known."""
    try:
        road.send(None)
    except StopIteration as ended:
        slate: Slate = ended.value
        return slate
    raise RuntimeError("the road waited for something besides the user")


@dataclass(frozen=True, slots=True)
class Known:
    """Users of whom one is asked about, and read already."""

    state: UserState

    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        return user_id, self.state


@span("read")
async def read_state(request: Request, parts: Parts) -> tuple[str, UserState, str | None]:
    """The id that aliases lead to, its state, and why it could not be read, if it could not."""
    try:
        user_id, state = await parts.users.read_user(request.user_id)
    except StoreUnavailable:
        return request.user_id, NOBODY, "store"
    return user_id, state or NOBODY, None


def _eligible(request: Request, state: UserState, parts: Parts) -> Eligible:
    excluded = request.excluded
    if request.like is not None:
        excluded = np.append(excluded, np.int32(request.like))
    return find_eligible(
        parts.catalog,
        state,
        request.at_ms,
        request.filter,
        excluded,
        request.include_seen,
        parts.rules,
    )


def _taste(request: Request, state: UserState, moment: Moment, parts: Parts) -> Taste:
    taste = read_taste(state, moment, parts.action_weights, parts.settings.taste)
    if request.like is None:
        return taste
    asked = np.array([request.like], np.int32)
    return replace(taste, items=asked, weights=np.ones(1, np.float32))


def _gather(
    request: Request, parts: Parts, taste: Taste, moment: Moment, eligible: Eligible
) -> Candidates:
    columns, settings = parts.catalog.columns, parts.settings
    if request.only is None:
        most = max(settings.candidates, 2 * request.size)
        return gather(
            parts.sources, columns, taste, moment, eligible.allowed, settings.sources, most
        )
    kept = request.only[keep_eligible(request.only, eligible)]
    return given(parts.sources, columns, taste, moment, kept)


@span("slate")
def make_pool(
    request: Request,
    state: UserState,
    parts: Parts,
    taste: Taste,
    items: Items,
    values: NDArray[np.float32],
) -> Pool:
    """What slots are filled from: dense ids int32 [n] and their values, under the rules."""
    categories = parts.catalog.columns.categories
    held = parts.rules.for_pool(
        items, parts.catalog, request.at_ms, request.surface, request.module_id, state
    )
    mix = None
    if parts.settings.slate.calibrate and request.like is None:
        mix = category_mix(taste, categories, len(parts.catalog.terms["category"]))
    return Pool(_demoted(values, items, request, state, parts), categories[items], held, mix)


def _demoted(
    values: NDArray[np.float32], items: Items, request: Request, state: UserState, parts: Parts
) -> NDArray[np.float32]:
    """The values, those of items that were pushed lately below all others."""
    if state.push is None or not state.push.pushed or not parts.demote_ms:
        return values
    since_s = (request.at_ms - parts.demote_ms) // 1000
    lately = [item for item, at_s in state.push.pushed if at_s > since_s]
    told = np.isin(items, lately)
    if not told.any():
        return values
    low = np.float32(np.nanmax(values) - np.nanmin(values) + 1)
    return np.where(told, values - low, values)


@span("rank")
def rank_pool(
    request: Request,
    parts: Parts,
    candidates: Candidates,
    rows: NDArray[np.float32],
    most: int | None,
    late: bool,
) -> Ranked:
    """The best `most` candidates, or every one, by what the release has; by popularity if late."""
    if most is None and parts.ranker is not None and not late and parts.release is not None:
        return rank_every(parts.ranker, parts.outcome_weights, rows, 2 * parts.settings.ranked)
    most = len(rows) if most is None else most
    if late or parts.release is None:
        return rank_plainly(candidates, most)
    if request.like is not None:
        return rank_by_likeness(candidates, most)
    if parts.ranker is None:
        return rank_by_retrieval(candidates, most)
    return rank(parts.ranker, parts.outcome_weights, rows, most)
