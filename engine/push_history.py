"""What became of a person's messages, and what they do with and without one: part of their state.

A trial is a message that a fair coin sent or left out (engine.push_choice). Once its time is over
it is known whether the person reached the goal: from both arms, how much messages change for this
person. How an unfair coin falls goes by hour and situation, which would pass for what messages do:
its messages teach models, which know its chances, and do not count here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from engine.records import InteractionRecord, PushDecisionRecord, PushRecord

HEARD = 100  # messages heard of; no cap may be higher
PUSHED = 20  # items that messages were about
TRIALS = 20  # that are not over yet
PROMPT_S = 1800  # an open this soon was the message's doing; later ones are often a visit anyway
SOON_S = 3600  # whoever was brought by a message has mostly come by then
# Places of an arm's counts; those of the arm that was left out follow after ARM_COUNTS.
TRIED, REACHED, SOON = range(3)
ARM_COUNTS = 3
# Of two things told of a message, the later one here holds: what was seen did not fail.
_FURTHER = ("sent", "failed", "delivered", "dismissed", "opened")


class Heard(NamedTuple):
    """What was told of a message: the furthest it came, and when it went out or failed."""

    message_id: str
    category: str | None
    status: str
    at_s: int  # unix s


class Trial(NamedTuple):
    """A coin's message whose goal may still be reached."""

    since_s: int
    until_s: int
    action: str  # that reaches the goal
    sent: bool
    reached: bool = False
    soon: bool = False  # reached within SOON_S


class PushHistory(msgspec.Struct, array_like=True):
    """What became of the messages to this user."""

    totals: dict[str, int] = {}  # by status
    opens: dict[int, int] = {}  # by hour of the local week
    recent: list[Heard] = []  # each message once, the one heard of latest at the end
    switched: dict[str, tuple[int, bool]] = {}  # category ("" is all) -> since, enabled
    pushed: list[tuple[int, int]] = []  # items of messages let go: dense id, unix s
    trials: list[Trial] = []  # oldest first
    arms: list[int] = []  # of trials that are over: the sent ones' counts, the others'
    prompt: int = 0  # messages opened within PROMPT_S of being sent


def hear(push: PushHistory, r: PushRecord, hour_of_week: int) -> None:
    """Take in what was told of a message, or of a switch."""
    push.totals[r.status] = push.totals.get(r.status, 0) + 1
    if r.status in ("enabled", "disabled"):
        since, _ = push.switched.get(r.category or "", (0, True))
        if r.ts >= since:
            push.switched[r.category or ""] = (r.ts, r.status == "enabled")
        return
    news = Heard(r.message_id, r.category, r.status, r.ts // 1000)
    push.prompt += _promptly(push.recent, news)
    push.recent = _heard(push.recent, news)
    if r.status == "opened":
        push.opens[hour_of_week] = push.opens.get(hour_of_week, 0) + 1


def decided(push: PushHistory, r: PushDecisionRecord) -> None:
    """Take in a message that was let go, or that a coin left out."""
    decision, at_s = r.decision, r.ts // 1000
    # What is measured is left alone on the page, or its effect would be another.
    if r.item is not None and decision.action == "send" and not decision.measured:
        push.pushed = [*push.pushed, (r.item, at_s)][-PUSHED:]
    if not r.fairly_tried:
        return
    goal = r.message.goal
    trial = Trial(at_s, at_s + round(goal.within_h * 3600), goal.action, decision.action == "send")
    push.arms = arms_at(push, at_s)
    push.trials = [*(one for one in push.trials if one.until_s >= at_s), trial][-TRIALS:]


def acted(push: PushHistory, r: InteractionRecord) -> None:
    """Take in an act that may be the goal of trials."""
    at_s = r.ts // 1000
    push.trials = [
        one._replace(reached=True, soon=one.soon or at_s <= one.since_s + SOON_S)
        if one.action == r.action and one.since_s <= at_s <= one.until_s
        else one
        for one in push.trials
    ]


def arms_at(push: PushHistory, at_s: int) -> list[int]:
    """int [2 · ARM_COUNTS]: what is known of both arms at a time."""
    found = list(push.arms) or [0] * (2 * ARM_COUNTS)
    for trial in push.trials:
        if trial.until_s < at_s:
            arm = 0 if trial.sent else ARM_COUNTS
            found[arm + TRIED] += 1
            found[arm + REACHED] += trial.reached
            found[arm + SOON] += trial.soon
    return found


def join_pushes(push: PushHistory, other: PushHistory) -> None:
    """Add another history of the same person, in place."""
    for status, total in other.totals.items():
        push.totals[status] = push.totals.get(status, 0) + total
    for hour, total in other.opens.items():
        push.opens[hour] = push.opens.get(hour, 0) + total
    for heard in other.recent:
        push.recent = _heard(push.recent, heard)
    push.recent = sorted(push.recent, key=lambda heard: heard.at_s)[-HEARD:]
    for category, (since, enabled) in other.switched.items():
        if since > push.switched.get(category, (0, True))[0]:
            push.switched[category] = (since, enabled)
    push.pushed = sorted([*other.pushed, *push.pushed], key=lambda one: one[1])[-PUSHED:]
    push.trials = sorted([*other.trials, *push.trials])[-TRIALS:]
    push.prompt += other.prompt
    if other.arms:
        push.arms = [
            a + b for a, b in zip(push.arms or [0] * len(other.arms), other.arms, strict=True)
        ]


def _promptly(recent: Sequence[Heard], news: Heard) -> bool:
    """Whether it tells of the first open of a message, soon after it went out."""
    if news.status != "opened":
        return False
    out = [one for one in recent if one.message_id == news.message_id]
    went = [one.at_s for one in out if one.status in ("sent", "delivered", "dismissed")]
    return bool(went) and 0 <= news.at_s - went[0] <= PROMPT_S


def _heard(recent: Sequence[Heard], news: Heard) -> list[Heard]:
    """The list with one message's news in it."""
    before = next((one for one in recent if one.message_id == news.message_id), None)
    if before is None:
        return [*recent, news][-HEARD:]
    statuses = {before.status, news.status}
    if "failed" in statuses and statuses <= {"failed", "sent"}:
        # What failed may be tried again: the later one holds, and in doubt it went out.
        furthest = max(before, news, key=lambda one: (one.at_s, one.status == "sent"))
    else:
        furthest = max(before, news, key=lambda one: _FURTHER.index(one.status))
    at_s = furthest.at_s if "failed" in statuses else min(before.at_s, news.at_s)
    told = Heard(news.message_id, news.category or before.category, furthest.status, at_s)
    return [*(one for one in recent if one is not before), told]
