"""`kairos up --dev`: the whole service in one process without Ray, ready in a few seconds."""

from __future__ import annotations

import signal
import socket
import threading

import uvicorn

from engine.redis_store import RedisStore
from engine.settings import Settings
from serving import check
from serving.app import build
from serving.background import Background
from serving.embedded import Embedded
from serving.guarded import GuardedProtocol
from serving.up import Say, check_port, opened_store, restart_if_dead


def up(settings: Settings, say: Say) -> None:
    """Serve until SIGINT or SIGTERM."""
    check_port(settings)
    with opened_store(settings, say) as (opened, server):
        store = RedisStore.connect(opened)
        check.check_fold_version(store)
        for remark in check.listening(store, opened.host):
            say(f"note: {remark}")
        background = Background(opened)
        background.start()
        stop = threading.Event()
        keeper = threading.Thread(target=_keep, args=(opened, server, stop), daemon=True)
        keeper.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn raises the signal once more when it is done: it must not end us there.
            signal.signal(number, lambda *_: None)
        try:
            _Server(opened, say).run()
        finally:
            stop.set()
            keeper.join()
            background.stop()


class _Server(uvicorn.Server):
    """Says so once it listens."""

    def __init__(self, settings: Settings, say: Say) -> None:
        config = uvicorn.Config(
            build(settings),
            host=settings.host,
            port=settings.port,
            log_level="error",  # each malformed request is a warning, and strangers send them
            access_log=False,
            http=GuardedProtocol,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self._say = say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._say(f"Kairos is ready at http://{self.config.host}:{self.config.port}")


def _keep(settings: Settings, server: Embedded | None, stop: threading.Event) -> None:
    while not stop.wait(0.5):
        if server is not None:
            restart_if_dead(settings, server)
