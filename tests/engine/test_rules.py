"""`rules.yaml`: what it refuses, and what each rule does to a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.actions import load_actions
from engine.catalog import Catalog
from engine.eligibility import find_eligible
from engine.errors import SettingsError
from engine.pipeline import Parts, Request, Slate, recommend_known
from engine.recommending import Recommending, SlateSettings
from engine.records import ItemRecord
from engine.rule_columns import MANY
from engine.rules import NO_RULES, Rules
from engine.rules_file import RulesFile, load_rules
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.slot_rules import NO_SLOT_RULES
from engine.state import TOUCH, Touch, UserState
from engine.times import DAY_MS

ACTIONS = load_actions()
NOW = 1_790_000_000_000  # 2026-09-21
DAY_S = DAY_MS // 1000
ITEMS = 30
CALM = Recommending(slate=SlateSettings(explore=0.0, diversity=0.0))
LOUD = Recommending(slate=SlateSettings(explore=0.6, diversity=0.3))


def described(n: int, **attributes: Any) -> ItemRecord:
    return ItemRecord(ts=1, arrived=1, item_id=f"i{n}", item=n, attributes=attributes)


def catalog_of(*records: ItemRecord) -> Catalog:
    catalog = Catalog()
    for action, term in (("click", 0), ("purchase", 1)):
        catalog.name("action", action, term)
    for term in range(5):
        catalog.name("category", f"c{term}", term)
    catalog.apply(records)
    for n in range(len(records)):  # the lower the number, the more popular
        catalog.count(0, {(n, 0): 1000 - 10 * n})
    catalog.columns.rank(np.ones(256, np.float32), NOW)
    return catalog


def soup(n: int) -> ItemRecord:
    return described(
        n,
        title=f"Soup {n}",
        categories=[f"c{n % 5}", f"c{(n + 1) % 5}"],
        kind=("beef", "vegan", "fish")[n % 3],
        provider=f"p{n % 2}",
        paid=n % 10 == 0,
    )


CATALOG = catalog_of(*map(soup, range(ITEMS)))


def rules_of(tmp_path: Path, text: str) -> Rules:
    file = tmp_path / "rules.yaml"
    file.write_text(text, encoding="utf-8")
    return Rules(load_rules(ACTIONS, file))


def shown(
    rules: Rules, settings: Recommending = CALM, state: UserState | None = None, **told: Any
) -> Slate:
    parts = Parts(
        None,  # type: ignore[arg-type]
        CATALOG,
        settings,
        np.ones(256, np.float32),
        Situations(load_situations()),
        rules=rules,
    )
    asked = {"at_ms": NOW, "size": 6, "seed": 1} | told
    return recommend_known(Request("ada", **asked), state or UserState(), parts)


def kinds(slate: Slate) -> list[str]:
    found = [CATALOG.at(item) for item in slate.items()]
    return [state.attribute("kind") for state in found if state]


def test_the_shipped_file_changes_nothing() -> None:
    shipped = load_rules(ACTIONS)

    assert shipped == RulesFile()
    assert shipped.count == 0
    assert Rules(shipped).permitted(CATALOG) is None
    assert Rules(shipped).for_pool(np.arange(5, dtype=np.int32), CATALOG, NOW) is NO_SLOT_RULES


REFUSED = {
    "an unknown key": ("ban:\n  item: [a]", 2, "ban.item: "),
    "a word of nothing": (
        "ban:\n  words:\n    - ok\n    - ' '",
        4,
        "ban.words[1]: expected a word",
    ),
    "a filter of nothing": ("ban:\n  where: {}", 2, "ban.where: expected at least one attribute"),
    "one of several filters": (
        "ban:\n  where:\n    - {a: 1}\n    - {b: {most: 1}}",
        4,
        "ban.where[1].b: expected a value, a list, or gte, lte and not",
    ),
    "a filter on nothing": (
        "boost:\n  - by: 1\n    where:\n      born: null",
        4,
        "boost[0].where.born: expected text, numbers or booleans",
    ),
    "neither items nor where": ("boost:\n\n  - {by: 1}", 3, "boost[0]: expected either items or"),
    "both items and where": (
        "pin:\n  - {slot: 1, items: [a], where: {b: 1}}",
        2,
        "pin[0]: expected either items or where",
    ),
    "no items": ("pin:\n  - slot: 1\n    items: []", 3, "pin[0].items: expected at least one item"),
    "a boost without size": ("boost:\n  - {items: [a]}", 2, "boost[0]: "),
    "a boost that is no number": ("boost:\n  - items: [a]\n    by: .nan", 3, "boost[0].by: "),
    "a slot above the top": ("pin:\n  - items: [a]\n    slot: 0", 3, "pin[0].slot: "),
    "a slot below the end": ("pin:\n  - items: [a]\n    slot: 101", 3, "pin[0].slot: "),
    "an unreadable time": (
        "boost:\n  - items: [a]\n    by: 1\n    from: soon",
        4,
        "boost[0].from: expected RFC 3339",
    ),
    "a time without offset": (
        "boost:\n  - items: [a]\n    by: 1\n    until: 2026-01-01T00:00:00",
        4,
        "boost[0].until: expected a date, a time and an offset",
    ),
    "a time that is a number": (
        "boost:\n  - items: [a]\n    by: 1\n    until: 12",
        4,
        "boost[0].until: Expected `str | null`, got `int`",
    ),
    "an end at the start": (
        "pin:\n  - items: [a]\n    slot: 1\n    from: 2026-01-02\n"
        "    until: '2026-01-02T00:00:00Z'",
        5,
        "pin[0].until: expected a time after `from`",
    ),
    "two pins on one slot": (
        "pin:\n  - {items: [a], slot: 2}\n  - items: [b]\n    slot: 2\n    surfaces: [home]",
        4,
        "pin[1].slot: pin[0] has slot 2 at the same time",
    ),
    "an item pinned twice": (
        "pin:\n  - {items: [a], slot: 2}\n  - slot: 3\n    items: [a]",
        4,
        "pin[1].items: pin[0] has the same item in another slot",
    ),
    "a pinned item that is banned": (
        "ban: {items: [a]}\npin:\n  - slot: 1\n    items:\n      - b\n      - a",
        6,
        "pin[0].items[1]: 'a' is banned",
    ),
    "a pinned filter that is banned": (
        "ban: {where: [{x: 1}, {y: 1}]}\npin:\n  - slot: 1\n    where: {y: 1}",
        4,
        "pin[0].where: what it matches is banned",
    ),
    "identical sides": (
        "never_together:\n  - first: {a: 1}\n    second: {a: 1}",
        3,
        "never_together[0].second: expected another filter",
    ),
    "both sides pinned": (
        "never_together:\n  - {first: {a: 1}, second: {a: 2}}\n"
        "pin:\n  - {where: {a: 2}, slot: 1}\n  - slot: 2\n    where: {a: 1}",
        6,
        "pin[1].where: never_together[0] lets it not stand with pin[0]",
    ),
    "at most none": ("most:\n  - of: provider\n    count: 0", 3, "most[0].count: "),
    "a window of none": (
        "most:\n  - of: a\n    count: 1\n    window: 0",
        4,
        "most[0].window: ",
    ),
    "an unknown action": (
        "already:\n  - days: 3\n    actions:\n      - purchase\n      - purchsae",
        5,
        "already[0].actions[1]: 'purchsae' is not declared; the nearest is 'purchase'",
    ),
    "an action on nothing": (
        "already:\n  - {days: 3, actions: [open]}",
        2,
        "already[0].actions[0]: 'open' is no act on an item",
    ),
    "no action": ("already:\n  - days: 3\n    actions: []", 3, "already[0].actions: "),
    "days of none": ("already:\n  - actions: [purchase]\n    days: 0", 3, "already[0].days: "),
    "a reward for being seen": ("seen_often:\n  by: -1", 2, "seen_often.by: "),
    "no sponsored slot": ("sponsored:\n  - items: [a]\n    slots: []", 3, "sponsored[0].slots: "),
    "a sponsored slot that is pinned": (
        "sponsored:\n  - {items: [a], slots: [1, 4]}\npin:\n  - items: [b]\n    slot: 4",
        5,
        "pin[0].slot: slot 4 is one of sponsored[0]",
    ),
    "a pin of what is sponsored": (
        "sponsored:\n  - {where: {x: 1}, slots: [4]}\npin:\n  - {where: {x: 1}, slot: 1}",
        4,
        "pin[0]: sponsored[0] lets these stand in its own slots only",
    ),
    "no list": ("pin: {slot: 1}", 1, "pin: "),
    "no yaml": ("pin: [", 1, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_hold_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    text, line, detail = REFUSED[name]
    file = tmp_path / "rules.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_rules(ACTIONS, file)
    assert str(refused.value).startswith(f"{file}:{line}: {detail}")


@pytest.mark.parametrize(
    "text",
    [
        "pin: [{items: [a], slot: 1, surfaces: [x]}, {items: [a], slot: 1, surfaces: [y]}]",
        "pin: [{items: [a], slot: 1, modules: [x]}, {items: [b], slot: 1}]",
        "pin: [{items: [a], slot: 1, modules: [x]}, {items: [b], slot: 1, modules: [y]}]",
        "pin: [{items: [a], slot: 1, until: 2026-05-01},"
        " {items: [b], slot: 1, from: 2026-05-01, until: 2026-05-01T00:00:01+00:00}]",
        "sponsored: [{items: [a], slots: [1], modules: [x]}]\npin: [{items: [b], slot: 1}]",
        "sponsored: [{items: [a], slots: [1], surfaces: [x]}]\n"
        "pin: [{items: [b], slot: 1, surfaces: [y]}]",
    ],
)
def test_rules_that_never_meet_stand_side_by_side(tmp_path: Path, text: str) -> None:
    assert rules_of(tmp_path, text).file.count == 2


def why(rules: Rules, item: int, catalog: Catalog = CATALOG) -> str | None:
    none = np.zeros(0, np.int32)
    found = find_eligible(catalog, UserState(), NOW, {}, none, False, rules)
    reason = found.why_not(item, catalog, NOW)
    assert found.allowed[item] == (reason is None)
    return reason


def test_bans_say_which(tmp_path: Path) -> None:
    rules = rules_of(
        tmp_path,
        'ban: {items: [i3, nobody], words: ["soup 4", OUP, "p1"], where: {kind: fish, paid: true}}',
    )
    assert why(rules, 3) == "banned: item"
    assert why(rules, 4) == "banned: word 'soup 4'"
    assert why(rules, 7) == "banned: word 'p1'"
    assert why(rules, 20) == "banned: where"
    assert why(rules, 8) is None
    assert not {3, 4, 7, 20} & set(shown(rules, size=30).items())


def test_words_are_whole_and_of_any_text() -> None:
    catalog = catalog_of(
        described(0, title="Casino night"),
        described(1, title="The casinos"),
        described(2, tags=["CASINO"]),
        described(3, title="raw  milk"),
        described(4, year=1999),
    )
    ban = RulesFile(ban=_ban(words=["casino", "raw milk"]))

    assert [why(Rules(ban), n, catalog) for n in range(5)] == [
        "banned: word 'casino'",
        None,
        "banned: word 'casino'",
        None,
        None,
    ]


def _ban(**told: Any) -> Any:
    return type(RulesFile().ban)(**told)


def test_a_ban_follows_what_changes() -> None:
    catalog = catalog_of(described(0, title="fine"), described(1, title="fine"))
    rules = Rules(RulesFile(ban=_ban(words=["bad"], where={"state": {"not": "good"}})))

    assert why(rules, 0, catalog) is None  # no item has a state: that matches nothing
    catalog.apply([ItemRecord(ts=2, arrived=2, item_id="i0", item=0, attributes={"title": "bad"})])
    assert why(rules, 0, catalog) == "banned: word 'bad'"
    catalog.apply(
        [
            ItemRecord(
                ts=3, arrived=3, item_id="i0", item=0, attributes={"title": "", "state": "good"}
            )
        ]
    )
    assert why(rules, 0, catalog) is None
    assert why(rules, 1, catalog) == "banned: where"
    catalog.apply(
        [described(n, title="bad" if n % 2 else "fine", state="good") for n in range(2, 9)]
    )
    catalog.apply([described(n, title="bad") for n in range(9, 9 + 2 * MANY)])
    assert [why(rules, n, catalog) is None for n in range(2, 11)] == [True, False] * 3 + [True] + [
        False
    ] * 2


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(0, 3),
            st.sampled_from(["a", "b"]),
            st.lists(st.sampled_from(["a", "b", 1, 2]), max_size=2),
        ),
        min_size=1,
        max_size=12,
    ),
    condition=st.one_of(
        st.sampled_from(["a", 1, True]),
        st.just(["a", 2]),
        st.fixed_dictionaries({"not": st.sampled_from(["a", 1, ["a", "b"]])}),
        st.fixed_dictionaries({"gte": st.integers(0, 3)}),
        st.fixed_dictionaries({"gte": st.integers(0, 3), "lte": st.integers(0, 3)}),
        st.fixed_dictionaries({"lte": st.integers(0, 3), "not": st.integers(0, 3)}),
    ),
)
def test_one_item_is_judged_as_all_are(values: list[Any], condition: Any) -> None:
    catalog = catalog_of(
        *(described(n, title="x", **({} if v is None else {"v": v})) for n, v in enumerate(values))
    )
    index, filter_ = catalog.attributes, {"v": condition}
    if index.knows(filter_):
        mask = index.mask(filter_, len(values)).tolist()
        assert [index.holds(filter_, n) for n in range(len(values))] == mask


def test_a_boost_moves_values_in_their_own_spread(tmp_path: Path) -> None:
    plain = shown(NO_RULES, size=5)
    rules = rules_of(tmp_path, "boost: [{where: {kind: fish}, by: 100}, {items: [i0], by: -100}]")
    found = shown(rules, size=5)

    assert plain.items() == [0, 1, 2, 3, 4]
    assert kinds(found) == ["fish"] * 5
    assert found.items() == [2, 5, 8, 11, 14]
    assert 0 not in shown(rules, size=ITEMS - 1).items()
    first, second = (found.held[0].moved[n] for n in (0, 1))
    assert (first[0], second[0]) == ("boost[0]", "boost[1]")
    spread = float(np.std(np.sort(plain.ranked.values.astype(float))[-50:]))
    value = float(found.ranked.values[found.choices[0].row])
    assert found.choices[0].value == pytest.approx(value + 100 * spread)


@pytest.mark.parametrize("place", ["surfaces: [home]", "modules: [m]", "from: 2026-09-22",
                                   "until: 2026-09-21"])  # fmt: skip
def test_a_rule_holds_at_its_times_and_places(tmp_path: Path, place: str) -> None:
    rules = rules_of(tmp_path, f"boost: [{{items: [i9], by: 100, {place}}}]")

    assert shown(rules, surface="shop").items()[0] == 0
    there = {
        "surfaces: [home]": {"surface": "home"},
        "modules: [m]": {"module_id": "m"},
        "from: 2026-09-22": {"at_ms": NOW + DAY_MS},
        "until: 2026-09-21": {"at_ms": NOW - DAY_MS},
    }
    assert shown(rules, **there[place]).items()[0] == 9


@pytest.mark.parametrize("seed", range(20))
def test_a_pin_has_its_slot_whatever_is_drawn(tmp_path: Path, seed: int) -> None:
    rules = rules_of(tmp_path, "pin: [{items: [i29], slot: 3}, {where: {kind: fish}, slot: 1}]")
    found = shown(rules, LOUD, seed=seed, size=6)

    assert found.items()[2] == 29
    assert kinds(found)[0] == "fish"
    assert found.choices[2].propensity == 1.0
    labels = [
        held.label(choice.rule) for choice, held in zip(found.choices, found.held, strict=True)
    ]
    assert labels == ["pin[1]", None, "pin[0]", None, None, None]


def test_a_pin_of_no_module_is_for_lists_of_no_module(tmp_path: Path) -> None:
    rules = rules_of(
        tmp_path,
        "pin: [{items: [i9], slot: 1}, {items: [i8], slot: 1, modules: [m]}]",
    )
    assert shown(rules).items()[0] == 9
    assert shown(rules, module_id="m").items()[0] == 8
    assert shown(rules, module_id="other").items()[0] == 0


def test_a_pin_of_nothing_open_leaves_its_slot_to_the_best(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "pin: [{items: [nobody], slot: 1}, {items: [i9], slot: 2}]")
    away = np.array([9], np.int32)

    assert shown(rules, excluded=away).items() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", range(20))
def test_two_sides_never_stand_together(tmp_path: Path, seed: int) -> None:
    rules = rules_of(tmp_path, "never_together: [{first: {kind: beef}, second: {kind: vegan}}]")
    found = set(kinds(shown(rules, LOUD, seed=seed, size=10)))

    assert len(found & {"beef", "vegan"}) < 2
    assert len(shown(rules, LOUD, seed=seed, size=10).items()) == 10


@pytest.mark.parametrize("seed", range(20))
def test_at_most_so_many_of_one_value(tmp_path: Path, seed: int) -> None:
    rules = rules_of(
        tmp_path,
        "most: [{of: provider, count: 2, window: 3}, {of: kind, count: 3},"
        " {of: categories, count: 2}, {of: nothing, count: 1}]",
    )
    items = shown(rules, LOUD, seed=seed, size=30).items()

    assert len(items) == 9
    for end in range(3, 10):
        assert len({n % 2 for n in items[end - 3 : end]}) == 2
    assert max(np.bincount([n % 3 for n in items])) <= 3
    assert max(np.bincount([n % 5 for n in items])) <= 2


@pytest.mark.parametrize("seed", range(20))
def test_sponsored_items_stand_in_their_slots_alone(tmp_path: Path, seed: int) -> None:
    rules = rules_of(
        tmp_path,
        "sponsored: [{where: {paid: true}, slots: [2, 5]}]\nboost: [{where: {paid: true}, by: 9}]",
    )
    found = shown(rules, LOUD, seed=seed, size=8)

    paid = [place for place, item in enumerate(found.items()) if item % 10 == 0]
    assert set(paid) <= {1, 4}
    assert [p for p, c in enumerate(found.choices) if found.held[0].is_sponsored(c.rule)] == paid
    assert {found.held[0].label(found.choices[place].rule) for place in paid} <= {"sponsored[0]"}


def acted(*touches: tuple[int, int, int]) -> UserState:
    """(item, term, days ago)"""
    now_s = NOW // 1000
    packed = [TOUCH.pack(*Touch(i, term, now_s - days * DAY_S, 0)) for i, term, days in touches]
    return UserState(recent=b"".join(packed), last_s=now_s)


def test_what_was_done_already_stays_away_for_its_days(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "already: [{actions: [purchase], days: 7}]")
    state = acted((0, 1, 3), (1, 1, 9), (2, 0, 1))

    assert shown(rules, state=state).items()[0] == 3
    slate = shown(rules, state=state, include_seen=True)
    assert slate.items()[:2] == [1, 2]
    assert slate.eligible.why_not(0, CATALOG, NOW) == (
        "already: the user did lately what rules.yaml names"
    )
    assert shown(NO_RULES, state=state, include_seen=True).items()[0] == 0


def test_what_was_often_shown_sinks_until_it_is_acted_on(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "seen_often: {by: 10, days: 7}")
    now_s = NOW // 1000
    state = acted((2, 0, 1))
    state.shown = [
        (now_s - 9 * DAY_S, [3, 4]),
        (now_s - 3 * DAY_S, [0, 1, 2, 400]),
        (now_s - 60, [0, 5]),
    ]
    slate = shown(rules, state=state, include_seen=True, size=ITEMS)
    by_item = dict(
        zip(
            slate.candidates.items[slate.ranked.rows].tolist(),
            slate.held[0].added.tolist(),
            strict=True,
        )
    )
    assert {item: by for item, by in by_item.items() if by} == {0: -20, 1: -10, 5: -10}
    assert slate.items()[-1] == 0
    assert slate.items()[:3] == [2, 3, 4]


def test_rules_follow_another_catalogue() -> None:
    rules = Rules(RulesFile(ban=_ban(items=["i1"])))
    other = catalog_of(*map(soup, range(3)))

    assert why(rules, 1) == why(rules, 1, other) == "banned: item"
    assert why(rules, 1) == "banned: item"


def _items(n: int) -> NDArray[np.int32]:
    return np.arange(n, dtype=np.int32)


def test_an_empty_pool_has_rules_too(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "seen_often: {by: 1}\npin: [{items: [i1], slot: 1}]")
    state = acted((2, 0, 1))
    state.shown = [(NOW // 1000, [1, 2])]

    assert rules.for_pool(_items(0), CATALOG, NOW, state=state).pinned.shape == (0, 1)
