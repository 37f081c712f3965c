"""Log records: events stamped with all that the fold needs and the event does not carry.

A record is one JSON object, so that the log can be read with any tool for as long as it lives.
`user_id` is always the owner: the user in whose partition the record lies. Times are unix ms.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.device import Device
from engine.push_message import COIN, Message, PushDecision


class _Stamped(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False
):
    ts: int
    arrived: int
    imported: bool = False

    @property
    def known_ms(self) -> int:
        """When it could be known: on arrival, or for imported history when it happened."""
        return self.ts if self.imported else self.arrived


class ItemRecord(_Stamped, frozen=True, kw_only=True, tag="item"):
    """An item; a bare one (no attributes) gives an unknown item its dense id."""

    item_id: str
    item: int
    attributes: dict[str, Any] = {}
    available_from: int | UnsetType | None = UNSET
    available_until: int | UnsetType | None = UNSET
    deleted: bool | UnsetType = UNSET


class TermRecord(_Stamped, frozen=True, kw_only=True, tag="term"):
    """A category's or an action's dense number, by order of first appearance."""

    space: str
    name: str
    term: int


class _Owned(_Stamped, frozen=True, kw_only=True):
    user_id: str
    hash: int | None = None  # of (user_id, event_id), or of the source's position; None: no dedupe
    hops: int = 0  # how often a fold sent it on, after an alias


class UserRecord(_Owned, frozen=True, kw_only=True, tag="user"):
    """A user's attributes."""

    attributes: dict[str, Any]


class AliasRecord(_Owned, frozen=True, kw_only=True, tag="alias"):
    """The owner (an anonymous visitor) turned out to be `into`."""

    event_id: str
    into: str


class InteractionRecord(_Owned, frozen=True, kw_only=True, tag="interaction"):
    """What a person did, with the item and its categories as known on arrival."""

    event_id: str
    action: str
    term: int  # dense number of the action
    weight: float  # signed, from actions.yaml on arrival
    item_id: str | None = None
    item: int | None = None
    categories: list[int] = []
    value: float | None = None
    decision_id: str | None = None
    module_id: str | None = None
    surface: str | None = None
    query: str | None = None
    device: Device | None = None


