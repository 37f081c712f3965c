"""A page: modules with their items, on the two tribes' small catalogue and with real parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import columns
from engine.catalog import Catalog
from engine.decisions import new_decision_id, record_of
from engine.device import Device
from engine.module_book import ModuleBook
from engine.module_counts import LOOK, USED, Cell, ModuleCounts, week_of
from engine.module_history import ModuleHistory
from engine.modules import ModulesFile
from engine.objective import load_objective
from engine.page import decide_page, page_known
from engine.pipeline import NOBODY, Parts, Request, Slate
from engine.placed import Page
from engine.recommending import Recommending, SlateSettings
from engine.records import DecisionRecord, ItemRecord, decode_user_record, encode
from engine.situation import local_clock
from engine.state import UserState
from engine.taste import weights_by_term
from engine.times import DAY_MS, HOUR_MS
from tests.engine.test_pipeline import (
    ACTIONS,
    BAKING,
    BARE,
    CATALOG,
    GRILLING,
    ITEMS,
    RANKED,
    RETRIEVAL,
    SITUATIONS,
    Told,
    act,
    catalog,
    gone,
    ids,
    late,
)

NOW = 1_770_000_000_000  # a Monday, 2026-02-02T02:40:00Z
PHONE = Device(place="supermarket", activity={"walking": 1.0}, device_type="phone")

EVERYTHING = """
segments: {sweet: {diet: sweet}}
modules:
  go_on: {title: Go on, items: {from: continue, actions: [view, like], unless: [cook], days: 5}}
  because: {title: "Because of {item}", items: {from: because, actions: [like], least: 2}}
  for_you: {title: For you, items: {from: for_you, least: 2}}
  quick: {title: Quick, items: {from: for_you, where: {minutes: {lte: 10}}, least: 3, most: 4}}
  yours: {title: "More {category}", items: {from: favourite, least: 1}}
  popular: {title: Popular, items: {from: popular, least: 3}}
  fresh: {title: New, items: {from: fresh, least: 2, most: 3}}
  chosen: {title: Ours, items: {from: listed, ids: [i37, i1, i5, i38, nobody, i5, i9], least: 2}}
