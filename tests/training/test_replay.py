"""Replay: the state just before a point is what folding what was known by then gives."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.archive import Archive, rows_of
from engine.errors import InvalidInput
from engine.fold import FoldRules
from engine.folder import Folder
from engine.ids import partition_of
from engine.records import Record, encode
from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.state import UserState, decode_state, encode_state, fold, touches
from engine.store import MemoryStore
from engine.times import DAY_MS
from training.parallel import replay_points
from training.points import read_points
from training.replay import Point, Replayed, WholeLog, replay

NOW = 1_770_000_000_000
PARTITIONS = 4
ALL = range(PARTITIONS)


def replayed(log: Any, *points: tuple[str, int], rules: FoldRules | None = None) -> Replayed:
    """What replay finds, without the places in the log: two logs of the same differ in these."""
    wanted = [Point(user, at) for user, at in points]
    found = replay(log, ALL, PARTITIONS, rules or FoldRules(), wanted)
    for state in found.states.values():
        state.position = 0
    answers = {point: placeless(packed) for point, packed in found.answers.items()}
    return replace(found, answers=answers)


def placeless(packed: bytes) -> bytes:
    state = decode_state(packed)
    state.position = 0
    return encode_state(state)


def by_hand(*records: Record) -> bytes:
    state = UserState()
    for record in records:
        fold(state, record)
    return encode_state(state)


def live(records: list[Record], rules: FoldRules | None = None) -> dict[str, bytes]:
    """The states after folding as a folder does, one entry at a time; and what it appended."""
    store = MemoryStore()
    folder = Folder(store, PARTITIONS, rules or FoldRules())
    for record in records:
        store.append({partition_of(record.user_id, PARTITIONS): [encode(record)]})
        for partition in ALL:
            claim = store.claim("f", partition)
            assert claim is not None
            while entries := store.read([claim], 1).get(partition):
                folder.fold(claim, entries)
    states = {user: state for p in ALL for user, state in store.states(p).items()}
    return {user: placeless(encode_state(state)) for user, state in states.items()}


def elsewhere(user: str, count: int) -> list[str]:
    """Ids that live in other partitions than the user, and than one another."""
    found: list[str] = []
    taken = {partition_of(user, PARTITIONS)}
    for n in range(1000):
        if partition_of(f"x{n}", PARTITIONS) not in taken and len(found) < count:
            taken.add(partition_of(f"x{n}", PARTITIONS))
            found.append(f"x{n}")
    return found


# Points


def test_a_live_record_is_known_from_its_arrival_and_before_means_before(
    make: Any, log: Any
) -> None:
    first = make.act("u", NOW - 5000, arrived=NOW)
    second = make.act("u", NOW - 9000, item=2, arrived=NOW + 100)
    log.add(first, second)
    times = [NOW - 1000, NOW, NOW + 1, NOW + 100, NOW + 101, NOW + DAY_MS]
    answers = replayed(log, *[("u", at) for at in times]).answers
    one, both = by_hand(first), by_hand(first, second)
    assert [answers.get(Point("u", at)) for at in times] == [None, None, one, one, both, both]


def test_imported_history_is_known_from_when_it_happened(make: Any, log: Any) -> None:
    old = [make.act("u", at, item=at, arrived=NOW, imported=True) for at in (1000, 2000, 2000)]
    log.add(*old)
    answers = replayed(log, ("u", 1000), ("u", 2000), ("u", 2001), ("u", NOW)).answers
    assert Point("u", 1000) not in answers
    assert answers[Point("u", 2000)] == by_hand(old[0])
    assert answers[Point("u", 2001)] == answers[Point("u", NOW)] == by_hand(*old)


def test_points_in_any_order_twice_and_of_strangers(make: Any, log: Any) -> None:
    acts = [make.act(user, NOW + at) for at in (0, 10, 20) for user in ("a", "b")]
    log.add(*acts)
    points = [("b", NOW + 15), ("a", NOW + 5), ("a", NOW + 25), ("a", NOW + 5), ("c", NOW + 99)]
    answers = replayed(log, *points).answers
    assert answers == {
        Point("a", NOW + 5): by_hand(acts[0]),
        Point("a", NOW + 25): by_hand(*acts[::2]),
        Point("b", NOW + 15): by_hand(acts[1], acts[3]),
    }
    assert replayed(log).answers == {}
    mine = [partition_of("a", PARTITIONS)]
    others = replay(log, mine, PARTITIONS, FoldRules(), [Point("a", NOW + 5)])
    [(point, packed)] = others.answers.items()
    assert (point, placeless(packed)) == (Point("a", NOW + 5), by_hand(acts[0]))


def test_a_log_out_of_time_order_gives_only_what_was_known(make: Any, log: Any) -> None:
    """Live first, then an import of the year before: such states never were served."""
    live_acts = [make.act("u", NOW + at, item=at) for at in (10, 30)]
    history = [
        make.act("u", NOW - at * DAY_MS, item=at, arrived=NOW + 40, imported=True)
        for at in (1, 300, 20)
    ]
    other = make.act("v", NOW + 50)
    log.add(*live_acts, *history, other, live_acts[0])
    times = [NOW - 400 * DAY_MS, NOW - 30 * DAY_MS, NOW - 2 * DAY_MS, NOW, NOW + 20, NOW + 31]
    answers = replayed(log, *[("u", at) for at in times], ("v", NOW + 51)).answers
    yesterday, year, month = history
    assert [answers.get(Point("u", at)) for at in times] == [
        None,
        by_hand(year),
        by_hand(year, month),
        by_hand(yesterday, year, month),
        by_hand(live_acts[0], yesterday, year, month),
        by_hand(*live_acts, yesterday, year, month),
    ]
    assert answers[Point("v", NOW + 51)] == by_hand(other)


def test_any_point_is_the_end_of_the_log_that_was_known_then(make: Any, log: Any) -> None:
    chance = random.Random(5)
    users = [f"u{n}" for n in range(12)]
    records = [
        make.act(
            chance.choice(users), NOW + n * 1000, item=chance.randrange(9), event_id=f"{n % 90}"
        )
        for n in range(600)
    ]
    log.add(*records)
    points = [(chance.choice(users), NOW + chance.randrange(610_000)) for _ in range(150)]
    answers = replayed(log, *points).answers
    for user, at in points:
        known: Any = type(log)()
        known.add(*[record for record in records if record.arrived < at])
        state = replayed(known).states.get(user)
        assert answers.get(Point(user, at)) == (None if state is None else encode_state(state))


def test_the_state_at_the_end_is_the_one_that_is_served(make: Any, log: Any) -> None:
    """Aliases, an erasure, duplicates, and an event id that is used again ten days later."""
    (anon,) = elsewhere("u", 1)
    records: list[Record] = [
        make.act("u", NOW),
        make.act(anon, NOW + 1, event_id="again"),
        make.act(anon, NOW + 2, event_id="again"),
        make.act("w", NOW + 3),
        make.erase("w", NOW + 4),
        make.act("w", NOW + 4, arrived=NOW + 5),
        make.act("w", NOW + 1, arrived=NOW + 6),
        *[make.act("u", NOW + day * DAY_MS) for day in range(1, 12)],
        *[make.act(anon, NOW + day * DAY_MS) for day in range(1, 12)],
        make.act(anon, NOW + 12 * DAY_MS, event_id="again"),
    ]
    served = live(records)
    log.add(*records)
    found = {user: encode_state(state) for user, state in replayed(log).states.items()}
    assert found == served
    assert decode_state(served[anon]).actions[0].total == 13


# Poison


def test_poison_is_left_out_as_it_is_live(make: Any, log: Any) -> None:
    """Regression: a broken carry of a user whose log is out of order ended the replay."""
    partition = partition_of("u", PARTITIONS)
    good = [make.act("u", NOW), make.act("u", NOW - DAY_MS, arrived=NOW + 9, imported=True)]
    log.add(
        (partition, b"\xff not a record"),
        good[0],
        make.carry("anon", "u", NOW + 1, b"\xc1 no state"),
        (partition, b'{"type": "martian"}'),
        (partition, b"[" * 5000),
        good[1],
    )
    found = replayed(log, ("u", NOW - 1), ("u", NOW + 1), ("u", NOW + 99))
    assert found.answers == {
        Point("u", NOW - 1): by_hand(good[1]),
        Point("u", NOW + 1): by_hand(*good),
        Point("u", NOW + 99): by_hand(*good),
    }
    assert encode_state(found.states["u"]) == by_hand(*good)
    assert found.records == 2


# Aliases and erasures


def test_aliases_are_followed_across_partitions_as_far_as_they_went(
    make: Any, log: Any, tmp_path: Path
) -> None:
    """Regression: where both ends of a chain were asked, the first got the stub of the second."""
    first = "a"
    second, third = elsewhere(first, 2)
    acts = [make.act(user, NOW + n, item=n) for n, user in enumerate((first, second, third))]
    carried = make.carry(first, second, NOW + 10, decode_state(by_hand(acts[0])))
    joined = by_hand(acts[1], carried)
    again = make.carry(second, third, NOW + 20, decode_state(joined))
    log.add(*acts)
    log.add(make.alias(first, second, NOW + 10), carried)
    log.add(make.alias(second, third, NOW + 20), again)
    log.archive(Archive(tmp_path / "log"))
    users = (first, second, third)
    points = [Point(user, NOW + at) for user in users for at in (5, 15, 25)]
    settings = Settings(home=str(tmp_path), partitions=PARTITIONS)
    done: list[int] = []
    answers, records = replay_points(settings, points, 1, done.append)
    everything = by_hand(acts[2], again)
    assert [placeless(answers[point]) for point in points] == [
        by_hand(acts[0]), joined, everything,
        by_hand(acts[1]), joined, everything,
        by_hand(acts[2]), by_hand(acts[2]), everything,
    ]  # fmt: skip
    assert sum(done) == records
    only, _ = replay_points(settings, [Point(first, NOW + 25)], 1)
    assert [placeless(only.pop(Point(first, NOW + 25)))] == [everything]
    assert not only


def test_an_alias_to_each_other_comes_to_an_end(make: Any, log: Any, tmp_path: Path) -> None:
    first = "a"
    (second,) = elsewhere(first, 1)
    log.add(make.act(first, NOW), make.act(second, NOW))
    log.add(make.alias(first, second, NOW + 1), make.alias(second, first, NOW + 1))
    log.archive(Archive(tmp_path / "log"))
    settings = Settings(home=str(tmp_path), partitions=PARTITIONS)
    answers, _ = replay_points(settings, [Point(first, NOW + 9), Point(second, NOW + 9)], 1)
    assert len(answers) == 2


def test_the_erased_are_forgotten_from_their_erasure_on(make: Any, log: Any) -> None:
    before, after = make.act("u", NOW), make.act("u", NOW + 20)
    log.add(before, make.erase("u", NOW + 10), make.act("u", NOW + 5, arrived=NOW + 15), after)
    answers = replayed(log, ("u", NOW + 5), ("u", NOW + 18), ("u", NOW + 30)).answers
    assert answers[Point("u", NOW + 5)] == by_hand(before)
    assert answers[Point("u", NOW + 18)] == encode_state(UserState(erased_ms=NOW + 10))
    state = decode_state(answers[Point("u", NOW + 30)])
    assert (state.erased_ms, state.actions[0].total) == (NOW + 10, 1)


# The whole log, and many processes


def test_what_is_archived_and_trimmed_while_it_reads_is_not_missed(
    make: Any, store: RedisStore
) -> None:
    """Regression: the stream's next thousand entries were gone before they were read."""
    archive = Archive(store.settings.archive_path)
    for n in range(2500):
        store.append({0: [encode(make.act("u", NOW + n))]})
    reading = WholeLog(archive, store).read([0])
    _, found = next(reading)
    assert len(found) == 1000
    every = store.read_log(0, 0, 9999)
    archive.append(rows_of(0, every), {}, {0: every[-1].position})
    store.set_archived(0, every[-1].position, len(every))
    store.trim(0, every[-1].position)
    store.append({0: [encode(make.act("u", NOW))]})
    positions = [entry.position for _, entries in reading for entry in entries]
    assert len(positions) == 1501
    assert positions[:-1] == [entry.position for entry in every[1000:]]
    assert positions == sorted(positions)


