"""What people are shown of a decision: names in place of dense numbers, RFC 3339 times."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.catalog import Catalog
from engine.push_features import NAMES
from engine.push_message import Chance, Reason, Scores
from engine.records import (
    DecidedFor,
    DecidedMoment,
    DecidedPage,
    DecidedSlot,
    DecisionRecord,
    ImpressionRecord,
    InteractionRecord,
    PushDecisionRecord,
    PushRecord,
)
from engine.times import to_rfc3339

Outcome = InteractionRecord | ImpressionRecord | PushRecord
Decision = DecisionRecord | PushDecisionRecord


class SlotView(msgspec.Struct, omit_defaults=True):
    """One slot; imported history knows neither score nor source."""

    position: int
    item_id: str
    propensity: float | None = None
    score: float | None = None
    source: str | None = None
    rule: str | None = None  # of rules.yaml, that placed it


class ConsideredView(msgspec.Struct):
    """An item that was ranked and not shown; `score` is the ranker's."""

    item_id: str
    score: float | None


class AskedView(msgspec.Struct, omit_defaults=True):
    """What was asked; `filter_bytes` is the length of a filter too long to be kept."""

    size: int
    explore: bool
    include_seen: bool
    item_id: str | None = None  # more like this
    candidates: int | None = None  # how many the request named
    excluded: int = 0
    filter: dict[str, Any] = {}
    filter_bytes: int = 0


class ModuleView(msgspec.Struct, omit_defaults=True):
    """One module of a page; its items are the next so many of `slots`."""

    module_id: str
    items: int
    propensity: float
    score: float
    eligible: list[str]
    pinned: bool = False
    because: str | None = None  # item_id


class PageView(msgspec.Struct):
    """The modules of a decision that was a page, from the top."""

    modules: list[ModuleView]
    propensity: float  # of all of them in their order
    segment: str
    scores: dict[str, float]  # of every module that had a chance


class MomentView(msgspec.Struct):
    """The situation that the decision was made in; `hour` is local, Monday is 0."""

    name: str
    confidence: float
    age_s: float | None
    hour: float
    weekday: int
    device_type: str | None


class PushView(msgspec.Struct, omit_defaults=True):
    """A decision on a push: what to do with the message, and what it was weighed by."""

    message_id: str
    category: str
    channel: str
    urgency: str
    action: str
    reasons: list[Reason]
    chances: Chance
    propensity: float
    scores: Scores | None = None
    campaign_id: str | None = None
    item_id: str | None = None
    hold_until: str | None = None
    reserved_until: str | None = None
    forced: str | None = None
    measured: bool = False
    coin: float | None = None  # chance that it sent; where one was tossed
    first_id: str | None = None  # of the first look at the message
    features: dict[str, float] = {}


class OutcomeView(msgspec.Struct, omit_defaults=True):
    """What came back: an act, an impression with all items that were seen, news of a message."""

    type: str
    ts: str
    item_ids: list[str] = []
    action: str | None = None
    value: float | None = None
    status: str | None = None


class DecisionView(msgspec.Struct, omit_defaults=True):
    """A decision: what was shown, why, and what else was considered."""

    decision_id: str
    user_id: str
    ts: str  # the moment that was decided for …
    decided_at: str  # … and when: another time only where `at` was asked
    slots: list[SlotView]
    surface: str | None = None
    module_id: str | None = None
    asked: AskedView | None = None
    situation: MomentView | None = None
    release: str | None = None
    config_version: str = ""
    degraded: str | None = None
    candidates: int = 0
    considered: list[ConsideredView] = []
    seed: str | None = None  # 63 bits, which not every JSON reader takes as a number
    state_position: str | None = None  # in the log, at which the user's state stood; the same
    imported: bool = False
    page: PageView | None = None
    push: PushView | None = None
    outcomes: list[OutcomeView] | None = None  # by this user within a day; one decision's alone


class DecisionList(msgspec.Struct):
    """A person's decisions, newest first; `next` is the `before` of the next page."""

    decisions: list[DecisionView]
    next: str | None


def id_of(record: Decision) -> str:
    """The decision's id."""
    return record.decision_id if isinstance(record, DecisionRecord) else record.decision.decision_id


