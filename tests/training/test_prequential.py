"""The protocol and its measures, by hand; then on a small set whose right answer is obvious."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from training.prequential import Contender, Group, Trial, compare, draw_cases, groups, judge, walk
from training.prequential_peers import (
    Chance,
    Constant,
    Popularity,
    attribute_popularity,
    peers,
)
from training.recorded import Event, record

USERS, ITEMS = 20, 12


def two_tribes() -> list[Event]:
    """Even people touch even items, odd people odd ones; everybody in an order of their own."""
    rng = np.random.default_rng(3)
    events: list[Event] = [{"type": "item", "item_id": f"i{n}"} for n in range(ITEMS)]
    acts = []
    for user in range(USERS):
        for place, item in enumerate(rng.permutation(np.arange(user % 2, ITEMS, 2)).tolist()):
            ts = 1000 * place + user
            who = {"type": "interaction", "event_id": f"{user}-{item}", "user_id": f"u{user}"}
            acts.append(who | {"action": "view", "item_id": f"i{item}", "ts": ts})
    return events + sorted(acts, key=lambda act: int(str(act["ts"])))


class Memory:
    """Knows nothing, and writes down when it was asked and what it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, tuple[int, ...]]] = []

    def rank(self, user: int) -> Sequence[int]:
        self.heard.append(("asked", user, ()))
        return []

    def tell(self, group: Group) -> None:
        self.heard.append(("told", group.user, group.items))


def test_ties_of_a_user_are_one_group_and_time_rules() -> None:
    at_s, users, items = (np.array(c) for c in ([5, 3, 5, 5, 3], [1, 1, 1, 2, 1], [7, 8, 9, 7, 8]))
    assert groups(users, items, at_s) == [
        Group(1, 3, (8,)),
        Group(1, 5, (7, 9)),
        Group(2, 5, (7,)),
    ]


def test_the_measures_by_hand() -> None:
    # The second and the fourth of three wanted; the third is nowhere.
    recall, ndcg, mrr = judge([10, 11, 12, 13], [11, 13, 99])
    assert recall == pytest.approx(2 / 3)
    gained = 1 / np.log2(3) + 1 / np.log2(5)
    assert ndcg == pytest.approx(gained / (1 + 1 / np.log2(3) + 1 / np.log2(4)))
    assert mrr == pytest.approx(1 / 2)


def test_only_the_twenty_that_are_asked_for_count() -> None:
    assert judge(range(100), [19]) == pytest.approx((1, 1 / np.log2(21), 1 / 20))
    assert judge(range(100), [24]) == (0.0, 0.0, 0.0)
    assert judge(range(100), range(40)) == pytest.approx((1, 1, 1))
    assert judge([], [1]) == (0.0, 0.0, 0.0)


def test_each_case_is_asked_before_it_is_told_and_all_is_told() -> None:
    acts = [Group(1, 1, (5,)), Group(2, 1, (6,)), Group(1, 2, (7, 8))]
    memory = Memory()
    walk(acts, [True, False, True], {"memory": memory})
    assert memory.heard == [
        ("asked", 1, ()),
        ("told", 1, (5,)),
        ("told", 2, (6,)),
        ("asked", 1, ()),
        ("told", 1, (7, 8)),
    ]


def test_hidden_items_are_predicted_and_never_told() -> None:
    acts = [Group(1, 1, (5, 6)), Group(1, 2, (6,))]
    memory, knowing = Memory(), Constant(np.array([6, 5]), np.array([2.0, 1.0]))
    trials = walk(acts, [True, True], {"memory": memory, "knowing": knowing}, hidden=[6])
    assert [event for event in memory.heard if event[0] == "told"] == [("told", 1, (5,))]
    assert trials["knowing"].hits.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert trials["memory"].hits.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_cases_are_drawn_by_user_and_the_same_every_time() -> None:
    acts = [Group(user, at, (at,)) for at in range(10) for user in range(1 + at % 3)]
    drawn = draw_cases(acts, 3, seed=1)
    counts = np.bincount([group.user for group, one in zip(acts, drawn, strict=True) if one])
    assert counts.tolist() == [3, 3, 3]
    assert drawn == draw_cases(acts, 3, seed=1)
    among = draw_cases(acts, 3, seed=1, among=[4, 7])
    assert {group.at_s for group, one in zip(acts, among, strict=True) if one} == {4, 7}


