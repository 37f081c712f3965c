"""Many people at once: each is read, weighed and decided on as if nobody else had been asked about.

`alone` is the same road for one person, whose arithmetic a naive reference repeats cell by cell.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from engine import routine
from engine.catalog import Catalog
from engine.device import Device
from engine.push import Asked, Decided, PushParts, decide_known
from engine.push_file import Costs, load_push
from engine.push_history import Heard, PushHistory
from engine.push_ledger import Ledger, Send
from engine.push_look import Person
from engine.push_message import Message
from engine.push_value import FULL_LOAD, Assumptions, Effects, Prospects, own_hours
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.state import Situated, UserState
from engine.times import DAY_MS, HOUR_MS

NOW = 1_770_050_400_000  # 2026-02-02T16:40:00Z
SITUATIONS = Situations(load_situations())
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "nowhere", None)
PEOPLE = 80


@pytest.fixture(scope="module")
def people() -> dict[str, Person]:
    """Of every kind: hardly known and well known, here and there, tired and fresh."""
    rng = random.Random(6)
    return {f"u{n}": _person(f"u{n}", rng) for n in range(PEOPLE)}


@pytest.fixture(scope="module")
def parts() -> PushParts:
    file = load_push(SITUATIONS.names)

    class Nobody:
        partitions = 4

    return PushParts(
        Nobody(),  # type: ignore[arg-type]
        SITUATIONS,
        file,
        Assumptions(file.assumed),
        Catalog(),
        b"k" * 32,
    )


def test_moments_are_those_of_each_alone(people: dict[str, Person]) -> None:
    phone = Device(device_id="p", screen="on", activity={"walking": 0.9})
    asked = [(one.state, phone if n % 3 == 0 else None) for n, one in enumerate(people.values())]
    together = SITUATIONS.read_many(asked, NOW)
    assert together == [SITUATIONS.read(state, device, NOW) for state, device in asked]
    assert len({moment.name for moment in together}) > 2
    assert SITUATIONS.read_many([], NOW) == []


def test_decisions_are_those_of_each_alone(people: dict[str, Person], parts: PushParts) -> None:
    asked = [_asked(user_id, n) for n, user_id in enumerate(people)]
    together, changed = decide_known(asked, people, NOW, parts)
    assert len({one.decision.action for one in together}) == 3
    assert [person.user_id for person, _ in changed] == list(people)
    for one, found in zip(asked, together, strict=True):
        [alone], _ = decide_known([one], people, NOW, parts)
        assert _told(found) == pytest.approx(_told(alone), abs=1.5e-5, nan_ok=True)
        assert found.moment == alone.moment
        assert _words(found) == _words(alone)


@pytest.mark.parametrize("known", [0, 10**6])
def test_the_coin_is_fair_while_a_category_is_new(
    people: dict[str, Person], parts: PushParts, known: int
) -> None:
    """Nothing is worth sending here, which is not believed of a category that is new."""
    harmless = msgspec.structs.replace(parts.file, holdout=0.0, hold_while={}, ringer=[], caps=[])
    everything = msgspec.structs.replace(harmless.explore, share=1.0, new_category=1.0)
    file = msgspec.structs.replace(harmless, quiet_hours=None, explore=everything)
    model = Assumptions(msgspec.structs.replace(file.assumed, uplift=-0.1))
    model.random_decisions = dict.fromkeys("abc", known)
    told = replace(parts, model=model, file=file)
    asked = [_asked(user_id, n) for n, user_id in enumerate(people)]
    soon = [
        replace(one, message=msgspec.structs.replace(one.message, expires_ms=NOW + HOUR_MS))
        for one in asked
    ]
    decisions = [one.decision for one in decide_known(soon, people, NOW, told)[0]]
    tossed = [one for one in decisions if one.measured and one.action != "hold"]

    assert len(tossed) > PEOPLE / 4
    assert {one.coin for one in tossed} == {0.1 if known else 0.5}
    for chance in (one.chance for one in tossed):
        coin = chance.send / (chance.send + chance.drop)
        assert coin == pytest.approx(0.1 if known else 0.5)


def test_prospects_are_those_of_each_cell_by_itself() -> None:
    rng = np.random.default_rng(6)
    n, cells, kinds = 3, 5, len(SITUATIONS.names)
    likely = rng.dirichlet(np.ones(kinds), (n, cells))
    lift, own = rng.uniform(0.2, 3, kinds), rng.uniform(0.5, 2, (n, 24))
    effects = Effects(*rng.uniform(0.001, 0.1, (3, n)))
    effects.uplift[1] = -0.02
    hours = np.array([23, 24, 25, 26, 167])
    away_ms = np.arange(cells) * HOUR_MS
    messages = [_asked("u", number).message for number in range(n)]
    messages[2] = msgspec.structs.replace(messages[2], channel="in_app")
    loads = np.array([0.0, 1.5, 9.0])
    model, costs = Assumptions(load_push(SITUATIONS.names).assumed), Costs()
    prospects = Prospects(model, lift, costs)
    found = prospects.of(effects, messages, likely, own, loads, hours, away_ms)
    for row in range(n):
        first = max(float(likely[row, 0] @ lift) * own[row, 23], 1e-3)
        for cell in range(cells):
            shape = float(likely[row, cell] @ lift) * own[row, hours[cell] % 24] / first
            tired = loads[row] * 0.5 ** (cell / model.half_life_h)
            rises = effects.uplift[row] * (shape if effects.uplift[row] > 0 else 1)
            changes = rises * max(1 - model.fatigue_per_push * tired, 0)
            takes = model.fatigue_per_push * min(loads[row], FULL_LOAD)
            worth = (changes - max(rises, 0) * takes) * messages[row].value
            grows = (1 + tired) / (1 + loads[row])
            risk = effects.opt_out[row] * costs.opt_out * grows * (row != 2)
            value = worth * (1 - costs.wait_per_h * cell) - risk
            assert found.of(row).value[cell] == pytest.approx(value)
            assert found.p_open[row, cell] == pytest.approx(min(effects.p_open[row] * shape, 1))


def test_own_hours_of_many() -> None:
    nobody, evening = own_hours([{}, {18: 50, 24 + 18: 50}])
    assert nobody.tolist() == [1.0] * 24
    assert evening[17] == evening[18] == evening[19] > 3 > 1 > evening[3]


def test_routines_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(6)
    routines: list[routine.Routine] = [{}, {}, {}]
    for hour in rng.integers(0, 168, 40).tolist():
        routine.add(routines[0], hour, rng.dirichlet(np.ones(4)))
        routine.add(routines[2], hour // 2, rng.dirichlet(np.ones(6)))  # a situation went since
    ahead = routine.usual_ahead(routines, np.arange(168), 4)
    for hour in range(168):
        each = [routine.usual(one, hour % 24, hour // 24, 4) for one in routines]
        assert (ahead[:, hour] == np.array(each)).all()
        assert (routine.usual_now(routines, [hour] * 3, 4) == np.array(each)).all()


def _told(one: Decided) -> list[float]:
    decision = one.decision
    scores = () if decision.scores is None else msgspec.structs.astuple(decision.scores)
    times = decision.hold_until_ms or 0, decision.reserved_until_ms or 0
    return [*scores, *msgspec.structs.astuple(decision.chance), *one.row, *times]


def _words(one: Decided) -> object:
    return msgspec.structs.replace(one.decision, decision_id="", scores=None)


def _asked(user_id: str, number: int) -> Asked:
    rng = random.Random(number)
    expires_ms = NOW + rng.choice([1, 1, 12, 72]) * HOUR_MS
    message = Message(
        f"m{number}", rng.choice("abc"), expires_ms, value=rng.choice([0.1, 0.5, 1.0, 5.0])
    )
    return Asked(user_id, message)


def _person(user_id: str, rng: random.Random) -> Person:
    state = UserState(attributes={"time_zone": (1, rng.choice(ZONES))})
    state.push = PushHistory(
        {"sent": 9, "opened": 3},
        {hour: rng.randrange(5) for hour in rng.sample(range(168), 6)},
        [Heard(f"old{n}", "a", "opened", (NOW - (n + 2) * DAY_MS) // 1000) for n in range(3)],
    )
    if rng.random() < 0.7:
        state.situated = Situated(
            NOW - rng.randrange(6 * HOUR_MS), _chances(rng).astype(np.float16).tobytes()
        )
        for hour in rng.sample(range(168), rng.randrange(60)):
            routine.add(state.situated.routine, hour, _chances(rng))
    if rng.random() < 0.5:
        seen_ms = NOW - rng.randrange(HOUR_MS)
        state.devices["p"] = seen_ms, Device(device_id="p", screen="off", charging=True)
    sends = [Send(f"s{n}", rng.choice("abc"), NOW - rng.randrange(9 * DAY_MS)) for n in range(4)]
    ledger = Ledger(sorted(sends, key=lambda send: send.at_ms) if rng.random() < 0.6 else [])
    return replace(Person(user_id, state), ledger=ledger)


def _chances(rng: random.Random) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = np.array([rng.expovariate(1) ** 3 for _ in SITUATIONS.names])
    return found / math.fsum(found)
