"""Replay over all partitions, on as many cores as there are. The training side's door to Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from engine.archive import Archive
from engine.fold import FoldRules
from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.times import DAY_MS
from training.replay import ALIAS_HOPS, Point, WholeLog, replay, resolve

Answers = dict[Point, bytes]


def replay_points(
    settings: Settings,
    points: Sequence[Point],
    workers: int,
    done: Callable[[int], None] = lambda records: None,
) -> tuple[Answers, int]:
    """The packed state just before each point, aliases followed; and how many records were folded.

    `done` is called with the records folded as each worker's part is finished.
    """
    answers: Answers = {}
    moved: dict[Point, Point] = {}  # one alias further
    records = 0
    wanted = list(dict.fromkeys(points))
    for _ in range(ALIAS_HOPS):
        if not wanted:
            break
        found, count = _round(settings, wanted, workers, done)
        answers |= found
        records += count
        further = resolve(found)
        moved |= further
        wanted = [point for point in dict.fromkeys(further.values()) if point not in answers]
    ends = {point: _end(point, moved) for point in points}
    return {point: answers[end] for point, end in ends.items() if end in answers}, records


def _end(point: Point, moved: dict[Point, Point]) -> Point:
    for _ in range(ALIAS_HOPS):
        point = moved.get(point, point)
    return point


def _round(
    settings: Settings, points: Sequence[Point], workers: int, done: Callable[[int], None]
) -> tuple[Answers, int]:
    groups = [list(range(settings.partitions))[i::workers] for i in range(workers)]
    if workers == 1:
        answers, records = replay_group(settings, groups[0], points)
        done(records)
        return answers, records
    remote: Any = ray.remote(replay_group)
    pending = [remote.remote(settings, group, points) for group in groups if group]
    answers, records = {}, 0
    while pending:
        ready, pending = ray.wait(pending)
        for found, count in ray.get(ready):
            answers |= found
            records += count
            done(count)
    return answers, records


def replay_group(
    settings: Settings, partitions: Sequence[int], points: Sequence[Point]
) -> tuple[Answers, int]:
    """Replay some partitions in this process."""
    store = RedisStore.connect(settings) if settings.redis_url else None
    log = WholeLog(Archive(settings.archive_path), store)
    rules = FoldRules(settings.late_days, settings.idle_days * DAY_MS)
    found = replay(log, partitions, settings.partitions, rules, points)
    return found.answers, found.records
