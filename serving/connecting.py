"""Wait for a store that is away.

What starts anew may start while the store does, too. Ray ends an actor for good when its
constructor raises, and Serve puts off the next replica longer each time, so they wait here.
"""

from __future__ import annotations

import threading

from engine.errors import StoreUnavailable
from engine.redis_store import RedisStore
from engine.settings import Settings

PAUSE_S = 0.2


def connected(settings: Settings, stop: threading.Event) -> RedisStore | None:
    """A store that answers, however long that takes; None once `stop` is set."""
    while not stop.is_set():
        try:
            store = RedisStore.connect(settings)
            store.generation(0)  # while it loads its files it only tells about itself
            return store
        except StoreUnavailable:
            stop.wait(PAUSE_S)
    return None