class ShownItems(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module or list as it was seen: dense item ids in order."""

    position: int
    items: list[int]
    module_id: str | None = None


class ImpressionRecord(_Owned, frozen=True, kw_only=True, tag="impression"):
    """What was really seen of a decision."""

    event_id: str
    decision_id: str
    shown: list[ShownItems]


class DeviceRecord(_Owned, frozen=True, kw_only=True, tag="device"):
    """Device state between requests."""

    event_id: str
    device: Device


class PushRecord(_Owned, frozen=True, kw_only=True, tag="push"):
    """What became of a message."""

    event_id: str
    message_id: str
    status: str
    category: str | None = None
    decision_id: str | None = None


class DecidedSlot(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of a slate; score and source are missing in imported history."""

    item: int
    position: int
    propensity: float | None = None
    score: float | None = None  # as answered
    source: str | None = None
    rule: str | None = None  # that placed it, by where rules.yaml names it, as `pin[0]`


class Considered(msgspec.Struct, frozen=True, array_like=True):
    """An item that was ranked and not shown; without a value where the ranker gave no number."""

    item: int
    value: float | None


class DecidedMoment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A moment as it was read (engine.situation.Moment); its time is the record's."""

    situation: str
    confidence: float
    hour: float  # local
    weekday: int
    age_s: float | None = None
    device_type: str | None = None
    number: int = 0  # of the situation
    probabilities: list[float] = []  # by number
    activity: dict[str, float] = {}
    models: str = ""  # version of those that read the signals
    doing: dict[str, float] = {}

    def signals_ms(self, at_ms: int) -> int | None:
        """Unix ms of the signals it was read from, as of a record's time; None: there were none."""
        return None if self.age_s is None else at_ms - round(self.age_s * 1000)


class MomentRecord(_Owned, frozen=True, kw_only=True, tag="moment"):
    """What was inferred from a device's signals when they were folded; replay reads it back.

    It has no hash: taken in twice it counts once, because only a newer one changes the state.
    """

    moment: DecidedMoment
    device_id: str = ""
    changed: bool = False  # whether the situation is another than before


class DecidedFor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked, as far as it explains the answer."""

    size: int
    like: int | None = None  # dense id, for "more like this"
    given: int | None = None  # how many candidates the request named; None: it named none
    excluded: int = 0
    filter: dict[str, Any] = {}
    filter_bytes: int = 0  # of one that is too long to be kept
    include_seen: bool = False
    explore: bool = True


class DecidedModule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module of a page; its items follow those of the module above in the record's slots."""

    module_id: str
    items: int  # how many
    propensity: float  # of this module in this slot, given all above
    score: float  # what a look at it is worth, as estimated
    eligible: list[int] = []  # the modules that the slot might have gone to, in DecidedPage.modules
    pinned: bool = False
    because: int | None = None  # dense id of the item that explains it


class DecidedPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes a decision one about a page."""

    modules: list[str]  # every module that had a chance
    placed: list[DecidedModule]  # from the top
    propensity: float  # of all the modules in their order
    situation: int  # the likeliest, by number
    segment: str = ""
    part: int = 0  # of the local day, see engine.module_counts
    scores: list[float] = []  # of `modules`
    asked: int = 0  # how many modules
    locale: str | None = None
    counted: list[float] = []  # scores by counts alone; empty: these are the scores

    @property
    def by_counts(self) -> list[float]:
        """What a look at each of `modules` was worth by the counts alone."""
        return self.counted or self.scores


class DecisionRecord(_Owned, frozen=True, kw_only=True, tag="decision"):
    """A slate as decided; imported history knows `slots` and `surface` alone."""

    decision_id: str
    slots: list[DecidedSlot]
    surface: str | None = None
    module_id: str | None = None
    asked: DecidedFor | None = None
    moment: DecidedMoment | None = None
    candidates: int = 0
    considered: list[Considered] = []  # the best that were not shown
    release: str | None = None
    config_version: str = ""
    state_position: int = 0  # in the log, at which the user's state stood
    seed: int | None = None
    degraded: str | None = None
    device: Device | None = None  # as the request told of it
    page: DecidedPage | None = None  # None: a list


class PushDecisionRecord(_Owned, frozen=True, kw_only=True, tag="push_decision"):
    """A message as it was decided on, whether it went out or not."""

    message: Message
    decision: PushDecision
    moment: DecidedMoment | None = None
    row: list[float | None] = []  # engine.push_features.NAMES; None: not known
    release: str | None = None
    config_version: str = ""
    state_position: int = 0  # in the log, at which the user's state stood
    item: int | None = None  # dense id of the message's item
    device: Device | None = None  # as the request told of it

    @property
    def tells(self) -> bool:
        """Whether a state remembers anything of it (engine.push_history.decided)."""
        if self.device is not None or self.fairly_tried:
            return True
        return self.item is not None and self.decision.action == "send"

    @property
    def tried(self) -> bool:
        """Whether a coin sent the message or left it out."""
        decision = self.decision
        return decision.measured and decision.forced is None and decision.action != "hold"

    @property
    def fairly_tried(self) -> bool:
        """Whether that coin sends as often as not: the person's own trials count it."""
        return self.tried and self.decision.coin == COIN


class CarryRecord(_Owned, frozen=True, kw_only=True, tag="carry"):
    """The state of an aliased user, on its way into the owner's."""

    previous_id: str
    via: list[str]  # the ids it has passed, against cycles of aliases
    state: bytes


class EraseRecord(_Owned, frozen=True, kw_only=True, tag="erase"):
    """Forget the owner: everything dated before `ts` is dropped for ever."""


UserLogRecord = (
    UserRecord
    | AliasRecord
    | InteractionRecord
    | ImpressionRecord
    | DeviceRecord
    | MomentRecord
    | PushRecord
    | DecisionRecord
    | PushDecisionRecord
    | CarryRecord
    | EraseRecord
)
ItemLogRecord = ItemRecord | TermRecord
Record = UserLogRecord | ItemLogRecord

encode = msgspec.json.Encoder().encode
decode_user_record = msgspec.json.Decoder(UserLogRecord).decode
decode_item_record = msgspec.json.Decoder(ItemLogRecord).decode


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One stream entry: records appended together, at one position (see engine.ids)."""

    position: int
    records: list[bytes]
