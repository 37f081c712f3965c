"""`kairos import`: history from JSON Lines into the log, once each, however often it is run.

An event that the archive holds, or that was in an earlier line, is a duplicate; what an aborted
run appended is waited for before the next one begins, so that nothing is in between.
"""

from __future__ import annotations

import gzip
import io
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from engine.actions import Actions
from engine.archive import Archive
from engine.catalog import Catalog, decode_item
from engine.errors import InvalidInput, KairosError, Overloaded
from engine.events import Event, Item, decode_line, rejection
from engine.ids import ITEMS
from engine.records import encode
from engine.redis_store import Progress, RedisStore
from engine.stamp import Stamper
from engine.store import Claim
from serving.follow import apply_items, pressure

CHUNK = 5000  # lines stamped and appended together …
CHUNK_BYTES = 8 << 20  # … or fewer, where they are long
ENTRY_RECORDS = 250
MAX_LINE = 1 << 20
LOCK_MS = 5_000  # a killed run stands in the next one's way for so long
ALIAS_ROUNDS = 3
WAIT_S = 0.05

Hashes = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(slots=True)
class ImportReport:
    """What became of the lines."""

    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first_line: dict[str, str] = field(default_factory=dict)  # reason -> file:line
    seconds: float = 0.0


Line = tuple[str, int, bytes]  # file, line number, bytes


class Importer:
    """One run over some files; `progress` is called with the report after each chunk."""

    def __init__(
        self,
        store: RedisStore,
        archive: Archive,
        actions: Actions,
        progress: Callable[[ImportReport], None],
        rejects: io.BufferedIOBase | None = None,
    ) -> None:
        self._store = store
        self._archive = archive
        self._progress = progress
        self._rejects = rejects
        self._partitions = [ITEMS, *range(store.settings.partitions)]
        self._stamper = Stamper(actions, Catalog(), store.settings.partitions, imported=True)
        self._known = HashSet(np.empty(0, np.int64))
        self._lock = Lock(store)
        self.report = ImportReport()

    def run(self, files: Sequence[Path]) -> ImportReport:
        """Import the files in order; returns once everything is folded.

        Raises InvalidInput for a file that breaks off: what came before is folded then too.
        """
        with self._lock:
            self._wait_archived()
            self._stamper.catalog = load_catalog(self._store)
            self._known = HashSet(self._archive.hashes())
            started = time.monotonic()
            try:
                for chunk in chunks(files):
                    self._take(chunk)
                    self._lock.check()
                    self.report.seconds = time.monotonic() - started
                    self._progress(self.report)
            except InvalidInput:
                self._wait_folded()
                raise
            self._wait_folded()
        self.report.seconds = time.monotonic() - started
        return self.report

    def _take(self, lines: Sequence[Line]) -> None:
        now = int(time.time() * 1000)
        self.report.lines += len(lines)
        events: list[tuple[Event, int]] = []
        for line in lines:
            try:
                event = self._read(line)
                events.append((event, self._stamper.check(event, now)))
            except InvalidInput as error:
                self._reject(line, error)
        for space, names in self._stamper.missing(event for event, _ in events).items():
            self._stamper.learn(space, names, self._store.intern(space, names, now))
        self._append(events, now)

    def _read(self, line: Line) -> Event:
        if len(line[2]) > MAX_LINE:
            raise InvalidInput("", f"expected a line of at most {MAX_LINE} bytes")
        return decode_line(line[2])

    def _append(self, events: Sequence[tuple[Event, int]], now: int) -> None:
        """In file order; items go first within a chunk, for those that name them."""
        records: dict[int, list[bytes]] = {}
        stamped: list[tuple[int | None, int, bytes]] = []  # hash, partition, record
        for event, ts in events:
            if not isinstance(event, Item):
                continue
            _, record = self._stamper.stamp(event, ts, now)
            self._stamper.catalog.apply([record])  # type: ignore[list-item]
            records.setdefault(ITEMS, []).append(encode(record))
        for event, ts in events:
            if isinstance(event, Item):
                continue
            partition, record = self._stamper.stamp(event, ts, now)
            stamped.append((getattr(record, "hash", None), partition, encode(record)))
        fresh = self._known.add([found for found, _, _ in stamped if found is not None])
        new = iter(fresh)
        for found, partition, raw in stamped:
            if found is None or next(new):
                records.setdefault(partition, []).append(raw)
        copies = len(fresh) - sum(fresh)
        self.report.duplicates += copies
        self.report.accepted += len(events) - copies
        self._write(records)

    def _write(self, records: dict[int, list[bytes]]) -> None:
        start = 0
        while part := {
            p: b[start : start + ENTRY_RECORDS] for p, b in records.items() if b[start:]
        }:
            self._wait(lambda: pressure(self._store) is None)
            # Not tried again where the store is full: another partition's part may be in.
            self._store.append(part)
            start += ENTRY_RECORDS

    def _reject(self, line: Line, error: InvalidInput) -> None:
        file, number, raw = line
        refusal = rejection(number, raw, error)
        reason = f"{refusal.field or 'line'}: {refusal.detail}"
        self.report.rejected += 1
        if len(self.report.reasons) < 1000 or reason in self.report.reasons:
            self.report.reasons[reason] += 1
            self.report.first_line.setdefault(reason, f"{file}:{number}")
        if self._rejects is not None:
            kept = {"file": file, "line": number, "field": error.field, "detail": error.detail}
            kept["raw"] = raw[:MAX_LINE].decode(errors="replace")
            self._rejects.write(msgspec.json.encode(kept) + b"\n")

    def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            self._lock.check()
            time.sleep(WAIT_S)

    def _wait_archived(self) -> None:
        """Until what is in the log by now is archived; live traffic goes on behind it."""
        self._wait_reached(self._ends(), lambda p: p.archived_position)

    def _wait_folded(self) -> None:
        """Until what is in the log by now is folded, with what aliases send across partitions."""
        for _ in range(ALIAS_ROUNDS):
            ends = self._ends()
            self._wait_reached(ends, lambda p: p.offset)
            self._wait(lambda: not self._undelivered())
            if self._ends() == ends:
                return

    def _ends(self) -> dict[int, int]:
        return {partition: self._store.last_position(partition) for partition in self._partitions}

    def _wait_reached(self, ends: dict[int, int], reached: Callable[[Progress], int]) -> None:
        self._wait(
            lambda: all(
                reached(p) >= ends[p.partition] for p in self._store.progress(self._partitions)
            )
        )

    def _undelivered(self) -> bool:
        generations = self._store.generations(self._partitions)
        claims = [Claim(p, g, 0, 0) for p, g in zip(self._partitions, generations, strict=True)]
        return any(self._store.outbox(claim) for claim in claims)


