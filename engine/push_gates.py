"""What forbids a message now, until when, or for good. Gates come after scoring, and never lose.

never       switched off, seen on the page, in the group that gets none, not due before it expires
until       caps, minimum gap, not before, digest, the phone's and the person's state
every day   quiet hours, by the clock where the person is
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.device import Device
from engine.push_ahead import (
    MINUTE_MS,
    SOON_MS,
    Minutes,
    is_within,
    leave,
    minute_of_day,
    next_minute,
    widen,
)
from engine.push_file import STRETCH_MS, Cap, PushFile, minute_of, read_quiet_hours
from engine.push_ledger import Send
from engine.push_message import SLOT_MS, Message
from engine.situation import Moment, newest_device
from engine.state import UserState, attribute, time_zone
from engine.times import zone

FRESH_MS = 30 * MINUTE_MS  # so long a phone's and a person's state is taken for the one now
CLOCKS_MS = 10 * MINUTE_MS  # two clocks, one ahead and one behind, each as far as is taken
TRAVEL_MS = 14 * 24 * 60 * MINUTE_MS  # … and so long a phone's zone for where the person is
DIGEST_MIN = 30  # so long after its time a digest may still go out


@dataclass(frozen=True, slots=True)
class Barrier:
    """One thing that a message waits for."""

    gate: str
    until_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Gates:
    """All that stands in a message's way, now and in the days to come."""

    zone: str
    never: Barrier | None  # `until_ms` means nothing
    barriers: tuple[Barrier, ...]
    quiet: Minutes | None  # of the local day, margins and all
    digest_at: int | None  # minute of the local day; None: goes out by itself

    @property
    def open_ms(self) -> int:
        """When the last barrier falls; quiet hours and digests come on top."""
        return max((barrier.until_ms for barrier in self.barriers), default=0)

    def opens(self, at_ms: int) -> int:
        """The first moment from then on that all gates are open."""
        at_ms = max(at_ms, self.open_ms)
        for _ in range(3):
            before = at_ms
            if self.digest_at is not None:
                stretch = self.digest_at, (self.digest_at + DIGEST_MIN) % 1440
                if not is_within(minute_of_day(self.zone, at_ms), stretch):
                    at_ms = next_minute(self.zone, at_ms, self.digest_at)
            if self.quiet is not None:
                at_ms = leave(self.zone, at_ms, self.quiet)
            if at_ms == before:
                break
        return at_ms

    def closed_by(self, at_ms: int) -> Barrier | None:
        """What stands in the way at a time, the one that lasts longest; None: nothing."""
        if self.never is not None:
            return self.never
        standing = [barrier for barrier in self.barriers if barrier.until_ms > at_ms]
        opens = self.opens(at_ms)
        last = max(standing, key=lambda barrier: barrier.until_ms, default=None)
        if last is not None and last.until_ms >= opens:
            return last
        if opens == at_ms:
            return None
        if self.quiet is not None and leave(self.zone, at_ms, self.quiet) > at_ms:
            return Barrier("quiet_hours", opens, "quiet hours")
        if self.digest_at is not None:
            return Barrier("digest", opens, "goes out with the day's digest")
        return last or Barrier("quiet_hours", opens, "quiet hours")

    def behind_itself(self, before: Send) -> Gates:
        """The gates of a message that was let go before: it went out, or it still may."""
        if not before.until_ms:
            return replace(self, never=Barrier("sent", 0, "it went out already"))
        text = "it was let go before, and whoever sends it may be late"
        barrier = Barrier("reserved", before.until_ms, text)
        return replace(self, barriers=(*self.barriers, barrier))

    def reserved_until(self, at_ms: int, expires_ms: int, file: PushFile) -> int:
        """How long what is let go now may take to go out: never into quiet hours or past expiry."""
        until = min(at_ms + round(file.reserve_min * MINUTE_MS), expires_ms)
        if self.quiet is not None:
            until = min(until, next_minute(self.zone, at_ms, self.quiet[0]))
            while until > at_ms and leave(self.zone, until, self.quiet) > until:
                until -= MINUTE_MS
        return max(until, at_ms + 1)


