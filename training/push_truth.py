"""What must hold of pushes that were let go, counted by somebody who knows nothing of the gates.

The rules are read from the operator's YAML itself; local time is `zoneinfo`'s, a cap is a loop over
what went out before. It shares no code with the engine. All times are the true ones, unix ms, which
no caller's clock changes; `began` and `ended` are one monotonic clock's seconds around a call.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
STRETCHES_MS = {"hour": HOUR_MS, "day": 24 * HOUR_MS, "week": 168 * HOUR_MS, "month": 672 * HOUR_MS}
QUARTER_MS = 15 * MINUTE_MS
NEVER = float("inf")
KINDS = (
    "caps",
    "gap",
    "quiet_hours",
    "opted_out",
    "preferences",
    "expired",
    "not_before",
    "sent_twice",
    "other_answer",
)


@dataclass(slots=True)
class Fact:
    """Something about a person that changes; each change takes from `began` to `ended` to hold."""

    changes: list[tuple[float, float, Any]]

    def change(self, began: float, ended: float, value: Any) -> None:
        self.changes.append((began, ended, value))

    def during(self, began: float, ended: float) -> list[Any]:
        """What it may have been for a call: what held when it began, and what came meanwhile."""
        before = [value for _, done, value in self.changes if done <= began]
        meanwhile = [value for start, done, value in self.changes if done > began and start < ended]
        return before[-1:] + meanwhile


@dataclass(slots=True)
class Facts:
    """A person, as they are told of."""

    zone: Fact
    quiet: Fact  # their own hours, "22:00-07:00", or None
    on: dict[str, Fact]  # category, "" for all of them -> switched on
    digest: bool = False  # asked for one


@dataclass(slots=True)
class Grant:
    """A message that was let go, or that somebody else sent (`foreign`), and what became of it."""

    user_id: str
    message_id: str
    category: str
    campaign: str | None
    channel: str
    urgency: str
    at_ms: int
    told_ms: int  # by the clock of who asked
    until_ms: int
    began: float
    ended: float
    not_before_ms: int = 0
    expires_ms: int = 1 << 62
    zone_told: str | None = None  # of the device that came with the question
    foreign: bool = False
    went_ms: int | None = None
    released: float = NEVER  # from here on it may be known to have failed …
    failed: float = NEVER  # … and from here on it is
    reported: float = NEVER  # … it is known to have gone out
    decision_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the service, sends among them."""

    user_id: str
    message_id: str
    decision_id: str
    action: str
    told_ms: int
    began: float
    ended: float
    repeated: bool
    expires_ms: int  # the message
    holds_until_ms: int  # a hold or a send, by the clock of who asks


@dataclass(slots=True)
class Breach:
    """What did not hold, to be printed."""

    kind: str
    what: str


@dataclass(slots=True)
class Course:
    """All that happened under one push.yaml; clocks of callers are off by up to `skew_ms`."""

    policy: dict[str, Any]
    skew_ms: int
    people: dict[str, Facts] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def breaches(course: Course) -> list[Breach]:
    """Everything that did not hold."""
    found: list[Breach] = []
    by_user: dict[str, list[Grant]] = defaultdict(list)
    for grant in course.grants:
        by_user[grant.user_id].append(grant)
    for user_id, grants in by_user.items():
        facts = course.people[user_id]
        grants.sort(key=lambda one: (one.at_ms, one.ended))
        for place, grant in enumerate(grants):
            if grant.foreign:
                continue
            kinds = [*_switched(course, facts, grant), *_timed(course, facts, grant)]
            kinds += _counted(course, facts, grant, grants[:place])
            told = f"{user_id} {grant.message_id} at {_utc(grant.at_ms)}"
            found += [Breach(kind, f"{told}: {what}") for kind, what in kinds]
        found += _twice(user_id, grants, course.skew_ms)
    return found + _other_answers(course)


def passed(policy: dict[str, Any], grant: Grant) -> frozenset[str]:
    """The gates that such a message need not wait for."""
    passes = policy.get("passes", {})
    return frozenset([*passes.get(grant.urgency, []), *passes.get(grant.channel, [])])