"""


def book_of(
    text: str, counts: ModuleCounts | None = None, items: Catalog = CATALOG, at_ms: int = NOW
) -> ModuleBook:
    file = msgspec.convert(yaml.safe_load(text), ModulesFile)
    names = SITUATIONS.names
    found = counts or ModuleCounts()
    return ModuleBook(file, names, load_objective(ACTIONS), found, items, at_ms)


BOOK = book_of(EVERYTHING)


def ask(
    text: str | ModuleBook = BOOK,
    state: UserState = NOBODY,
    parts: Parts = RETRIEVAL,
    modules: int = 10,
    locale: str | None = None,
    **told: Any,
) -> Slate:
    told = {"at_ms": NOW, "size": 4, "seed": 1, "explore": False} | told
    book = text if isinstance(text, ModuleBook) else book_of(text, items=parts.catalog)
    return page_known(Request("u", **told), modules, locale, state, parts, book)


def page_of(slate: Slate) -> Page:
    assert slate.page is not None
    return slate.page


def shown(slate: Slate) -> dict[str, list[int]]:
    """Module -> its items, from the top."""
    items = iter(slate.items())
    return {one.module_id: [next(items) for _ in one.choices] for one in page_of(slate).placed}


def titles(slate: Slate) -> dict[str, str]:
    return {one.module_id: one.title for one in page_of(slate).placed}


def closed(slate: Slate) -> dict[str, str]:
    return dict(page_of(slate).closed)


def person(*acts: tuple[int, str], hours_ago: float = 1.0, **attributes: Any) -> UserState:
    """Somebody who did this, one after the other a minute apart."""
    state = UserState()
    start = NOW - round(hours_ago * HOUR_MS)
    for number, (item, action) in enumerate(acts):
        act(state, item, action, start + number * 60_000)
    state.attributes = {name: (NOW - 1, value) for name, value in attributes.items()}
    return state


def one(items: str, rest: str = "", title: str = "T") -> str:
    """A file of one module."""
    fields = f", {rest}" if rest else ""
    return f"modules: {{m: {{title: '{title}', items: {{{items}}}{fields}}}}}"


# -- the whole


def test_a_page_holds_all_that_it_was_made_of() -> None:
    baker = person((1, "like"), (2, "like"))
    slate = ask(state=baker, parts=RANKED)
    page = page_of(slate)

    assert slate.degraded is None
    assert (slate.release, slate.config_version) == ("r1", "c1")
    assert len(page.placed) == len(shown(slate)) >= 5
    assert page.scores.keys() | page.closed.keys() == set(BOOK.file.names)
    assert page.closed.keys().isdisjoint(shown(slate))
    assert set(page.scores) == set(BOOK.file.names)  # none was closed before its turn
    for placed in page.placed:
        assert placed.score == page.scores[placed.module_id]
        assert placed.module_id in placed.eligible
        assert set(placed.eligible) <= set(page.scores)


def test_a_page_is_one_decision_in_the_log() -> None:
    slate = ask(state=person((1, "like"), (2, "like")), explore=True)
    record = decode_user_record(encode(record_of(slate, new_decision_id(1, NOW), NOW)))

    assert isinstance(record, DecisionRecord)
    assert record.page is not None
    assert [slot.item for slot in record.slots] == slate.items()
    lengths = {module.module_id: module.items for module in record.page.placed}
    assert lengths == {name: len(items) for name, items in shown(slate).items()}
    named = [
        [record.page.modules[number] for number in placed.eligible] for placed in record.page.placed
    ]
    assert named == [list(placed.eligible) for placed in page_of(slate).placed]
    assert record.page.propensity == page_of(slate).propensity
    product = np.prod([placed.propensity for placed in record.page.placed])
    assert record.page.propensity == pytest.approx(float(product))
    because = {m.module_id: m.because for m in record.page.placed}["because"]
    assert because == 2


def test_modules_and_items_are_as_many_as_were_asked_for() -> None:
    assert len(page_of(ask(modules=2)).placed) == 2
    assert {len(items) for items in shown(ask(size=1)).values()} == {1}
    assert len(shown(ask(one("from: popular, most: 3"), size=10))["m"]) == 3
    assert closed(ask(modules=1))["fresh"] == "the page is full"


def test_without_exploration_luck_has_no_part() -> None:
    baker = person((1, "like"), (3, "view"))
    pages = [ask(state=baker, seed=seed) for seed in range(20)]

    assert all(shown(page) == shown(pages[0]) for page in pages)
    assert list(shown(pages[0])) == list(shown(pages[7]))
    assert {placed.propensity for page in pages for placed in page_of(page).placed} == {1.0}
    assert {choice.propensity for page in pages for choice in page.choices} == {1.0}


def test_the_same_seed_gives_the_same_page() -> None:
    exploring = replace(RETRIEVAL, settings=Recommending())
    pages = [ask(parts=exploring, seed=seed, explore=True) for seed in range(20)]
    again = [ask(parts=exploring, seed=seed, explore=True) for seed in range(20)]

    assert [page.page for page in pages] == [page.page for page in again]
    assert len({tuple(shown(page)) for page in pages}) > 10


def test_what_people_use_goes_up_and_what_they_pass_by_goes_down() -> None:
    text = "\n".join(
        ["modules:"] + [f"  {n}: {{title: T, items: {{from: for_you}}}}" for n in "abc"]
    )
    counts = ModuleCounts()
    book = book_of(text, counts)
    assert list(shown(ask(book, size=2))) == ["a", "b", "c"]

    week = week_of(NOW)
    click = CATALOG.terms["action"]["click"]
    for name, used in [("a", 10), ("b", 300), ("c", 50)]:
        told = {LOOK: 1000, USED: used, click: used}
        cells = {Cell(name, "", 0, 0, week, term): many for term, many in told.items()}
        counts.take(0, cells)
    assert list(shown(ask(book, size=2))) == ["a", "b", "c"]  # until it is read
    book.refresh(NOW)
    assert list(shown(ask(book, size=2))) == ["b", "c", "a"]


# -- what may be shown

WAYS: dict[str, Callable[[Parts], Parts]] = {
    "well": lambda parts: parts,
    "store": gone,
    "deadline": late,
}
BAKER = person((1, "like"), (3, "view"), (21, "view"), (2, "like"), (4, "cook"), (3, "cook"))
ACTED = {1, 2, 3, 4, 21}


@settings(max_examples=150, deadline=None)
@given(
    way=st.sampled_from(sorted(WAYS)),
    base=st.sampled_from([BARE, RETRIEVAL, RANKED]),
    state=st.sampled_from([NOBODY, BAKER]),
    size=st.integers(1, 12),
    modules=st.integers(1, 20),
    seed=st.integers(0, 2**63 - 1),
    filter_=st.sampled_from(
        [{}, {"nuts": False}, {"minutes": {"gte": 5, "lte": 30}}, {"categories": {"not": "baking"}}]
    ),
    excluded=st.lists(st.integers(0, ITEMS + 3), max_size=10),
    explore=st.booleans(),
    most_of_category=st.integers(0, 2),
)
def test_no_module_breaks_what_was_asked(
    way: str,
    base: Parts,
    state: UserState,
    size: int,
    modules: int,
    seed: int,
    filter_: dict[str, Any],
    excluded: list[int],
    explore: bool,
    most_of_category: int,
) -> None:
    rules = SlateSettings(0.3, diversity=0.5, most_of_category=most_of_category)
    base = replace(base, settings=Recommending(slate=rules), users=Told({"u": state}))
    request = Request(
        "u", NOW, size, seed, excluded=ids(*excluded), filter=filter_, explore=explore
    )
    slate = asyncio.run(decide_page(request, modules, None, WAYS[way](base), BOOK))

    may = set(range(38)) - set(excluded)
    if "nuts" in filter_:
        may &= {item for item in may if item % 3}
    if "minutes" in filter_:
        may &= set(range(5, 31))
    if "categories" in filter_:
        may &= set(GRILLING)
    every = slate.items()
    assert len(set(every)) == len(every)
    assert set(every) <= may
    assert len(page_of(slate).placed) <= modules
    unread = state is NOBODY or way == "store"
    for name, items in shown(slate).items():
        told = BOOK.file.modules[name].items
        assert min(told.least, size) <= len(items) <= min(told.most, size)
        if name not in ("go_on", "chosen") and not unread:
            assert not ACTED & set(items)
    assert not unread or "go_on" not in shown(slate)
    assert all(0 < placed.propensity <= 1 for placed in page_of(slate).placed)
    assert (slate.degraded is None) == (way == "well" and base.release is not None)


def test_what_was_acted_on_stands_where_it_is_meant_alone() -> None:
    page = shown(ask(state=BAKER, size=10))

    assert page["go_on"] == [2, 21, 1]  # 3 was cooked after it was viewed, 4 only cooked
    assert {1, 2, 3, 4, 21} & {n for name, row in page.items() for n in row} == {1, 2, 21}


@pytest.mark.parametrize("source", ["continue, actions: [view]", "listed, ids: [i1, i2, i39, i6]"])
def test_filter_exclusion_and_availability_hold_for_own_lists_too(source: str) -> None:
    state = person((6, "view"), (39, "view"), (2, "view"), (1, "view"))
    text = one(f"from: {source}")

    assert shown(ask(text, state)) == {"m": [1, 2, 6]}  # 39 is over
    assert shown(ask(text, state, excluded=ids(2))) == {"m": [1, 6]}
    assert shown(ask(text, state, filter={"minutes": {"gte": 2}})) == {"m": [2, 6]}
    assert shown(ask(text, state, filter={"nuts": False, "minutes": {"lte": 1}})) == {"m": [1]}
    assert shown(ask(text, state, filter={"minutes": 5})) == {}
    where = one(f"from: {source}, where: {{minutes: {{lte: 2}}}}")
    assert shown(ask(where, state)) == {"m": [1, 2]}


# -- sources


def test_continue_is_newest_first_unless_something_came_after() -> None:
    text = one("from: continue, actions: [view, save], unless: [cook, unsave], days: 2, most: 3")

    assert shown(ask(text, person((5, "view"), (6, "save"), (7, "view")))) == {"m": [7, 6, 5]}
    assert shown(ask(text, person((5, "view"), (6, "save"), (5, "view")))) == {"m": [5, 6]}
    ended = person((5, "view"), (6, "save"), (7, "cook"), (6, "unsave"))
    assert shown(ask(text, ended)) == {"m": [5]}
    assert shown(ask(text, person((5, "cook"), (5, "view")))) == {"m": [5]}  # begun again
    assert shown(ask(text, person((5, "like"), (6, "click")))) == {}
    assert shown(ask(text, person((5, "view"), hours_ago=47))) == {"m": [5]}
    assert shown(ask(text, person((5, "view"), hours_ago=49))) == {}
    many = person(*((n, "view") for n in range(10, 20)))
    assert shown(ask(text, many)) == {"m": [19, 18, 17]}


def test_because_is_like_the_last_item_and_names_it() -> None:
    text = one("from: because, actions: [like, save], days: 2", title="Because of {item}")
    slate = ask(text, person((25, "like"), (3, "save"), (26, "view")))

    assert set(shown(slate)["m"]) <= set(BAKING) - {3}
    assert titles(slate) == {"m": "Because of i3"}
    assert page_of(slate).placed[0].because == 3
    assert set(shown(ask(text, person((3, "like"), (25, "like"))))["m"]) <= set(GRILLING) - {25}
    nothing = {"m": "0 of at least 1 items"}
    assert closed(ask(text, person((3, "view")))) == nothing
    assert closed(ask(text, person((3, "like"), hours_ago=49))) == nothing
    assert closed(ask(text, person((3, "like")), BARE)) == nothing  # no model knows what is like it


def test_an_item_is_named_by_its_title() -> None:
    titled = catalog()
    told = {"title": "Brötchen {warm}", "categories": ["baking"]}
    titled.apply([ItemRecord(ts=NOW, arrived=NOW, item_id="i3", item=3, attributes=told)])
    titled.columns.rank(weights_by_term(ACTIONS, titled), NOW)
    text = one("from: because, actions: [like]", title="Because of {item}")
    slate = ask(text, person((3, "like")), replace(RETRIEVAL, catalog=titled))

    assert titles(slate) == {"m": "Because of Brötchen {warm}"}


def test_favourite_is_the_category_that_one_acts_on_most() -> None:
    text = one("from: favourite", title="More {category}")
    baking = ask(text, person((1, "like"), (2, "like"), (25, "like")))
    grilling = ask(text, person((1, "view"), (25, "like")))

    assert (titles(baking), titles(grilling)) == ({"m": "More baking"}, {"m": "More grilling"})
    assert set(shown(baking)["m"]) <= set(BAKING)
    assert set(shown(grilling)["m"]) <= set(GRILLING)
    assert closed(ask(text)) == {"m": "0 of at least 1 items"}
    assert closed(ask(text, person((1, "dismiss")))) == {"m": "0 of at least 1 items"}
    short = one("from: favourite, where: {minutes: {lte: 7}}", title="{category}")
    few = shown(ask(short, person((1, "like")), size=10))["m"]
    assert sorted(few) == [0, 2, 3, 4, 5, 6, 7]


def test_popular_fresh_and_listed_are_what_they_say() -> None:
    assert shown(ask(one("from: popular"))) == {"m": [37, 36, 35, 34]}
    # Of the nine newest the best: to somebody unknown these are the most popular.
    assert shown(ask(one("from: fresh"))) == {"m": [8, 7, 6, 5]}
    assert shown(ask(one("from: listed, ids: [i9, i38, nobody, i2, i9, i30]"))) == {"m": [9, 2, 30]}
    empty = {"m": "0 of at least 1 items"}
    assert closed(ask(one("from: fresh, where: {no_such: 1}"))) == empty


def test_a_filter_finds_what_is_neither_gathered_nor_among_the_most_popular(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the 5,000 most popular and newest items a filter found nothing."""
    monkeypatch.setattr(columns, "RANKED", 5)
    items = catalog()
    few = replace(
        RETRIEVAL,
        catalog=items,
        settings=msgspec.structs.replace(RETRIEVAL.settings, candidates=10),
    )
    for source in ("for_you", "popular"):
        text = one(f"from: {source}, where: {{minutes: {{gte: 14, lte: 17}}}}, least: 4")
        assert sorted(shown(ask(text, parts=few))["m"]) == [14, 15, 16, 17]