def find_gates(
    state: UserState,
    sends: Sequence[Send],
    message: Message,
    device: Device | None,
    moment: Moment,
    file: PushFile,
    item: int | None = None,
    held_out: bool = False,
) -> Gates:
    """The gates of one message; `sends` are those that count (push_ledger.settled)."""
    passed = file.passed(message.urgency, message.channel)
    name = where(state, device, moment.at_ms, file)
    never = _never(state, message, moment.at_ms, file, item, held_out, passed)
    digest = "digest" not in passed and _wants_digest(state, message)
    barriers = _sent(sends, message, moment.at_ms, file, passed, digest)
    barriers += _now(state, device, moment, file, passed)
    quiet = None if "quiet_hours" in passed else quiet_hours(state, file)
    digest_at = _digest_at(file, quiet) if digest else None
    return Gates(name, never, tuple(barriers), quiet, digest_at)


def sent_barriers(
    sends: Sequence[Send], message: Message, gates: Gates, at_ms: int, file: PushFile
) -> list[Barrier]:
    """What messages that went out, or are let go now, keep a message from."""
    passed = file.passed(message.urgency, message.channel)
    return _sent(sends, message, at_ms, file, passed, gates.digest_at is not None)


def where(state: UserState, device: Device | None, at_ms: int, file: PushFile) -> str:
    """The time zone a person is in: of the phone heard of last, else of their attributes."""
    ahead_ms = at_ms + CLOCKS_MS  # a phone's clock may be: what it told counts at once
    told = None if device is None else (device.captured_at or ahead_ms, device)
    known = [
        (heard_ms, one.time_zone)
        for heard_ms, one in filter(None, (told, newest_device(state, ahead_ms)))
        if at_ms - heard_ms <= TRAVEL_MS and one.time_zone and zone(one.time_zone) is not None
    ]
    if known:
        return max(known, key=lambda one: one[0])[1]
    home = time_zone(state)
    return home if home and zone(home) is not None else file.time_zone


def quiet_hours(state: UserState, file: PushFile) -> Minutes | None:
    """The person's own, else the file's, with the margins for clocks that differ."""
    own = read_quiet_hours(attribute(state, "quiet_hours"))
    found = own or (None if file.quiet_hours is None else file.quiet_hours.minutes)
    return None if found is None else widen(found, file.clocks_differ_min)


def room(sends: Sequence[Send], message: Message, cap: Cap, at_ms: int) -> int | None:
    """How many more a cap lets through now; None where it is not about such a message."""
    group = _group(sends, message, cap)
    return None if group is None else cap.most - len(_in_stretch(group, cap, at_ms))


def _never(
    state: UserState,
    message: Message,
    at_ms: int,
    file: PushFile,
    item: int | None,
    held_out: bool,
    passed: frozenset[str],
) -> Barrier | None:
    switched = {} if state.push is None else state.push.switched
    if message.channel == "push" and not switched.get("", (0, True))[1]:
        return Barrier("opted_out", 0, "the person switched pushes off")
    if "preferences" not in passed and _off(state, message.category):
        text = f"the person switched {message.category} off"
        return Barrier("preferences", 0, text)
    if held_out and "holdout" not in passed:
        return Barrier("holdout", 0, "one of the people who get no messages, for comparison")
    seen = None if item is None or "seen" in passed else _seen(state, item, at_ms, file)
    if seen is not None:
        return Barrier("seen", 0, f"its item was on the person's page {_ago(seen)} ago")
    return None


def _off(state: UserState, category: str) -> bool:
    switched = {} if state.push is None else state.push.switched
    listed = attribute(state, "push_off")
    if isinstance(listed, list) and category in listed:
        return True
    return not switched.get(category, (0, True))[1]


def _digest_at(file: PushFile, quiet: Minutes | None) -> int:
    """Minute of the local day; one within quiet hours goes out after them."""
    at = minute_of(file.digest_at)
    if quiet is not None and is_within(at, quiet) and is_within((at + DIGEST_MIN) % 1440, quiet):
        return quiet[1]
    return at


def _wants_digest(state: UserState, message: Message) -> bool:
    told = attribute(state, "push_digest")
    return told is True or (isinstance(told, list) and message.category in told)


def _seen(state: UserState, item: int, at_ms: int, file: PushFile) -> int | None:
    """Milliseconds since the item was last shown, where that is lately."""
    times = [at_s for at_s, items in state.shown if item in items]
    ago = at_ms - max(times, default=0) * 1000
    return ago if 0 <= ago < file.seen_h * 60 * MINUTE_MS else None


