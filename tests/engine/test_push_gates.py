"""What forbids a message, and until when: known answers, most of them around a night."""

from __future__ import annotations

from typing import Any

import pytest

from engine.device import Device
from engine.push_file import Cap, PushFile, QuietHours
from engine.push_gates import Gates, find_gates, room, where
from engine.push_history import PushHistory
from engine.push_ledger import Send
from engine.push_message import Message
from engine.situation import Moment
from engine.state import UserState
from engine.times import DAY_MS, HOUR_MS, to_ms, to_rfc3339

MINUTE_MS = 60_000
NIGHT = QuietHours("22:00", "08:00")
FILE = PushFile(quiet_hours=NIGHT, gap_min=60, reserve_min=10)
NEWS = Message("m", "news", 1 << 50)


def ms(text: str) -> int:
    return to_ms(text, "at")


def at(clock: str, day: str = "2027-03-10") -> int:
    return ms(f"{day}T{clock}:00Z")


def moment(at_ms: int, **told: Any) -> Moment:
    return Moment(at_ms, 0, 0.0, None, 12.0, 2, **told)


def person(switched: dict[str, bool] | None = None, **attributes: Any) -> UserState:
    push = PushHistory(switched={name: (1, on) for name, on in (switched or {}).items()})
    return UserState(push=push, attributes={name: (1, of) for name, of in attributes.items()})


def gates(
    at_ms: int,
    file: PushFile = FILE,
    state: UserState | None = None,
    sends: list[Send] | None = None,
    message: Message = NEWS,
    **told: Any,
) -> Gates:
    known = state or person()
    return find_gates(known, sends or [], message, None, moment(at_ms), file, **told)


def sent(*clocks: str, **told: Any) -> list[Send]:
    return [Send(f"s{clock}", "news", at(clock), **told) for clock in clocks]


def opens(at_ms: int, **told: Any) -> str:
    return to_rfc3339(gates(at_ms, **told).opens(at_ms))[5:16]


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("21:54", "03-10T21:54"),  # clocks differ by five minutes
        ("21:55", "03-11T08:05"),
        ("03:00", "03-10T08:05"),
        ("08:04", "03-10T08:05"),
        ("08:05", "03-10T08:05"),
    ],
)
def test_quiet_hours_pass_midnight(clock: str, expected: str) -> None:
    assert opens(at(clock)) == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2027-03-27T21:30:00Z", "03-28T06:05"),  # an hour is skipped in Berlin
        ("2026-10-24T20:30:00Z", "10-25T07:05"),  # … and comes twice
        ("2027-03-28T20:30:00Z", "03-29T06:05"),
    ],
)
def test_quiet_hours_go_by_the_local_clock(start: str, expected: str) -> None:
    state = person(time_zone="Europe/Berlin")

    assert opens(ms(start), state=state) == expected
    assert gates(ms(start), state=state).closed_by(ms(start)).gate == "quiet_hours"  # type: ignore[union-attr]


def test_a_persons_own_hours_stand_in_place_of_the_files() -> None:
    state = person(quiet_hours="12:00-13:30")

    assert opens(at("12:30"), state=state) == "03-10T13:35"
    assert opens(at("23:00"), state=state) == "03-10T23:00"
    assert opens(at("23:00"), state=person(quiet_hours="at night")) == "03-11T08:05"


def test_what_a_kind_of_message_passes() -> None:
    file = PushFile(
        quiet_hours=NIGHT, gap_min=60, passes={"high": ["gap"], "in_app": ["quiet_hours"]}
    )
    high = Message("m", "news", 1 << 50, urgency="high")
    inbox = Message("m", "news", 1 << 50, channel="in_app")

    assert opens(at("12:10"), file=file, sends=sent("12:00")) == "03-10T13:00"
    assert opens(at("12:10"), file=file, sends=sent("12:00"), message=high) == "03-10T12:10"
    assert opens(at("23:00"), file=file, message=high) == "03-11T08:05"
    assert opens(at("23:00"), file=file, sends=sent("22:50"), message=inbox) == "03-10T23:00"