class Lock:
    """Who imports just now: one at a time. Renewed in a thread, so that it never waits for work."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._token = uuid.uuid4().hex
        self._lost = False
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="import lock", daemon=True)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 2 * LOCK_MS / 1000
        while not self._store.lock("import", self._token, LOCK_MS):
            if time.monotonic() > deadline:
                raise Overloaded("another import is running on this store")
            time.sleep(WAIT_S)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._keeper.join()
        if not self._lost:
            self._store.unlock("import")

    def check(self) -> None:
        """Raises Overloaded where another run has taken over: this one was silent for too long."""
        if self._lost:
            raise Overloaded("another import has begun on this store")

    def _keep(self) -> None:
        while not self._lost and not self._done.wait(LOCK_MS / 5000):
            try:
                self._lost = not self._store.lock("import", self._token, LOCK_MS)
            except KairosError:
                continue  # the run itself hears of it


class HashSet:
    """A set of 64-bit hashes at 8 bytes each: sorted runs, merged as they grow."""

    def __init__(self, known: Hashes) -> None:
        self._runs = [known] if len(known) else []

    def add(self, hashes: Sequence[int]) -> list[bool]:
        """Add hashes; returns for each whether it was new, counting earlier ones of the list."""
        values = np.asarray(hashes, np.int64)
        first = np.unique(values, return_index=True)[1]
        fresh = np.zeros(len(values), bool)
        fresh[first] = True
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, values), len(run) - 1)
            fresh &= run[at] != values
        run = values[fresh]
        run.sort()
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.union1d(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)
        return list(map(bool, fresh))


def load_catalog(store: RedisStore) -> Catalog:
    """The catalogue as it is in the store now."""
    catalog = Catalog()
    for space in ("category", "action"):
        for name, term in store.names(space).items():
            catalog.name(space, name, term)
    position, items = store.all_items()
    catalog.load(decode_item(packed) for packed in items)
    while entries := store.read_log(ITEMS, position, 1000):
        apply_items(catalog, entries)
        position = entries[-1].position
    return catalog


def chunks(files: Sequence[Path]) -> Iterator[list[Line]]:
    """Lines of plain or gzip files, CHUNK at a time, blank ones left out."""
    chunk: list[Line] = []
    size = 0
    try:
        for path in files:
            for number, raw in _lines(path):
                chunk.append((str(path), number, raw))
                size += len(raw)
                if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
    except InvalidInput:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with opened(path) as stream:
        number = 0
        while True:
            try:
                raw = _readline(stream)
            except (EOFError, OSError, zlib.error) as error:
                detail = f"broken after line {number}, up to which it was imported: {error}"
                raise InvalidInput(str(path), detail) from error
            if not raw:
                return
            number += 1
            if raw.strip():
                yield number, raw.rstrip(b"\r\n")


def opened(path: Path) -> io.BufferedIOBase:
    """The file, unpacked where it begins as gzip does."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        return gzip.open(path) if packed else path.open("rb")
    except OSError as error:
        raise InvalidInput(str(path), error.strerror or "cannot be read") from error


def _readline(stream: io.BufferedIOBase) -> bytes:
    """A line; of one that is far too long, its beginning (the rest is skipped)."""
    line = stream.readline(MAX_LINE + 2)
    rest = line
    while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
        rest = stream.readline(MAX_LINE + 2)
    return line