def test_means_over_cases_and_over_users_differ_as_they_should() -> None:
    trial = Trial(np.array([1, 1, 1, 2]), np.array([[1.0, 1, 1]] * 3 + [[0.0, 0, 0]]))
    means = trial.means()
    assert means["recall@20"] == 0.75
    assert means["recall@20 by user"] == 0.5


def test_the_interval_covers_the_true_difference_and_no_other() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        users = np.repeat(np.arange(80), 5)
        noise = rng.normal(0, 0.2, 80)[users] + rng.normal(0, 0.1, len(users))
        hard = rng.random((len(users), 1)) * np.ones(3)
        better = Trial(users, hard + 0.1 + noise[:, np.newaxis])
        found = compare(better, Trial(users, hard), 200)["ndcg@20"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.1 <= found.high
    assert covered >= 50  # of 60 at 95 %: fewer has a chance of 1e-4


def test_the_past_is_moved_whole_and_acts_of_one_time_stay_together() -> None:
    events = two_tribes()
    recorded = record(events, 0.5)
    assert len(recorded.acts) == USERS * ITEMS // 2
    times = [act["ts"] for act in recorded.acts]
    assert times[recorded.past - 1] < times[recorded.past]
    moved = list(recorded.past_events(1_000_000))
    acts = [event for event in moved if event["type"] == "interaction"]
    assert len(acts) == recorded.past
    assert acts[-1]["ts"] == 1_000_000
    assert np.diff([act["ts"] for act in acts]).tolist() == np.diff(times[: recorded.past]).tolist()


def test_items_left_out_leave_no_trace() -> None:
    recorded = record(two_tribes(), 0.5)
    without = list(recorded.past_events(1_000_000, without=[2, 3]))
    assert {event["item_id"] for event in without} == {f"i{n}" for n in range(ITEMS)} - {"i2", "i3"}


def test_popularity_counts_on_and_leaves_out_what_was_touched() -> None:
    popular = Popularity(3, [Group(1, 1, (2,)), Group(2, 1, (2, 1))])
    assert popular.rank(9).tolist() == [2, 1, 0]
    assert popular.rank(1).tolist() == [1, 0, 2]
    for at in range(3):
        popular.tell(Group(7, at, (0,)))
    assert popular.rank(9).tolist() == [0, 2, 1]


def test_a_peer_that_learns_tastes_beats_popularity_among_two_tribes() -> None:
    recorded = record(two_tribes(), 0.5)
    acts = recorded.groups(live=True)
    found = peers(recorded.matrix(), recorded.groups(live=False))
    chosen = {name: Shallow(found[name]) for name in ("item-item", "popularity")}
    trials = walk(acts, [True] * len(acts), chosen)
    difference = compare(trials["item-item"], trials["popularity"], 200)["mrr"]
    assert difference.low is not None
    assert difference.low > 0


class Shallow:
    """A peer whose first three answers alone count: there are twelve items."""

    def __init__(self, peer: Contender) -> None:
        self._peer = peer

    def rank(self, user: int) -> list[int]:
        return [int(item) for item in self._peer.rank(user)[:3]]

    def tell(self, group: Group) -> None:
        self._peer.tell(group)


def test_a_stranger_gets_what_is_popular_from_a_fitted_peer() -> None:
    recorded = record(two_tribes(), 0.5)
    found = peers(recorded.matrix(), recorded.groups(live=False))
    assert list(found["ALS"].rank(999)) == list(found["popularity"].rank(999))


def test_attribute_popularity_by_hand() -> None:
    counts = np.array([6, 2, 50, 0])
    attributes = [["a"], ["a", "b"], ["b"], ["a", "b"]]
    worth = attribute_popularity(counts, attributes, np.array([True, True, False, False]))
    # a: 8 touches of 2 items, b: 2 of 1; the third item had no chance to be touched.
    assert worth.tolist() == [4.0, 3.0, 2.0, 3.0]
    assert attribute_popularity(counts, [[], ["c"]], np.array([True, False])).tolist() == [0, 0]


def test_chance_is_any_order_and_seeded() -> None:
    items = np.arange(50)
    first, second = Chance(items, 1), Chance(items, 1)
    orders = [first.rank(0).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == items.tolist()
    assert second.rank(0).tolist() == orders[0]
