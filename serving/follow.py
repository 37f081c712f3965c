"""What each process keeps in memory and renews off the request path: catalogue, keys, metrics.

One thread per process follows the item stream and the partitions' counter changes (at most a
second behind), reads the keys every second, and hands over the process's counters.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence

from engine.actions import Actions
from engine.catalog import Catalog, decode_item
from engine.errors import KairosError
from engine.ids import ITEMS
from engine.module_counts import ModuleCounts
from engine.records import Entry, decode_item_record
from engine.redis_store import RedisStore
from engine.taste import weights_by_term
from serving.check import is_loopback
from serving.keys import Keyring
from serving.metrics import Metrics

log = logging.getLogger("kairos.follow")

POLL_S = 0.1
SLOW_S = 1.0
READS = 10  # of items in a turn: an import must not hold up a key's revocation
RELOAD_AFTER_S = 300  # without contact: entries may have been trimmed unseen


class Follower:
    """Keeps a Catalog and a Keyring up to date; `store` is this thread's own."""

    def __init__(
        self, store: RedisStore, metrics: Metrics, counters: bool, actions: Actions
    ) -> None:
        self.catalog = Catalog()
        self.modules = ModuleCounts()
        self.keyring = Keyring({}, loopback=is_loopback(store.settings.host))
        self.pressure: str | None = None  # why ingestion has to push back, if it has to
        self._store = store
        self._metrics = metrics
        self._actions = actions
        self._partitions: Sequence[int] = range(store.settings.partitions) if counters else ()
        self._item_position = 0
        self._changes: dict[int, int] = {}  # partition -> position …
        self._numbers: dict[int, int] = {}  # … and number of the last change taken over
        self._generations: dict[int, int] = {}
        self._slow_at = 0.0
        self._contact = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Load everything, then follow in a thread of its own; raises StoreUnavailable."""
        self.load()
        self._thread.start()

    def load(self) -> None:
        """Load everything as it is now; raises StoreUnavailable."""
        self._load()
        self._slowly()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _load(self) -> None:
        self._item_position, items = self._store.all_items()
        for space in ("category", "action"):
            for name, term in self._store.names(space).items():
                self.catalog.name(space, name, term)
        self.catalog.load(decode_item(packed) for packed in items)
        for partition in self._partitions:
            self._load_counters(partition)
        self._follow_items()
        self._contact = time.monotonic()

    def _load_counters(self, partition: int) -> None:
        self._generations[partition] = self._store.generation(partition)
        last = self._store.last_change(partition)  # before the totals: twice does no harm
        self._changes[partition], self._numbers[partition] = last.position, last.number
        self.catalog.count(partition, self._store.counters(partition))
        self.modules.replace(partition, self._store.module_counts(partition))

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                if time.monotonic() - self._contact > RELOAD_AFTER_S:
                    self._load()
                self._follow_items(most=READS)
                if time.monotonic() - self._slow_at >= SLOW_S:
                    self._slowly()
                self._contact = time.monotonic()
            except KairosError as error:
                log.warning("cannot follow the store: %s", error)
                self._stop.wait(SLOW_S)
            except Exception:
                log.exception("the follower goes on after an unexpected error")
                self._stop.wait(SLOW_S)

    def _follow_items(self, most: float = math.inf) -> None:
        """Up to the end of the item stream, in at most so many reads."""
        while most > 0 and (entries := self._store.read_log(ITEMS, self._item_position, 1000)):
            apply_items(self.catalog, entries)
            self._item_position = entries[-1].position
            most -= 1

    def _slowly(self) -> None:
        self._slow_at = time.monotonic()
        self.keyring.refresh(self._store)
        self._metrics.flush(self._store)
        self._follow_counters()
        self.pressure = pressure(self._store)

    def _follow_counters(self) -> None:
        if not self._partitions:
            return
        for partition, generation in zip(
            self._partitions, self._store.generations(self._partitions), strict=True
        ):
            if generation != self._generations[partition]:
                self._load_counters(partition)
        while changes := self._store.counter_changes(self._changes):
            for partition, commits in changes.items():
                if commits[0].number != self._numbers[partition] + 1:
                    self._load_counters(partition)  # more changed than the stream holds
                    continue
                for change in commits:
                    self.catalog.count(partition, change.totals)
                    self.modules.take(partition, change.modules)
                self._changes[partition] = commits[-1].position
                self._numbers[partition] = commits[-1].number
        now_ms = int(time.time() * 1000)
        self.catalog.columns.rank(weights_by_term(self._actions, self.catalog), now_ms)


def apply_items(catalog: Catalog, entries: Sequence[Entry]) -> None:
    """Apply item stream entries; one that cannot be read is left out, the folder counts it."""
    for entry in entries:
        for raw in entry.records:
            try:
                catalog.apply([decode_item_record(raw)])
            except ValueError:
                log.warning("an item record at %s cannot be read", entry.position)


def pressure(store: RedisStore) -> str | None:
    """Why ingestion must push back before the store's memory does, or None."""
    settings = store.settings
    if store.memory() >= settings.memory_high:
        return "the store's memory is nearly full"
    progress = store.progress(range(settings.partitions))
    waiting = sum(max(0, p.appended - min(p.folded, p.archived)) for p in progress)
    if waiting > settings.max_backlog:
        return f"{waiting} events wait to be folded or archived"
    return None
