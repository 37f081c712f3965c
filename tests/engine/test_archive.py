"""The archived log on a disk: rows and the position they reach are one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from engine.archive import COMPACT_AT, Archive, rows_of
from engine.errors import Fenced
from engine.ids import ITEMS, pack_position
from engine.records import Entry, encode
from engine.times import DAY_MS

NOW = 1_770_000_000_000


def position(n: int, ms: int = NOW) -> int:
    return pack_position(f"{ms + n}-0")


def entries_of(*batches: list[bytes], start: int = 0) -> list[Entry]:
    return [Entry(position(start + n), batch) for n, batch in enumerate(batches)]


def append(
    archive: Archive, partition: int, entries: list[Entry], after: dict[int, int] | None = None
) -> None:
    upto = {partition: entries[-1].position}
    archive.append(rows_of(partition, entries), after or archive.archived(), upto)


def read(archive: Archive, *partitions: int) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for partition, entries in archive.read(partitions):
        found.setdefault(partition, []).extend(entries)
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "log")


def test_nothing_is_archived_before_the_first_write(archive: Archive) -> None:
    assert archive.archived() == {}
    assert archive.days() == []
    assert read(archive, 0) == {}
    assert archive.hashes().tolist() == []
    assert (archive.count(), archive.erase(["u"], NOW, {}), archive.compact()) == (0, 0, False)
    assert not archive.path.exists()


def test_what_was_appended_is_read_back_in_log_order(archive: Archive, make: Any) -> None:
    raws = [encode(make.act(f"ü ✓ {n}", n)) for n in range(9)]
    first, second = entries_of(raws[0:3], raws[3:4]), entries_of(raws[4:6], start=5)
    other = entries_of(raws[6:9])
    append(archive, 0, first)
    append(archive, 3, other)
    append(archive, 0, second)

    assert read(archive, 0, 3) == {0: first + second, 3: other}
    assert read(archive, 3) == {3: other}
    assert archive.archived() == {0: second[-1].position, 3: other[-1].position}
    assert archive.count() == 9


def test_many_partitions_in_one_commit(archive: Archive) -> None:
    entries = entries_of([b'{"type":"item","ts":1}'])
    rows = [row for p in (ITEMS, 0, 1023) for row in rows_of(p, entries)]
    archive.append(rows, {}, dict.fromkeys((ITEMS, 0, 1023), position(0)))

    assert archive.archived() == dict.fromkeys((ITEMS, 0, 1023), position(0))
    assert read(archive, ITEMS, 1023) == {ITEMS: entries, 1023: entries}


def test_days_are_those_of_the_append_in_utc(archive: Archive, make: Any) -> None:
    midnight = NOW - NOW % DAY_MS
    entries = [
        Entry(position(0, midnight + DAY_MS - 1), [encode(make.act("u", ts=NOW - 5 * DAY_MS))]),
        Entry(position(0, midnight + DAY_MS), [encode(make.act("u"))]),
    ]
    append(archive, 0, entries)

    assert archive.days() == ["2026-02-02", "2026-02-03"]
    assert read(archive, 0) == {0: entries}


def test_any_tool_reads_the_columns(archive: Archive, make: Any) -> None:
    act = make.act("u", 5, ts=NOW - 1000)
    append(archive, 2, entries_of([encode(act), encode(make.user("v", city="Köln"))]))

    rows = pl.read_delta(str(archive.path)).sort("index").to_dicts()

    assert rows[0] == {
        "day": "2026-02-02",
        "partition": 2,
        "position": position(0),
        "index": 0,
        "type": "interaction",
        "user_id": "u",
        "hash": act.hash,
        "ts": NOW - 1000,
        "record": encode(act).decode(),
    }
    assert (rows[1]["type"], rows[1]["hash"]) == ("user", None)
    assert msgspec.json.decode(rows[1]["record"])["attributes"] == {"city": "Köln"}


def test_a_second_append_from_the_same_place_is_fenced(archive: Archive, make: Any) -> None:
    before = entries_of([encode(make.act("u"))])
    append(archive, 0, before)
    after = archive.archived()
    entries = entries_of([encode(make.act("u"))], start=1)
    append(archive, 0, entries, after)

    with pytest.raises(Fenced):
        append(Archive(archive.path), 0, entries, after)

    assert read(archive, 0) == {0: before + entries}


class Overtaken(Archive):
    """Sees the table as it was before a rival wrote, as two that write at once do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._seen = [super()._table()]

    def _table(self) -> Any:
        return self._seen.pop() if self._seen else super()._table()


