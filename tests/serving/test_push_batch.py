"""Messages for many, offline: what the API would say, in files that are whole or not there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.errors import InvalidInput, KairosError
from engine.ids import partition_of
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from serving.people import StorePeople
from serving.push_batch import BatchScorer
from serving.push_job import Job, begin, missing, plan
from serving.ray_push import score_blocks

NOON = 1_804_593_600_000  # 2027-03-09T12:00:00Z
MESSAGE = {"message_id": "m", "category": "news", "expires_at": NOON / 1000 + 24 * 3600}
PUSH = "explore: {share: 0.05, new_category: 0.05}\nholdout: 0\n"

_numbers = itertools.count()


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    file = tmp_path / "push.yaml"
    file.write_text(PUSH, encoding="utf-8")
    made = Settings(home=str(tmp_path / "home"), redis_url=valkey_url, push=str(file))
    return msgspec.structs.replace(made, store_timeout_ms=10_000, read_timeout_ms=10_000)


@pytest.fixture
def people() -> list[str]:
    """Seven people nobody has heard of."""
    return [f"offline-{next(_numbers)}" for _ in range(7)]


@pytest.fixture
def file(tmp_path: Path, people: list[str]) -> Path:
    written = tmp_path / "in.parquet"
    pl.DataFrame({"user_id": people}).write_parquet(written)
    return written


def planned(
    settings: Settings, file: Path, out: Path, reserve: bool = False, **message: Any
) -> Job:
    """Begun in blocks of three rows."""
    made = plan(settings, file, MESSAGE | message, None if reserve else NOON, reserve)
    return begin(msgspec.structs.replace(made, rows=3), out, NOON)


def run(settings: Settings, job: Job, out: Path) -> dict[str, int]:
    return dict(score_blocks(settings, job, missing(job, out), out, 1, lambda _: None))


def read(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "part-*.parquet")


def ledger_of(settings: Settings, user_id: str) -> list[str]:
    """The messages that a person's ledger knows."""

    async def ask() -> list[str]:
        store = AsyncRedisStore(settings, (False, False))
        _, found = await StorePeople(store).read([user_id])
        await store.close()
        return list(found[user_id].ledger.decided)

    return asyncio.run(ask())


def test_a_forecast_says_what_would_be_done_and_does_nothing(
    settings: Settings, file: Path, people: list[str], tmp_path: Path
) -> None:
    job = planned(settings, file, tmp_path / "out")
    counts = run(settings, job, tmp_path / "out")

    found = read(tmp_path / "out")
    assert found["user_id"].to_list() == people  # in their order, over three files
    assert sum(counts.values()) == 7
    sent = found.filter(pl.col("action") == "send")
    assert 0 < len(sent) == counts["send"]
    assert set(sent["reason"]) <= {"best_now", "measured"}
    assert sent["net_value"].is_not_null().all()
    assert sent["reserved_until"].is_null().all()
    assert found["decision_id"].is_null().all()
    assert ledger_of(settings, people[0]) == []


