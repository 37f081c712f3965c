"""The messages of a person against each other: who goes now, who waits, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.push_choice import Draws, Odds
from engine.push_file import Cap, PushFile, QuietHours
from engine.push_gates import find_gates
from engine.push_ledger import Send
from engine.push_look import Asked, Days, Glimpse, Look, Person
from engine.push_message import Message, PushDecision, Urgency
from engine.push_person import Verdict, settle
from engine.push_value import Prospect
from engine.situation import Moment
from engine.state import UserState
from engine.times import HOUR_MS, to_ms

MINUTE_MS = 60_000
NOON = to_ms("2027-03-10T12:00:00Z", "at")
NEVER = Draws(1.0, 0.0, 0.0)  # chance decides on nothing


def look(
    name: str,
    values: Sequence[float],
    file: PushFile,
    sends: Sequence[Send] = (),
    category: str = "news",
    urgency: Urgency = "normal",
    hours: float = 6,
    at_ms: int = NOON,
    drawn: Draws = NEVER,
    before: PushDecision | None = None,
    state: UserState | None = None,
) -> Look:
    """One message with these values, from now on; the last one lasts until it expires."""
    message = Message(name, category, at_ms + round(hours * HOUR_MS), urgency=urgency)
    moment = Moment(at_ms, 0, 0.0, None, 12.0, 2)
    known = state or UserState()
    gates = find_gates(known, sends, message, None, moment, file)
    days = Days(at_ms)
    ahead = days.ahead(gates.zone, message.expires_ms)
    count = len(ahead.start_ms)
    worth = np.array([*values, *[values[-1]] * count][:count], np.float64)
    asked = Asked("u", message), Person("u", known), list(sends), moment
    glimpse = Glimpse(*asked, gates, ahead, [], drawn, before)
    each = worth[None]
    return days.looks([glimpse], Prospect(each, each, each, each), np.zeros((1, count, 1)))[0]


def actions(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.choice.action for verdict in verdicts]


def holds(verdict: Verdict) -> float:
    """Hours from noon until which a message is held."""
    return float(verdict.look.opens_ms[verdict.choice.cell] - NOON) / HOUR_MS


def settled(looks: Sequence[Look], file: PushFile, share: float = 0.0) -> list[Verdict]:
    return settle(looks, [Odds(share)] * len(looks), file)


def test_of_two_the_one_that_would_lose_more_goes_now() -> None:
    file = PushFile(gap_min=60)
    patient, urgent = look("a", [5, 5], file), look("b", [3, 0.5], file)

    found = settled([patient, urgent], file)

    assert actions(found) == ["hold", "send"]
    assert found[0].forced is not None
    assert (found[0].forced.gate, holds(found[0])) == ("gap", 1.0)
    assert found[0].choice.chance.hold == 1.0


def test_who_finds_no_later_moment_is_dropped() -> None:
    file = PushFile(gap_min=60)
    found = settled([look("a", [3], file, hours=0.5), look("b", [2], file, hours=0.5)], file)

    assert actions(found) == ["send", "drop"]
    assert found[1].forced is not None
    assert found[1].forced.gate == "gap"


def test_places_under_a_cap_go_to_those_worth_most_together() -> None:
    file = PushFile(caps=[Cap("day", 2), Cap("day", 1, "category")])
    looks = [
        look("a", [5], file),
        look("b", [4], file),
        look("c", [3], file, category="offers"),
        look("d", [1], file, category="tips"),
    ]

    found = settled(looks, file)

    # b is worth more than c, but of news as well; the others are looked at once more.
    assert actions(found) == ["send", "hold", "send", "hold"]
    assert [verdict.look.gates.barriers[-1].gate for verdict in found[1::2]] == ["outranked"] * 2


def test_one_call_takes_no_more_than_there_is_room_for() -> None:
    file = PushFile(caps=[Cap("day", 3)])
    sends = [Send("s", "news", NOON - HOUR_MS)]
    found = settled([look(f"m{n}", [1 + n / 10], file, sends) for n in range(14)], file)

    assert [n for n, action in enumerate(actions(found)) if action == "send"] == [12, 13]


def test_what_passes_caps_goes_beside_and_counts() -> None:
    file = PushFile(caps=[Cap("day", 1)], passes={"transactional": ["caps", "gap"]}, gap_min=60)
    receipt = look("receipt", [9], file, urgency="transactional")

    assert actions(settled([look("a", [1], file), receipt], file))[1] == "send"
    gone = [Send("receipt", "receipts", NOON)]
    assert actions(settled([look("a", [1], file, gone)], file)) == ["drop"]
    assert actions(settled([look("r2", [9], file, gone, urgency="transactional")], file)) == [
        "send"
    ]


def test_a_digest_goes_out_together() -> None:
    # Regression: its messages were held to compete for the one place that they share.
    file = PushFile(caps=[Cap("day", 1)], gap_min=60, digest_at="12:00")
    state = UserState(attributes={"push_digest": (1, True)})

    found = settled([look(name, [1], file, state=state) for name in "abc"], file)

    assert actions(found) == ["send"] * 3


def test_what_opens_within_the_hour_is_held_until_then() -> None:
    # Regression: a message behind a gap that ended in the same hour went out at once.
    file = PushFile(gap_min=60)
    sends = [Send("s", "news", NOON - 40 * MINUTE_MS)]

    [found] = settled([look("m", [1], file, sends)], file)

    assert found.choice.action == "hold"
    assert holds(found) == 20 / 60
    for drawn in (Draws(0.0, 0.0, 0.0), Draws(0.0, 0.0, 0.9)):  # nor by chance
        [found] = settled([look("m", [1], file, sends, drawn=drawn)], file, share=1.0)
        assert found.choice.action == "hold"


def measured(until_ms: int) -> PushDecision:
    return PushDecision("d", "m", "hold", [], NOON - HOUR_MS, NOON + 1, measured=True,
                        hold_until_ms=until_ms)  # fmt: skip


def test_a_measured_message_is_tossed_for_when_its_hour_comes() -> None:
    file = PushFile()
    tossed = [
        settled([look("m", [-5, 9], file, before=measured(NOON), drawn=Draws(1, 0, coin))], file)[0]
        for coin in (0.2, 0.8)
    ]

    assert actions(tossed) == ["send", "drop"]  # whatever it is worth
    assert all(one.choice.measured and one.choice.chance.send == 0.5 for one in tossed)


def test_what_is_known_to_be_worth_nothing_is_seldom_sent_to_measure_it() -> None:
    drawn = Draws(1, 0, 0.2)
    looks = [
        look("m", [value], PushFile(), before=measured(NOON), drawn=drawn) for value in (-5, 1)
    ]
    [harms], [helps] = (settle([one], [Odds(0.0, 0.1)], PushFile()) for one in looks)

    assert (harms.choice.action, harms.choice.coin, harms.choice.chance.drop) == ("drop", 0.1, 0.9)
    assert (helps.choice.action, helps.choice.coin) == ("send", 0.5)


def test_a_measured_message_waits_for_a_gate_that_closed_meanwhile() -> None:
    file = PushFile(quiet_hours=QuietHours("11:00", "14:00"))

    [found] = settled([look("m", [1], file, before=measured(NOON))], file)

    assert (found.choice.action, found.choice.measured) == ("hold", True)
    assert found.forced is not None
    assert (found.forced.gate, round(holds(found) * 60)) == ("quiet_hours", 125)


def test_what_was_drawn_goes_before_what_was_chosen() -> None:
    file = PushFile(gap_min=60)
    drawn = look("m", [0.1], file, before=measured(NOON), drawn=Draws(1, 0, 0.2))

    found = settled([look("a", [9, 0.1], file), drawn], file)

    assert actions(found) == ["hold", "send"]


def test_nothing_is_left() -> None:
    file = PushFile(quiet_hours=QuietHours("11:00", "20:00"))
    [closed] = settled([look("m", [1], file)], file)
    erased = look("m", [1], PushFile())
    gates = replace(erased.gates, never=None, barriers=())

    assert closed.choice.action == "drop"
    assert closed.forced is not None
    assert closed.forced.gate == "quiet_hours"
    assert settled([replace(erased, gates=gates)], PushFile())[0].forced is None
    assert settled([look("m", [-1], PushFile())], PushFile())[0].choice.action == "drop"