def test_one_process_and_two_answer_alike(make: Any, log: Any, tmp_path: Path) -> None:
    """Through the command; two processes are Ray's."""
    chance = random.Random(9)
    users = [f"u{n}" for n in range(30)]
    acts = [make.act(chance.choice(users), NOW + n * 60_000, item=n % 7) for n in range(400)]
    log.add(*acts, make.alias("u0", "u1", NOW + DAY_MS))
    carried = [record for record in acts if record.user_id == "u0"]
    log.add(make.carry("u0", "u1", NOW + DAY_MS, decode_state(by_hand(*carried))))
    log.archive(Archive(tmp_path / "home" / "log"))
    points = [(chance.choice(users), NOW + chance.randrange(400) * 60_000) for _ in range(60)]
    points += [("u0", NOW + 2 * DAY_MS), ("nobody", NOW)]
    file = tmp_path / "points.csv"
    pl.DataFrame(points, schema=["user_id", "time"], orient="row").write_csv(file)
    frames = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        report = _kairos(tmp_path, "replay", "--points", file, "--out", out, "--workers", workers)
        assert report["points"] == 62
        frames.append(pl.read_parquet(report["file"]))
    assert frames[0].equals(frames[1])
    assert frames[0]["user_id"].to_list() == [user for user, _ in points]
    assert frames[0]["known"].to_list()[-2:] == [True, False]
    joined = json.loads(frames[0]["state"][-2])
    assert joined["aliases"] == ["u0"]
    expected = replayed(log, *points[:60]).answers
    for user, at, packed in zip(*zip(*points[:60], strict=True), frames[0]["packed"], strict=False):
        found = None if packed is None else placeless(packed)
        assert found == expected.get(Point(user, at))