def test_what_was_left_half_done_is_gone_on_with(
    settings: Settings, file: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(settings, planned(settings, file, whole), whole)
    job = planned(settings, file, broken)
    first, second, _ = job.blocks
    scorer = BatchScorer(settings, job, broken)
    scorer.score(first)
    scorer.close()
    (broken / f".{second.part(broken).name}.77").write_bytes(b"half a file")
    kept = first.part(broken).stat().st_mtime_ns

    again = planned(settings, file, broken)
    assert [block.number for block in missing(again, broken)] == [1, 2]
    assert sum(run(settings, again, broken).values()) == 4
    assert first.part(broken).stat().st_mtime_ns == kept
    assert not list(broken.glob(".part*"))
    assert read(broken).equals(read(whole))
    assert run(settings, planned(settings, file, broken), broken) == {}


def test_another_job_is_refused(settings: Settings, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    planned(settings, file, out)
    with pytest.raises(InvalidInput, match="another job: its message differs"):
        planned(settings, file, out, category="offers")
    with pytest.raises(InvalidInput, match="another job: its reserve differs"):
        planned(settings, file, out, reserve=True)
    Path(settings.push).write_text("holdout: 0.1\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="another job: its config_version differs"):
        planned(settings, file, out)
    pl.DataFrame({"user_id": ["a"]}).write_parquet(file)
    with pytest.raises(InvalidInput, match="another job: its sources differs"):
        planned(settings, file, out)


def test_a_forecast_goes_on_as_of_when_it_began(
    settings: Settings, file: Path, tmp_path: Path
) -> None:
    job = plan(settings, file, MESSAGE, None, False)
    assert begin(job, tmp_path / "out", NOON).at_ms == NOON
    assert begin(job, tmp_path / "out", NOON + 1000).at_ms == NOON


def test_reserving_is_what_the_api_does(
    settings: Settings, file: Path, people: list[str], tmp_path: Path
) -> None:
    message = {"urgency": "transactional", "expires_at": time.time() + 3600}
    job = planned(settings, file, tmp_path / "out", reserve=True, **message)
    run(settings, job, tmp_path / "out")

    found = read(tmp_path / "out")
    assert set(found["action"]) == {"send"}
    assert found["reserved_until"].is_not_null().all()
    assert found["decision_id"].n_unique() == 7
    assert ledger_of(settings, people[0]) == ["m"]
    with contextlib.closing(RedisStore.connect(settings)) as store:
        [progress] = store.progress([partition_of(people[0], settings.partitions)])
        assert progress.appended > 0

    # A block whose file was lost comes out the same: what was decided stays.
    job.blocks[0].part(tmp_path / "out").unlink()
    run(settings, job, tmp_path / "out")
    again = read(tmp_path / "out")
    assert again["repeated"].to_list() == [True] * 3 + [False] * 4
    assert again.drop("repeated").equals(found.drop("repeated"))


def test_columns_say_what_the_message_does_not(settings: Settings, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    later = datetime.fromtimestamp(NOON / 1000 + 3600, UTC)
    pl.DataFrame(
        {
            "user_id": ["a", "b", "", "d"],
            "message_id": ["m1", None, "m3", "m4"],
            "expires_at": [later] * 4,
            "urgency": ["low", "high", None, "loud"],
        }
    ).write_parquet(folder / "1.parquet")
    pl.DataFrame({"user_id": ["e"]}).write_parquet(folder / "2.parquet")
    run(settings, planned(settings, folder, out), out)

    found = read(out)
    assert found["message_id"].to_list() == ["m1", "m", None, None, "m"]
    assert found["action"].is_null().to_list() == [False, False, True, True, False]
    assert "user_id" in found["error"][2]
    assert "urgency" in found["error"][3]


def test_what_cannot_be_decided_on_is_told_before_anything_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "in.parquet"
    pl.DataFrame({"who": ["a"]}).write_parquet(file)
    with pytest.raises(InvalidInput, match="expected columns user_id"):
        plan(settings, file, MESSAGE, NOON, False)
    pl.DataFrame({"user_id": ["a"]}).write_parquet(file)
    with pytest.raises(InvalidInput, match="category, expires_at, message_id"):
        plan(settings, file, {}, NOON, False)
    with pytest.raises(InvalidInput, match="channel"):
        plan(settings, file, MESSAGE | {"channel": "pigeon"}, NOON, False)
    with pytest.raises(InvalidInput, match="unknown"):
        plan(settings, file, MESSAGE | {"worth": 2}, NOON, False)
    with pytest.raises(KairosError, match="cannot be read"):
        plan(settings, tmp_path / "none.parquet", MESSAGE, NOON, False)


@pytest.mark.slow
def test_many_actors_say_what_one_process_says(
    settings: Settings, file: Path, tmp_path: Path
) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    run(settings, planned(settings, file, one), one)
    job = planned(settings, file, many)
    counts = score_blocks(settings, job, missing(job, many), many, 2, lambda _: None)
    assert sum(counts.values()) == 7
    assert read(many).equals(read(one))