@pytest.mark.parametrize(
    "source",
    [
        *("for_you", "popular", "fresh", "favourite", "because, actions: [like]"),
        *("listed, ids: [i5, i6, i7, i8]", "continue, actions: [like]"),
    ],
)
def test_few_items_a_module_leave_no_module_out(source: str) -> None:
    """With one item a module, all that need three and look for their own were left out."""
    liked = person(*((item, "like") for item in (1, 2, 9, 3)))
    assert len(shown(ask(one(f"from: {source}, least: 3"), liked, size=1))["m"]) == 1


def test_a_list_goes_on_where_others_took_its_first_items() -> None:
    text = """
modules:
  top: {title: T, items: {from: popular, most: 2}, pin: 1}
  m: {title: T, items: {from: listed, ids: [i37, i36, i3, i4, i5], least: 3, most: 3}}
"""
    assert shown(ask(text)) == {"top": [37, 36], "m": [3, 4, 5]}


def test_an_item_that_comes_later_stands_in_lists_and_filters() -> None:
    growing = catalog()
    parts = replace(RETRIEVAL, catalog=growing)
    book = book_of(
        """
modules:
  m: {title: T, items: {from: listed, ids: [new, i3]}, pin: 1}
  n: {title: T, items: {from: for_you, where: {colour: red}}}
""",
        items=growing,
    )
    assert shown(ask(book, parts=parts)) == {"m": [3]}
    told = [
        ItemRecord(ts=NOW, arrived=NOW, item_id=name, item=ITEMS + n, attributes={"colour": "red"})
        for n, name in enumerate(["new", "newer"])
    ]
    growing.apply(told)
    growing.columns.rank(parts.action_weights, NOW)
    assert shown(ask(book, parts=parts)) == {"m": [3]}  # until the book looks again
    book.refresh(NOW)
    assert shown(ask(book, parts=parts)) == {"m": [ITEMS, 3], "n": [ITEMS + 1]}


