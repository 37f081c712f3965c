"""Stamp events into log records: what the fold will need and the event does not carry.

The edge calls it for live events, `kairos import` for history. Three steps, because new names
must get their numbers from the store first: check → (intern what is missing) → stamp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from engine import records as log
from engine.actions import Actions
from engine.catalog import Catalog
from engine.device import Device, read_device
from engine.errors import InvalidInput
from engine.events import (
    Alias,
    Decision,
    DeviceEvent,
    Event,
    Impression,
    Interaction,
    Item,
    Push,
    Time,
    User,
    check_attributes,
)
from engine.ids import ITEMS, event_hash, partition_of
from engine.times import DAY_MS, to_ms, to_rfc3339

AHEAD_MS = 5 * 60_000
MAX_ACTION_TERM = 255  # one byte in engine.state.TOUCH


@dataclass(slots=True)
class Stamper:
    """Turns events into records. Catalog names must be interned before `stamp`."""

    actions: Actions
    catalog: Catalog
    partitions: int
    late_days: int = 7
    imported: bool = False
    ignored_device_fields: dict[str, int] = field(default_factory=dict)  # name -> count

    def check(self, event: Event, arrived: int, shift_ms: int = 0) -> int:
        """The event's time in unix ms; raises InvalidInput for what its struct cannot tell."""
        if isinstance(event, Interaction):
            action = self.actions.get(event.action)
            if action.needs_item and event.item_id is None:
                raise InvalidInput("item_id", f"action {event.action!r} needs an item")
        elif isinstance(event, Item | User):
            check_attributes(event.attributes)
            if isinstance(event, Item):
                _date(event.available_from, "available_from")
                _date(event.available_until, "available_until")
        elif isinstance(event, Decision) and not self.imported:
            raise InvalidInput("type", "decisions of another system come by kairos import only")
        elif isinstance(event, Alias) and event.previous_id == event.user_id:
            raise InvalidInput("previous_id", "expected another id than user_id")
        if event.ts is None:
            return 0 if self.imported else arrived
        ts = to_ms(event.ts, "ts") + shift_ms
        if not self.imported:
            self._check_live(ts, arrived, isinstance(event, Item | User))
        elif ts > arrived + AHEAD_MS:
            raise InvalidInput("ts", f"{to_rfc3339(ts)} is in the future")
        return max(ts, 0)

    def _check_live(self, ts: int, arrived: int, undated: bool) -> None:
        if ts > arrived + AHEAD_MS:
            raise InvalidInput("ts", "more than 5 minutes ahead of the server's clock")
        if ts < arrived - self.late_days * DAY_MS and not undated:
            raise InvalidInput(
                "ts", f"older than {self.late_days} days: send history through kairos import"
            )

    def missing(self, events: Iterable[Event]) -> dict[str, list[str]]:
        """Names the catalogue has no number for: space (item, category, action) -> names."""
        items: dict[str, None] = {}
        categories: dict[str, None] = {}
        actions: dict[str, None] = {}
        for event in events:
            for item_id in items_of(event):
                if item_id not in self.catalog.by_id:
                    items[item_id] = None
            if isinstance(event, Item):
                for name in event.attributes.get("categories") or ():
                    if name not in self.catalog.terms["category"]:
                        categories[name] = None
            elif (
                isinstance(event, Interaction) and event.action not in self.catalog.terms["action"]
            ):
                actions[event.action] = None
        found = {"item": list(items), "category": list(categories), "action": list(actions)}
        return {space: names for space, names in found.items() if names}

    def learn(self, space: str, names: Sequence[str], numbers: Sequence[int]) -> None:
        """Take over the numbers that the store gave to missing names."""
        if space == "item":
            bare = [
                log.ItemRecord(ts=0, arrived=0, item_id=name, item=number)
                for name, number in zip(names, numbers, strict=True)
            ]
            self.catalog.apply(bare)
            return
        for name, number in zip(names, numbers, strict=True):
            if space == "action" and number > MAX_ACTION_TERM:
                raise InvalidInput("action", "this log has had 256 different actions, the most")
            self.catalog.name(space, name, number)

    def stamp(self, event: Event, ts: int, arrived: int) -> tuple[int, log.Record]:
        """The partition (or ITEMS) and the record of a checked event."""
        if isinstance(event, Item):
            return ITEMS, self._item(event, ts, arrived)
        owner = event.previous_id if isinstance(event, Alias) else event.user_id
        common: dict[str, Any] = {"ts": ts, "arrived": arrived, "user_id": owner}
        if self.imported:
            common["imported"] = True
        if isinstance(event, Decision):
            common["hash"] = event_hash(owner, f"decision {event.decision_id}")
        elif not isinstance(event, User):
            common["hash"] = event_hash(owner, event.event_id)
        return partition_of(owner, self.partitions), self._owned(event, common)

    def _owned(self, event: Event, common: dict[str, Any]) -> log.Record:
        if isinstance(event, Interaction):
            return self._interaction(event, common)
        if isinstance(event, Impression):
            return self._impression(event, common)
        if isinstance(event, DeviceEvent):
            device = self._device(event.device)
            return log.DeviceRecord(event_id=event.event_id, device=device, **common)
        if isinstance(event, Push):
            return log.PushRecord(
                event_id=event.event_id,
                message_id=event.message_id,
                status=event.status,
                category=event.category,
                decision_id=event.decision_id,
                **common,
            )
        if isinstance(event, User):
            return log.UserRecord(attributes=event.attributes, **common)
        if isinstance(event, Alias):
            return log.AliasRecord(event_id=event.event_id, into=event.user_id, **common)
        assert isinstance(event, Decision)
        return self._decision(event, common)

    def _interaction(self, event: Interaction, common: dict[str, Any]) -> log.Record:
        item = None if event.item_id is None else self.catalog.by_id[event.item_id]
        return log.InteractionRecord(
            event_id=event.event_id,
            action=event.action,
            term=self.catalog.terms["action"][event.action],
            weight=self.actions.get(event.action).signed_weight,
            item_id=event.item_id,
            item=item,
            categories=[] if item is None else self.catalog.category_terms(item),
            value=event.value,
            decision_id=event.decision_id,
            module_id=event.module_id,
            surface=event.surface,
            query=event.query,
            device=None if event.device is None else self._device(event.device),
            **common,
        )

    def _impression(self, event: Impression, common: dict[str, Any]) -> log.Record:
        by_id = self.catalog.by_id
        shown = [
            log.ShownItems(s.position, [by_id[item] for item in s.item_ids], s.module_id)
            for s in sorted(event.shown, key=lambda s: s.position)
        ]
        return log.ImpressionRecord(
            event_id=event.event_id, decision_id=event.decision_id, shown=shown, **common
        )

    def _decision(self, event: Decision, common: dict[str, Any]) -> log.Record:
        slots = [
            log.DecidedSlot(self.catalog.by_id[s.item_id], s.position, s.propensity)
            for s in event.slots
        ]
        return log.DecisionRecord(
            decision_id=event.decision_id, slots=slots, surface=event.surface, **common
        )

    def _item(self, event: Item, ts: int, arrived: int) -> log.ItemRecord:
        return log.ItemRecord(
            ts=ts,
            arrived=arrived,
            imported=self.imported,
            item_id=event.item_id,
            item=self.catalog.by_id[event.item_id],
            attributes=event.attributes,
            available_from=_date(event.available_from, "available_from"),
            available_until=_date(event.available_until, "available_until"),
            deleted=event.deleted,
        )

    def _device(self, raw: dict[str, Any]) -> Device:
        device, ignored = read_device(raw)
        for name in ignored:
            name = name[:64] if name in KNOWN_FIELDS else "unknown field"
            self.ignored_device_fields[name] = self.ignored_device_fields.get(name, 0) + 1
        return device


KNOWN_FIELDS = {field.name for field in msgspec.structs.fields(Device)}


def items_of(event: Event) -> Iterable[str]:
    """The item ids that an event names."""
    if isinstance(event, Item):
        return (event.item_id,)
    if isinstance(event, Interaction):
        return () if event.item_id is None else (event.item_id,)
    if isinstance(event, Impression):
        return [item for shown in event.shown for item in shown.item_ids]
    if isinstance(event, Decision):
        return [slot.item_id for slot in event.slots]
    return ()


def _date(value: Time | msgspec.UnsetType | None, name: str) -> int | msgspec.UnsetType | None:
    return value if value is None or value is UNSET else to_ms(value, name)
