"""`kairos rebuild`: fold the whole log into an empty generation beside the old, and swap it in.

Serving goes on meanwhile. Only for the last stretch the partition's folder is fenced: what it had
still to hand to other partitions is handed over, its offset is caught up with exactly, and one
pointer moves. Nothing is appended: what one record gave rise to is in the log already.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import msgspec

from engine.archive import Archive
from engine.catalog import ItemState, encode_item, fold_item
from engine.errors import Fenced
from engine.folder import Folder
from engine.ids import ITEMS
from engine.records import Entry, ItemLogRecord, ItemRecord, TermRecord, decode_item_record
from engine.redis_store import RedisStore
from engine.store import Claim
from serving.folders import rules_of

BATCH_ENTRIES = 64
RENEW_S = 0.5


class Rebuild:
    """One rebuild of every partition; `progress` hears (partition, records folded)."""

    def __init__(
        self, store: RedisStore, archive: Archive, progress: Callable[[int, int], None]
    ) -> None:
        self._store = store
        self._archive = archive
        self._progress = progress
        self._name = f"rebuild-{uuid.uuid4().hex[:8]}"
        partitions = store.settings.partitions
        self._folder = Folder(store, partitions, rules_of(store.settings), deliver=False)
        self._items: dict[str, ItemState] = {}
        self._renewed = 0.0

    def run(self) -> int:
        """Rebuild items, then every partition; returns how many records were folded."""
        self._restore_names()
        partitions = [ITEMS, *range(self._store.settings.partitions)]
        folded = sum(self.rebuild(partition) for partition in partitions)
        # A folder that had an old generation at hand may have touched it once more.
        time.sleep(self._store.settings.lease_ms / 1000)
        for partition in partitions:
            self._store.drop_generation(partition, self._store.generation(partition) - 1)
        return folded

    def rebuild(self, partition: int) -> int:
        """Rebuild one partition and swap it in."""
        old = self._store.generation(partition)
        new = old + 1
        for broken_off in (old - 1, new):  # of a rebuild that was killed after, or before, the swap
            self._store.drop_generation(partition, broken_off)
        claim = self._store.claim(self._name, partition, new)
        if claim is None:
            raise Fenced(f"partition {partition} is being rebuilt by another")
        folded = self._catch_up(claim, self._folded_upto(partition))
        fenced = self._store.fence(self._name, partition, old)
        if partition != ITEMS:
            delivering = Folder(self._store, self._folder.partitions, self._folder.rules)
            delivering.drain(fenced)
        folded += self._catch_up(claim, fenced.offset)
        if not self._store.swap(partition, old, new):
            raise Fenced(f"partition {partition} was swapped by another")
        self._store.release(claim)
        self._store.drop_generation(partition, old)
        return folded

    def _catch_up(self, claim: Claim, upto: int) -> int:
        folded = 0
        for entries in self._archive.read_on(self._store, claim.partition, claim.offset, upto):
            folded += self._fold(claim, entries)
        return folded

    def _fold(self, claim: Claim, entries: list[Entry]) -> int:
        folded = 0
        while entries := [entry for entry in entries if entry.position > claim.offset]:
            batch = entries[:BATCH_ENTRIES]
            if claim.partition == ITEMS:
                self._fold_items(claim, batch)
            else:
                self._folder.fold(claim, batch)
            done = [entry for entry in batch if entry.position <= claim.offset]
            folded += sum(len(entry.records) for entry in done)
            if time.monotonic() - self._renewed > RENEW_S:
                self._renewed = time.monotonic()
                self._progress(claim.partition, folded)
        return folded

    def _fold_items(self, claim: Claim, entries: list[Entry]) -> None:
        """From what this rebuild has folded: the generation that serves may know less, or more."""
        touched = set()
        for record in _item_records(entries):
            if isinstance(record, ItemRecord):
                self._items[record.item_id] = fold_item(self._items.get(record.item_id), record)
                touched.add(record.item_id)
        packed = {item_id: encode_item(self._items[item_id]) for item_id in touched}
        self._store.commit_items(claim, entries[-1].position, packed)

    def _folded_upto(self, partition: int) -> int:
        (progress,) = self._store.progress([partition])
        return progress.offset or progress.archived_position

    def _restore_names(self) -> None:
        """Dense numbers that the archive knows and the log server lost."""
        names = archived_names(self._archive)
        for space, numbers in names.items():
            missing = dict(numbers.items() - self._store.names(space).items())
            self._store.restore_names(space, missing)


def archived_names(archive: Archive) -> dict[str, dict[str, int]]:
    """Per space (item, category, action) the archived names and their dense numbers."""
    names: dict[str, dict[str, int]] = {"item": {}}
    for _, entries in archive.read([ITEMS]):
        for record in _item_records(entries):
            if isinstance(record, ItemRecord):
                names["item"][record.item_id] = record.item
            elif isinstance(record, TermRecord):
                names.setdefault(record.space, {})[record.name] = record.term
    return names


def _item_records(entries: list[Entry]) -> Iterator[ItemLogRecord]:
    """Without what cannot be read: the folder set that aside."""
    for entry in entries:
        for raw in entry.records:
            try:
                yield decode_item_record(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