@pytest.mark.parametrize(
    ("cap", "clocks", "expected"),
    [
        (Cap("hour", 1), ["11:30"], "03-10T12:30"),
        (Cap("hour", 1), ["10:59"], "03-10T12:00"),
        (Cap("hour", 2), ["11:10", "11:30"], "03-10T12:10"),
        (Cap("day", 2), ["08:10", "09:00", "10:00"], "03-11T09:00"),
        (Cap("week", 1), ["09:00"], "03-17T09:00"),
        (Cap("month", 1), ["09:00"], "04-07T09:00"),
        (Cap("hour", 1, only=["offers"]), ["11:30"], "03-10T12:00"),
        (Cap("day", 1, "category"), ["09:00"], "03-11T09:00"),
        (Cap("day", 1, "campaign"), ["09:00"], "03-10T12:00"),  # neither is of a campaign
    ],
)
def test_caps(cap: Cap, clocks: list[str], expected: str) -> None:
    assert opens(at("12:00"), file=PushFile(caps=[cap]), sends=sent(*clocks)) == expected


def test_caps_count_their_own_group() -> None:
    spring = Message("m", "news", 1 << 50, "spring")
    sends = [
        Send("a", "offers", at("09:00"), campaign_id="spring"),
        Send("b", "news", at("10:00"), channel="in_app"),
    ]

    def left(cap: Cap, message: Message) -> int | None:
        return room(sends, message, cap, at("12:00"))

    assert left(Cap("day", 3), NEWS) == 2  # an inbox wakes nobody
    assert left(Cap("day", 3, "category"), NEWS) == 3
    assert left(Cap("day", 1, "campaign"), spring) == 0
    assert left(Cap("day", 1, "campaign"), NEWS) is None
    assert left(Cap("day", 1, only=["offers"]), NEWS) is None


def test_a_cap_of_none_and_the_end_of_time() -> None:
    # Regression: in quiet hours it asked for the local time of a year beyond all calendars.
    file = PushFile(quiet_hours=NIGHT, caps=[Cap("day", 0)])
    late = Message("m", "news", 1 << 50, not_before_ms=ms("9999-12-31T23:59:59Z"))

    never = gates(at("12:00"), file=file).closed_by(at("12:00"))

    assert never is not None
    assert (never.gate, never.until_ms > 1 << 61) == ("caps", True)
    state = person(time_zone="Pacific/Kiritimati")
    assert gates(at("12:00"), message=late, state=state).opens(at("12:00")) > ms(
        "9999-12-30T00:00:00Z"
    )


def test_a_gap_is_between_messages_of_a_channel() -> None:
    assert opens(at("12:30"), sends=sent("12:00")) == "03-10T13:00"
    assert opens(at("13:00"), sends=sent("12:00")) == "03-10T13:00"
    assert opens(at("12:30"), sends=sent("12:00", channel="in_app")) == "03-10T12:30"
    # The gap would end in the quiet hours.
    assert opens(at("21:30"), sends=sent("21:00")) == "03-11T08:05"


DIGEST = PushFile(caps=[Cap("day", 1)], gap_min=60, digest_at="18:00")


@pytest.mark.parametrize(
    ("clock", "clocks", "expected"),
    [
        ("12:00", [], "03-10T18:00"),
        ("18:20", [], "03-10T18:20"),
        ("18:30", [], "03-11T18:00"),
        ("18:05", ["18:01"], "03-10T18:05"),  # together, and they count once
        ("18:16", ["18:01"], "03-11T18:01"),  # another one
        ("18:16", ["18:01", "18:14"], "03-11T18:14"),  # it counts from its last message
    ],
)
def test_a_digest_goes_out_together(clock: str, clocks: list[str], expected: str) -> None:
    state = person(push_digest=True)

    found = opens(at(clock), file=DIGEST, state=state, sends=sent(*clocks, digest=True))

    assert found == expected


