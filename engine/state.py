"""UserState and the fold: what is kept of a user, and how a record changes it.

Decayed counters use forward decay (Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE
2009): each holds its value at one landmark time t0 that the whole state shares. An act at t adds
w·2^((t − t0)/half-life), whether t is before or after t0, and reading at t multiplies by
2^(−(t − t0)/half-life). Nothing decays on write, a late event costs the same, and a counter
needs no time of its own. t0 moves in steps of 30 days, a multiple of every half-life, so moving
it multiplies by exact powers of two.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine import routine, signals
from engine.device import Device
from engine.module_counts import LOOK, USED, Cell, week_of
from engine.module_history import ModuleHistory, decay, join_histories, remember
from engine.push_history import PushHistory, acted, decided, hear, join_pushes
from engine.records import (
    CarryRecord,
    DecidedMoment,
    DecisionRecord,
    DeviceRecord,
    ImpressionRecord,
    InteractionRecord,
    MomentRecord,
    PushDecisionRecord,
    PushRecord,
    ShownItems,
    UserLogRecord,
    UserRecord,
)
from engine.times import DAY_MS, HOUR_MS, hour_of_week, local_day

FOLD_VERSION = 4
DAY_HALF_LIFE_MS = DAY_MS
MONTH_HALF_LIFE_MS = 30 * DAY_MS
LANDMARK_STEP_MS = 30 * DAY_MS
LANDMARK_REACH_MS = 500 * DAY_MS  # 2^500 is far below where doubles end

RECENT = 50
SEEN = 1000
SHOWN = 20  # impressions kept …
SHOWN_ITEMS = 400  # … and items in them all
SLATES = 3
PAGES = 6
DEVICES = 8
TIMELINE = 32  # changes of situation
SITUATED_S = 15 * 60  # so long after its signals a moment is that of an act
SURE = 0.5  # probability from which an act counts as done in a situation

TOUCH = struct.Struct("<IBIB")  # a Touch; TOUCHES reads the same bytes as an array
TOUCHES = np.dtype([("item", "<u4"), ("term", "u1"), ("at_s", "<u4"), ("situation", "u1")])
ITEM = struct.Struct("<I")


class Touch(NamedTuple):
    """One act on an item."""

    item: int  # dense id
    term: int  # of the action
    at_s: int
    situation: int  # number in situations.yaml, as believed when it happened; 0 is unknown


class Counter(msgspec.Struct, array_like=True, gc=False):
    """An exact total, and decayed values at the state's landmark."""

    total: int = 0
    day: float = 0.0
    month: float = 0.0


class ShownPage(msgspec.Struct, array_like=True, gc=False):
    """The modules of a slate that is a page, and how far down they were looked at."""

    modules: list[tuple[str, int]]  # from the top: id, and where its items end in the slate's
    situation: int
    segment: str
    part: int = 0
    looked_upto: int = 0
    used: list[int] = []  # modules in which something was done
    implied: list[int] = []  # items that acts alone say were seen


class Slate(msgspec.Struct, array_like=True, gc=False):
    """What a decision showed, and how far down acts on it say that it was seen."""

    decision_id: str
    items: list[int]  # dense ids, in slot order
    seen_upto: int = 0  # of a list
    told: bool = False  # an impression came: nothing is implied any more
    page: ShownPage | None = None


class Look(NamedTuple):
    """What one record says of a page."""

    upto: int  # modules from the top that were looked at
    acted: int | None  # the place of the module that was acted in


class Situated(msgspec.Struct, array_like=True):
    """What is believed of a person's situation, and what it usually is."""

    at_ms: int = 0  # of the signals
    belief: bytes = b""  # float16 [situations], by number
    activity: dict[str, float] = {}
    timeline: list[tuple[int, int, float]] = []  # (unix s, number, confidence) at each change
    routine: dict[int, bytes] = {}  # see engine.routine
    hour_of_week: int = 0  # local, of the belief
    models: str = ""  # version of those that read the signals
    doing: dict[str, float] = {}


