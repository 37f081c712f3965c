"""Following the log as it is written, for people who want to see."""

from __future__ import annotations

import time
from collections.abc import Iterator

from engine.archive import rows_of
from engine.ids import ITEMS, partition_of
from engine.redis_store import RedisStore

PAUSE_S = 0.2


def follow(store: RedisStore, user_id: str | None) -> Iterator[bytes]:
    """Records from now on, of all partitions or of one user's; never ends by itself."""
    settings = store.settings
    if user_id is None:
        partitions = [ITEMS, *range(settings.partitions)]
    else:
        partitions = [partition_of(user_id, settings.partitions)]
    last = {partition: store.last_position(partition) for partition in partitions}
    while True:
        found = False
        for partition in partitions:
            entries = store.read_log(partition, last[partition], 100)
            found = found or bool(entries)
            for _, position, _, head, raw in rows_of(partition, entries):
                last[partition] = position
                if user_id is None or head.user_id == user_id:
                    yield raw
        if not found:
            time.sleep(PAUSE_S)
