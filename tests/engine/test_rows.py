"""Training rows on a disk: exact, written beside others, erased for good."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine import features, rows
from engine.catalog import Catalog
from engine.decision_rows import NOT_SHOWN, SCHEMA, DecisionRows, frame, rows_of
from engine.pipeline import Slate
from engine.rows import JOIN_AT, RowFiles
from engine.times import DAY_MS

NOW = 1_770_000_000_000  # 2026-02-02T02:40:00Z
FOREVER = 4_000_000_000_000

Decide = Callable[..., Slate]
Make = Callable[..., DecisionRows]


@pytest.fixture
def files(tmp_path: Path) -> RowFiles:
    return RowFiles(tmp_path / "rows")


@pytest.fixture
def decided(decide: Decide, item_catalog: Catalog) -> Make:
    """The rows of one decision about a user."""

    def make(user_id: str, at_ms: int = NOW, arrived_ms: int | None = None, **told: Any) -> Any:
        sampled = told.pop("sampled", 3)
        decision_id = told.pop("decision_id", f"{user_id} {at_ms}")
        slate = decide(user_id, at_ms, **told)
        arrived_ms = at_ms if arrived_ms is None else arrived_ms
        return rows_of(slate, decision_id, arrived_ms, sampled, item_catalog)

    return make


def read(files: RowFiles, since: int = 0, until: int = FOREVER) -> pl.DataFrame:
    return rows.collect(files.read(since, until)).sort("decision_id", "slot", "item")


def users(files: RowFiles) -> Counter[str]:
    """How many rows of each user there are."""
    return Counter(read(files)["user_id"].to_list())


def age(files: RowFiles, seconds: float = 2 * rows.SETTLED_S) -> None:
    """Make all files look as if they had been written earlier."""
    for file in files.path.rglob("*.*"):
        at = file.stat().st_mtime - seconds
        os.utime(file, (at, at))


def on_disk(files: RowFiles) -> list[Path]:
    return sorted(files.path.glob("*-*-*/*"))


def test_nothing_was_written(files: RowFiles) -> None:
    assert files.days() == []
    assert read(files).schema == SCHEMA
    assert (files.write([]), files.compact(), files.prune(1, NOW)) == (0, 0, 0)
    assert not files.path.exists()


def test_what_was_shown_is_kept_exactly(
    files: RowFiles, decide: Decide, item_catalog: Catalog
) -> None:
    slate = replace(decide("asked", NOW, size=6), user_id="owner")
    assert files.write([rows_of(slate, "d", NOW + 9, 0, item_catalog)]) == 6
    found = read(files)
    assert found.schema == SCHEMA
    chosen = [slate.candidate(choice) for choice in slate.choices]
    kept = found.select(features.NAMES).to_numpy()
    assert np.array_equal(kept, slate.rows[chosen], equal_nan=True)
    assert np.isnan(kept).any()  # unknown stays unknown
    assert found["slot"].to_list() == list(range(6))
    assert found["item"].to_list() == slate.items()
    assert found["item_id"].to_list() == [f"i{item}" for item in slate.items()]
    assert found["propensity"].to_list() == [choice.propensity for choice in slate.choices]
    assert found["kept"].to_list() == [1.0] * 6
    values = slate.ranked.values[[choice.row for choice in slate.choices]]
    assert np.array_equal(found["value"].to_numpy(), values)
    assert found["source"].to_list() == [slate.candidates.source(row) for row in chosen]
    columns = ["decision_id", "user_id", "asked_user_id", "ts", "arrived", "state_position"]
    assert found.row(0)[:7] == ("d", "owner", "asked", NOW, NOW + 9, 77, "r1")
    assert found.select(columns).unique().height == 1


def test_the_asked_id_is_kept_only_where_it_is_another(decided: Make) -> None:
    assert frame([decided("u")])["asked_user_id"].to_list() == [None] * 8


def test_a_sample_of_what_was_not_shown(decided: Make, decide: Decide) -> None:
    slate = decide("u", size=5)
    pool = {int(slate.candidates.items[row]) for row in slate.ranked.rows}
    found = frame([decided("u", size=5, sampled=4)]).filter(pl.col("slot") == NOT_SHOWN)
    assert found.height == 4
    assert set(found["item"]) <= pool - set(slate.items())
    assert found["kept"].to_list() == [4 / (len(pool) - 5)] * 4
    assert found["propensity"].to_list() == [None] * 4
    assert found["item"].n_unique() == 4


def test_a_sample_larger_than_the_pool_is_the_pool(decided: Make) -> None:
    only = np.arange(6, dtype=np.int32)
    found = frame([decided("u", size=5, sampled=100, only=only)])
    assert sorted(found["item"]) == [0, 1, 2, 3, 4, 5]
    assert found["kept"].to_list() == [1.0] * 6
    assert frame([decided("u", size=5, sampled=3, only=only[:5])]).height == 5
    assert frame([decided("u", sampled=3, only=only[:0])]).height == 0


def test_the_sample_is_the_seeds_and_fair(decided: Make) -> None:
    """Over many seeds, each item of the pool is kept as often as `kept` says."""
    told = {"only": np.arange(10, dtype=np.int32), "size": 2, "explore": False, "sampled": 2}
    batch = [decided("u", seed=seed, **told) for seed in range(4000)]
    found = frame(batch).filter(pl.col("slot") == NOT_SHOWN)
    assert found.equals(
        frame([decided("u", seed=seed, **told) for seed in range(4000)]).filter(
            pl.col("slot") == NOT_SHOWN
        )
    )
    counts = found["item"].value_counts()["count"].to_numpy().astype(int)
    assert len(counts) == 8
    assert found["kept"].unique().to_list() == [0.25]
    # Binomial(4000, 1/4): five standard deviations are 137.
    assert np.abs(counts - 1000).max() < 137


def test_many_decisions_are_the_same_as_one_by_one(decided: Make) -> None:
    batch = [decided(f"u{n}", NOW + n, size=1 + n % 4) for n in range(600)]
    alone = pl.concat([frame([one]) for one in batch])
    assert frame(batch).equals(alone)


def test_rows_are_read_by_their_time(files: RowFiles, decided: Make) -> None:
    times = [NOW - 3 * DAY_MS, NOW, NOW + 1, NOW + DAY_MS]
    assert files.write([decided("u", at) for at in times]) == 8 * len(times)
    assert files.days() == ["2026-01-30", "2026-02-02", "2026-02-03"]
    for since, until in [(0, FOREVER), (NOW, NOW + 1), (NOW + 1, NOW + DAY_MS), (NOW, NOW)]:
        found = set(read(files, since, until)["ts"])
        assert found == {at for at in times if since <= at < until}


def test_several_writers_at_once(files: RowFiles, decided: Make) -> None:
    batches = [[decided(f"u{n}", NOW + k) for k in range(20)] for n in range(8)]
    threads = [
        threading.Thread(
            target=lambda batch=batch: [RowFiles(files.path).write([one]) for one in batch]
        )
        for batch in batches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert users(files) == {f"u{n}": 160 for n in range(8)}


def test_a_write_that_fails_leaves_nothing(files: RowFiles, decided: Make) -> None:
    files.path.mkdir()
    (files.path / "2026-02-02").write_text("a file where the day's folder belongs")
    with pytest.raises(OSError):  # noqa: PT011 - whichever it is
        files.write([decided("u")])
    assert [file.name for file in files.path.rglob("*")] == ["2026-02-02"]


def test_rows_of_an_older_feature_table(files: RowFiles, decided: Make) -> None:
    """A feature that did not exist then is null; one that went is left out."""
    files.write([decided("u")])
    (file,) = on_disk(files)
    old = pl.read_parquet(file).drop("breadth").with_columns(pl.lit(1.0).alias("gone"))
    old.write_parquet(file.with_name("0-old.parquet"))
    found = files.read(0, FOREVER).collect()
    assert found.schema == SCHEMA
    assert found["breadth"].null_count() == found.height // 2


# ---- erasing


def test_an_erasure_takes_a_persons_rows_and_no_others(files: RowFiles, decided: Make) -> None:
    visitor = replace(decided("owner"), asked_user_id="visitor", decision_id="as visitor")
    mine = [decided("owner", NOW - DAY_MS), decided("owner"), visitor]
    files.write([*mine, decided("other"), decided("owner", NOW + 5, decision_id="later")])
    assert files.erase(["visitor", "owner"], NOW + 5) == 24
    assert users(files) == {"other": 8, "owner": 8}
    assert set(read(files).filter(pl.col("user_id") == "owner")["decision_id"]) == {"later"}
    assert files.erase(["visitor", "owner"], NOW + 5) == 0


def test_who_asked_is_enough(files: RowFiles, decided: Make) -> None:
    files.write([replace(decided("owner"), asked_user_id="visitor"), decided("owner")])
    assert files.erase(["visitor"], NOW + 1) == 8
    assert users(files) == {"owner": 8}


def test_what_was_decided_as_if_later_goes_too(files: RowFiles, decided: Make) -> None:
    files.write([decided("u", NOW + 30 * DAY_MS, arrived_ms=NOW)])
    assert files.erase(["u"], NOW + 1) == 8


def test_nothing_of_the_erased_is_left_in_the_files(files: RowFiles, decided: Make) -> None:
    files.write([decided("some-person-4711"), decided("other")])
    files.erase(["some-person-4711"], NOW + 1)
    assert all(b"some-person-4711" not in file.read_bytes() for file in on_disk(files))


def test_rows_that_come_after_their_erasure_vanish(files: RowFiles, decided: Make) -> None:
    """A writer gathers rows for seconds: they may be of someone erased meanwhile."""
    batch = [decided("gone"), decided("other"), decided("gone", NOW + 9, decision_id="later")]
    files.erase(["gone"], NOW + 5)
    assert RowFiles(files.path).write(batch) == 16
    assert users(files) == {"gone": 8, "other": 8}


def test_a_later_erasure_keeps_to_the_earlier_ones(files: RowFiles, decided: Make) -> None:
    """Two sweeps of one file, whichever is last: neither brings back what the other took."""
    files.erase(["first"], NOW + 5)
    files.write([decided("first"), decided("second"), decided("third")])
    files.erase(["second"], NOW + 5)
    assert users(files) == {"third": 8}


def test_erasing_beside_living_writers(files: RowFiles, decided: Make) -> None:
    batches = [[decided(user, NOW + n) for user in ("gone", "stays")] for n in range(40)]
    stop = threading.Event()

    def write(mine: Sequence[list[DecisionRows]]) -> None:
        for batch in mine:
            RowFiles(files.path).write(batch)

    def keep_reading() -> None:
        while not stop.is_set():
            read(files)

    writers = [threading.Thread(target=write, args=(batches[n::4],)) for n in range(4)]
    reader = threading.Thread(target=keep_reading)
    for thread in [*writers, reader]:
        thread.start()
    files.erase(["gone"], NOW + DAY_MS)
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert users(files) == {"stays": 8 * len(batches)}


def test_marks_are_dropped_after_a_day(files: RowFiles, decided: Make) -> None:
    files.erase(["gone"], NOW + 5)
    assert len(list(files.path.glob("erased/*"))) == 1
    age(files, 2 * rows.MARKS_KEPT_S)
    files.compact()
    assert list(files.path.glob("erased/*")) == []


# ---- joining and pruning


def test_small_files_are_joined(files: RowFiles, decided: Make) -> None:
    for n in range(JOIN_AT):
        files.write([decided(f"u{n}", NOW + n)])
    before = read(files)
    assert files.compact() == 0  # too young
    age(files)
    assert files.compact() == JOIN_AT
    assert read(files).equals(before)
    assert len(on_disk(files)) == JOIN_AT + 1  # for whoever reads just now
    files.write([decided("late")])
    assert files.compact() == 0
    assert len(on_disk(files)) == 2
    assert users(files) == {f"u{n}": 8 for n in range(JOIN_AT)} | {"late": 8}


def test_joining_again_and_again(files: RowFiles, decided: Make) -> None:
    wanted: dict[str, int] = {}
    for round_ in range(3):
        for n in range(JOIN_AT):
            files.write([decided(f"u{round_}-{n}")])
            wanted[f"u{round_}-{n}"] = 8
        age(files)
        files.compact()
        assert users(files) == wanted


def test_what_a_joined_file_replaced_is_erased_with_it(files: RowFiles, decided: Make) -> None:
    """An erasure between the two halves of a compaction, and a reader after it."""
    for n in range(JOIN_AT):
        files.write([decided(f"u{n}")])
    age(files)
    files.compact()
    assert files.erase(["u3"], NOW + 1) == 8
    assert users(files) == {f"u{n}": 8 for n in range(JOIN_AT) if n != 3}
    assert all(b"u3" not in file.read_bytes() for file in on_disk(files))


def test_the_part_of_a_killed_writer_is_swept_up(files: RowFiles, decided: Make) -> None:
    files.write([decided("u")])
    part = files.path / "2026-02-02" / "abc.part"
    part.write_bytes(b"PAR1")
    assert users(files) == {"u": 8}
    files.compact()
    assert part.exists()  # someone may be at it
    age(files)
    files.compact()
    assert not part.exists()


def test_pruning_keeps_the_last_days(files: RowFiles, decided: Make) -> None:
    files.write([decided("u", NOW - n * DAY_MS) for n in range(5)])
    assert files.prune(2, NOW) == 3
    assert files.days() == ["2026-02-01", "2026-02-02"]
    assert files.prune(2, NOW) == 0