class UserState(msgspec.Struct, array_like=True):
    """All that is known of a user. Encoded as it stands (MessagePack arrays)."""

    version: int = FOLD_VERSION
    steps: int = 0  # t0 in LANDMARK_STEP_MS since 1970; 0: no counter yet
    actions: dict[int, Counter] = {}  # by action term
    categories: dict[int, Counter] = {}  # by category term; decayed values are weighted
    recent: bytes = b""  # the last RECENT touches in log order, TOUCH each
    seen: bytes = b""  # items acted on that left `recent`, oldest touch first, ITEM each
    impressions: int = 0
    shown: list[tuple[int, list[int]]] = []  # (unix s, dense item ids), newest last
    slates: list[Slate] = []
    push: PushHistory | None = None
    devices: dict[str, tuple[int, Device]] = {}
    signals: dict[str, bytes] = {}  # device id -> what is remembered of it, see engine.signals
    situated: Situated | None = None
    attributes: dict[str, tuple[int, Any]] = {}  # value None: removed at that time
    first_s: int = 0  # of the earliest interaction, unix s
    last_s: int = 0  # of the latest interaction
    arrived_s: int = 0  # of the latest record folded
    alias_to: str | None = None
    aliases: list[str] = []  # ids that were joined into this one
    erased_ms: int = 0  # everything dated before is dropped
    position: int = 0  # in the log, of the last record folded
    modules: dict[str, ModuleHistory] = {}

    def blank(self) -> bool:
        """Whether nothing is known but, perhaps, an erasure or an alias."""
        return self.arrived_s == 0

    @property
    def landmark(self) -> int:
        """t0, unix ms."""
        return self.steps * LANDMARK_STEP_MS


encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(UserState).decode


