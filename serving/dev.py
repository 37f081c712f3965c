"""`kairos up --dev`: the whole service in one process without Ray, ready in about two seconds."""

from __future__ import annotations

import threading

import uvicorn

from engine.archive import Archive
from engine.redis_store import RedisStore
from engine.settings import Settings
from serving.app import Parts, build
from serving.archiver import Archiver
from serving.folders import FolderLoop


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; `settings.redis_url` names a running store."""
    background = Background(settings)
    app = build(Parts(settings))
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    background.start()
    try:
        uvicorn.Server(config).run()
    finally:
        background.stop()


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
