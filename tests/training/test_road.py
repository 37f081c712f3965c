"""The training row's way in small worlds whose right answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.actions import Actions, load_actions
from engine.archive import Archive
from engine.decision_rows import DecisionRows
from engine.features import COLUMN, COUNT
from engine.ids import ITEMS, pack_position
from engine.objective import Objective, Outcome, load_objective
from engine.recommending import Recommending
from engine.records import (
    DecidedModule,
    DecidedPage,
    DecidedSlot,
    DecisionRecord,
    Entry,
    ImpressionRecord,
    ItemRecord,
    ShownItems,
    TermRecord,
    encode,
)
from engine.rows import RowFiles
from engine.settings import Settings
from engine.situation import Moment
from engine.situation_rules import load_situations
from models.registry import open_registry
from models.shipped import shipped_situations
from training.datasets import Seen, frozen_rows, seen_decisions
from training.evaluate import Judged, better, interval, judge, stakes
from training.examination import examination, examine
from training.history import read_history
from training.item_history import ItemHistory
from training.labels import Labeller
from training.material import Job, TooLittle
from training.moments import Case, NewActs
from training.replay import Point
from training.report import write_page
from training.run import evaluate_published, run
from training.settings import TrainingSettings, load_training

NOW = 1_770_000_000_000
HOUR = 3_600_000
PARTITIONS = 4


@pytest.fixture
def actions() -> Actions:
    return load_actions()


def tell_of_items(log: Any, count: int, actions: Sequence[str] = ("view",)) -> None:
    """Items 0 … count − 1, born at NOW, and the numbers of some actions."""
    common: dict[str, Any] = {"ts": NOW, "arrived": NOW}
    records: list[Any] = [
        ItemRecord(item_id=f"i{n}", item=n, attributes={"title": f"t{n}"}, **common)
        for n in range(count)
    ]
    records += [
        TermRecord(space="action", name=name, term=number, **common)
        for number, name in enumerate(actions)
    ]
    log.entries[ITEMS].append(Entry(pack_position("1-0"), [encode(one) for one in records]))


def test_history_counts_an_event_once_and_follows_aliases(log: Any, make: Any) -> None:
    tell_of_items(log, 3)
    first = make.act("visitor", NOW, item=1)
    log.add(first, first)  # appended twice after a failure
    log.add(make.alias("visitor", "ann", NOW + 1))
    log.add(make.act("ann", NOW + 2, item=2))
    log.add(make.act("visitor", NOW + 3, item=0))
    history = read_history(log, PARTITIONS)

    assert history.acts.item.tolist() == [1, 2, 0]
    assert {history.users[user] for user in history.acts.user.tolist()} == {"ann"}
    assert [history.users[owner] for owner in history.acts.owner.tolist()] == [
        "visitor",
        "ann",
        "visitor",
    ]


def test_history_forgets_the_erased(log: Any, make: Any) -> None:
    tell_of_items(log, 2)
    log.add(make.act("u", NOW), make.erase("u", NOW + 5), make.act("u", NOW + 9, item=0))

    assert read_history(log, PARTITIONS).acts.item.tolist() == [0]


def test_counters_walk_through_time_and_back(log: Any, make: Any) -> None:
    tell_of_items(log, 3)
    log.add(*(make.act("u", NOW + n * HOUR, item=n % 2) for n in range(1, 5)))
    weights = np.ones(256, np.float32)
    items = ItemHistory(read_history(log, PARTITIONS), weights)

    def counted(at: int) -> list[int]:
        return list(map(int, items.at(at).columns.counts[:3, 1]))

    assert counted(NOW + HOUR) == [0, 0, 0]  # just before
    assert counted(NOW + HOUR + 1) == [0, 1, 0]
    assert counted(NOW + 9 * HOUR) == [2, 2, 0]
    assert counted(NOW + 3 * HOUR) == [1, 1, 0]


def decided(user: str, at: int, decision: str, items: Sequence[int]) -> DecisionRecord:
    slots = [DecidedSlot(item, place) for place, item in enumerate(items)]
    return DecisionRecord(user_id=user, ts=at, arrived=at, decision_id=decision, slots=slots)


def test_what_was_not_seen_is_no_row(log: Any, make: Any) -> None:
    tell_of_items(log, 6)
    for number in range(3):
        log.add(decided("u", NOW + number, f"d{number}", [0, 1, 2, 3]))
    shown = [ShownItems(0, [0, 1])]
    log.add(
        ImpressionRecord(
            user_id="u", ts=NOW + 5, arrived=NOW + 5, event_id="s", decision_id="d0", shown=shown
        )
    )
    log.add(make.act("u", NOW + 6, item=2, decision_id="d1"))
    history = read_history(log, PARTITIONS)
    labeller = Labeller(history, Objective({"view": Outcome(1, ["view"])}), NOW + 99 * HOUR)
    found = seen_decisions(history, labeller, (NOW, NOW + 9), 10, seed=1)

    # d0: its impression; d1: all down to the act; d2: nothing says that it was looked at.
    assert [(history.decisions[one.row].decision_id, one.seen) for one in found] == [
        ("d0", [0, 1]),
        ("d1", [0, 1, 2]),
    ]


def paged(user: str, at: int, decision: str, rows: Sequence[Sequence[int]]) -> DecisionRecord:
    """A page with a module for each row."""
    made = decided(user, at, decision, [item for row in rows for item in row])
    placed = [DecidedModule(f"m{n}", len(row), 1.0, 1.0) for n, row in enumerate(rows)]
    page = DecidedPage([one.module_id for one in placed], placed, 1.0, 0)
    return msgspec.structs.replace(made, page=page)


def test_an_item_of_a_page_stands_where_it_stands_in_its_row(
    log: Any, make: Any, tmp_path: Path
) -> None:
    tell_of_items(log, 9)
    rows = [[0, 1, 2], [3, 4], [5, 6, 7]]
    for number in range(3):
        log.add(paged("u", NOW + number, f"d{number}", rows))
    shown = [ShownItems(0, [0], "m0"), ShownItems(1, [3, 4], "m1")]
    log.add(
        ImpressionRecord(
            user_id="u", ts=NOW + 5, arrived=NOW + 5, event_id="s", decision_id="d0", shown=shown
        )
    )
    log.add(make.act("u", NOW + 6, item=6, decision_id="d1"))
    log.add(make.act("u", NOW + 7, item=0, decision_id="d1"))
    history = read_history(log, PARTITIONS)
    labeller = Labeller(history, Objective({"view": Outcome(1, ["view"])}), NOW + 99 * HOUR)
    found = seen_decisions(history, labeller, (NOW, NOW + 9), 10, seed=1)

    # d1: of the row between the two acts nothing is known, nor of what stands behind them.
    told = [(history.decisions[one.row].decision_id, one.seen) for one in found]
    assert told == [("d0", [0, 3, 4]), ("d1", [0, 5, 6])]
    assert [one.seen_places.tolist() for one in found] == [[0, 0, 1], [0, 0, 1]]
    assert all(one.page for one in found)

    # So do the rows that serving wrote down, whose slots count through the page.
    files = RowFiles(tmp_path)
    files.write(
        [
            DecisionRows(
                "d1",
                "u",
                None,
                NOW + 1,
                NOW + 1,
                0,
                None,
                [f"i{n}" for n in range(8)],
                np.arange(8, dtype=np.int32),
                np.arange(8, dtype=np.int16),
                np.ones(8),
                np.ones(8),
                np.zeros(8, np.float32),
                np.zeros(8, np.uint8),
                np.zeros((8, COUNT), np.float32),
            )
        ]
    )
    frozen, rest = frozen_rows(files, history, found, labeller)
    assert frozen.features[:, COLUMN["position"]].tolist() == [0, 0, 1]
    assert frozen.labels[:, 0].tolist() == [1, 0, 1]
    assert [one.row for one in rest] == [0]


def test_rows_of_pages_and_lists_are_examined_apart() -> None:
    rng = np.random.default_rng(1)
    truth = {False: [1.0, 0.2, 0.2], True: [1.0, 0.8, 0.8]}
    decisions, acted = [], []
    for number in range(6000):
        page = number % 2 == 1
        items = rng.permutation(9)[:6].tolist()
        places = [0, 1, 2, 0, 1, 2] if page else list(range(6))
        seen = list(range(6 if page else 3))
        decisions.append(Seen(number, 0, Point("u", NOW), items, seen, places, page))
        acted.append(rng.random(len(seen)) < 0.4 * np.array([truth[page][places[s]] for s in seen]))
    found = examine(decisions, acted)

    np.testing.assert_allclose(found.lists, truth[False], atol=0.05)
    np.testing.assert_allclose(found.rows, truth[True], atol=0.05)
    np.testing.assert_allclose(found.at(decisions[1]), [1, 0.8, 0.8, 1, 0.8, 0.8], atol=0.05)
    assert examine([], []).lists.tolist() == [1]


def test_labels_wait_until_they_are_ripe(log: Any, make: Any) -> None:
    tell_of_items(log, 3, ("view", "save"))
    log.add(decided("u", NOW, "d", [0, 1]))
    log.add(make.act("u", NOW + HOUR, item=1, decision_id="d"))
    log.add(make.act("u", NOW + 2 * HOUR, item=0, term=1, action="save"))  # not because of d
    log.add(make.act("u", NOW + 20 * HOUR, item=2))
    history = read_history(log, PARTITIONS)
    objective = Objective(
        {
            "view": Outcome(1, ["view"], within_hours=3),
            "save": Outcome(1, ["save"], within_hours=3),
            "return": Outcome(1, within_hours=24, returns=True, after_hours=12),
        }
    )
    ripe = Labeller(history, objective, NOW + 24 * HOUR).of_decision(0, 0, NOW, [0, 1])
    early = Labeller(history, objective, NOW + 4 * HOUR).of_decision(0, 0, NOW, [0, 1])

    np.testing.assert_array_equal(ripe, [[0, 0, 1], [1, 0, 1]])
    np.testing.assert_array_equal(early, [[0, 0, np.nan], [1, 0, np.nan]])


def test_a_moment_is_judged_by_what_was_new_and_next(log: Any, make: Any) -> None:
    tell_of_items(log, 5)
    log.add(*(make.act("u", NOW + at * HOUR, item=item) for at, item in ((1, 0), (2, 1), (3, 0))))
    log.add(make.act("u", NOW + 40 * HOUR, item=2))
    history = read_history(log, PARTITIONS)
    new = NewActs(history, np.ones(256, np.float32))
    [first, second, last] = new.draw((NOW, NOW + 99 * HOUR), 9, 9, 24 * HOUR, seed=1)

    # What was taken up later in the day counts for nothing: another answer came before it.
    assert [case.truth.tolist() for case in (first, second, last)] == [[0], [1], [2]]
    assert [case.later.tolist() for case in (first, second, last)] == [[1], [], []]
    # What was done with it again within the horizon is worth something.
    assert [case.gains.tolist() for case in (first, second, last)] == [[2], [1], [1]]
    assert second.point == Point("u", NOW + 2 * HOUR)


def test_metrics_by_hand() -> None:
    case = Case(0, Point("u", 0), np.array([7, 8], np.int32), np.array([1.0, 3.0]))
    ndcg, recall, reciprocal = judge([5, 8, 6], case)

    assert ndcg == pytest.approx(3 / math.log2(3) / (3 + 1 / math.log2(3)))
    assert (recall, reciprocal) == (0.5, 0.5)
    assert judge([], case) == (0, 0, 0)


def test_a_decision_counts_for_what_is_at_stake() -> None:
    moment = Moment(NOW, 0, 0.0, None, 12.0, 0)
    shown = np.array([7, 8], np.int32)
    opened, cooked = (
        Judged(0, Point("u", 0), moment, shown, np.array(gains)) for gains in ([0, 1.0], [10.0, 1])
    )
    weights = stakes([opened, cooked])

    assert weights.mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(10 + 1 / math.log2(3))
    assert len(stakes([])) == 0


def test_an_interval_covers_the_mean_and_widens_with_fewer_users() -> None:
    values = np.random.default_rng(1).standard_normal(1000) + 1
    many = interval(np.arange(1000), values, 300)
    few = interval(np.arange(1000) % 10, values + np.arange(1000) % 10 - 4.5, 300)

    assert many.low is not None
    assert many.high is not None
    assert many.low < 1 < many.high
    assert better(many)
    assert not better(few)


def test_examination_is_told_from_attraction() -> None:
    rng = np.random.default_rng(1)
    attraction = rng.uniform(0.1, 0.6, 50)
    slots = rng.integers(0, 4, 40_000).astype(np.int32)
    # Good items stand high more often than not: raw rates would mislead.
    items = np.clip(rng.normal(10 * (slots + 1), 15, 40_000), 0, 49).astype(np.int32)
    attraction = np.sort(attraction)[::-1]
    truth = np.array([1.0, 0.7, 0.5, 0.3])
    acted = rng.random(40_000) < attraction[items] * truth[slots]

    np.testing.assert_allclose(examination(items, slots, acted), truth, atol=0.05)
    assert examination(items[:9], slots[:9], np.zeros(9, np.bool_)).tolist() == [1, 1, 1, 1]


TRIBES, OF_TRIBE, ITEMS_OF_TRIBE = 2, 40, 30


def tribes(log: Any, make: Any) -> None:
    """Two tribes, each with items of its own, and a few that everybody touches first."""
    tell_of_items(log, TRIBES * ITEMS_OF_TRIBE)
    rng = np.random.default_rng(1)
    for step in range(20):
        for user in range(TRIBES * OF_TRIBE):
            tribe = user % TRIBES
            # Half of a tribe's items are touched by all its members in an order of their own.
            order = np.random.default_rng(user).permutation(ITEMS_OF_TRIBE)
            item = int(order[step]) * TRIBES + tribe
            if rng.random() < 0.9:
                log.add(make.act(f"u{user}", NOW + (step * 100 + user) * HOUR, item=item))


@pytest.fixture
def job(tmp_path: Path, log: Any, make: Any, actions: Actions) -> Job:
    """A home whose log holds the two tribes."""
    tribes(log, make)
    settings = Settings(home=str(tmp_path), partitions=PARTITIONS)
    log.archive(Archive(settings.archive_path))
    training = msgspec.convert(
        {
            "factors": [{"kind": "spectral", "dimensions": 4}],
            "hybrid": {"epochs": 1, "factors": 4},
            "rows": {"decisions": 400},
            "ranker": {"positives": 50},
            "evaluation": {"moments": 200, "horizon_hours": 200, "resamples": 200},
        },
        TrainingSettings,
    )
    objective = Objective({"view": Outcome(1, ["view"], within_hours=48)})
    return Job(
        settings,
        training,
        actions,
        objective,
        Recommending(),
        shipped_situations(load_situations()),
        ("factors", "similar", "popular"),
    )


def test_two_tribes_are_told_apart_and_published(job: Job, tmp_path: Path) -> None:
    registry = open_registry(job.settings)
    report = run(job, registry)

    assert report.scores["factors"].value("ndcg@10") > 1.3 * report.scores["popular"].value(
        "ndcg@10"
    )
    assert report.better
    assert not any("no outcome names" in note for note in report.notes)
    release = registry.current()
    assert release is not None
    assert release.release_id == report.release_id
    assert set(release.models) == {"factors", "similar", "popular"}
    card = registry.card(registry.find("factors"))
    assert card.data is not None
    assert card.data.end == report.end
    assert card.dimensions is not None
    assert set(card.baselines) >= {"popular", "item-item"}
    write_page(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3
    assert report.release_id in page

    # Nothing has happened since: nothing can be proved, and nothing is published.
    again = run(job, registry)
    assert not again.better
    assert "nothing can be proved" in again.reason
    assert registry.current() == release
    assert evaluate_published(job, registry).release_id is None


def test_too_little_is_said(tmp_path: Path, log: Any, make: Any, job: Job) -> None:
    few = msgspec.structs.replace(job.settings, home=str(tmp_path / "other"))
    log.entries.clear()
    tell_of_items(log, 2)
    log.add(make.act("u", NOW))
    log.archive(Archive(few.archive_path))
    with pytest.raises(TooLittle, match="the log holds 1"):
        run(Job(few, *list(_fields(job))[1:]), open_registry(few))


def _fields(job: Job) -> list[Any]:
    return [getattr(job, name) for name in Job.__slots__]


def test_the_shipped_settings_are_read(actions: Actions) -> None:
    assert load_training().factors[0]["kind"] == "spectral"
    assert load_objective(actions).outcomes


def test_what_no_outcome_names_is_said(job: Job) -> None:
    blind = replace(job, objective=Objective({"save": Outcome(1, ["save"])}))
    report = run(blind, open_registry(job.settings))

    assert "liked by these acts, which no outcome names: view" in report.notes
    assert any(note.startswith("no ranker") for note in report.notes)
