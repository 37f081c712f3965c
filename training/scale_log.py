"""A large log with structure for benchmarks: clustered tastes over a long-tailed catalogue.

It says how fast things are at a size, not how good they are: for that there are public data and
the simulated world.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOPICS = 200
TOPICS_EACH = 3
CATEGORIES = 40
DAYS = 28
ACTIONS = ("view", "view", "view", "click", "click", "save", "cook")
BATCH = 50_000


def write_scale_log(
    file: Path, users: int, items: int, interactions: int, seed: int, end: datetime
) -> int:
    """JSON Lines for `kairos import`: items "i0" …, then acts of users "u0" … in time order."""
    lines = 0
    with file.open("wb") as out:
        for batch in _batches(users, items, interactions, seed, end):
            out.write(b"".join(batch))
            lines += len(batch)
    return lines


def _batches(
    users: int, items: int, interactions: int, seed: int, end: datetime
) -> Iterator[list[bytes]]:
    rng = np.random.default_rng(seed)
    end_s = int(end.replace(tzinfo=end.tzinfo or UTC).timestamp())
    start_s = end_s - DAYS * 86_400
    topic_of = rng.integers(0, TOPICS, items)
    yield _items(topic_of, start_s, rng)
    by_topic = [np.flatnonzero(topic_of == topic) for topic in range(TOPICS)]
    tastes = rng.integers(0, TOPICS, (users, TOPICS_EACH))
    # Everyone acts about equally often, so that every state is full.
    who = rng.permutation(np.arange(interactions) % users)
    topics = tastes[who, rng.integers(0, TOPICS_EACH, interactions)]
    astray = rng.random(interactions) < 0.15
    topics[astray] = rng.integers(0, TOPICS, int(astray.sum()))
    what = _long_tailed(topics, by_topic, rng)
    actions = rng.integers(0, len(ACTIONS), interactions)
    times = np.sort(rng.integers(start_s, end_s, interactions))
    for at in range(0, interactions, BATCH):
        upto = slice(at, at + BATCH)
        rows = zip(who[upto].tolist(), what[upto].tolist(), actions[upto].tolist(),
                   times[upto].tolist(), strict=True)  # fmt: skip
        yield [
            b'{"type":"interaction","event_id":"%d","user_id":"u%d","action":"%s","item_id":"i%d",'
            b'"ts":%d}\n' % (at + n, user, ACTIONS[action].encode(), item, ts)
            for n, (user, item, action, ts) in enumerate(rows)
        ]


def _items(topic_of: NDArray[np.int64], start_s: int, rng: np.random.Generator) -> list[bytes]:
    other = rng.integers(0, CATEGORIES, len(topic_of))
    minutes = rng.integers(10, 120, len(topic_of))
    return [
        b'{"type":"item","item_id":"i%d","ts":%d,"attributes":{"title":"Item %d","categories":'
        b'["c%d","c%d"],"tags":["t%d"],"minutes":%d}}\n'
        % (n, start_s, n, topic % CATEGORIES, other[n], topic, minutes[n])
        for n, topic in enumerate(topic_of.tolist())
    ]


def _long_tailed(
    topics: NDArray[np.int64], by_topic: list[NDArray[np.int64]], rng: np.random.Generator
) -> NDArray[np.int64]:
    """An item of each topic, the first of it far more often than the last."""
    sizes = np.array([len(of_topic) for of_topic in by_topic])[topics]
    places = (sizes * rng.random(len(topics)) ** 2.5).astype(np.int64)
    firsts = np.concatenate([[0], np.cumsum([len(of_topic) for of_topic in by_topic])])[:-1]
    found: NDArray[np.int64] = np.concatenate(by_topic)[firsts[topics] + places]
    return found
