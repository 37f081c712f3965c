"""Open Bandit rows as logged decisions: a made-up file, and the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.errors import NotFound
from training import off_policy_figures, open_bandit
from training.movielens import data_folder
from training.off_policy import TooLittleOverlap, effective_size, estimate

real = pytest.mark.skipif(
    not (data_folder() / open_bandit.NAME / "bts_women.parquet").is_file(),
    reason="the Open Bandit Dataset is not under KAIROS_DATA",
)
CLICKS = {0: 0.4, 1: 0.2, 2: 0.1}  # by item


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three items evenly; and three of which the first is shown more often where it stands low."""
    rng = np.random.default_rng(1)
    for policy in open_bandit.POLICIES:
        position = rng.integers(0, 3, 6_000)
        chances = np.full((3, 3), 1 / 3)
        if policy == "bts":
            chances = np.array([[0.2, 0.4, 0.4], [0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
        item = (rng.random(6_000)[:, None] > np.cumsum(chances, axis=1)[position]).sum(axis=1)
        table = {
            "item_id": item,
            "position": position + 1,
            "click": (rng.random(6_000) < np.array(list(CLICKS.values()))[item]).astype(int),
            "propensity_score": chances[position, item],
        }
        (tmp_path / open_bandit.NAME).mkdir(exist_ok=True)
        pl.DataFrame(table).write_parquet(tmp_path / open_bandit.NAME / f"{policy}_men.parquet")
    return tmp_path


@pytest.mark.parametrize(("source", "target"), [("random", "bts"), ("bts", "random")])
def test_each_policy_is_told_from_the_others_log(folder: Path, source: str, target: str) -> None:
    found = off_policy_figures.of_campaign(folder, source, target, "men")
    truth = {"random": 0.7 / 3, "bts": 0.15 + 0.25 * 0.5}[target]

    for method in ("ips", "snips", "dm", "dr", "switch"):
        value, low, high = found[method]
        assert value == pytest.approx(truth, abs=0.03)
        assert method == "dm" or abs(value - truth) < high - low  # twice as far as 95 % lie
    assert found["on policy, its own rows"][0] == pytest.approx(truth, abs=0.03)


def test_what_bts_showed_is_told_by_position(folder: Path) -> None:
    shown = open_bandit.read_shown(folder, "bts", "men")

    chances = open_bandit.chances(shown, "bts")

    assert chances.sum(axis=1) == pytest.approx(1)
    assert chances[:, 0] == pytest.approx([0.2, 0.5, 0.8], abs=0.04)
    assert open_bandit.chances(shown, "random") == pytest.approx(1 / 3)


def test_a_missing_file_says_where_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"bts_men\.parquet.*KAIROS_DATA"):
        open_bandit.read_shown(tmp_path, "bts", "men")


@real
def test_women_bts_to_random_is_refused() -> None:
    shown = open_bandit.read_shown(data_folder(), "bts", "women")
    rows = open_bandit.logged(shown, open_bandit.chances(shown, "random"))

    assert effective_size(rows.weights) == pytest.approx(2.08, abs=0.01)
    with pytest.raises(TooLittleOverlap, match=r"2\.1 of 10,000 rows"):
        estimate(rows, "snips")


@real
def test_women_random_to_bts_holds_what_bts_earned() -> None:
    found = off_policy_figures.of_campaign(data_folder(), "random", "bts", "women")

    on_policy = found["on policy, its own rows"][0]
    assert on_policy == pytest.approx(0.0046)
    for method in ("ips", "snips", "dr", "switch"):
        _, low, high = found[method]
        assert low < on_policy < high


def test_coverage_is_counted_by_user_and_by_row() -> None:
    found = off_policy_figures.coverage(runs=40, seed=1, users=100)

    by_user, by_row = found["snips, by user"], found["snips, by row"]
    assert by_user["coverage"] > by_row["coverage"]
    assert by_user["mean width"] > 1.3 * by_row["mean width"]
