"""A decision's id, which says where its record lies, and that record.

The record is appended to the partition of the user who was asked about; where an alias leads on,
the fold sends it after the person, as it does with events.
"""

from __future__ import annotations

import base64
import os
import secrets
import struct

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.candidates import LISTS, SOURCES, Items
from engine.ids import event_hash
from engine.pipeline import Request, Slate
from engine.placed import Page
from engine.records import (
    Considered,
    DecidedFor,
    DecidedModule,
    DecidedPage,
    DecidedSlot,
    DecisionRecord,
)
from engine.situation import told_of
from engine.times import LATEST_MS

CONSIDERED = 10
FILTER_BYTES = 2048  # a longer filter is not kept with the decision

SOURCE_NAMES = (*SOURCES, *LISTS, "given")
GIVEN = len(SOURCE_NAMES) - 1

# By the bits of Candidates.brought, as Candidates.source has it, for all rows at once.
_FIRST_SOURCE = np.array(
    [next((s for s in range(8) if bits >> s & 1), GIVEN) for bits in range(1 << GIVEN)],
    np.uint8,
)
_VERSION = 1
_PLACE = struct.Struct(">BHQ10s")  # version, partition, unix ms, random


def new_decision_id(partition: int, at_ms: int) -> str:
    """28 characters that mean nothing to clients, 80 bits of them random."""
    raw = _PLACE.pack(_VERSION, partition, at_ms, _some_random())
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


_RANDOM = 10  # bytes of an id
_AT_ONCE = 256  # of them read from the system together: each trip there costs microseconds
_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


def _some_random() -> bytes:
    try:
        return _random.pop()
    except IndexError:  # other threads may be here too: each fills up for itself
        raw = secrets.token_bytes(_RANDOM * _AT_ONCE)
        _random.extend(raw[at : at + _RANDOM] for at in range(_RANDOM, len(raw), _RANDOM))
        return raw[:_RANDOM]


def place_of(decision_id: str) -> tuple[int, int] | None:
    """(partition, unix ms) that an id of ours carries, None for any other id."""
    padded = decision_id + "=" * (-len(decision_id) % 4)
    try:
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        version, partition, at_ms, _ = _PLACE.unpack(raw)
    except (ValueError, struct.error):
        return None
    same = base64.urlsafe_b64encode(raw).decode().rstrip("=") == decision_id
    if not same or version != _VERSION or partition > 1023 or at_ms > LATEST_MS:
        return None
    return partition, at_ms


def record_of(slate: Slate, decision_id: str, arrived_ms: int) -> DecisionRecord:
    """The slate as a log record; appended twice, it counts once."""
    request, user_id = slate.request, slate.request.user_id
    return DecisionRecord(
        ts=request.at_ms,
        arrived=arrived_ms,
        user_id=user_id,
        hash=event_hash(user_id, f"decision {decision_id}"),  # as engine.stamp has it
        decision_id=decision_id,
        slots=_slots(slate),
        surface=request.surface,
        module_id=request.module_id,
        asked=_asked(request),
        moment=told_of(slate.moment),
        candidates=len(slate.candidates.items),
        considered=_considered(slate),
        release=slate.release,
        config_version=slate.config_version,
        state_position=slate.position,
        seed=request.seed,
        degraded=slate.degraded,
        device=request.device,
        page=None if slate.page is None else _decided_page(slate.page),
    )


def not_shown(slate: Slate) -> list[int]:
    """Places in the pool that no slot took, best first."""
    chosen = {choice.row for choice in slate.choices}
    return [place for place in range(len(slate.ranked.rows)) if place not in chosen]


def first_sources(slate: Slate, pool: list[int]) -> NDArray[np.uint8]:
    """uint8 [n]: of places in the pool, the first source as an index into SOURCE_NAMES."""
    rows = slate.ranked.rows[np.array(pool, np.intp)]
    return _FIRST_SOURCE[slate.candidates.brought[rows]]


def items_of(slate: Slate, pool: list[int]) -> Items:
    """int32 [n]: dense ids of places in the pool."""
    return slate.candidates.items[slate.ranked.rows[np.array(pool, np.intp)]]


def _slots(slate: Slate) -> list[DecidedSlot]:
    pool = [choice.row for choice in slate.choices]
    items, sources = items_of(slate, pool).tolist(), first_sources(slate, pool).tolist()
    return [
        DecidedSlot(
            item,
            position,
            choice.propensity,
            round(choice.value, 6),
            SOURCE_NAMES[source],
            held.label(choice.rule),
        )
        for position, (item, choice, source, held) in enumerate(
            zip(items, slate.choices, sources, slate.held, strict=True)
        )
    ]


def _decided_page(page: Page) -> DecidedPage:
    modules = list(page.scores)
    number = {name: place for place, name in enumerate(modules)}
    placed = [
        DecidedModule(
            one.module_id,
            len(one.choices),
            one.propensity,
            round(one.score, 6),
            [number[name] for name in one.eligible],
            one.pinned,
            one.because,
        )
        for one in page.placed
    ]
    scores = [round(score, 6) for score in page.scores.values()]
    counted = [round(page.counted[name], 6) for name in modules]
    return DecidedPage(
        modules,
        placed,
        page.propensity,
        page.situation,
        page.segment,
        page.part,
        scores,
        page.asked,
        page.locale,
        [] if counted == scores else counted,
    )


def _considered(slate: Slate) -> list[Considered]:
    places = not_shown(slate)[:CONSIDERED]
    items = items_of(slate, places).tolist()
    values = slate.ranked.values[places].tolist()
    return [Considered(item, round(value, 6)) for item, value in zip(items, values, strict=True)]


def _asked(request: Request) -> DecidedFor:
    kept, length = dict(request.filter), 0
    if kept and len(encoded := msgspec.json.encode(kept)) > FILTER_BYTES:
        kept, length = {}, len(encoded)
    return DecidedFor(
        size=request.size,
        like=request.like,
        given=None if request.only is None else len(request.only),
        excluded=len(request.excluded),
        filter=kept,
        filter_bytes=length,
        include_seen=request.include_seen,
        explore=request.explore,
    )
