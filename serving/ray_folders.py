"""Folders and the archiver as Ray actors: restarted when dead, replaced when silent."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import ray

from engine.archive import Archive
from engine.redis_store import RedisStore
from engine.settings import Settings, as_role
from serving.archiver import Archiver
from serving.connecting import connected
from serving.folders import FolderLoop

log = logging.getLogger("kairos.workers")

STOP_S = 30.0
SPARE_EVERY_S = 15.0
SPARES = 3


class _Worker:
    """A loop in a thread of its own process; it begins once the store answers."""

    def __init__(self, settings: Settings, index: int) -> None:
        self._settings = settings
        self._index = index
        self._loop: FolderLoop | Archiver | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        store = connected(self._settings, self._stopped)
        if store is None:
            return
        self._loop = self._make(store)
        if not self._stopped.is_set():
            self._loop.run()

    def _make(self, store: RedisStore) -> FolderLoop | Archiver:
        raise NotImplementedError

    def pid(self) -> int:
        return os.getpid()

    def stop(self) -> None:
        """Do what is left to do, then end."""
        self._stopped.set()
        if self._loop is not None:
            self._loop.stop()
        self._thread.join(STOP_S)


class FolderWorker(_Worker):
    """Folds; at its end it gives the leases up."""

    def _make(self, store: RedisStore) -> FolderLoop:
        return FolderLoop(store, self._index)

    def at_work(self) -> bool:
        return isinstance(self._loop, FolderLoop) and self._loop.at_work()


class ArchiverWorker(_Worker):
    """Archives what is folded."""

    def _make(self, store: RedisStore) -> Archiver:
        return Archiver(store, Archive(self._settings.archive_path))


class Workers:
    """The running folders and the archiver, seen from `kairos up`."""

    def __init__(self, settings: Settings, store: RedisStore) -> None:
        self._settings = settings
        self._theirs = as_role(settings, "fold")
        self._store = store
        self._started = 0
        self._folders = [self._folder() for _ in range(settings.folders)]
        self._spare_at = -SPARE_EVERY_S
        self._asked: list[Any] = []
        self._archiver: Any = _actor(ArchiverWorker, "archiver").remote(self._theirs, 0)
        ray.get([worker.pid.remote() for worker in [*self._folders, self._archiver]])

    def look(self) -> None:
        """Start a spare folder beside a silent one; end it when all are at work again."""
        if self._silent():
            self._start_spare()
        elif len(self._folders) > self._settings.folders and self._all_at_work():
            self._end_newest()

    def stop(self) -> None:
        """Stop the folders, then the archiver, each with its work done."""
        for workers in (self._folders, [self._archiver]):
            done = [worker.stop.remote() for worker in workers]
            ray.wait(done, num_returns=len(done), timeout=STOP_S)

    def _silent(self) -> bool:
        """Whether a partition's lease has been over for as long as three leases.

        A dead actor is restarted by Ray; this is for one that hangs or is frozen. When it wakes
        it finds its claims gone and commits nothing.
        """
        late = time.time() * 1000 - 3 * self._settings.lease_ms
        progress = self._store.progress(range(self._settings.partitions))
        return any(p.epoch and p.lease_ms < late and p.owner for p in progress)

    def _start_spare(self) -> None:
        # A process takes seconds to start: the lease says nothing about the last spare until then.
        if time.monotonic() - self._spare_at < SPARE_EVERY_S:
            return
        if len(self._folders) >= self._settings.folders + SPARES:
            return
        log.warning("a folder is silent: one more is started")
        self._spare_at = time.monotonic()
        self._folders.append(self._folder())

    def _all_at_work(self) -> bool:
        if len(self._asked) != len(self._folders):
            self._asked = [folder.at_work.remote() for folder in self._folders]
        ready, waiting = ray.wait(self._asked, num_returns=len(self._asked), timeout=0)
        if waiting:
            return False
        self._asked = []
        try:
            return all(ray.get(ready))
        except ray.exceptions.RayError:
            return False  # one is being restarted

    def _end_newest(self) -> None:
        log.info("every folder is at work again: the spare one is stopped")
        spare = self._folders.pop()
        ray.wait([spare.stop.remote()], timeout=STOP_S)
        ray.kill(spare)

    def _folder(self) -> Any:
        """A new actor; its number says which partitions it prefers."""
        index, self._started = self._started, self._started + 1
        return _actor(FolderWorker, f"folder-{index}").remote(self._theirs, index)


def _actor(worker: type, name: str) -> Any:
    return ray.remote(worker).options(name=name, num_cpus=0, max_restarts=-1)
