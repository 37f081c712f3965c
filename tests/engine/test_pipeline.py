"""The request's way: two tribes with opposite tastes, and everything that can be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import features
from engine.actions import load_actions
from engine.candidates import Sources
from engine.catalog import Catalog
from engine.device import Device
from engine.errors import StoreUnavailable
from engine.pipeline import Parts, Request, Slate, recommend, recommend_known
from engine.recommending import Recommending, SlateSettings
from engine.records import InteractionRecord, ItemRecord, TermRecord
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.state import UserState, fold
from engine.taste import weights_by_term
from models import item_item, spectral

NOW = 1_770_000_000_000
ITEMS = 40  # the first half is the bakers', the second the grillers'; 38 and 39 are not available
BAKING, GRILLING = range(20), range(20, 38)
ACTIONS = load_actions()


@dataclass
class Told:
    """User states by id, aliases followed; or a store that is gone."""

    states: dict[str, UserState] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    gone: bool = False

    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        if self.gone:
            raise StoreUnavailable("no answer")
        user_id = self.aliases.get(user_id, user_id)
        return user_id, self.states.get(user_id)


class Affinity:
    """A ranker that goes by one feature: what the user's categories say."""

    outcomes = ("click",)

    def chances(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows[:, [features.COLUMN["affinity_month"]]]

    first_chances = chances


def act(state: UserState, item: int, action: str = "like", ts: int = NOW - 60_000) -> UserState:
    declared = ACTIONS.by_name[action]
    record = InteractionRecord(
        ts=ts,
        arrived=ts,
        user_id="u",
        event_id=f"{item}-{ts}",
        action=action,
        term=list(ACTIONS.by_name).index(action),
        weight=declared.signed_weight,
        item_id=f"i{item}",
        item=item,
        categories=[0 if item < 20 else 1],
    )
    fold(state, record)
    return state


def catalog() -> Catalog:
    made = Catalog()
    for term, name in enumerate(["baking", "grilling"]):
        made.apply([TermRecord(ts=0, arrived=0, space="category", name=name, term=term)])
    for term, name in enumerate(ACTIONS.by_name):
        made.name("action", name, term)
    for item in range(ITEMS):
        told: dict[str, Any] = {"categories": ["baking" if item < 20 else "grilling"]}
        told |= {"minutes": item, "nuts": item % 3 == 0}
        until = {38: NOW - 1, 39: NOW - 1}.get(item)
        made.apply(
            [
                ItemRecord(
                    ts=NOW - 10**9 - item,
                    arrived=NOW,
                    item_id=f"i{item}",
                    item=item,
                    attributes=told,
                    available_until=until,
                )
            ]
        )
        made.count(0, {(item, 0): item + 1})
    made.columns.rank(weights_by_term(ACTIONS, made), NOW)
    return made


def tribes() -> sp.csr_matrix:
    """Sixty people who touch ten items of their own half each."""
    rng = np.random.default_rng(1)
    table = np.zeros((60, ITEMS), np.float32)
    for person in range(60):
        half = range(20) if person % 2 else range(20, ITEMS)
        table[person, rng.permutation(half)[:10]] = 1
    return sp.csr_matrix(table)


CATALOG = catalog()
SOURCES = Sources(
    factors=spectral.fit(tribes(), spectral.SpectralSettings(dimensions=8)),
    similar=item_item.fit(tribes(), item_item.ItemItemSettings()),
)
USERS = Told(
    {"baker": act(act(UserState(), 1), 2), "griller": act(act(UserState(), 21), 22)},
    aliases={"visitor": "baker"},
)
CALM = Recommending(slate=SlateSettings(explore=0.0, diversity=0.0))
SITUATIONS = Situations(load_situations())
BARE = Parts(
    USERS, CATALOG, CALM, weights_by_term(ACTIONS, CATALOG), SITUATIONS, config_version="c1"
)
RETRIEVAL = replace(BARE, sources=SOURCES, release="r1")
RANKED = replace(RETRIEVAL, ranker=Affinity(), outcome_weights=np.ones(1, np.float32))


def clock_of(*seconds: float) -> Callable[[], float]:
    told: Iterator[float] = iter(seconds)
    return lambda: next(told)


def gone(parts: Parts) -> Parts:
    return replace(parts, users=Told(gone=True))


def late(parts: Parts) -> Parts:
    """Each look at the clock comes a second later."""
    return replace(parts, clock=clock_of(*range(1000)))


def ask(user_id: str = "baker", parts: Parts = RETRIEVAL, **told: Any) -> Slate:
    told = {"at_ms": NOW, "size": 6, "seed": 1} | told
    return asyncio.run(recommend(Request(user_id, **told), parts))


def ids(*items: int) -> NDArray[np.int32]:
    return np.array(items, np.int32)


@pytest.mark.parametrize("parts", [RETRIEVAL, RANKED], ids=["retrieval", "ranker"])
def test_each_tribe_is_shown_its_own(parts: Parts) -> None:
    assert set(ask("baker", parts).items()) <= set(BAKING)
    assert set(ask("griller", parts).items()) <= set(GRILLING)


def test_a_decision_holds_all_that_it_was_made_of() -> None:
    slate = ask("baker", RANKED)
    n = len(slate.candidates.items)

    assert (slate.user_id, slate.release, slate.config_version) == ("baker", "r1", "c1")
    assert slate.degraded is None
    assert slate.rows.shape == (n, features.COUNT)
    assert len(slate.items()) == len(slate.choices) == 6
    for choice, item in zip(slate.choices, slate.items(), strict=True):
        assert slate.candidates.items[slate.candidate(choice)] == item
        affinity = slate.rows[slate.candidate(choice), features.COLUMN["affinity_month"]]
        assert choice.value == pytest.approx(affinity)
        assert choice.propensity == 1.0


def test_the_first_click_changes_the_answer() -> None:
    def after(*clicked: int) -> Slate:
        state = UserState()
        for item in clicked:
            act(state, item)
        return recommend_known(Request("new", NOW, 6, seed=1), state, RETRIEVAL)

    assert not set(after().items()) <= set(BAKING)
    assert set(after(5).items()) <= set(BAKING)
    assert set(after(25).items()) <= set(GRILLING)
    assert 5 not in after(5).items()


def test_an_alias_leads_to_the_same_answer() -> None:
    visitor, baker = ask("visitor"), ask("baker")

    assert visitor.user_id == "baker"
    assert visitor.items() == baker.items()


def test_somebody_unknown_is_shown_what_is_popular() -> None:
    slate = ask("nobody", RETRIEVAL)

    assert slate.items() == [37, 36, 35, 34, 33, 32]
    assert (slate.user_id, slate.degraded, slate.position) == ("nobody", None, 0)


def test_more_like_this_is_like_it_and_not_it() -> None:
    slate = ask("baker", RETRIEVAL, like=25)

    assert set(slate.items()) <= set(GRILLING) - {25}
    assert ask("griller", RANKED, like=3).items()[0] in BAKING
    assert 25 not in ask("baker", late(BARE), like=25).items()


def test_the_same_request_gives_the_same_slate() -> None:
    exploring = replace(RETRIEVAL, settings=Recommending())
    slates = [ask("baker", exploring, seed=seed) for seed in range(20)]

    assert [s.choices for s in slates] == [
        ask("baker", exploring, seed=seed).choices for seed in range(20)
    ]
    assert all(0 < c.propensity < 1 for s in slates for c in s.choices)
    fixed = [ask("baker", exploring, seed=seed, explore=False).items() for seed in range(5)]
    assert fixed == fixed[:1] * 5


def test_the_device_of_the_request_is_the_moment() -> None:
    slate = ask(device=Device(place="supermarket", activity={"walking": 1.0}, device_type="phone"))

    assert (slate.moment.name, slate.moment.device_type) == ("shopping", "phone")
    assert ask().moment.name == "unknown"


def test_as_if_it_were_another_time() -> None:
    then = ask("nobody", BARE, at_ms=NOW - 10_000, filter={"minutes": {"gte": 38}})

    assert sorted(then.items()) == [38, 39]  # still available at that time
    assert ask("nobody", BARE, filter={"minutes": {"gte": 38}}).items() == []


def test_filters_exclusions_and_what_was_acted_on() -> None:
    slate = ask("baker", filter={"nuts": False, "minutes": {"lte": 10}}, excluded=ids(4, 5, 99))

    assert sorted(slate.items()) == [7, 8, 10]  # 1 and 2 were liked
    assert sorted(ask(include_seen=True, filter={"minutes": {"lte": 3}}).items()) == [0, 1, 2, 3]


def test_only_the_candidates_asked_for() -> None:
    slate = ask("baker", RANKED, only=ids(30, 3, 39, 1, 99, 31, 4))

    assert slate.items() == [3, 4, 30, 31]  # best first; gone, acted on and unknown ones left out
    assert {slate.candidates.source(row) for row in range(4)} == {"given"}
    assert ask(only=ids()).items() == []


def test_a_slate_of_a_hundred_out_of_few() -> None:
    assert sorted(ask("nobody", BARE, size=100).items()) == [*range(38)]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (gone(RANKED), "store"),
        (BARE, "no_release"),
        (gone(BARE), "store"),
        (late(RANKED), "deadline"),
    ],
)
def test_what_is_gone_is_said(parts: Parts, reason: str) -> None:
    slate = ask("griller", parts)

    assert slate.degraded == reason
    assert len(slate.items()) == 6