def test_what_joins_a_digest_keeps_its_distance_from_others() -> None:
    # Regression: only the last message was looked at, and that was of the same digest.
    state = person(push_digest=True)
    receipt, first = sent("18:01"), sent("18:01", digest=True)

    found = opens(at("18:02"), file=PushFile(gap_min=10), state=state, sends=receipt + first)

    assert found == "03-10T18:11"


def test_who_asked_for_a_digest_of_a_category_gets_others_at_once() -> None:
    assert opens(at("12:00"), file=DIGEST, state=person(push_digest=["offers"])) == "03-10T12:00"
    assert opens(at("12:00"), file=DIGEST, state=person(push_digest=["news"])) == "03-10T18:00"


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("17:00-09:00", "03-11T09:05"),  # all of it: after them
        ("18:10-20:00", "03-10T18:00"),
        ("12:00-18:10", "03-10T18:15"),
    ],
)
def test_a_digest_keeps_out_of_quiet_hours(hours: str, expected: str) -> None:
    # Regression: it went on looking for a time that is never, and the message was dropped.
    state = person(push_digest=True, quiet_hours=hours)

    assert opens(at("16:00"), file=DIGEST, state=state) == expected


@pytest.mark.parametrize(
    ("clock", "minutes", "expires", "expected"),
    [
        ("12:00", 10, "23:59", "12:10"),
        ("12:00", 10, "12:04", "12:04"),  # what expires is not sent afterwards
        ("21:50", 10, "23:59", "21:54"),
        ("12:00", 24 * 60, "23:59", "21:54"),  # Regression: it lasted over the night
    ],
)
def test_a_reservation_ends_before_quiet_hours(
    clock: str, minutes: int, expires: str, expected: str
) -> None:
    file = PushFile(quiet_hours=NIGHT, reserve_min=minutes)
    until = gates(at(clock), file=file).reserved_until(at(clock), at(expires), file)

    assert to_rfc3339(until)[11:16] == expected


def test_clocks_may_differ_where_a_clock_jumps_into_quiet_hours() -> None:
    # Regression: Pyongyang went from 23:30 to 00:00, past the margin before 23:53.
    state, file = person(time_zone="Asia/Pyongyang", quiet_hours="23:53-09:53"), FILE
    jump = ms("2018-05-04T15:00:00Z")
    early, late = (jump - minutes * MINUTE_MS for minutes in (8, 4))

    assert gates(early, state=state).opens(early) == early
    until = gates(early, state=state).reserved_until(early, 1 << 50, file)
    assert jump - 6 * MINUTE_MS <= until < jump - 5 * MINUTE_MS + 1
    assert to_rfc3339(gates(late, state=state).opens(late))[11:16] == "00:58"  # 09:58 there


def test_no_reservation_enters_the_hour_that_comes_twice() -> None:
    state, file = person(time_zone="Europe/Berlin", quiet_hours="02:05-02:45"), PushFile(
        quiet_hours=NIGHT, reserve_min=60
    )  # fmt: skip
    start = ms("2026-10-25T00:51:00Z")  # 02:51, an hour before 02:51
    found = gates(start, file=file, state=state)

    assert found.opens(start) == start
    assert to_rfc3339(found.reserved_until(start, 1 << 50, file))[11:16] == "00:54"


def test_switches() -> None:
    file = PushFile(passes={"transactional": ["preferences"]})
    urgent = Message("m", "news", 1 << 50, urgency="transactional")
    inbox = Message("m", "news", 1 << 50, channel="in_app")
    out, off = person({"": False}), person({"news": False})

    def why(state: UserState, message: Message) -> str | None:
        never = gates(at("12:00"), file=file, state=state, message=message).never
        return None if never is None else never.gate

    assert [why(out, one) for one in (NEWS, urgent, inbox)] == ["opted_out", "opted_out", None]
    assert [why(off, one) for one in (NEWS, urgent, inbox)] == ["preferences", None, "preferences"]
    assert why(person(push_off=["news"]), NEWS) == "preferences"
    assert why(person({"": True, "offers": False}), NEWS) is None
    assert gates(at("12:00"), held_out=True).never.gate == "holdout"  # type: ignore[union-attr]