def is_quiet(zone: str, at_ms: int, hours: str) -> bool:
    """Whether the local clock shows a time in hours such as 22:00-07:00."""
    local = datetime.fromtimestamp(at_ms / 1000, _zone(zone))
    now = f"{local:%H:%M}"
    start, _, end = hours.partition("-")
    return start <= now < end if start < end else now >= start or now < end


@functools.cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _switched(course: Course, facts: Facts, grant: Grant) -> Iterator[tuple[str, str]]:
    def off(name: str) -> bool:
        known = facts.on.get(name)
        return known is not None and not any(known.during(grant.began, grant.ended))

    if grant.channel == "push" and off(""):
        yield "opted_out", "switched off"
    if "preferences" not in passed(course.policy, grant) and off(grant.category):
        yield "preferences", f"{grant.category} switched off"


def _timed(course: Course, facts: Facts, grant: Grant) -> Iterator[tuple[str, str]]:
    """Quiet from the moment it is let go until it may go out no more; expiry; not before."""
    if grant.at_ms >= grant.expires_ms + course.skew_ms:
        yield "expired", f"since {_utc(grant.expires_ms)}"
    if grant.until_ms > grant.expires_ms:
        yield "expired", f"reserved for longer than until {_utc(grant.expires_ms)}"
    if grant.at_ms < grant.not_before_ms - course.skew_ms:
        yield "not_before", f"not due before {_utc(grant.not_before_ms)}"
    if "quiet_hours" in passed(course.policy, grant):
        return
    zones = facts.zone.during(grant.began, grant.ended)
    told = [grant.zone_told] if grant.zone_told is not None else zones
    hours = [own or _of_file(course.policy) for own in facts.quiet.during(grant.began, grant.ended)]
    loudest = min(
        ([at for at in _moments(grant, course.skew_ms) if quiet and is_quiet(zone, at, quiet)]
         for zone in told for quiet in hours),
        key=len,
    )  # fmt: skip
    if loudest:
        yield "quiet_hours", f"{told} {hours} {_utc(loudest[0])}, until {_utc(grant.until_ms)}"


def _of_file(policy: dict[str, Any]) -> str | None:
    hours = policy.get("quiet_hours")
    return f"{hours['from']}-{hours['until']}" if hours else None


