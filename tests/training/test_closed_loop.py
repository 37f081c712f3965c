"""The closed loop in a small world: what serving froze is what replay rebuilds."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from engine import features
from engine.objective import load_objective
from engine.recommending import load_recommending
from engine.rows import RowFiles
from engine.settings import Settings
from engine.times import LATEST_MS
from training.arms import lead
from training.closed_loop import (
    PARTITIONS,
    Decider,
    Period,
    begin,
    best_known,
    falls,
    make_log,
    run_loop,
    serve,
)
from training.skew import measure_skew
from training.world import World

USERS, ITEMS, PAST_DAYS, DAYS = 80, 150, 4, 2


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Period]]:
    """Two days of visits answered without a model, after four of an old policy's."""
    home = tmp_path_factory.mktemp("loop")
    world, log = World("birch", USERS, ITEMS, seed=3), make_log(home)
    begin(world, PAST_DAYS, log)
    decider = Decider(log, load_recommending(), load_objective(log.actions))
    periods, _ = run_loop(world, decider, None, trainings=1, days_between=DAYS // 2)
    return home, periods


def rows(home: Path) -> pl.DataFrame:
    return RowFiles(home / "rows").read(0, LATEST_MS).collect()


def test_every_visit_is_answered_logged_and_accounted_for(
    served: tuple[Path, list[Period]],
) -> None:
    home, periods = served
    visits = sum(period.visits for period in periods)

    assert [period.days for period in periods] == [(4, 5), (5, 6)]
    assert visits == rows(home)["decision_id"].n_unique() > 50
    assert all(0 < period.coverage <= 1 for period in periods)
    shown = rows(home).filter(pl.col("slot") >= 0)
    assert shown["propensity"].is_between(0, 1, closed="right").all()


def test_replayed_rows_equal_the_frozen_ones(served: tuple[Path, list[Period]]) -> None:
    home, periods = served
    found = measure_skew(Settings(home=str(home), partitions=PARTITIONS))

    assert found.decisions == sum(period.visits for period in periods)
    assert found.decisions_without_record == 0
    assert (found.unequal, found.counters_outside) == ({}, {})
    assert found.values_compared > 10_000


def test_a_changed_row_is_found(served: tuple[Path, list[Period]], tmp_path: Path) -> None:
    home, _ = served
    (tmp_path / "log").symlink_to(home / "log")
    spoilt = rows(home).with_columns(pl.col("acts") + 1, pl.col("item_acts") + 3)
    day = next((home / "rows").iterdir()).name
    (tmp_path / "rows" / day).mkdir(parents=True)
    spoilt.write_parquet(tmp_path / "rows" / day / "spoilt.parquet")

    found = measure_skew(Settings(home=str(tmp_path), partitions=PARTITIONS))

    assert found.unequal == {"acts": len(spoilt)}
    assert set(found.counters_outside) == {"item_acts"}
    assert set(found.unequal) < set(features.NAMES)


def test_a_fall_is_told_from_noise() -> None:
    assert falls([1.0, 1.0, 0.8, 0.7], 0.05)
    assert not falls([1.0, 1.1, 0.9, 1.0], 0.05)


def test_what_can_be_known_leads_what_is_popular_and_nothing_leads_itself() -> None:
    knows, does_not = (World("birch", USERS, ITEMS, seed=3) for _ in range(2))
    ids = list(knows.core.recipes.ids[:10])
    best = serve(knows, best_known(knows), DAYS)
    first = serve(does_not, lambda visit: (None, ids), DAYS)

    found = lead(knows, does_not, (0, DAYS))
    assert found.value_per_visit.value == pytest.approx(
        best.value_per_visit - first.value_per_visit
    )
    assert found.value_per_visit.low > 0
    assert found.returned_28 is None
    assert lead(knows, knows, (0, DAYS)).value_per_person.high == 0
