"""What every answer that is a decision shares: how it is asked, shown and logged."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from engine.candidates import Items
from engine.catalog import Catalog
from engine.decisions import SOURCE_NAMES, first_sources, items_of, new_decision_id
from engine.device import Device, read_device
from engine.ids import partition_of
from engine.pipeline import Slate
from engine.situation import Moment
from engine.times import to_ms
from serving.decision_log import DecisionLog
from serving.explain import Reason, Told
from serving.http import Refusal, Role, problem
from serving.metrics import Metrics

MOST_ITEMS = 1000  # in candidates, exclude and a cursor

DEVICE = {field.name for field in msgspec.structs.fields(Device)}


class SituationView(msgspec.Struct, frozen=True):
    """The situation that a decision was made in."""

    name: str
    confidence: float
    age_s: float | None


class ItemShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One slot of an answer; `score` is null for an id that the catalogue does not know."""

    item_id: str
    score: float | None
    propensity: float
    source: str
    reasons: list[Reason] | UnsetType = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET
    sponsored: bool = False


class Decided:
    """Gives decisions their ids, counts the degraded, and offers them to the log."""

    def __init__(self, partitions: int, log: DecisionLog, metrics: Metrics) -> None:
        self._partitions = partitions
        self._log = log
        self._metrics = metrics

    def device(self, raw: dict[str, Any] | None) -> Device | None:
        """The request's device state; what is not understood is ignored and counted."""
        if raw is None:
            return None
        device, ignored = read_device(raw)
        for name in ignored:
            self._metrics.count("ignored_device_fields", name if name in DEVICE else "unknown")
        return device

    def number(self, slate: Slate) -> str:
        """The id of a decision that was just made."""
        if slate.degraded is not None:
            self._metrics.count("degraded", slate.degraded)
        partition = partition_of(slate.request.user_id, self._partitions)
        return new_decision_id(partition, int(time.time() * 1000))

    def log(self, decision_id: str, slate: Slate, dry_run: bool) -> None:
        """Offer it to the log, once its answer is made."""
        if not dry_run:
            self._log.offer(decision_id, slate)


def moment_asked(at: str | int | float | None, role: Role | None) -> int:
    """Unix ms of `at`, which admin keys may name, or of now."""
    if at is None:
        return int(time.time() * 1000)
    if role is not Role.ADMIN:
        detail = "only an admin key may decide as if it were another time"
        raise Refusal(problem(403, "forbidden", "Forbidden", detail, field="at"))
    return to_ms(at, "at")


def items_shown(
    slate: Slate, catalog: Catalog, attributes: list[str], told: Told | None
) -> list[ItemShown]:
    """Every choice of a slate as it is answered, in slot order."""
    shown = []
    pool = [choice.row for choice in slate.choices]
    items, sources = items_of(slate, pool).tolist(), first_sources(slate, pool).tolist()
    for place, choice in enumerate(slate.choices):
        item = catalog.items[items[place]]
        assert item is not None  # only what is available is chosen
        asked_for = {name: item.attribute(name) for name in attributes}
        shown.append(
            ItemShown(
                item.item_id,
                round(choice.value, 6),
                choice.propensity,
                SOURCE_NAMES[sources[place]],
                told.reasons[place] if told else UNSET,
                asked_for if attributes else UNSET,
                slate.held[place].is_sponsored(choice.rule),
            )
        )
    return shown


def situation_view(moment: Moment) -> SituationView:
    """The situation as it is answered."""
    return SituationView(moment.name, round(moment.confidence, 4), moment.age_s)


def known_items(item_ids: list[str], catalog: Catalog) -> Items:
    """Dense ids int32 of the items that some event named."""
    by_id = catalog.by_id
    return np.array([by_id[item_id] for item_id in item_ids if item_id in by_id], np.int32)