@pytest.mark.parametrize("before", [0, 1])
def test_of_two_that_write_at_once_one_is_fenced(archive: Archive, make: Any, before: int) -> None:
    existing = entries_of([encode(make.act("u"))])
    if before:
        append(archive, 0, existing)
    after = archive.archived()
    late = Overtaken(archive.path)
    entries = entries_of([encode(make.act("u"))], start=1)
    append(archive, 0, entries, after)

    with pytest.raises(Fenced):
        append(late, 0, entries, after)

    assert read(archive, 0) == {0: existing * before + entries}


def test_two_that_write_at_once_for_other_partitions_both_write(
    archive: Archive, make: Any
) -> None:
    append(archive, 0, entries_of([encode(make.act("u"))]))
    late = Overtaken(archive.path)
    entries = entries_of([encode(make.act("v"))], start=1)
    append(archive, 1, entries, {})
    append(late, 2, entries, {})

    assert set(archive.archived()) == {0, 1, 2}
    assert archive.count() == 3


def test_hashes_are_sorted_and_each_once(archive: Archive, make: Any) -> None:
    acts = [make.act("u") for _ in range(50)]
    append(archive, 0, entries_of([encode(act) for act in acts + acts[:5]]))
    append(archive, 0, entries_of([encode(make.user("u"))], start=1))  # without a hash

    hashes = archive.hashes()

    assert hashes.dtype == np.int64
    assert hashes.tolist() == sorted(act.hash for act in acts)


@pytest.mark.parametrize("user", ["u", "o'hara", "''; --", 'quo"te', "a\\b", "%", "ü ✓", "u\n"])
def test_an_erased_user_is_gone_from_the_files(archive: Archive, make: Any, user: str) -> None:
    kept = [
        encode(make.act("other", ts=NOW - 5)),
        encode(make.act(user, ts=NOW)),  # dated after
        encode(make.erase(user, ts=NOW)),
    ]
    gone = [
        encode(make.act(user, ts=NOW - 1)),
        encode(make.user(user, ts=5, name="Secret")),
        encode(make.erase("x"))[:-20] + msgspec.json.encode({"user_id": user}),  # unreadable
    ]
    append(archive, 0, entries_of(kept[:2] + gone, kept[2:]))

    assert archive.erase([user, "nobody"], NOW, {}) == 3

    assert read(archive, 0) == {0: entries_of(kept[:2], kept[2:])}
    for file in archive.path.rglob("*.parquet"):
        assert "Secret" not in str(
            pl.read_parquet(file, hive_partitioning=False)["record"].to_list()
        )
    assert archive.erase([user], NOW, {}) == 0
    assert archive.archived() == {0: position(1)}


def test_erasing_all_that_a_file_holds_counts_too(archive: Archive, make: Any) -> None:
    append(archive, 0, entries_of([encode(make.act("u", ts=NOW - 5)) for _ in range(3)]))

    assert archive.erase(["u"], NOW, {}) == 3
    assert (archive.count(), read(archive, 0)) == (0, {})


def test_unreadable_records_are_kept_as_far_as_text_can(archive: Archive) -> None:
    deep = b'{"type":"user","ts":1,"user_id":"u","attributes":' + b"[" * 3000 + b"]" * 3000 + b"}"
    raws = [b"broken", b"\xff\xfe", b"", b'{"type":5}', b'{"ts":1}', b"[]", deep]
    append(archive, 0, entries_of(raws))

    ((entry,),) = read(archive, 0).values()

    assert entry.records == [b"broken", "\ufffd\ufffd".encode(), *raws[2:]]
    types = pl.read_delta(str(archive.path)).sort("index")["type"].to_list()
    assert types[:6] == ["unreadable"] * 6


def test_compacting_changes_nothing_that_is_read(archive: Archive, make: Any) -> None:
    everything = []
    for n in range(COMPACT_AT + 1):
        entries = entries_of([encode(make.act("u", n))], start=n)
        everything += entries
        append(archive, 0, entries, {0: position(n - 1)} if n else {})
    files = len(list(archive.path.rglob("*.parquet")))

    assert archive.compact()

    assert len(list((archive.path / "day=2026-02-02").glob("*.parquet"))) < files
    assert read(archive, 0) == {0: everything}
    assert archive.archived() == {0: everything[-1].position}
    assert not archive.compact()
    more = entries_of([encode(make.act("u"))], start=COMPACT_AT + 1)
    append(archive, 0, more)
    with pytest.raises(Fenced):
        append(archive, 0, more, {0: everything[-1].position})


def test_what_was_dated_ahead_of_an_erasure_goes_with_what_came_before_it(
    tmp_path: Path, make: Any
) -> None:
    archive = Archive(tmp_path)
    ahead = [encode(make.act("u", ts=NOW + 60_000)) for _ in range(3)]
    archive.append(rows_of(0, [Entry(n + 1, [raw]) for n, raw in enumerate(ahead)]), {}, {0: 3})

    assert archive.erase(["u"], NOW, {0: 2}) == 2
    assert archive.count() == 1