def decision_view(record: Decision, catalog: Catalog) -> DecisionView:
    """The decision without its outcomes."""
    if isinstance(record, PushDecisionRecord):
        return _push_view(record)
    return DecisionView(
        decision_id=record.decision_id,
        user_id=record.user_id,
        ts=to_rfc3339(record.ts),
        decided_at=to_rfc3339(record.known_ms),
        slots=[_slot(slot, catalog) for slot in record.slots],
        surface=record.surface,
        module_id=record.module_id,
        asked=None if record.asked is None else _asked(record.asked, catalog),
        situation=None if record.moment is None else _moment(record.moment),
        release=record.release,
        config_version=record.config_version,
        degraded=record.degraded,
        candidates=record.candidates,
        considered=[ConsideredView(_item(c.item, catalog), c.value) for c in record.considered],
        seed=None if record.seed is None else str(record.seed),
        state_position=str(record.state_position) if record.state_position else None,
        imported=record.imported,
        page=None if record.page is None else _page(record.page, catalog),
    )


def outcome_view(record: Outcome, catalog: Catalog) -> OutcomeView:
    """An interaction or impression that carried the decision's id."""
    ts = to_rfc3339(record.ts)
    if isinstance(record, ImpressionRecord):
        items = [_item(item, catalog) for shown in record.shown for item in shown.items]
        return OutcomeView("impression", ts, items)
    if isinstance(record, PushRecord):
        return OutcomeView("push", ts, status=record.status)
    items = [] if record.item_id is None else [record.item_id]
    return OutcomeView("interaction", ts, items, record.action, record.value)


def _push_view(record: PushDecisionRecord) -> DecisionView:
    message, decision = record.message, record.decision
    told = zip(NAMES, record.row, strict=False)
    push = PushView(
        message_id=message.message_id,
        category=message.category,
        channel=message.channel,
        urgency=message.urgency,
        action=decision.action,
        reasons=decision.reasons,
        chances=decision.chance,
        propensity=decision.propensity,
        scores=decision.scores,
        campaign_id=message.campaign_id,
        item_id=message.item_id,
        hold_until=_time(decision.hold_until_ms),
        reserved_until=_time(decision.reserved_until_ms),
        forced=decision.forced,
        measured=decision.measured,
        coin=decision.coin if record.tried else None,
        first_id=decision.first_id,
        features={name: value for name, value in told if value is not None},
    )
    return DecisionView(
        decision_id=decision.decision_id,
        user_id=record.user_id,
        ts=to_rfc3339(record.ts),
        decided_at=to_rfc3339(record.known_ms),
        slots=[],
        situation=None if record.moment is None else _moment(record.moment),
        release=record.release,
        config_version=record.config_version,
        degraded=decision.degraded,
        state_position=str(record.state_position) if record.state_position else None,
        push=push,
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else to_rfc3339(ms)


def _page(page: DecidedPage, catalog: Catalog) -> PageView:
    modules = [
        ModuleView(
            module.module_id,
            module.items,
            module.propensity,
            module.score,
            [page.modules[number] for number in module.eligible],
            module.pinned,
            None if module.because is None else _item(module.because, catalog),
        )
        for module in page.placed
    ]
    scores = dict(zip(page.modules, page.scores, strict=True))
    return PageView(modules, page.propensity, page.segment, scores)


def _slot(slot: DecidedSlot, catalog: Catalog) -> SlotView:
    item_id = _item(slot.item, catalog)
    return SlotView(slot.position, item_id, slot.propensity, slot.score, slot.source, slot.rule)


def _asked(asked: DecidedFor, catalog: Catalog) -> AskedView:
    return AskedView(
        size=asked.size,
        explore=asked.explore,
        include_seen=asked.include_seen,
        item_id=None if asked.like is None else _item(asked.like, catalog),
        candidates=asked.given,
        excluded=asked.excluded,
        filter=asked.filter,
        filter_bytes=asked.filter_bytes,
    )


def _moment(moment: DecidedMoment) -> MomentView:
    return MomentView(
        moment.situation,
        moment.confidence,
        moment.age_s,
        moment.hour,
        moment.weekday,
        moment.device_type,
    )


def _item(item: int, catalog: Catalog) -> str:
    return catalog.id_of(item) or f"#{item}"
