"""The messages of one person against each other: one verdict each, within caps and the gap.

First the places under the caps go to the messages that are worth most together, at whatever hour;
then, where only one may go out now, to the one that would lose most by waiting. What was drawn by
chance goes before what was chosen. What loses its place so is held for the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.push_ahead import MINUTE_MS
from engine.push_choice import Choice, Odds, best, best_set, choose, flip
from engine.push_file import PushFile
from engine.push_gates import Barrier, room, sent_barriers
from engine.push_look import Look
from engine.push_message import Chance

DRAWN = 1e6  # worth of what chance decided on: it goes first


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is done with a message; `forced` is what left no choice."""

    look: Look
    choice: Choice
    forced: Barrier | None = None


def settle(looks: Sequence[Look], odds: Sequence[Odds], file: PushFile) -> list[Verdict]:
    """One verdict for each look, in their order, each with its odds."""
    looks = _within_caps(looks, file)
    verdicts = [_alone(look, one) for look, one in zip(looks, odds, strict=True)]
    return _one_at_a_time(verdicts, file)


def _alone(look: Look, odds: Odds) -> Verdict:
    glimpse = look.glimpse
    at_ms = glimpse.moment.at_ms
    closed = look.gates.closed_by(at_ms) if not look.opened[0] else None
    if not look.opened.any():
        return Verdict(look, _gone(), closed or Barrier("expires", 0, "no moment is left for it"))
    before = glimpse.before
    if before is not None and before.measured and before.action == "hold":
        if look.opened[0]:
            return Verdict(look, flip(float(look.prospect.value[0]), odds, glimpse.drawn))
        first = int(np.argmax(look.opened))
        return Verdict(look, Choice("hold", first, Chance(hold=1.0), measured=True), closed)
    choice = choose(look.prospect.value, look.opened, odds, glimpse.drawn)
    return Verdict(look, choice, closed)


def _gone() -> Choice:
    return Choice("drop", 0, Chance(drop=1.0))


def _within_caps(looks: Sequence[Look], file: PushFile) -> list[Look]:
    """The looks, of which those that find no place under the caps wait for the others."""
    # Those of a digest go together and count as one: they take no place from each other.
    single = [place for place, look in enumerate(looks) if look.gates.digest_at is None]
    wanted = [place for place in single if looks[place].wish is not None]
    rooms = _rooms([looks[place] for place in wanted], file) if len(wanted) > 1 else {}
    if all(len(members) <= left for members, left in rooms.values()):
        return list(looks)
    worth = [looks[place].worth for place in wanted]
    kept = best_set(worth, [members for members, _ in rooms.values()],
                    [left for _, left in rooms.values()])  # fmt: skip
    last_ms = max((_due(looks[wanted[number]]) for number in kept), default=0)
    found = list(looks)
    for number, place in enumerate(wanted):
        if number not in kept:
            text = "others of this person's messages are worth more, and caps leave no room"
            free_ms = last_ms + round(max(file.gap_min, 1.0) * MINUTE_MS)
            found[place] = looks[place].behind(Barrier("outranked", free_ms, text))
    return found


def _due(look: Look) -> int:
    """When a message would go out, as far as is known now; unix ms."""
    wish = look.wish
    return 0 if wish is None else int(look.opens_ms[wish])


def _rooms(looks: Sequence[Look], file: PushFile) -> dict[object, tuple[set[int], int]]:
    """What each cap counts together, by place, and how many it has room for now."""
    found: dict[object, tuple[set[int], int]] = {}
    for number, cap in enumerate(file.caps):
        for place, look in enumerate(looks):
            message = look.message
            left = room(look.glimpse.sends, message, cap, look.glimpse.moment.at_ms)
            if left is None or "caps" in file.passed(message.urgency, message.channel):
                continue
            group = {"category": message.category, "campaign": message.campaign_id}.get(cap.of)
            key = number, message.channel, group
            found.setdefault(key, (set(), max(left, 0)))[0].add(place)
    return found


def _one_at_a_time(verdicts: list[Verdict], file: PushFile) -> list[Verdict]:
    """What would go out now, one after the other, each behind what the ones before it close."""
    now = [place for place, verdict in enumerate(verdicts) if verdict.choice.action == "send"]
    if len(now) < 2:
        return verdicts
    found = list(verdicts)
    sends = list(verdicts[0].look.glimpse.sends)
    for place in sorted(now, key=lambda place: -_loses(verdicts[place], file)):
        look = verdicts[place].look
        closed = sent_barriers(sends, look.message, look.gates, look.glimpse.moment.at_ms, file)
        if closed:
            last = max(closed, key=lambda barrier: barrier.until_ms)
            found[place] = _later(verdicts[place], last)
        else:
            sends.append(look.send())
    return found


def _loses(verdict: Verdict, file: PushFile) -> float:
    """What a message loses if it has to wait for another."""
    if verdict.choice.measured:
        return DRAWN
    values, ahead = verdict.look.prospect.value, verdict.look.glimpse.ahead
    late = ahead.start_ms >= ahead.start_ms[0] + file.gap_min * MINUTE_MS
    other = best(values, verdict.look.opened & late)
    return float(values[0]) - (0.0 if other is None else float(values[other]))


def _later(verdict: Verdict, barrier: Barrier) -> Verdict:
    """A message behind one more barrier: held for its best moment there, or dropped."""
    look = verdict.look.behind(barrier)
    measured = verdict.choice.measured
    cell = look.wish
    if cell is None and measured and look.opened.any():
        cell = int(np.argmax(look.opened))
    if cell is None:
        return Verdict(look, _gone(), barrier)
    return Verdict(look, Choice("hold", cell, Chance(hold=1.0), measured), barrier)