def _kairos(folder: Path, *arguments: object) -> Any:
    environ = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
    environ |= {"KAIROS_HOME": str(folder / "home"), "KAIROS_PARTITIONS": str(PARTITIONS)}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments), "--json"],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Files of points

WRITTEN = {
    "points.csv": "user_id,time\n007,1770000000\n8,1770000000000\n9,2026-02-02T02:40:00Z\n",
    "points.jsonl": '{"user_id": "007", "ts": 1770000000.0}\n{"user_id": "8", "ts": 1.77e12}\n'
    '{"user_id": "9", "ts": 1770000000}\n',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_points_from_text(tmp_path: Path, name: str) -> None:
    """Regression: a CSV file made 007 a 7."""
    file = tmp_path / name
    file.write_text(WRITTEN[name])
    assert read_points(file) == [Point(user, NOW) for user in ("007", "8", "9")]


def test_points_from_parquet(tmp_path: Path) -> None:
    """Regression: times before March 1973 were taken for seconds."""
    file = tmp_path / "points.parquet"
    frame = pl.DataFrame({"user_id": [7, 8, 9], "at": [NOW, 0, 86_400_000]})
    for zone in (None, "Asia/Tokyo"):
        column = pl.col("at").cast(pl.Datetime("ms", "UTC"))
        column = column.dt.convert_time_zone(zone) if zone else column.dt.replace_time_zone(None)
        frame.with_columns(column).write_parquet(file)
        assert read_points(file) == [Point("7", NOW), Point("8", 0), Point("9", 86_400_000)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user,time\na,1\n", "expected columns user_id and time, got user, time"),
        ("user_id,time\na,1\nb,soon\n", "line 2: time: expected RFC 3339"),
        ("user_id,time\na,\n", "line 1: time: expected a time, got nothing"),
        ("user_id,time\n,5\n", "line 1: user_id"),
        ("user_id,time\na,nan\n", "line 1: time: expected a finite number"),
        ("", "cannot be read"),
    ],
)
def test_points_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "points.csv"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_points(file)


def test_a_file_of_points_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_points(tmp_path / "gone.parquet")


def test_a_place_in_the_log_is_the_state_that_stood_there(log: Any, make: Any) -> None:
    # Arrival says nothing here: both were known at once, and the decision read the first alone.
    first, second = make.act("u", NOW), make.act("u", NOW, item=2)
    log.add(first, second)
    places = [entry.position for entry in log.entries[partition_of("u", PARTITIONS)]]
    wanted = [Point("u", NOW + 5, at) for at in (0, places[0], places[1], places[1] + 9)]
    answers = replay(log, ALL, PARTITIONS, FoldRules(), wanted).answers
    items = [
        [touch.item for touch in touches(decode_state(answers[point]))]
        for point in wanted
        if point in answers
    ]

    assert wanted[0] not in answers
    assert items == [[1], [1, 2], [1, 2]]
