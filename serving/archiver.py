"""The archiving process: log → Delta table, then trimming, compaction and erasures.

One runs at a time; a second does no harm, since the table refuses a write that another has
overtaken. A partition is archived only up to where it is folded, and trimmed only behind both.
"""

from __future__ import annotations

import logging
import threading
import time

from engine.archive import Archive, Row, rows_of
from engine.errors import Fenced, KairosError
from engine.ids import ITEMS, SEQUENCE_BITS
from engine.redis_store import RedisStore
from engine.rows import RowFiles
from serving.erasure import EraseJobs

log = logging.getLogger("kairos.archiver")

READ_ENTRIES = 2000
WRITE_ROWS = 100_000
COMPACT_EVERY_S = 600.0
KEEP_ITEMS_MS = 600_000  # of the item stream, for replicas that follow it
KEEP_MS = 10_000  # of the others, for `kairos tail`


class Archiver:
    """Archives until stopped; `store` is its own."""

    def __init__(self, store: RedisStore, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._partitions = [ITEMS, *range(store.settings.partitions)]
        self._rows = RowFiles(store.settings.rows_path)
        self._jobs = EraseJobs(store, archive)
        self._compacted = time.monotonic()
        self._after: dict[int, int] | None = None
        self._stop = threading.Event()

    def run(self) -> None:
        """Archive, trim, erase, compact; whatever fails is tried again."""
        while not self._stop.wait(self._pause()):
            try:
                while self.step() >= WRITE_ROWS:
                    continue
                self._jobs.work(self.step)
                if time.monotonic() - self._compacted > COMPACT_EVERY_S:
                    self._compacted = time.monotonic()
                    self._archive.compact()
                    self._rows.compact()
                    self._rows.prune(self._store.settings.rows_days, int(time.time() * 1000))
            except Fenced as error:
                log.info("%s", error)
            except KairosError as error:
                log.warning("archiving waits: %s", error)
            except Exception:
                log.exception("the archiver goes on after an unexpected error")
        self._finish()

    def stop(self) -> None:
        self._stop.set()

    def step(self) -> int:
        """Archive once what is folded, about WRITE_ROWS at most; returns how many records."""
        after = self._read_archived()
        rows: list[Row] = []
        upto: dict[int, int] = {}
        taken: dict[int, int] = {}
        progress = self._store.progress(self._partitions)
        for p in progress:
            start = after.get(p.partition, 0)
            if p.archived_position < start:  # killed between the table's commit and this
                self._store.set_archived(p.partition, start, 0)
            while p.offset > start and len(rows) < WRITE_ROWS:
                entries = self._store.read_log(p.partition, start, READ_ENTRIES, p.offset)
                if not entries:
                    break
                found = rows_of(p.partition, entries)
                start = upto[p.partition] = entries[-1].position
                taken[p.partition] = taken.get(p.partition, 0) + len(found)
                rows += self._keep(p.partition, found)
        if upto:
            self._after = None  # whatever becomes of the append, the table knows
            self._archive.append(rows, after, upto)
            self._after = after | upto
            for partition, position in upto.items():
                self._store.set_archived(partition, position, taken[partition])
        self._trim()
        return sum(taken.values())

    def _read_archived(self) -> dict[int, int]:
        """How far each partition is archived: by the table at first, then as this one went on.

        Asking the table reads all of its log. A rival that wrote in between is noticed by append.
        """
        if self._after is None:
            self._after = self._archive.archived()
        return self._after

    def _keep(self, partition: int, rows: list[Row]) -> list[Row]:
        """Without what is dated before its user's erasure."""
        users = list({row[3].user_id: None for row in rows if row[3].user_id is not None})
        erased = self._store.erased(partition, users) if partition != ITEMS else {}
        if not erased:
            return rows
        return [
            row
            for row in rows
            if row[3].type == "erase" or row[3].ts >= erased.get(row[3].user_id or "", 0)
        ]

    def _trim(self) -> None:
        now = int(time.time() * 1000)
        for p in self._store.progress(self._partitions):
            keep_ms = KEEP_ITEMS_MS if p.partition == ITEMS else KEEP_MS
            upto = min(p.offset, p.archived_position, (now - keep_ms) << SEQUENCE_BITS)
            if upto > 0:
                self._store.trim(p.partition, upto)
            if p.partition != ITEMS:
                self._store.trim_changes(p.partition)

    def _pause(self) -> float:
        return self._store.settings.archive_interval_s

    def _finish(self) -> None:
        try:
            while self.step() >= WRITE_ROWS:
                continue
        except KairosError as error:
            log.info("the rest is archived at the next start: %s", error)
