"""The archived log: a Delta table on Parquet, partitioned by day of append. The door to deltalake.

Polars, DuckDB, Spark and Ray Data read it as it is; `record` holds each record's JSON. What a
partition has archived is the table's own application transaction, written in the same commit as
its rows, so that a crash between the two can neither lose nor repeat any.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import deltalake
import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from engine.errors import Fenced, StoreUnavailable
from engine.ids import position_ms
from engine.records import Entry
from engine.times import DAY_MS

log = logging.getLogger("kairos.archive")

SCHEMA = pa.schema(
    [
        ("day", pa.string()),  # of the append, UTC, as 2026-01-31
        ("partition", pa.int32()),  # −1: the item stream
        ("position", pa.int64()),  # see engine.ids
        ("index", pa.int32()),  # of the record within its entry
        ("type", pa.string()),
        ("user_id", pa.string()),
        ("hash", pa.int64()),  # of (user_id, event_id)
        ("ts", pa.int64()),  # unix ms
        ("record", pa.string()),  # JSON
    ]
)
COMPACT_AT = 50  # files of one day
STREAM_ENTRIES = 1000
SCANS = 5


class Head(msgspec.Struct, gc=False):
    """What the archive's columns need of a record."""

    type: str
    ts: int = 0
    user_id: str | None = None
    hash: int | None = None


UNREADABLE = "unreadable"
_head = msgspec.json.Decoder(Head).decode

Row = tuple[int, int, int, Head, bytes]  # partition, position, index, head, raw
Found = list[tuple[int, int, int, bytes]]  # position, partition, index, raw