def _moments(grant: Grant, skew_ms: int) -> list[int]:
    """When it may go out, by clocks that are off: every minute up to an hour, at most 60."""
    last = grant.until_ms + skew_ms
    step = max(MINUTE_MS, (last - grant.at_ms) // 60)
    return [*range(grant.at_ms, last, step), last]


def _counted(
    course: Course, facts: Facts, grant: Grant, before: Sequence[Grant]
) -> Iterator[tuple[str, str]]:
    """Caps and the gap, over what was let go before and did not fail."""
    gates = passed(course.policy, grant)
    margin = 2 * course.skew_ms  # two clocks that are off to either side
    alike = [
        one
        for one in before
        if one.channel == grant.channel and _counts(one, grant, course.skew_ms)
    ]

    def waits(one: Grant, gate: str) -> bool:
        # Of those let go at one time, what need not wait may have been the later one.
        return one.at_ms < grant.at_ms or gate not in passed(course.policy, one)

    digest = facts.digest and "digest" not in gates

    def together(one: Grant) -> bool:
        of_digest = facts.digest and "digest" not in passed(course.policy, one)
        same = one.told_ms // QUARTER_MS == grant.told_ms // QUARTER_MS
        return digest and of_digest and not one.foreign and same

    gap_ms = round(course.policy.get("gap_min", 0) * MINUTE_MS) - margin
    close = [
        one
        for one in alike
        if grant.at_ms - one.at_ms < gap_ms and not together(one) and waits(one, "gap")
    ]
    if "gap" not in gates and close:
        yield "gap", f"{(grant.at_ms - close[-1].at_ms) / MINUTE_MS:.1f} min after another"
    for cap in course.policy.get("caps", []) if "caps" not in gates else []:
        group = _group([one for one in alike if waits(one, "caps")], grant, cap)
        since = grant.at_ms - STRETCHES_MS[cap["per"]] + margin
        lately = [one for one in group if one.at_ms > since]
        maybe = [one for one in before if one.channel == grant.channel and one.failed > grant.began]
        if any(together(one) for one in _group(maybe, grant, cap)):
            continue  # a digest goes out anyway, and takes it along
        if len(_as_one(course, facts, lately)) >= cap["most"] and _about(grant, cap):
            who = "a digest" if digest else "no digest"
            yield "caps", f"{cap}, {who}: {[_utc(one.at_ms) for one in lately]}"


def _counts(one: Grant, grant: Grant, skew_ms: int) -> bool:
    """Whether an earlier one went out, or still might when another was asked for."""
    if one.foreign:
        return one.ended <= grant.began  # who asks cannot know of it before
    if one.reported <= grant.began:
        return True
    # The clock of who sends may be behind.
    return grant.at_ms < one.until_ms + skew_ms and grant.ended <= one.released


def _about(grant: Grant, cap: dict[str, Any]) -> bool:
    if cap.get("only") and grant.category not in cap["only"]:
        return False
    return cap.get("of") != "campaign" or grant.campaign is not None


def _group(alike: Sequence[Grant], grant: Grant, cap: dict[str, Any]) -> list[Grant]:
    of = cap.get("of", "all")
    return [
        one
        for one in alike
        if (not cap.get("only") or one.category in cap["only"])
        and (of != "category" or one.category == grant.category)
        and (of != "campaign" or one.campaign == grant.campaign)
    ]


def _as_one(course: Course, facts: Facts, some: Iterable[Grant]) -> set[object]:
    """Those that count: what goes out in one digest counts once."""
    found: set[object] = set()
    for place, one in enumerate(some):
        digest = facts.digest and not one.foreign and "digest" not in passed(course.policy, one)
        found.add(("digest", one.told_ms // QUARTER_MS) if digest else place)
    return found


def _twice(user_id: str, grants: Sequence[Grant], skew_ms: int) -> Iterator[Breach]:
    went: dict[str, Grant] = {}
    for one in grants:
        before = went.get(one.message_id)
        if one.went_ms is None:
            continue
        if before is not None and _counts(before, one, skew_ms):
            times = f"{_utc(before.went_ms or 0)} and {_utc(one.went_ms)}"
            yield Breach("sent_twice", f"{user_id} {one.message_id}: {times}")
        went[one.message_id] = one


def sent_again(course: Course) -> int:
    """Messages that went out more than once, whoever knew of it."""
    went = Counter(
        (one.user_id, one.message_id) for one in course.grants if one.went_ms is not None
    )
    return sum(times > 1 for times in went.values())


def _other_answers(course: Course) -> list[Breach]:
    """Fresh decisions on what was decided, and decisions that are told of differently."""
    told: dict[str, tuple[str, str, str]] = {}
    fresh: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    found = []
    for one in course.answers:
        said = one.user_id, one.message_id, one.action
        if told.setdefault(one.decision_id, said) != said:
            found.append(Breach("other_answer", f"{one.decision_id} is {told[one.decision_id]}"))
        if not one.repeated:
            fresh[one.user_id, one.message_id].append(one)
    of = {grant.decision_id: grant for grant in course.grants}
    for (user_id, message_id), some in fresh.items():
        some.sort(key=lambda one: one.ended)
        for place in range(1, len(some)):
            before, after = some[place - 1 : place + 1]
            if _may_follow(before, after, of):
                continue
            if after.began < before.ended and _may_follow(after, before, of):
                some[place - 1 : place + 1] = after, before  # so they were decided
                continue
            what = f"{user_id} {message_id}: {_answered(before)}, then {_answered(after)}"
            found.append(Breach("other_answer", what))
    return found


def _answered(one: Answer) -> str:
    times = f"{one.began:.3f} to {one.ended:.3f}"
    return f"{one.action} at {_utc(one.told_ms)} until {_utc(one.holds_until_ms)} ({times})"


def _may_follow(before: Answer, after: Answer, of: dict[str, Grant]) -> bool:
    """Whether one decision may come after another on the same message."""
    if after.told_ms >= before.expires_ms:
        return True
    if before.action == "drop":
        return False
    if after.told_ms >= before.holds_until_ms:
        return before.action == "hold" or not of[before.decision_id].reported <= after.began
    return before.action == "send" and of[before.decision_id].released < after.ended


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")[:19] + "Z"