def _sent(
    sends: Sequence[Send],
    message: Message,
    at_ms: int,
    file: PushFile,
    passed: frozenset[str],
    digest: bool,
) -> list[Barrier]:
    found = []
    if message.not_before_ms > at_ms:
        found.append(Barrier("not_before", message.not_before_ms, "not due yet"))
    if "caps" not in passed:
        found += [one for cap in file.caps if (one := _capped(sends, message, cap, at_ms, digest))]
    alike = [send for send in sends if send.channel == message.channel]
    if digest:  # what goes out in one digest goes out together
        alike = [send for send in alike if not _joins(send, at_ms)]
    if "gap" not in passed and alike and file.gap_min:
        last = alike[-1]
        free_ms = last.at_ms + round(file.gap_min * MINUTE_MS)
        if free_ms > at_ms:
            ago = f"{_ago(at_ms - last.at_ms)} ago, {file.gap_min:g} min apart at least"
            text = f"another message went out {ago}"
            found.append(Barrier("gap", free_ms, text))
    return found


def _capped(
    sends: Sequence[Send], message: Message, cap: Cap, at_ms: int, digest: bool
) -> Barrier | None:
    if len(sends) < cap.most:
        return None
    group = _group(sends, message, cap)
    if group is None or (digest and any(_joins(send, at_ms) for send in group)):
        return None
    counted = _in_stretch(group, cap, at_ms)
    if len(counted) < cap.most:
        return None
    if cap.most == 0:
        return Barrier("caps", 1 << 62, f"{cap.says()}: none may go out")
    free_ms = counted[-cap.most] + STRETCH_MS[cap.per]
    return Barrier("caps", free_ms, f"{cap.says()} reached")


def _group(sends: Sequence[Send], message: Message, cap: Cap) -> list[Send] | None:
    """The sends that a cap counts beside such a message; None where it is not about it."""
    if cap.only and message.category not in cap.only:
        return None
    if cap.of == "campaign" and message.campaign_id is None:
        return None
    found = [send for send in sends if send.channel == message.channel]
    if cap.only:
        found = [send for send in found if send.category in cap.only]
    if cap.of == "category":
        return [send for send in found if send.category == message.category]
    if cap.of == "campaign":
        return [send for send in found if send.campaign_id == message.campaign_id]
    return found


def _in_stretch(group: Sequence[Send], cap: Cap, at_ms: int) -> list[int]:
    """Times that count, oldest first; one digest counts once."""
    since = at_ms - STRETCH_MS[cap.per]
    lately = [send for send in group if send.at_ms > since]
    digests: dict[int, int] = {}  # slot -> when the last of it went out
    for send in lately:
        if send.digest:
            slot = send.at_ms // SLOT_MS
            digests[slot] = max(send.at_ms, digests.get(slot, 0))
    return sorted([*digests.values(), *(send.at_ms for send in lately if not send.digest)])


def _joins(send: Send, at_ms: int) -> bool:
    return send.digest and send.at_ms // SLOT_MS == at_ms // SLOT_MS


def _now(
    state: UserState,
    device: Device | None,
    moment: Moment,
    file: PushFile,
    passed: frozenset[str],
) -> list[Barrier]:
    """What the phone and the person are at forbids the moment, and is looked at again soon."""
    found, soon = [], moment.at_ms + SOON_MS
    if "ringer" not in passed:
        ringer = _ringer(state, device, moment.at_ms)
        if ringer in file.ringer:
            found.append(Barrier("ringer", soon, f"the phone is on {ringer}"))
    if "situation" not in passed:
        for name, least in file.hold_while.items():
            sure = likelihood(moment, name)
            if sure is not None and sure >= least:
                text = f"{name.replace('_', ' ')}, {sure:.0%} sure"
                found.append(Barrier("situation", soon, text))
    return found


def _ringer(state: UserState, device: Device | None, at_ms: int) -> str | None:
    """What a phone told last, if that is not long ago; a request may come with an old state."""
    told = None if device is None else (device.captured_at or at_ms, device)
    known = [
        (heard_ms, one.ringer)
        for heard_ms, one in filter(None, (told, newest_device(state, at_ms)))
        if one.ringer is not None and at_ms - heard_ms <= FRESH_MS
    ]
    return max(known, key=lambda one: one[0])[1] if known else None


def likelihood(moment: Moment, name: str) -> float | None:
    """How likely a situation, an activity or a doing is now; None where nothing tells."""
    if name == moment.name:
        return moment.confidence
    fresh = moment.age_s is not None and moment.age_s * 1000 <= FRESH_MS
    if fresh and name in moment.activity:
        return moment.activity[name]
    return moment.doing.get(name) if fresh else None


def _ago(ms: int) -> str:
    minutes = max(ms // MINUTE_MS, 0)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