def test_what_was_seen_is_not_pushed() -> None:
    state = UserState(shown=[(at("10:00") // 1000, [7])])

    assert gates(at("12:00"), state=state, item=7).never.gate == "seen"  # type: ignore[union-attr]
    assert gates(at("12:00"), state=state, item=8).never is None
    assert gates(at("23:00"), state=state, item=7).never is None


def phone(zone: str | None, captured_ms: int | None = None) -> Device:
    return Device(device_id="phone", time_zone=zone, captured_at=captured_ms)


TOKYO, ROME, LIMA = "Asia/Tokyo", "Europe/Rome", "America/Lima"
NOON = at("12:00")


@pytest.mark.parametrize(
    ("told", "kept", "expected"),
    [
        (None, None, LIMA),
        (None, (NOON - HOUR_MS, ROME), ROME),
        (None, (NOON - 15 * DAY_MS, ROME), LIMA),  # long ago
        (None, (NOON + 4 * MINUTE_MS, ROME), ROME),  # Regression: its clock is ahead
        (phone(TOKYO), (NOON - HOUR_MS, ROME), TOKYO),
        (phone(TOKYO), (NOON + 4 * MINUTE_MS, ROME), TOKYO),
        (phone(TOKYO, NOON - 2 * HOUR_MS), (NOON - HOUR_MS, ROME), ROME),  # Regression: it is newer
        (phone(TOKYO, NOON - MINUTE_MS), (NOON - HOUR_MS, ROME), TOKYO),
        (phone(None), (NOON - HOUR_MS, ROME), ROME),
        (phone("Nowhere/At_All"), None, LIMA),
    ],
)
def test_where_a_person_is(
    told: Device | None, kept: tuple[int, str] | None, expected: str
) -> None:
    state = person(time_zone=LIMA)
    if kept is not None:
        state.devices["phone"] = (kept[0], phone(kept[1]))

    assert where(state, told, NOON, FILE) == expected
    assert where(UserState(), None, NOON, FILE) == "UTC"


def test_the_phone_and_the_person() -> None:
    file = PushFile(ringer=["silent"], hold_while={"driving": 0.5})
    state = UserState(devices={"phone": (NOON - MINUTE_MS, Device(ringer="silent"))})
    driving = Moment(NOON, 0, 0.0, 60.0, 12.0, 2, doing={"driving": 0.8})

    silent = find_gates(state, [], NEWS, None, moment(NOON), file)
    on_the_road = find_gates(UserState(), [], NEWS, None, driving, file)
    later = moment(NOON + HOUR_MS)

    assert silent.closed_by(NOON).gate == "ringer"  # type: ignore[union-attr]
    assert silent.opens(NOON) == NOON + 15 * MINUTE_MS
    assert find_gates(state, [], NEWS, None, later, file).closed_by(later.at_ms) is None
    assert on_the_road.closed_by(NOON).gate == "situation"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("captured_min", "ringer", "held"),
    [
        (None, "silent", True),
        (None, "normal", False),
        (-2, "silent", False),  # a minute ago it was on normal, as the state knows
        (-40, "silent", False),  # too long ago to say anything
        (-40, None, False),
    ],
)
def test_the_ringer_is_what_the_phone_told_last(
    captured_min: int | None, ringer: Any, held: bool
) -> None:
    file = PushFile(ringer=["silent"])
    state = UserState(devices={"phone": (NOON - MINUTE_MS, Device(ringer="normal"))})
    captured_at = None if captured_min is None else NOON + captured_min * MINUTE_MS
    told = Device(captured_at=captured_at, ringer=ringer)

    found = find_gates(state, [], NEWS, told, moment(NOON), file)

    assert (found.closed_by(NOON) is not None) == held
