"""Pages of modules: what people do with them, one at a time, and what the oracle says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from engine.events import decode_line
from training.world import HELD_OUT, LAWS, MODULES, TUNING, Visit, World, encode
from training.world.arrays import Floats
from training.world.core import Core
from training.world.lines import Impression, Interaction, Line
from training.world.modules import MODULES as KNOWN
from training.world.modules import NEVER
from training.world.moments import Moments
from training.world.page import attention, prospect

FOUR = (*TUNING, *HELD_OUT)
Page = list[tuple[str, Sequence[str]]]


def page_of(world: World, modules: Sequence[str] = MODULES, width: int = 5) -> Page:
    ids = world.core.recipes.ids
    return [(name, ids[n * width : (n + 1) * width]) for n, name in enumerate(modules)]


def live(world: World, page: Page, days: int) -> list[tuple[Visit, list[Line]]]:
    return [
        (visit, world.respond_page(visit, page, f"mine-{visit.number}"))
        for day in range(days)
        for visit in world.sessions(day)
    ]


@pytest.mark.parametrize("law", FOUR)
def test_answers_are_events_of_the_contract_and_the_cascade_holds(law: str) -> None:
    world = World(law, users=60, items=80, seed=2)
    page = page_of(world, [*MODULES, "seasonal"])  # which the world does not know
    actions, depths = set(), set()
    for visit, events in live(world, page, days=4):
        for line in encode(events).splitlines():
            decode_line(line)
        assert all(one.ts <= other.ts for one, other in pairwise(events))
        [impression] = [event for event in events if isinstance(event, Impression)]
        assert impression.decision_id == f"mine-{visit.number}"
        depths.add(len(impression.shown))
        assert [shown.position for shown in impression.shown] == list(range(len(impression.shown)))
        in_view = {}
        for shown in impression.shown:
            name, item_ids = page[shown.position]
            assert shown.module_id == name
            least = 3 if visit.device["device_type"] == "tablet" else 2
            assert least <= len(shown.item_ids)
            assert shown.item_ids == item_ids[: len(shown.item_ids)]
            in_view[name] = shown.item_ids
        for event in events:
            if isinstance(event, Interaction) and event.item_id is not None:
                actions.add(event.action)
                assert event.decision_id == f"mine-{visit.number}"
                assert event.item_id in in_view[str(event.module_id)]
    assert "click" in actions
    assert min(depths) <= 2 < max(depths)


def test_rows_may_be_of_any_length() -> None:
    world = World("amber", users=60, items=80, seed=2)
    ids = world.core.recipes.ids
    page = [("quick", ids[:1]), ("for_you", ids[1:8]), ("desserts", ids[8:10])]
    for _, events in live(world, page, days=3):
        [impression] = [event for event in events if isinstance(event, Impression)]
        assert impression.shown[0].item_ids == ids[:1]


def test_what_cannot_be_answered_is_said() -> None:
    world = World("amber", users=60, items=80, seed=2)
    visit = next(world.sessions(0))
    for page, why in (
        ([], "at least one module"),
        ([("quick", [])], "at least one item"),
        ([("quick", ["nothing"])], "no such item"),
    ):
        with pytest.raises(ValueError, match=why):
            world.respond_page(visit, page)
    world.respond_page(visit, page_of(world))
    with pytest.raises(ValueError, match="not waiting"):
        world.respond_page(visit, page_of(world))


@pytest.mark.parametrize("law", ["birch", "null_situation"])
def test_the_same_seed_gives_the_same_bytes(law: str) -> None:
    def run() -> bytes:
        world = World(law, users=30, items=80, seed=7)
        return b"".join(encode(events) for _, events in live(world, page_of(world), days=3))

    assert run() == run()


@pytest.mark.parametrize("law", FOUR)
def test_worth_comes_as_expected(law: str) -> None:
    """What pages come to on the mean, and what the oracle says of a page of one module."""
    world = World(law, users=250, items=80, seed=2)
    rng, said = np.random.default_rng(0), []
    for visit in world.sessions(0):
        world.respond_page(visit, page_of(world))
    ledger = world.ledger
    margin = 4 * ledger.visits()[2].std() / np.sqrt(len(ledger.visits()[2]))
    assert ledger.value_per_visit() == pytest.approx(ledger.expected_per_visit(), abs=margin)
    for visit in world.sessions(1):
        if visit.device["device_type"] != "tablet":
            page = [page_of(world)[rng.integers(len(MODULES))]]
            said.append(world.oracle_modules(visit, page)[0])
            world.respond_page(visit, page)
    _, _, worth = ledger.visits()
    margin = 4 * worth[-len(said) :].std() / np.sqrt(len(said))
    assert np.mean(said) == pytest.approx(worth[-len(said) :].mean(), abs=margin)


def _values(law: str) -> dict[str, list[Floats]]:
    """What the oracle says of a page at every visit on a phone of a day, by person."""
    world = World(law, users=200, items=80, seed=13)
    alone = np.bincount(world.core.people.account) == 1
    said: dict[str, list[Floats]] = {}
    for visit in world.sessions(0):
        number = visit.user_id.split("-")[1]
        if alone[int(number)] and visit.device["device_type"] != "tablet":
            said.setdefault(number, []).append(world.oracle_modules(visit, page_of(world)))
    return {number: values for number, values in said.items() if len(values) > 1}


def test_in_the_null_world_the_situation_changes_no_module() -> None:
    said = _values("null_situation")
    assert len(said) > 10
    for values in said.values():
        assert all(np.allclose(values[0], other) for other in values[1:])


@pytest.mark.parametrize("law", FOUR)
def test_in_the_others_it_changes_their_order(law: str) -> None:
    said = _values(law)
    changed = [(np.argsort(-v[0])[:3] != np.argsort(-v[1])[:3]).any() for v in said.values()]
    assert np.mean(changed) > 0.3


def _draws(core: Core, now: Moments) -> Floats:
    offer = core.offer(KNOWN, np.tile(np.arange(48).reshape(1, 12, 4), (len(now), 1, 1)))
    due = prospect(core.law, core.people, core.recipes, now, core.lives.need(now), offer)
    return due.draws


@pytest.mark.parametrize("law", LAWS)
def test_purpose_mood_guests_and_hour_draw_into_modules_unless_the_law_is_null(law: str) -> None:
    core = World(law, users=300, items=80, seed=3).core
    core.begin_day()
    person = np.arange(300)
    now = core.moments(person, np.full(300, core.start_s + 43_200), np.random.default_rng(0))
    before = _draws(core, now)
    for hidden in (
        {"purpose": (now.purpose + 1) % 5},
        {"mood": (now.mood + 1) % 4},
        {"guests": ~now.guests},
        {"hour": (now.hour + 8) % 24},
        {"weekend": 1 - now.weekend},
    ):
        after = _draws(core, replace(now, **hidden))
        assert np.array_equal(before, after) == (law == "null_situation"), hidden


@pytest.mark.parametrize("law", FOUR)
def test_a_person_takes_to_some_modules_and_never_to_others(law: str) -> None:
    core = World(law, users=800, items=80, seed=3).core
    core.begin_day()
    liking = core.offer(KNOWN, np.zeros((1, 12, 1), dtype=np.int64)).liking
    assert (liking == 0).mean() == pytest.approx(NEVER, abs=0.02)
    assert np.array_equal(liking, core.offer(KNOWN, np.zeros((1, 12, 1), dtype=np.int64)).liking)
    person = np.arange(len(core.people))
    now = core.moments(person, np.full(len(person), core.start_s), np.random.default_rng(0))
    draws = _draws(core, now)
    assert draws[liking == 0].max() < 0.04
    assert draws[liking > 0.7].mean() > 1.2 * draws[(liking > 0) & (liking < 0.3)].mean()


def test_who_found_something_leaves_sooner_and_the_patient_go_deeper() -> None:
    core = World("amber", users=300, items=80, seed=3).core
    core.begin_day()
    person = np.arange(300)
    now = core.moments(person, np.full(300, core.start_s), np.random.default_rng(0))
    _, goes_on = attention(core.law, core.people, now, 6)
    on_phone = ~now.on_tablet
    assert (goes_on[on_phone, :, 1] < goes_on[on_phone, :, 0]).all()
    patience = core.people.patience[person[on_phone]]
    assert np.corrcoef(patience, goes_on[on_phone, 2, 0])[0, 1] > 0.9