# -- titles


@pytest.mark.parametrize(
    ("locale", "attribute", "expected"),
    [
        (None, None, "New"),
        ("de", None, "Neu"),
        ("de-AT", None, "Neu"),
        ("de_CH", None, "Nöi"),
        ("de-CH", None, "Nöi"),
        ("fr", None, "New"),
        ("", None, "New"),
        (None, "de", "Neu"),
        (None, 7, "New"),
        ("en", "de", "New"),
        ("fr", "de", "New"),
    ],
)
def test_titles_are_in_the_persons_language(
    locale: str | None, attribute: object, expected: str
) -> None:
    text = "modules: {m: {title: {en: New, de: Neu, de-CH: Nöi}, items: {from: fresh}}}"
    state = person(locale=attribute) if attribute is not None else NOBODY
    assert titles(ask(text, state, locale=locale)) == {"m": expected}


# -- rules of modules


@pytest.mark.parametrize(
    ("rule", "fits", "differs", "why"),
    [
        ("surfaces: [home, tv]", {"surface": "tv"}, {}, "not for surface none"),
        ("surfaces: [home]", {"surface": "home"}, {"surface": "tv"}, "not for surface tv"),
        ("when: {situations: [shopping]}", {"device": PHONE}, {}, "not for situation unknown"),
        ("when: {situations: [unknown]}", {}, {"device": PHONE}, "not for situation shopping"),
        ("when: {hours: [1-3]}", {}, {"at_ms": NOW + HOUR_MS}, "not at 03 h"),
        ("when: {hours: [22-3]}", {}, {"at_ms": NOW - 5 * HOUR_MS}, "not at 21 h"),
        ("when: {weekdays: [sun, mon]}", {}, {"at_ms": NOW + DAY_MS}, "not on a tue"),
        ("when: {weekdays: [mon]}", {}, {"at_ms": NOW - 3 * HOUR_MS}, "not on a sun"),
        ("when: {until: '2026-02-03'}", {}, {"at_ms": NOW + DAY_MS}, "not on this date"),
        ("when: {from: '2026-02-02'}", {}, {"at_ms": NOW - 3 * HOUR_MS}, "not on this date"),
        (
            "when: {from: '2026-02-02T03:40:00+01:00'}",
            {},
            {"at_ms": NOW - 1},
            "not on this date",
        ),
    ],
)
def test_a_module_stands_where_and_when_it_may(
    rule: str, fits: dict[str, Any], differs: dict[str, Any], why: str
) -> None:
    text = one("from: popular", rule)
    assert set(shown(ask(text, **fits))) == {"m"}
    slate = ask(text, **differs)
    assert (shown(slate), closed(slate)) == ({}, {"m": why})
    assert page_of(slate).scores == {}  # it had no chance