def fold(state: UserState, record: UserLogRecord) -> list[Cell]:
    """Apply one record to its owner's state, in place; returns what it tells of modules."""
    state.arrived_s = max(state.arrived_s, record.arrived // 1000)
    step = _STEPS.get(type(record))
    if step is not None:
        step(state, record)
    if not isinstance(record, InteractionRecord | ImpressionRecord) or not state.slates:
        return []
    return _credit_modules(state, record)


def read_decayed(state: UserState, value: float, half_life_ms: int, at_ms: int) -> float:
    """A decayed value as it stands at `at_ms`."""
    return value * math.exp2(min(-(at_ms - state.landmark) / half_life_ms, 1000.0))


def touches(state: UserState) -> list[Touch]:
    """Recent acts on items in log order, newest last."""
    return list(map(Touch._make, TOUCH.iter_unpack(state.recent)))


def seen_items(state: UserState) -> list[int]:
    """Dense ids of items acted on, at most SEEN, oldest touch first, each once."""
    older = [item for (item,) in ITEM.iter_unpack(state.seen)]
    newer = dict.fromkeys(touch.item for touch in reversed(touches(state)))
    return (older + list(newer)[::-1])[-SEEN:]


def seen_array(state: UserState) -> NDArray[np.int32]:
    """Dense ids of items acted on, int32, some perhaps twice: what a mask needs."""
    recent = np.frombuffer(state.recent, TOUCHES)["item"]
    if not state.seen:
        return recent.astype(np.int32)
    return np.concatenate([np.frombuffer(state.seen, "<u4"), recent]).astype(np.int32)


def attribute(state: UserState, name: str) -> Any:
    """The value of a user attribute, None where there is none."""
    return state.attributes.get(name, (0, None))[1]


def time_zone(state: UserState) -> str | None:
    """The zone that the user's attributes name."""
    found = attribute(state, "time_zone")
    return found if isinstance(found, str) else None


def _interaction(state: UserState, r: InteractionRecord) -> None:
    at_s = r.ts // 1000
    state.last_s = max(state.last_s, at_s)
    state.first_s = min(state.first_s or at_s, at_s)
    day, month = _lift(state, r.ts)
    counter = _counter(state.actions, r.term)
    counter.total += 1
    counter.day += day
    counter.month += month
    for category in r.categories:
        counter = _counter(state.categories, category)
        counter.total += 1
        counter.day += r.weight * day
        counter.month += r.weight * month
    if r.item is not None:
        _touch(state, Touch(r.item, r.term, at_s, _situation_at(state, r.ts)))
        if r.decision_id is not None:
            _imply_seen(state, r.decision_id, r.item, at_s)
    if state.push is not None and state.push.trials:
        acted(state.push, r)
    if r.device is not None:
        _keep_device(state, r.ts, r.device)


def _impression(state: UserState, r: ImpressionRecord) -> None:
    items = [item for shown in r.shown for item in shown.items]
    slate = slate_of(state, r.decision_id)
    if slate is not None:
        implied = set(slate.items[: slate.seen_upto] if slate.page is None else slate.page.implied)
        items = [item for item in items if item not in implied]
        slate.told = True
    _show(state, r.ts // 1000, items)


def _decision(state: UserState, r: DecisionRecord) -> None:
    items = [slot.item for slot in sorted(r.slots, key=lambda slot: slot.position)]
    page = None
    if r.page is not None:
        ends = itertools.accumulate(module.items for module in r.page.placed)
        placed = [module.module_id for module in r.page.placed]
        page = ShownPage(
            list(zip(placed, ends, strict=True)), r.page.situation, r.page.segment, r.page.part
        )
    state.slates = _cap_slates([*state.slates, Slate(r.decision_id, items, page=page)])
    if r.device is not None:
        _keep_device(state, min(r.ts, r.known_ms), r.device)  # decided "as if" has no later device
        # Without a signal in its device it was read from what is believed already, and is no news.
        seen_ms = None if r.moment is None else r.moment.signals_ms(r.ts)
        if r.moment is not None and seen_ms is not None and r.ts <= r.known_ms:
            _believe(state, seen_ms, r.moment)


def _imply_seen(state: UserState, decision_id: str, item: int, at_s: int) -> None:
    """Without an impression, acting on an item says that all above it was seen."""
    for slate in state.slates:
        if slate.decision_id != decision_id or slate.told or item not in slate.items:
            continue
        if slate.page is not None:
            # How far a module's row was seen says nothing of the rows above.
            if item not in slate.page.implied:
                slate.page.implied.append(item)
                _show(state, at_s, [item])
            continue
        upto = slate.items.index(item) + 1
        if upto > slate.seen_upto:
            _show(state, at_s, slate.items[slate.seen_upto : upto])
            slate.seen_upto = upto


def _credit_modules(state: UserState, r: InteractionRecord | ImpressionRecord) -> list[Cell]:
    """Looks and acts that a record tells of, by module; the person's own history takes them in."""
    slate = slate_of(state, r.decision_id)
    if slate is None or slate.page is None:
        return []
    page, week = slate.page, week_of(r.ts)
    told = read_look(slate, r)
    counted = [(name, LOOK) for name, _ in page.modules[page.looked_upto : told.upto]]
    page.looked_upto = max(page.looked_upto, told.upto)
    if told.acted is not None and isinstance(r, InteractionRecord):
        name, _ = page.modules[told.acted]
        counted.append((name, r.term))
        if r.weight > 0 and told.acted not in page.used:
            page.used.append(told.acted)
            counted.append((name, USED))
    context = page.segment, page.situation, page.part, week
    cells = [Cell(name, *context, term) for name, term in counted]
    if cells:
        _, month = _lift(state, r.ts)
        day = local_day(r.ts, time_zone(state))
        remember(state.modules, cells, r.ts // 1000, day, month)
    return cells


def slate_of(state: UserState, decision_id: str | None) -> Slate | None:
    """What a decision showed, where it is kept still."""
    return next((s for s in state.slates if s.decision_id == decision_id), None)


def read_look(slate: Slate, r: InteractionRecord | ImpressionRecord) -> Look:
    """What a record that came of a page says of its modules.

    A page is looked at from the top (a cascade): whoever saw a module, or acted in it, looked at
    those above it. One below the last that was seen was not refused, and has no look.
    """
    names = [] if slate.page is None else [name for name, _ in slate.page.modules]
    if isinstance(r, ImpressionRecord):
        told = [[m.module_id] if m.module_id in names else _modules_of(slate, m) for m in r.shown]
        seen = [names.index(name) for row in told for name in row if name is not None]
        return Look(max(seen, default=-1) + 1, None)
    act = r.module_id if r.module_id in names else _module_of(slate, r.item)
    return Look(0, None) if act is None else Look(names.index(act) + 1, names.index(act))


def _modules_of(slate: Slate, shown: ShownItems) -> list[str | None]:
    return [_module_of(slate, item) for item in shown.items]


def _module_of(slate: Slate, item: int | None) -> str | None:
    """The module of a page that an item stands in."""
    if slate.page is None or item is None or item not in slate.items:
        return None
    place = slate.items.index(item)
    return next(name for name, end in slate.page.modules if place < end)


def _device(state: UserState, r: DeviceRecord) -> None:
    _keep_device(state, r.ts, r.device)


def _moment(state: UserState, r: MomentRecord) -> None:
    _believe(state, r.ts, r.moment)


def _believe(state: UserState, ts: int, told: DecidedMoment) -> None:
    """Take a moment in; one that is not newer than the last changes nothing, so twice is once."""
    kept = state.situated = state.situated or Situated()
    if ts <= kept.at_ms:
        return
    if kept.at_ms // HOUR_MS != ts // HOUR_MS and kept.belief:
        # An hour is a habit once it is over: until then it would count twice, as belief and habit.
        routine.add(kept.routine, kept.hour_of_week, np.frombuffer(kept.belief, np.float16))
    kept.at_ms, kept.models = ts, told.models
    kept.activity, kept.doing = told.activity, told.doing
    kept.belief = np.array(told.probabilities, np.float16).tobytes()
    kept.hour_of_week = told.weekday % 7 * 24 + int(told.hour) % 24
    last = kept.timeline[-1][1] if kept.timeline else 0
    if told.number != last:
        kept.timeline = [*kept.timeline, (ts // 1000, told.number, told.confidence)][-TIMELINE:]
    _situate(state, ts // 1000, told)


def _situate(state: UserState, at_s: int, told: DecidedMoment) -> None:
    """Acts that were folded before the moment they belong to: its record comes just after."""
    if told.confidence < SURE or not state.recent:
        return
    recent = np.frombuffer(state.recent, TOUCHES).copy()
    after = recent["at_s"].astype(np.int64) - at_s
    belongs = (recent["situation"] == 0) & (after >= 0) & (after <= SITUATED_S)
    if belongs.any():
        recent["situation"][belongs] = told.number
        state.recent = recent.tobytes()


def _situation_at(state: UserState, ts: int) -> int:
    """The situation in which an act happened; 0 where nothing is known of it."""
    kept = state.situated
    if kept is None or not 0 <= ts - kept.at_ms <= SITUATED_S * 1000:
        return 0
    belief = np.frombuffer(kept.belief, np.float16)
    top = int(belief.argmax())
    return top if belief[top] >= SURE else 0


def _user(state: UserState, r: UserRecord) -> None:
    msgspec.msgpack.encode(r.attributes)  # what no state can hold fails here, not in the commit
    for name, value in r.attributes.items():
        if r.ts >= state.attributes.get(name, (0, None))[0]:
            state.attributes[name] = (r.ts, value)


def _push(state: UserState, r: PushRecord) -> None:
    state.push = state.push or PushHistory()
    hear(state.push, r, hour_of_week(r.ts, time_zone(state)))


def _push_decision(state: UserState, r: PushDecisionRecord) -> None:
    if r.device is not None:
        _keep_device(state, min(r.ts, r.known_ms), r.device)
    if r.tells:
        state.push = state.push or PushHistory()
        decided(state.push, r)


def _carry(state: UserState, r: CarryRecord) -> None:
    join(state, decode_state(r.state))
    joined = dict.fromkeys([*state.aliases, *r.via])
    state.aliases = [name for name in joined if name != r.user_id]  # a circle came back


_STEPS: dict[type, Any] = {
    InteractionRecord: _interaction,
    ImpressionRecord: _impression,
    DecisionRecord: _decision,
    DeviceRecord: _device,
    MomentRecord: _moment,
    UserRecord: _user,
    PushRecord: _push,
    PushDecisionRecord: _push_decision,
    CarryRecord: _carry,
}


def join(state: UserState, other: UserState) -> None:
    """Add another state of the same person to `state`, in place."""
    if state.steps and other.steps:
        _move_landmark(state, max(state.steps, other.steps))
        _move_landmark(other, state.steps)
    state.steps = state.steps or other.steps
    for mine, theirs in ((state.actions, other.actions), (state.categories, other.categories)):
        for term, counter in theirs.items():
            sum_ = _counter(mine, term)
            sum_.total += counter.total
            sum_.day += counter.day
            sum_.month += counter.month
    _join_touches(state, other)
    state.impressions += other.impressions
    shown = sorted([*state.shown, *other.shown], key=lambda impression: impression[0])
    state.shown = _cap_shown(shown)
    state.slates = _cap_slates([*other.slates, *state.slates])
    if other.push is not None:
        state.push = state.push or PushHistory()
        join_pushes(state.push, other.push)
    join_histories(state.modules, other.modules)
    for device_id, (ts, device) in other.devices.items():
        if device_id not in state.devices or ts > state.devices[device_id][0]:
            _put_device(state, ts, device, device_id, other.signals.get(device_id, b""))
    _join_situated(state, other)
    for name, (ts, value) in other.attributes.items():
        if name not in state.attributes or ts > state.attributes[name][0]:
            state.attributes[name] = (ts, value)
    if other.first_s and (other.first_s < state.first_s or not state.first_s):
        state.first_s = other.first_s
    state.last_s = max(state.last_s, other.last_s)
    state.aliases = list(dict.fromkeys([*state.aliases, *other.aliases]))


def _join_touches(state: UserState, other: UserState) -> None:
    merged = sorted([*touches(other), *touches(state)], key=lambda touch: touch.at_s)
    older = [item for packed in (other.seen, state.seen) for (item,) in ITEM.iter_unpack(packed)]
    older += [touch.item for touch in merged[:-RECENT]]
    kept = merged[-RECENT:]
    recent = {touch.item for touch in kept}
    seen = [item for item in dict.fromkeys(reversed(older)) if item not in recent][:SEEN]
    state.recent = b"".join(TOUCH.pack(*touch) for touch in kept)
    state.seen = b"".join(ITEM.pack(item) for item in reversed(seen))


def _join_situated(state: UserState, other: UserState) -> None:
    """The newer belief stands; hours of either are habits of the one person."""
    mine, theirs = state.situated, other.situated
    if theirs is None:
        return
    if mine is None:
        state.situated = theirs
        return
    newer, older = (mine, theirs) if mine.at_ms >= theirs.at_ms else (theirs, mine)
    newer.timeline = sorted([*newer.timeline, *older.timeline])[-TIMELINE:]
    newer.routine = older.routine | newer.routine
    state.situated = newer


def _lift(state: UserState, ts: int) -> tuple[float, float]:
    """2^((ts − t0)/half-life) for both half-lives; moves the landmark when ts is far past it."""
    if not state.steps:
        state.steps = max(ts // LANDMARK_STEP_MS, 1)
    elif ts - state.landmark > LANDMARK_REACH_MS:
        _move_landmark(state, ts // LANDMARK_STEP_MS)
    age = ts - state.landmark
    return math.exp2(age / DAY_HALF_LIFE_MS), math.exp2(age / MONTH_HALF_LIFE_MS)


def _move_landmark(state: UserState, steps: int) -> None:
    days = (steps - state.steps) * LANDMARK_STEP_MS // DAY_MS
    for counters in (state.actions, state.categories):
        for counter in counters.values():
            counter.day = math.ldexp(counter.day, -days)
            counter.month = math.ldexp(counter.month, -(days // 30))
    decay(state.modules, 2.0 ** -(days // 30))
    state.steps = steps


def _counter(counters: dict[int, Counter], term: int) -> Counter:
    counter = counters.get(term)
    if counter is None:
        counter = counters[term] = Counter()
    return counter


def _touch(state: UserState, touch: Touch) -> None:
    key = ITEM.pack(touch.item)
    if state.seen and (found := _find(state.seen, key, ITEM.size)) >= 0:
        state.seen = state.seen[:found] + state.seen[found + ITEM.size :]
    recent = state.recent + TOUCH.pack(*touch)
    if len(recent) > RECENT * TOUCH.size:
        oldest, recent = recent[: ITEM.size], recent[TOUCH.size :]
        if _find(recent, oldest, TOUCH.size) < 0:
            state.seen = (state.seen + oldest)[-SEEN * ITEM.size :]
    state.recent = recent


def _find(packed: bytes, key: bytes, width: int) -> int:
    """Where a record of `width` bytes that begins with `key` starts, or −1."""
    found = packed.find(key)
    while found >= 0 and found % width:
        found = packed.find(key, found + 1)
    return found


def _show(state: UserState, at_s: int, items: list[int]) -> None:
    if items:
        state.impressions += len(items)
        state.shown = _cap_shown([*state.shown, (at_s, items)])


def _cap_shown(shown: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    kept = shown[-SHOWN:]
    size = sum(len(items) for _, items in kept)
    while len(kept) > 1 and size > SHOWN_ITEMS:
        size -= len(kept.pop(0)[1])
    return kept


def _cap_slates(slates: list[Slate]) -> list[Slate]:
    """The last SLATES; of pages some more, since what comes of a module comes late."""
    older = [slate for slate in slates[:-SLATES] if slate.page is not None]
    return older[SLATES - PAGES :] + slates[-SLATES:]


def _keep_device(state: UserState, ts: int, device: Device) -> None:
    """Keep the newest state of each device, and what its signals were like lately."""
    name = device.device_id or ""
    if name in state.devices and ts < state.devices[name][0]:
        return
    memory = signals.remember(state.signals.get(name, b""), ts / 1000, signals.quantities(device))
    _put_device(state, ts, device, name, memory)


def _put_device(state: UserState, ts: int, device: Device, name: str, memory: bytes) -> None:
    if device.motion is not None:  # a raw window is for the moment only
        device = msgspec.structs.replace(device, motion=None)
    state.devices[name] = (ts, device)
    state.signals[name] = memory
    if len(state.devices) > DEVICES:
        oldest = min(state.devices, key=lambda known: state.devices[known][0])
        del state.devices[oldest]
        state.signals.pop(oldest, None)
