"""Who counts what got past a gate finds what is planted, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.times import to_ms
from training.push_truth import Answer, Course, Fact, Facts, Grant, breaches, is_quiet

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOON = to_ms("2027-03-10T12:00:00Z", "at")
POLICY = {
    "quiet_hours": {"from": "22:00", "until": "08:00"},
    "caps": [{"per": "hour", "most": 2}],
    "gap_min": 10,
    "passes": {"transactional": ["caps", "gap", "quiet_hours"]},
}


def fact(value: Any, *changes: tuple[float, float, Any]) -> Fact:
    return Fact([(float("-inf"), float("-inf"), value), *changes])


def grant(name: str, after_min: float = 0, **told: Any) -> Grant:
    at_ms = NOON + round(after_min * MINUTE_MS)
    of = {"category": "news", "campaign": None, "channel": "push", "urgency": "normal"}
    times = {"at_ms": at_ms, "told_ms": at_ms, "until_ms": at_ms + 5 * MINUTE_MS, "went_ms": at_ms}
    clock = {
        "began": after_min,
        "ended": after_min + 0.5,
        "reported": after_min + 0.6,
        "decision_id": f"d-{name}-{after_min}",
    }
    if told.get("went_ms", at_ms) is None:
        clock["reported"] = float("inf")
    return Grant("u", name, **of | times | clock | told)  # type: ignore[arg-type]


def found(*grants: Grant, skew_ms: int = 0, facts: Facts | None = None) -> list[str]:
    person = facts or Facts(fact("UTC"), fact(None), {"": fact(True), "news": fact(True)})
    course = Course(POLICY, skew_ms, {"u": person}, list(grants))
    return [breach.kind for breach in breaches(course)]


def test_all_is_well() -> None:
    assert found(grant("a"), grant("b", 10), grant("c", 60), grant("d", 70)) == []
    failed = grant("a", went_ms=None, released=0.6)
    assert found(failed, grant("b", 1), grant("c", 11)) == []
    night = 11 * 60
    assert found(grant("a", night, urgency="transactional")) == []
    # By clocks that are five minutes off, it may have been ten minutes.
    assert found(grant("a"), grant("b", 1), skew_ms=5 * MINUTE_MS) == []


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ([grant("a"), grant("b", 9)], ["gap"]),
        ([grant("a"), grant("b", 20), grant("c", 59)], ["caps"]),
        ([grant("a"), grant("b", 20, went_ms=None), grant("c", 50)], []),  # over by then
        ([grant("a"), grant("b", 45, went_ms=None), grant("c", 49)], ["gap", "caps"]),
        ([grant("a", 10 * 60)], ["quiet_hours"]),
        ([grant("a", 9 * 60 + 58)], ["quiet_hours"]),  # reserved until 22:03
        ([grant("a", expires_ms=NOON + MINUTE_MS)], ["expired"]),
        ([grant("a", not_before_ms=NOON + 1)], ["not_before"]),
        ([grant("a"), grant("a", 120)], ["sent_twice"]),
        ([grant("a", foreign=True), grant("b", 5)], ["gap"]),
        ([grant("a", foreign=True, began=9.0, ended=9.5), grant("b", 5)], []),  # told of too late
    ],
)
def test_what_is_planted(grants: list[Grant], expected: list[str]) -> None:
    assert found(*grants) == expected


def test_switches_and_travels() -> None:
    off = Facts(fact("UTC"), fact(None), {"": fact(True, (2.0, 3.0, False)), "news": fact(True)})
    away = Facts(fact("UTC", (2.0, 3.0, "Asia/Tokyo")), fact(None), {})
    own = Facts(fact("UTC"), fact(None, (2.0, 3.0, "11:00-15:00")), {})

    for facts, kind in ((off, "opted_out"), (away, "quiet_hours"), (own, "quiet_hours")):
        # The first two may have been decided on before it was known.
        known = [found(grant("a", at), facts=facts) for at in (1.0, 2.7, 70)]
        assert known == [[], [], [kind]]


def test_a_digest_counts_once() -> None:
    facts = Facts(fact("UTC"), fact(None), {}, digest=True)
    together = [grant(name, at) for name, at in (("a", 0), ("b", 1), ("c", 2), ("d", 12))]

    assert found(*together, facts=facts) == []
    assert found(*together, grant("e", 40), grant("f", 55), facts=facts) == ["caps"]


def test_who_joins_a_digest_may_not_know_yet_that_it_failed() -> None:
    facts = Facts(fact("UTC"), fact(None), {}, digest=True)
    before = [grant("x", -40), grant("y", -20)]  # all that the cap allows
    passes = {"urgency": "transactional", "went_ms": None}
    failing = grant("a", released=1.0, failed=2.0, **passes)

    assert found(*before, failing, grant("b", 1.2), facts=facts) == []
    assert found(*before, failing, grant("b", 3.0), facts=facts) == ["caps"]


def test_answers_that_change() -> None:
    def answer(decision_id: str, action: str, at_min: float, holds_min: float = 10) -> Answer:
        at_ms, until = NOON + round(at_min * MINUTE_MS), NOON + round(holds_min * MINUTE_MS)
        span = at_min, at_min + 0.1, False, NOON + HOUR_MS, until
        return Answer("u", "m", decision_id, action, at_ms, *span)

    def of(*answers: Answer) -> list[str]:
        facts = Facts(fact("UTC"), fact(None), {})
        sends = [grant("m", decision_id=one.decision_id) for one in answers if one.action == "send"]
        return [one.kind for one in breaches(Course({}, 0, {"u": facts}, sends, list(answers)))]

    assert of(answer("1", "hold", 0), answer("2", "send", 10)) == []
    assert of(answer("1", "hold", 0), answer("2", "send", 9)) == ["other_answer"]
    assert of(answer("1", "drop", 0), answer("2", "send", 30)) == ["other_answer"]
    assert of(answer("1", "drop", 0), answer("2", "drop", 60)) == []  # it expired
    assert of(answer("1", "send", 0), answer("2", "hold", 5)) == ["other_answer"]
    repeat = replace(answer("1", "send", 1), repeated=True)
    assert of(answer("1", "hold", 0), repeat)[0] == "other_answer"


@pytest.mark.parametrize(
    ("zone", "at", "quiet"),
    [
        ("Europe/Berlin", "2027-03-28T00:59:59Z", True),
        ("Europe/Berlin", "2027-03-28T05:59:59Z", True),
        ("Europe/Berlin", "2027-03-28T06:00:00Z", False),
        ("Australia/Lord_Howe", "2027-04-03T21:15:00Z", True),  # 07:45, half an hour back
        ("Australia/Lord_Howe", "2027-04-03T21:30:00Z", False),
    ],
)
def test_local_time(zone: str, at: str, quiet: bool) -> None:
    assert is_quiet(zone, to_ms(at, "at"), "22:00-08:00") == quiet