def test_hours_and_days_are_the_persons_own() -> None:
    assert local_clock(None, "America/New_York", NOW) == (21 + 40 / 60, 6)
    text = one("from: popular", "when: {hours: [21-22], weekdays: [sun]}")
    assert set(shown(ask(text, person(time_zone="America/New_York")))) == {"m"}
    assert closed(ask(text)) == {"m": "not at 02 h"}


def test_segments_are_groups_by_attributes() -> None:
    text = """
segments: {plants: {diet: [vegan, vegetarian]}, old: {age: {gte: 60}}}
modules:
  m: {title: T, items: {from: popular}, when: {segments: [plants]}}
  n: {title: T, items: {from: fresh}, when: {segments: [old, plants]}}
"""
    nobody = ask(text, person(diet="all", age=20))
    assert shown(nobody) == {}
    assert closed(nobody) == dict.fromkeys("mn", "not for this person's segments")
    assert (page_of(nobody).segments, page_of(nobody).segment) == ([], "")
    old = ask(text, person(diet="all", age=60))
    assert (set(shown(old)), page_of(old).segment) == ({"n"}, "old")
    both = ask(text, person(diet="vegan", age=70))
    assert set(shown(both)) == {"m", "n"}
    assert (page_of(both).segments, page_of(both).segment) == (["plants", "old"], "plants")


