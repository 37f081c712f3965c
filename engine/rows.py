"""Training rows: the feature rows of what was shown, frozen at the decision, as Parquet by day.

Beside them a sample of what was ranked and not shown; the columns are in engine/decision_rows.py.
Any process may write: it only ever adds files, whole ones. One process, where erasures run,
rewrites and joins them.

    rows/2026-01-31/1769817600000-5f3c….parquet     by day (UTC) of `ts`
    rows/erased/….json                              users whose rows must not come back
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from engine.decision_rows import SCHEMA, DecisionRows, frame
from engine.times import DAY_MS

MARKS_KEPT_S = 86_400  # longer than any writer holds rows back
SETTLED_S = 600  # a file older than this has been swept by whoever wrote it
READ_TRIES = 5
JOIN_AT = 20  # small files of one day …
SMALL_BYTES = 32 << 20  # … what counts as small …
JOINED_BYTES = 128 << 20  # … and as much as is held in memory to join them


class Mark(msgspec.Struct, frozen=True):
    """An erasure: rows of these users decided before it must not be, nor come to be."""

    user_ids: list[str]
    before_ms: int


class RowFiles:
    """The files under a path; they are created with the first rows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, batch: Sequence[DecisionRows]) -> int:
        """Add files with these rows, one per day; returns how many rows. Raises OSError."""
        by_day: dict[str, list[DecisionRows]] = {}
        for rows in batch:
            by_day.setdefault(_day(rows.ts), []).append(rows)
        written = 0
        for day, part in by_day.items():
            file = self.path / day / f"{int(time.time() * 1000)}-{uuid.uuid4().hex}.parquet"
            found = frame(part)
            _put(found, file, [])
            # An erasure that came before the file was there to be cleaned has left its mark.
            written += len(found) - self._sweep([file])
        return written

    def read(self, since_ms: int, until_ms: int) -> pl.LazyFrame:
        """Rows with since ≤ ts < until; a feature that older files do not have is null."""
        days = [d for d in self.days() if _day(since_ms) <= d <= _day(max(until_ms - 1, 0))]
        files = [file for day in days for file in self._of_day(day)]
        if not files:
            return SCHEMA.to_frame().lazy()
        found = pl.scan_parquet(
            files, schema=SCHEMA, missing_columns="insert", extra_columns="ignore", glob=False
        )
        return found.filter(pl.col("ts") >= since_ms, pl.col("ts") < until_ms)

    def days(self) -> list[str]:
        """Days that hold rows, oldest first."""
        return sorted(folder.name for folder in self.path.glob("[0-9]*-[0-9]*-[0-9]*"))

    def erase(self, user_ids: Sequence[str], before_ms: int) -> int:
        """Remove these users' rows decided before, from the files too; returns how many.

        Rows that a writer still holds vanish as they come. One process at a time may erase.
        """
        marks = self.path / "erased"
        marks.mkdir(parents=True, exist_ok=True)
        self._drop_marks()
        mark = msgspec.json.encode(Mark(list(user_ids), before_ms))
        _replace(marks / f"{uuid.uuid4().hex}.json", mark)
        self._sweep(file for day in self.days() for file in self._retired(day))
        return self._sweep(file for day in self.days() for file in self._of_day(day))

    def compact(self) -> int:
        """Join the small files of days that have many; returns how many were joined.

        For the process that erases. What a joined file replaces goes one call later, so that
        whoever reads just now finds it still.
        """
        self._drop_marks()
        joined = 0
        for day in self.days():
            for retired in self._retired(day):
                retired.unlink()
            for torn in _older((self.path / day).glob("*.part"), SETTLED_S):
                torn.unlink()  # of a writer that was killed
            settled = _older(self._of_day(day), SETTLED_S)
            small = [file for file in settled if file.stat().st_size < SMALL_BYTES]
            if len(small) >= JOIN_AT:
                part = _as_fits(small)
                self._join(part)
                joined += len(part)
        return joined

    def prune(self, days: int, now_ms: int) -> int:
        """Remove the rows of all but the last so many days; returns how many days went."""
        oldest = _day(now_ms - (days - 1) * DAY_MS)
        gone = [day for day in self.days() if day < oldest]
        for day in gone:
            for file in (self.path / day).iterdir():
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a writer came with a late decision
                (self.path / day).rmdir()
        return len(gone)

    def _of_day(self, day: str) -> list[Path]:
        """The files of a day that count: without those that a joined one replaces."""
        files = sorted((self.path / day).glob("*.parquet"))
        replaced = {name for file in files for name in _replaces(file)}
        return [file for file in files if file.name not in replaced]

    def _retired(self, day: str) -> set[Path]:
        return set((self.path / day).glob("*.parquet")) - set(self._of_day(day))

    def _join(self, files: Sequence[Path]) -> None:
        found = pl.concat([pl.read_parquet(file) for file in files], how="diagonal")
        target = files[0].with_name(f"{files[0].stem.partition('-')[0]}-{uuid.uuid4().hex}.joined")
        _put(found, target.with_suffix(".joined.parquet"), [file.name for file in files])

    def _sweep(self, files: Iterable[Path]) -> int:
        """Apply every mark to the files, so that two sweeps of one file undo nothing."""
        marks = self._marks()
        return sum(_without(file, marks) for file in files) if marks else 0

    def _drop_marks(self) -> None:
        for old in _older((self.path / "erased").glob("*.json"), MARKS_KEPT_S):
            old.unlink()

    def _marks(self) -> list[Mark]:
        marks = []
        for file in (self.path / "erased").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                marks.append(msgspec.json.decode(file.read_bytes(), type=Mark))
        return marks


def collect(found: pl.LazyFrame) -> pl.DataFrame:
    """The rows of `RowFiles.read`: read again where an erasure rewrote a file meanwhile."""
    for _ in range(READ_TRIES - 1):
        with contextlib.suppress(pl.exceptions.ComputeError):
            return found.collect()
    return found.collect()


def _without(file: Path, marks: Sequence[Mark]) -> int:
    """Rewrite a file without what the marks name; returns how many rows went."""
    erased = pl.any_horizontal(
        [
            (pl.col("arrived") < mark.before_ms)
            & (
                pl.col("user_id").is_in(mark.user_ids)
                | pl.col("asked_user_id").is_in(mark.user_ids).fill_null(False)
            )
            for mark in marks
        ]
    )
    columns = ["user_id", "asked_user_id", "arrived"]
    gone = int(pl.read_parquet(file, columns=columns).select(erased.sum()).item())
    if gone:
        _put(pl.read_parquet(file).filter(~erased), file, _replaces(file))
    return gone


def _put(found: pl.DataFrame, file: Path, replaces: Sequence[str]) -> None:
    """Write a whole file or none; `replaces` names those that no longer count."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as out:
            found.write_parquet(out, metadata={"replaces": "/".join(replaces)})
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _replace(file: Path, content: bytes) -> None:
    part = file.with_suffix(".part")
    part.write_bytes(content)
    part.replace(file)


def _replaces(file: Path) -> list[str]:
    if not file.name.endswith(".joined.parquet"):
        return []
    return pl.read_parquet_metadata(file).get("replaces", "").split("/")


def _as_fits(files: Sequence[Path]) -> list[Path]:
    sizes = np.cumsum([file.stat().st_size for file in files])
    return list(files[: int(np.searchsorted(sizes, JOINED_BYTES)) + 1])


def _older(files: Iterable[Path], seconds: float) -> list[Path]:
    oldest = time.time() - seconds
    return [file for file in files if file.stat().st_mtime < oldest]


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).date().isoformat()
