"""A folder and an archiver beside something else: threads for `up --dev`, processes for imports."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from multiprocessing.synchronize import Event
from typing import Self

from engine.archive import Archive
from engine.redis_store import RedisStore
from engine.settings import Settings
from serving.archiver import Archiver
from serving.folders import FolderLoop


class Background:
    """A folder and an archiver as threads, each with a client of its own."""

    def __init__(self, settings: Settings) -> None:
        self._folder = FolderLoop(RedisStore.connect(settings), 0)
        archive = Archive(settings.archive_path)
        self._archiver = Archiver(RedisStore.connect(settings), archive)
        self._threads = [
            threading.Thread(target=self._folder.run, name="folder", daemon=True),
            threading.Thread(target=self._archiver.run, name="archiver", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Fold and archive what is there, then end."""
        self._folder.stop()
        self._threads[0].join()
        self._archiver.stop()
        self._threads[1].join()


class BackgroundProcesses:
    """The same in processes of their own, where throughput counts; a context manager."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self._stops = [context.Event(), context.Event()]
        self._processes = [
            context.Process(target=_fold, args=(settings, self._stops[0]), daemon=True),
            context.Process(target=_archive, args=(settings, self._stops[1]), daemon=True),
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for stop, process in zip(self._stops, self._processes, strict=True):
            stop.set()
            process.join()


def someone_folds(store: RedisStore) -> bool:
    """Whether the leases say that a folder is at work on this store."""
    first = _leases(store)
    while leases := _leases(store):
        # One that died leaves its leases behind: only one that renews them is at work.
        if any(lease > first.get(partition, 0) for partition, lease in leases.items()):
            return True
        time.sleep(0.05)
    return False


def _leases(store: RedisStore) -> dict[int, int]:
    now = time.time() * 1000
    progress = store.progress(range(store.settings.partitions))
    return {p.partition: p.lease_ms for p in progress if p.owner and p.lease_ms > now}


def _fold(settings: Settings, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    loop = FolderLoop(RedisStore.connect(settings), 0)
    _run_until(loop, stop)


def _archive(settings: Settings, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop = Archiver(RedisStore.connect(settings), Archive(settings.archive_path))
    _run_until(loop, stop)


def _run_until(loop: FolderLoop | Archiver, stop: Event) -> None:
    parent = multiprocessing.parent_process()
    for wait in (stop.wait, parent.join if parent else stop.wait):  # a killed parent stops nobody
        threading.Thread(target=lambda wait=wait: (wait(), loop.stop()), daemon=True).start()
    loop.run()