def test_a_late_answer_is_popular_and_not_ranked() -> None:
    class Untouched(Affinity):
        def chances(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
            raise AssertionError("there was no time for this")

        first_chances = chances

    slate = ask("baker", late(replace(RANKED, ranker=Untouched())))
    worth = CATALOG.columns.popularity(np.array(slate.items(), np.int32))

    assert slate.degraded == "deadline"
    assert (np.diff(worth) <= 0).all()


def test_in_time_is_not_late() -> None:
    limit = CALM.deadline_ms / 1000
    assert ask(parts=replace(RANKED, clock=clock_of(5.0, 5.0 + limit))).degraded is None
    assert ask(parts=replace(RANKED, clock=clock_of(5.0, 5.001 + limit))).degraded == "deadline"


def test_an_item_that_was_just_told_of_is_a_candidate() -> None:
    growing = catalog()
    parts = replace(RETRIEVAL, catalog=growing)
    new = ItemRecord(ts=NOW, arrived=NOW, item_id="new", item=ITEMS, attributes={"minutes": 99})
    growing.apply([new])
    growing.columns.rank(parts.action_weights, NOW)

    assert ITEMS in ask("baker", parts).candidates.items.tolist()
    assert ask("baker", parts, filter={"minutes": 99}).items() == [ITEMS]
    assert ITEMS not in ask("baker").candidates.items.tolist()


WAYS: dict[str, Callable[[Parts], Parts]] = {
    "well": lambda parts: parts,
    "store": gone,
    "deadline": late,
    "both": lambda parts: late(gone(parts)),
}


@settings(max_examples=150, deadline=None)
@given(
    way=st.sampled_from(sorted(WAYS)),
    base=st.sampled_from([BARE, RETRIEVAL, RANKED]),
    user_id=st.sampled_from(["baker", "griller", "visitor", "nobody"]),
    size=st.integers(1, 100),
    seed=st.integers(0, 2**63 - 1),
    filter_=st.sampled_from(
        [{}, {"nuts": False}, {"minutes": {"gte": 5, "lte": 30}}, {"categories": {"not": "baking"}}]
    ),
    excluded=st.lists(st.integers(0, ITEMS + 3), max_size=10),
    only=st.none() | st.lists(st.integers(0, ITEMS + 3), max_size=15, unique=True),
    like=st.none() | st.integers(0, ITEMS - 1),
    include_seen=st.booleans(),
    explore=st.booleans(),
    rules=st.builds(SlateSettings, st.sampled_from([0.0, 0.5]), most_of_category=st.integers(0, 2)),
)
def test_no_answer_breaks_what_was_asked(
    way: str,
    base: Parts,
    user_id: str,
    size: int,
    seed: int,
    filter_: dict[str, Any],
    excluded: list[int],
    only: list[int] | None,
    like: int | None,
    include_seen: bool,
    explore: bool,
    rules: SlateSettings,
) -> None:
    parts = WAYS[way](replace(base, settings=Recommending(slate=rules)))
    CATALOG.attributes.check(filter_)

    slate = ask(
        user_id,
        parts,
        size=size,
        seed=seed,
        filter=filter_,
        excluded=np.array(excluded, np.int32),
        only=None if only is None else np.array(only, np.int32),
        like=like,
        include_seen=include_seen,
        explore=explore,
    )

    acted = {"baker": {1, 2}, "visitor": {1, 2}, "griller": {21, 22}}.get(user_id, set())
    if include_seen or way in ("store", "both"):  # what can't be read can't be left out
        acted = set()
    may = set(range(38)) - set(excluded) - acted - {like}
    if "nuts" in filter_:
        may &= {item for item in may if item % 3}
    if "minutes" in filter_:
        may &= set(range(5, 31))
    if "categories" in filter_:
        may &= set(range(20, 38))
    if only is not None:
        may &= set(only)
    items = slate.items()
    assert len(set(items)) == len(items) <= size
    assert set(items) <= may
    if not rules.most_of_category:
        assert len(items) == min(size, len(may))
    assert all(0 < choice.propensity <= 1 for choice in slate.choices)
    assert (slate.degraded is None) == (way == "well" and base is not BARE)
