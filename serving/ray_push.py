"""Blocks of an offline job on as many Ray actors as there are cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from engine.settings import Settings
from serving.garbage import settle_memory
from serving.push_batch import BatchScorer
from serving.push_job import Block, Job

Done = Callable[[dict[str, int]], None]


def score_blocks(
    settings: Settings, job: Job, blocks: Sequence[Block], folder: Path, workers: int, done: Done
) -> Counter[str]:
    """Decide on blocks; rows by action. `done` hears those of each block as its file is there.

    With one worker, or one block, in this process. Raises what a worker raised: the files that are
    there stay.
    """
    found: Counter[str] = Counter()

    def take(counts: dict[str, int]) -> None:
        found.update(counts)
        done(counts)

    workers = min(workers, len(blocks))
    if workers < 2:
        _here(settings, job, blocks, folder, take)
        return found
    begun = not ray.is_initialized()
    if begun:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=workers)
    try:
        _on_actors(settings, job, blocks, folder, workers, take)
    finally:
        if begun:
            ray.shutdown()
    return found


def _here(settings: Settings, job: Job, blocks: Sequence[Block], folder: Path, take: Done) -> None:
    if not blocks:
        return
    scorer = BatchScorer(settings, job, folder)
    try:
        for block in blocks:
            take(scorer.score(block))
    finally:
        scorer.close()


class _Worker:
    """A scorer, apart: Ray runs every method of a class with coroutines on a loop of its own."""

    def __init__(self, settings: Settings, job: Job, folder: Path) -> None:
        self._scorer = BatchScorer(settings, job, folder)
        settle_memory()

    def score(self, block: Block) -> dict[str, int]:
        return self._scorer.score(block)


def _on_actors(
    settings: Settings, job: Job, blocks: Sequence[Block], folder: Path, workers: int, take: Done
) -> None:
    remote: Any = ray.remote(num_cpus=1)(_Worker)
    waiting = list(reversed(blocks))
    actors = [remote.remote(settings, job, folder) for _ in range(workers)]
    busy = {actor.score.remote(waiting.pop()): actor for actor in actors}
    while busy:
        [ready], _ = ray.wait(list(busy), num_returns=1)
        actor = busy.pop(ready)
        take(_result(ready))
        if waiting:
            busy[actor.score.remote(waiting.pop())] = actor


def _result(ready: Any) -> dict[str, int]:
    try:
        counts: dict[str, int] = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return counts