def seen(ignored: int, hours_ago: float, today: int = 0, **attributes: Any) -> UserState:
    """Somebody who looked at m so often, last so long ago."""
    last_s = NOW // 1000 - round(hours_ago * 3600)
    state = person((1, "view"), **attributes)
    known = ModuleHistory({}, last_s, ignored, (NOW // DAY_MS, today))
    state.modules = {"m": known}
    return state


@pytest.mark.parametrize(
    ("ignored", "hours_ago", "rests"),
    [(0, 1, False), (2, 1, False), (3, 1, True), (3, 5, False), (4, 1, False), (6, 3.9, True)],
)
def test_a_module_that_nobody_uses_rests(ignored: int, hours_ago: float, rests: bool) -> None:
    """After each three looks in a row, four hours."""
    text = one("from: popular", "cooldown: {after: 3, hours: 4}")
    slate = ask(text, seen(ignored, hours_ago))

    assert set(shown(slate)) == (set() if rests else {"m"})
    if rests:
        assert closed(slate)["m"].startswith(f"looked at {ignored} times and not used: rests until")
    if rests and hours_ago == 1:
        assert closed(slate)["m"].endswith("2026-02-02T05:40:00.000Z")


def test_so_many_looks_a_day_and_no_more() -> None:
    text = one("from: popular", "most_a_day: 3")

    assert set(shown(ask(text, seen(2, 1, 2)))) == {"m"}
    assert closed(ask(text, seen(3, 1, 3))) == {"m": "was seen 3 times today"}
    assert set(shown(ask(text, seen(3, 1, 3), at_ms=NOW + DAY_MS))) == {"m"}
    # 2026-02-01 is it still in New York: what counts is the person's own day.
    away = seen(3, 1, 3, time_zone="America/New_York")
    assert set(shown(ask(text, away))) == {"m"}
    assert closed(ask(text, away, at_ms=NOW + 3 * HOUR_MS)) == {"m": "was seen 3 times today"}


MANY = "".join(f"  m{n}: {{title: T, items: {{from: for_you, most: 2}}}}\n" for n in range(5))


def test_a_pin_holds_its_slot_whatever_it_is_worth() -> None:
    text = f"modules:\n{MANY}  p: {{title: T, items: {{from: fresh}}, pin: 3, boost: 0.001}}\n"
    for seed in range(20):
        slate = ask(text, size=2, seed=seed, explore=True)
        assert list(shown(slate))[2] == "p"
        pinned = [placed.pinned for placed in page_of(slate).placed]
        assert pinned == [False, False, True, False, False, False]
        assert page_of(slate).placed[2].propensity == 1.0
        assert page_of(slate).placed[2].eligible == ("p",)
        assert "p" not in page_of(slate).placed[0].eligible


def test_with_too_few_modules_pins_move_up() -> None:
    text = """
modules:
  p: {title: T, items: {from: popular}, pin: 3}
  q: {title: T, items: {from: fresh}, pin: 9}
  a: {title: T, items: {from: for_you}}
"""
    assert list(shown(ask(text))) == ["a", "p", "q"]


def test_a_boost_lifts_and_lowers() -> None:
    text = f"modules:\n{MANY}".replace("m3: {", "m3: {boost: 3, ").replace(
        "m0: {", "m0: {boost: 0.1, "
    )
    slate = ask(text, size=2)

    assert list(shown(slate)) == ["m3", "m1", "m2", "m4", "m0"]
    scores = page_of(slate).scores
    assert scores["m3"] == pytest.approx(3 * scores["m1"])
    assert scores["m0"] == pytest.approx(0.1 * scores["m1"])


def test_what_is_wanted_in_a_situation_stands_first_there() -> None:
    text = f"modules:\n{MANY}".replace("m3: {", "m3: {wanted: {shopping: 5}, ")

    assert next(iter(shown(ask(text, size=2, device=PHONE)))) == "m3"
    assert next(iter(shown(ask(text, size=2)))) == "m0"


def test_below_stands_below() -> None:
    text = f"modules:\n{MANY}".replace("m0: {", "m0: {boost: 100, below: [m2, m4], ")
    assert list(shown(ask(text, size=2))) == ["m1", "m2", "m3", "m4", "m0"]
    assert closed(ask(text, size=2, modules=3))["m0"] == "waits for a module above it"
    text = text.replace("m2: {", "m2: {surfaces: [tv], ").replace("m4: {", "m4: {surfaces: [tv], ")
    assert list(shown(ask(text, size=2))) == ["m0", "m1", "m3"]  # these do not come at all


def test_never_together_is_never() -> None:
    text = f"never_together: [[m0, m1, m2], [m2, m3]]\nmodules:\n{MANY}"
    slate = ask(text, size=2)

    assert list(shown(slate)) == ["m0", "m3", "m4"]
    assert closed(slate) == dict.fromkeys(["m1", "m2"], "never together with m0")
    for seed in range(30):
        found = set(shown(ask(text, size=2, seed=seed, explore=True)))
        assert len(found & {"m0", "m1", "m2"}) == 1
        assert not {"m2", "m3"} <= found


def test_a_module_is_left_out_once_others_took_its_items() -> None:
    text = """
modules:
  a: {title: T, items: {from: listed, ids: [i1, i2, i3]}}
  b: {title: T, items: {from: listed, ids: [i2, i3, i4], least: 2}}
  c: {title: T, items: {from: listed, ids: [i3, i4]}}
"""
    slate = ask(text)
    assert shown(slate) == {"a": [1, 2, 3], "c": [4]}
    assert closed(slate) == {"b": "1 of at least 2 items"}
    assert "b" in page_of(slate).scores


# -- what can be missing


def test_an_empty_catalogue_gives_an_empty_page() -> None:
    nothing = Catalog()
    parts = replace(BARE, catalog=nothing)
    slate = ask(book_of(EVERYTHING, items=nothing), parts=parts)

    assert (slate.items(), page_of(slate).placed) == ([], [])
    assert page_of(slate).propensity == 1.0
    assert closed(slate)["for_you"] == "0 of at least 2 items"
    assert set(closed(slate)) == set(BOOK.file.names)
    known = ask(book_of(EVERYTHING, items=nothing), BAKER, parts)
    assert known.items() == []


def test_a_store_that_is_gone_gives_a_plainer_page_that_obeys() -> None:
    request = Request("u", NOW, 4, seed=1, filter={"nuts": False}, excluded=ids(37), explore=False)
    slate = asyncio.run(decide_page(request, 10, "de", gone(RETRIEVAL), BOOK))

    assert slate.degraded == "store"
    assert "popular" in shown(slate)
    assert {"go_on", "because", "yours"} <= set(closed(slate))
    assert all(item % 3 for item in slate.items())
    popular = book_of(one("from: popular"))
    slate = asyncio.run(decide_page(request, 10, None, gone(RETRIEVAL), popular))
    assert shown(slate) == {"m": [35, 34, 32, 31]}


@pytest.mark.parametrize(
    ("parts", "reason"), [(RETRIEVAL, None), (BARE, "no_release"), (late(RANKED), "deadline")]
)
def test_what_is_gone_is_said(parts: Parts, reason: str | None) -> None:
    slate = ask(parts=parts)
    assert slate.degraded == reason
    assert len(page_of(slate).placed) >= 4


def test_where_no_module_may_stand_the_page_is_empty() -> None:
    slate = ask(one("from: popular", "surfaces: [tv]"), explore=True)

    assert (slate.items(), page_of(slate).placed) == ([], [])
    assert closed(slate) == {"m": "not for surface none"}
    assert page_of(slate).scores == {}