def rows_of(partition: int, entries: Iterable[Entry]) -> list[Row]:
    """One row per record; one that cannot be read is kept as it is."""
    rows = []
    for entry in entries:
        for index, raw in enumerate(entry.records):
            try:
                head = _head(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                head = Head(UNREADABLE)
            rows.append((partition, entry.position, index, head, raw))
    return rows


class Streams(Protocol):
    """The log as it is before it is archived; entries vanish from it once they are."""

    def read_log(
        self, partition: int, after: int, count: int, upto: int | None = None
    ) -> list[Entry]: ...

    def archived(self, partition: int) -> int: ...


class Archive:
    """The table at a path; it is created with the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def archived(self) -> dict[int, int]:
        """The position up to which each partition is archived."""
        table = self._table()
        if table is None:
            return {}
        transactions = {}
        for partition in [-1, *range(1024)]:
            version = table.transaction_version(_transaction(partition))
            if version is not None:
                transactions[partition] = version
        return transactions

    def append(self, rows: Sequence[Row], after: dict[int, int], upto: dict[int, int]) -> None:
        """Write rows and, in the same commit, how far each partition is archived now.

        Raises Fenced, having written nothing, where another archiver came in between.
        """
        table = self._table()
        transactions = []
        for partition, position in upto.items():
            name = _transaction(partition)
            known = 0 if table is None else table.transaction_version(name) or 0
            if known != after.get(partition, 0):
                raise Fenced(f"partition {partition} was archived by another")
            transactions.append(deltalake.Transaction(name, position))
        try:
            deltalake.write_deltalake(
                str(self.path) if table is None else table,
                _arrow(rows),
                mode="append" if table is not None else "error",
                partition_by=["day"],
                commit_properties=deltalake.CommitProperties(app_transactions=transactions),
            )
        except CommitFailedError as error:
            raise Fenced(f"the archive was written by another: {error}") from error
        except DeltaError as error:
            if table is None and self._table() is not None:
                raise Fenced(f"the archive was created by another: {error}") from error
            raise

    def days(self) -> list[str]:
        """Days that hold records, oldest first."""
        table = self._table()
        if table is None:
            return []
        return sorted({part["day"] for part in table.partitions()})

    def read(
        self, partitions: Sequence[int], after: Mapping[int, int] | None = None
    ) -> Iterator[tuple[int, list[Entry]]]:
        """Chunks of these partitions' entries after some positions, each partition's in order.

        What is archived while it reads is read too, so that a stream trimmed meanwhile leaves no
        gap between the archive's end and the stream's beginning.
        """
        last = {partition: (after or {}).get(partition, 0) for partition in partitions}
        found = True
        while found:
            found = False
            for partition, entries in self._read_days(last):
                found = True
                last[partition] = entries[-1].position
                yield partition, entries

    def read_on(
        self, streams: Streams, partition: int, after: int, upto: int | None = None
    ) -> Iterator[list[Entry]]:
        """The streams' entries after a position and up to another, inclusive, in order.

        However slowly they are taken: what is archived and trimmed meanwhile comes from here, and
        then `upto` may be passed.
        """
        while True:
            entries = streams.read_log(partition, after, STREAM_ENTRIES, upto)
            archived = streams.archived(partition)
            if archived > after:  # some may have been trimmed before they were read
                for _, entries in self.read([partition], {partition: after}):
                    yield entries
                    after = entries[-1].position
                after = max(after, archived)  # erased records leave no rows
            elif entries:
                yield entries
                after = entries[-1].position
            else:
                return

    def _read_days(self, after: Mapping[int, int]) -> Iterator[tuple[int, list[Entry]]]:
        lowest = min(after.values())
        later = pl.any_horizontal(
            [(pl.col("partition") == p) & (pl.col("position") > at) for p, at in after.items()]
        )
        for day in self.days():
            if day < _day(lowest):
                continue
            frame = self._collect(pl.col("day") == day, later)
            for (partition,), part in frame.group_by(["partition"], maintain_order=True):
                yield int(str(partition)), _entries(part)

    def find(
        self,
        kinds: Sequence[str],
        since: int,
        upto: int,
        partition: int | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> Iterator[Found]:
        """Records of these types between two positions, inclusive: day by day, the newest first.

        Of one partition or of some users, where told.
        """
        wanted = [pl.col("type").is_in(kinds), pl.col("position").is_between(since, upto)]
        if partition is not None:
            wanted.append(pl.col("partition") == partition)
        if user_ids is not None:
            wanted.append(pl.col("user_id").is_in(user_ids))
        for day in reversed(self.days()):
            if _day(since) <= day <= _day(upto):
                rows = self._collect(pl.col("day") == day, *wanted).rows()
                found = [(at, n, index, record.encode()) for n, at, index, record in rows]
                yield sorted(found, reverse=True)

    def hashes(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Sorted hashes of every archived event: int64 [n]."""
        if self._table() is None:
            return np.empty(0, np.int64)
        frame = self._scan().select(pl.col("hash").drop_nulls().unique().sort()).collect()
        return frame["hash"].to_numpy().astype(np.int64, copy=False)

    def count(self) -> int:
        """How many records are archived."""
        if self._table() is None:
            return 0
        return int(self._scan().select(pl.len()).collect().item())

    def erase(self, user_ids: Sequence[str], before_ms: int, upto: Mapping[int, int]) -> int:
        """Delete these users' records dated before, or standing up to a position of their
        partition (what was dated ahead), from the files too; returns how many."""
        table = self._table()
        if table is None or not user_ids:
            return 0
        quoted = ", ".join(_quoted(user_id) for user_id in user_ids)
        escaped = [msgspec.json.encode(user_id).decode()[1:-1] for user_id in user_ids]
        texts = dict.fromkeys([*user_ids, *escaped])
        unreadable = " OR ".join(f"strpos(record, {_quoted(text)}) > 0" for text in texts)
        ahead = "".join(
            f" OR (partition = {partition} AND position <= {position})"
            for partition, position in upto.items()
        )
        removed = table.delete(
            f"(user_id IN ({quoted}) AND type != 'erase' AND (ts < {before_ms}{ahead}))"
            f" OR (type = '{UNREADABLE}' AND ({unreadable}))"
        )
        self.vacuum()
        return int(removed.get("num_deleted_rows") or 0)

    def vacuum(self) -> None:
        """Remove files that the table no longer names."""
        table = self._table()
        if table is not None:
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    def compact(self) -> bool:
        """Join the small files of any day that has many; returns whether there was such a day."""
        table = self._table()
        if table is None:
            return False
        adds = pa.table(table.get_add_actions(flatten=True))
        counts = pl.Series(adds.column("partition.day").to_pylist()).value_counts()
        crowded = counts.filter(pl.col("count") > COMPACT_AT).get_column(counts.columns[0])
        for day in crowded:
            table.optimize.compact(partition_filters=[("day", "=", day)])
        if len(crowded):
            table.create_checkpoint()
            self.vacuum()
        return bool(len(crowded))

    def _collect(self, *wanted: pl.Expr) -> pl.DataFrame:
        """Records in log order; an erasure may remove files just listed: they are listed anew."""
        for _ in range(SCANS):
            try:
                found = self._scan().filter(*wanted)
                columns = found.select("partition", "position", "index", "record")
                return columns.sort("partition", "position", "index").collect()
            except (FileNotFoundError, pl.exceptions.ComputeError) as error:
                log.info("the archive changed while it was read: %s", error)
        raise StoreUnavailable(f"the archive at {self.path} cannot be read")

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_delta(str(self.path))

    def _table(self) -> deltalake.DeltaTable | None:
        try:
            return deltalake.DeltaTable(str(self.path))
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise StoreUnavailable(f"the archive at {self.path} cannot be read: {error}") from error


def _arrow(rows: Sequence[Row]) -> pa.Table:
    heads = [row[3] for row in rows]
    days = [row[1] for row in rows]
    columns = [
        pa.array([_day(position) for position in days], pa.string()),
        pa.array([row[0] for row in rows], pa.int32()),
        pa.array(days, pa.int64()),
        pa.array([row[2] for row in rows], pa.int32()),
        pa.array([head.type for head in heads], pa.string()),
        pa.array([head.user_id for head in heads], pa.string()),
        pa.array([head.hash for head in heads], pa.int64()),
        pa.array([head.ts for head in heads], pa.int64()),
        pa.array([row[4].decode(errors="replace") for row in rows], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _transaction(partition: int) -> str:
    return f"partition {partition}"


_days: dict[int, str] = {}


def _day(position: int) -> str:
    number = position_ms(position) // DAY_MS
    if number not in _days:
        _days[number] = datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()
    return _days[number]


def _entries(frame: pl.DataFrame) -> list[Entry]:
    entries: list[Entry] = []
    last = -1
    for position, record in zip(frame["position"], frame["record"], strict=True):
        if position != last:
            entries.append(Entry(position, []))
            last = position
        entries[-1].records.append(record.encode())
    return entries


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
