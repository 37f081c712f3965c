"""The world answers to what it is shown; the oracle knows what can be known, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.events import decode_line
from training.world import HELD_OUT, TUNING, Visit, World, encode
from training.world.lines import Impression, Interaction
from training.world.moments import Moments, draw_moments, offsets_s
from training.world.oracle import situation_given_signals
from training.world.reaction import chances

FOUR = (*TUNING, *HELD_OUT)
Choose = Callable[[World, Visit], list[str]]


def live(law: str, choose: Choose, days: int = 5, users: int = 50) -> World:
    world = World(law, users=users, items=150, seed=21)
    for day in range(days):
        for visit in world.sessions(day):
            world.respond(visit, choose(world, visit))
    return world


def by_oracle(world: World, visit: Visit) -> list[str]:
    ids = world.core.recipes.ids
    return [ids[n] for n in np.argsort(-world.oracle_value(visit, ids))[:8]]


def most_popular(law: str) -> list[str]:
    """What won most clicks per look where chance decided."""
    world = World(law, users=200, items=150, seed=21)
    shown, clicked = np.zeros(150), np.zeros(150)
    for event in world.history(10, "random"):
        if isinstance(event, Impression):
            shown[[int(n.split("-")[1]) for n in event.shown[0].item_ids]] += 1
        elif isinstance(event, Interaction) and event.action == "click" and event.decision_id:
            clicked[int(str(event.item_id).split("-")[1])] += 1
    best = np.argsort(-clicked / (shown + 20))[:8]
    return [world.core.recipes.ids[n] for n in best]


@pytest.mark.parametrize("law", FOUR)
def test_the_oracle_beats_popularity_in_realised_value(law: str) -> None:
    popular = most_popular(law)
    by_clicks = live(law, lambda world, visit: popular)
    oracle = live(law, by_oracle)
    assert oracle.ledger.value_per_visit() > 1.25 * by_clicks.ledger.value_per_visit()
    assert oracle.ledger.coverage() > by_clicks.ledger.coverage()


@pytest.mark.parametrize("law", FOUR)
def test_the_oracle_is_calibrated(law: str) -> None:
    """Where one recipe is shown it is looked at: worth on average what the oracle expects."""
    world = World(law, users=250, items=150, seed=22)
    rng, said, goodwill = np.random.default_rng(0), [], []
    for day in range(4):
        for visit in world.sessions(day):
            item = world.core.recipes.ids[rng.integers(150)]
            if visit.device["device_type"] == "tablet":
                continue
            said.append(world.oracle_value(visit, [item])[0])
            if day == 0:
                goodwill.append(world.oracle_goodwill(visit, [item])[0])
            world.respond(visit, [item])
    _, _, realised = world.ledger.visits()
    assert len(realised) == len(said) > 400
    assert np.mean(said) == pytest.approx(realised.mean(), abs=0.03)
    best = np.array(said) > np.quantile(said, 0.7)
    rest = ~best
    assert realised.mean() > 0
    assert np.mean(np.array(said)[best]) > 2 * np.mean(np.array(said)[rest])
    assert min(goodwill) < 0 < max(goodwill)


def test_the_oracle_reads_situations_from_signals_as_they_are() -> None:
    """What it gives to a situation is how often it is that one."""
    world = World("birch", users=600, items=5, seed=3)
    core, rng = world.core, np.random.default_rng(5)
    person = np.arange(core.people.accounts)
    alone = person[np.bincount(core.people.account)[person] == 1]
    at_s = core.start_s + rng.random(len(alone)) * 86_400
    now = draw_moments(core.people, core.sensors, alone, at_s, offsets_s(core.start_s), rng)
    guesses = np.concatenate([_guess(core, now, row) for row in range(len(alone))])
    true = now.situation
    given = guesses[np.arange(len(true)), true]
    # Calibrated: the mean chance of the truth is the mean of the squares.
    assert given.mean() == pytest.approx((guesses**2).sum(axis=1).mean(), abs=0.04)
    assert (guesses.argmax(axis=1) == true).mean() > 0.55


def _guess(core: Any, now: Moments, row: int) -> Any:
    one = now.rows(np.array([row]))
    only = np.zeros(1, dtype=np.int64)
    return situation_given_signals(core.people, core.sensors, one, only, one.person)


def test_the_oracle_sees_only_what_a_decision_could() -> None:
    """Whatever is hidden may be swapped: it says the same."""
    world = World("amber", users=50, items=60, seed=2)
    visit = next(world.sessions(0))
    ids = world.core.recipes.ids
    before = world.oracle_value(visit, ids)
    hidden = world._arrived[visit.number].moment
    for name in ("situation", "off_routine", "purpose", "mood", "guests"):
        column = getattr(hidden, name)
        column[:] = 1 - column if column.dtype == np.bool_ else (column + 1) % 4
    assert np.array_equal(world.oracle_value(visit, ids), before)


def test_answers_are_events_of_the_contract_with_the_callers_decision() -> None:
    world = World("cedar", users=40, items=60, seed=2)
    actions = set()
    for day in range(4):
        last_s = 0.0
        for visit in world.sessions(day):
            assert visit.at_s >= last_s
            last_s = visit.at_s
            shown = world.core.recipes.ids[:9]
            events = world.respond(visit, shown, f"mine-{visit.number}")
            for line in encode(events).splitlines():
                decode_line(line)
            [impression] = [e for e in events if isinstance(e, Impression)]
            assert impression.decision_id == f"mine-{visit.number}"
            [seen] = impression.shown
            assert seen.item_ids == shown[: len(seen.item_ids)]
            for event in events:
                assert event.ts >= int(visit.at_s * 1000) - 300
                if isinstance(event, Interaction):
                    actions.add(event.action)
                    if event.item_id is not None:
                        assert event.decision_id == f"mine-{visit.number}"
                        assert event.item_id in shown
    assert {"open", "click"} <= actions


def test_the_same_answers_give_the_same_world() -> None:
    def run() -> bytes:
        world = World("delta", users=30, items=60, seed=7)
        lines = b""
        for day in range(4):
            for visit in world.sessions(day):
                lines += encode(world.respond(visit, world.core.recipes.ids[:6]))
        return lines

    assert run() == run()


def test_history_first_then_days_that_answer() -> None:
    world = World("amber", users=30, items=60, seed=7)
    assert list(world.history(3))
    assert world.day == 3
    visit = next(world.sessions(3))
    assert visit.at_s >= world.core.start_s + 3 * 86_400
    with pytest.raises(ValueError, match="expected day 4"):
        world.sessions(3)


def test_what_cannot_be_answered_is_said() -> None:
    world = World("amber", users=50, items=60, seed=7)
    visit = next(world.sessions(0))
    with pytest.raises(ValueError, match="no such item"):
        world.oracle_value(visit, ["nothing"])
    with pytest.raises(ValueError, match="at least one item"):
        world.respond(visit, [])
    with pytest.raises(ValueError, match="no such item"):
        world.respond(visit, ["nothing"])
    world.respond(visit, ["recipe-00001"])
    with pytest.raises(ValueError, match="not waiting"):
        world.respond(visit, ["recipe-00001"])
    with pytest.raises(KeyError):
        World("oak", users=5)


def _values(law: str) -> dict[str, list[Any]]:
    """What the oracle says of 40 recipes at every visit of two days, by person."""
    world = World(law, users=200, items=40, seed=13)
    alone = np.bincount(world.core.people.account) == 1
    said: dict[str, list[Any]] = {}
    for visit in world.sessions(0):
        number = visit.user_id.split("-")[1]
        if alone[int(number)]:
            said.setdefault(number, []).append(world.oracle_value(visit, world.core.recipes.ids))
    return {number: values for number, values in said.items() if len(values) > 1}


def test_in_the_null_world_the_situation_changes_nothing() -> None:
    said = _values("null_situation")
    assert len(said) > 10
    for values in said.values():
        assert all(np.allclose(values[0], other) for other in values[1:])


@pytest.mark.parametrize("law", FOUR)
def test_in_the_others_it_does(law: str) -> None:
    said = _values(law)
    changed = [not np.allclose(v[0], v[1], rtol=0.05) for v in said.values()]
    assert np.mean(changed) > 0.8


def test_a_breakfast_has_no_hour_in_the_null_world() -> None:
    """Breakfasts are opened as readily in every block of the day."""
    assert _spread("null_situation") < 0.03
    assert _spread("amber") > 0.08


def _spread(law: str) -> float:
    """How much clicks on breakfasts vary over the day, of the mean."""
    core = World(law, users=3000, items=200, seed=1).core
    core.begin_day()
    rng = np.random.default_rng(0)
    person = np.arange(3000)
    now = core.moments(person, core.start_s + rng.random(3000) * 86_400, rng)
    items = np.flatnonzero(core.recipes.course == 0)[None, :]
    click = chances(core.law, core.recipes, core.lives.need(now), items).click.mean(axis=1)
    by_block = np.array([click[now.block == block].mean() for block in range(6)])
    return float(by_block.std() / by_block.mean())
