"""Erasure: forgotten by serving at once, then cleaned everywhere by a job that survives kills.

`ask` writes the job down, marks the users so that nobody reads them, and appends an `erase`
record, in that order. `work` takes a job from there, as often as it needs to: every step may be
done twice. What stays for ever is the user's id with the time of the erasure, without which late
events could not be dropped.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

import msgspec

from engine.archive import Archive
from engine.errors import NotFound
from engine.fold import DeadLetter
from engine.ids import event_hash, partition_of
from engine.push_outbox import forget
from engine.records import EraseRecord, encode
from engine.redis_keys import ERASURES_KEY
from engine.redis_store import RedisStore
from engine.rows import RowFiles
from engine.times import to_rfc3339

log = logging.getLogger("kairos.erasure")

ALIAS_HOPS = 8
ASKER_MS = 10_000  # after it, whoever wrote a job down and appended nothing is dead


class Job(msgspec.Struct, omit_defaults=True):
    """One erasure; `positions` are those of its erase records, by partition."""

    receipt_id: str
    user_ids: list[str]
    at_ms: int
    positions: dict[int, int] = {}
    removed: dict[str, int] = {}
    done_ms: int = 0


class Receipt(msgspec.Struct, omit_defaults=True):
    """What a client is told of an erasure."""

    receipt_id: str
    status: str  # pending or done
    asked_at: str
    done_at: str | None = None
    removed: dict[str, int] = {}


def receipt_of(job: Job) -> Receipt:
    return Receipt(
        job.receipt_id,
        "done" if job.done_ms else "pending",
        to_rfc3339(job.at_ms),
        to_rfc3339(job.done_ms) if job.done_ms else None,
        job.removed,
    )


def find(store: RedisStore, receipt_id: str) -> Receipt:
    """The receipt as it stands; raises NotFound."""
    raw = store.hash_get(ERASURES_KEY, receipt_id)
    if raw is None:
        raise NotFound("no erasure has this receipt")
    return receipt_of(_decode(raw))


def ask(store: RedisStore, user_id: str) -> Receipt:
    """Forget a user and every id that was joined into theirs."""
    job = Job(uuid.uuid4().hex, same_person(store, user_id), int(time.time() * 1000))
    _save(store, job)
    _append(store, job)
    return receipt_of(job)


def same_person(store: RedisStore, user_id: str) -> list[str]:
    """The ids of a person: the one that aliases lead to first, then all that were joined."""
    partitions = store.settings.partitions
    passed = [user_id]
    state = store.user(user_id, partition_of(user_id, partitions))
    while state is not None and state.alias_to is not None and len(passed) < ALIAS_HOPS:
        passed.append(state.alias_to)
        state = store.user(state.alias_to, partition_of(state.alias_to, partitions))
    joined = state.aliases if state is not None else []
    return list(dict.fromkeys([*reversed(passed), *joined]))


def _append(store: RedisStore, job: Job) -> None:
    by_partition: dict[int, list[bytes]] = {}
    for user_id in job.user_ids:
        partition = partition_of(user_id, store.settings.partitions)
        store.set_forgotten(partition, user_id, job.at_ms)
        once = event_hash("", f"erase {job.receipt_id} {user_id}")
        record = EraseRecord(ts=job.at_ms, arrived=job.at_ms, user_id=user_id, hash=once)
        by_partition.setdefault(partition, []).append(encode(record))
    job.positions = store.append(by_partition)
    _save(store, job)


class EraseJobs:
    """The worker: it runs where the archive is written, so that the two never meet."""

    def __init__(self, store: RedisStore, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._rows = RowFiles(store.settings.rows_path)

    def pending(self) -> list[Job]:
        jobs = [_decode(raw) for raw in self._store.hash_all(ERASURES_KEY).values()]
        return [job for job in jobs if not job.done_ms]

    def work(self, archive_step: Callable[[], int]) -> None:
        """Take every pending job as far as it goes now."""
        for job in self.pending():
            if not job.positions:
                if time.time() * 1000 < job.at_ms + ASKER_MS:
                    continue  # its asker is at it
                _append(self._store, job)
            if self._behind(job):
                archive_step()
            if not self._behind(job):
                self._clean(job)

    def _behind(self, job: Job) -> bool:
        """Whether some erase record is not yet folded or not yet archived."""
        progress = self._store.progress(list(job.positions))
        return any(
            min(p.offset, p.archived_position) < job.positions[p.partition] for p in progress
        )

    def _clean(self, job: Job) -> None:
        for partition, position in job.positions.items():
            self._store.trim(partition, position)
        self._count(
            job, "archived records", self._archive.erase(job.user_ids, job.at_ms, job.positions)
        )
        self._count(job, "training rows", self._rows.erase(job.user_ids, job.at_ms))
        self._count(job, "dead letters", self._drop_dead(job))
        self._count(job, "held messages", self._drop_held(job))
        self._count(job, "states", 0 if job.removed.get("states") else len(job.user_ids))
        self._store.rewrite_append_only_file()
        for user_id in job.user_ids:
            partition = partition_of(user_id, self._store.settings.partitions)
            self._store.clear_forgotten(partition, user_id)
        job.user_ids, job.done_ms = [], int(time.time() * 1000)
        _save(self._store, job)
        log.info("erasure %s is done", job.receipt_id)

    def _count(self, job: Job, what: str, removed: int) -> None:
        job.removed[what] = job.removed.get(what, 0) + removed
        _save(self._store, job)

    def _drop_held(self, job: Job) -> int:
        partitions = self._store.settings.partitions
        return sum(
            forget(self._store, partition_of(user_id, partitions), user_id)
            for user_id in job.user_ids
        )

    def _drop_dead(self, job: Job) -> int:
        dropped = 0
        user_ids = set(job.user_ids)
        for partition in range(self._store.settings.partitions):
            letters = [
                raw
                for raw in self._store.dead(partition)
                if _names(msgspec.json.decode(raw, type=DeadLetter).raw, user_ids)
            ]
            self._store.drop_dead(partition, letters)
            dropped += len(letters)
        return dropped


def _names(raw: bytes, user_ids: set[str]) -> bool:
    """Whether a record names one of the users; what is no JSON is searched as it stands."""
    try:
        record = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        written = [user_id.encode() for user_id in user_ids]
        written += [msgspec.json.encode(user_id)[1:-1] for user_id in user_ids]
        return any(text in raw for text in written)
    layer = [record]
    while layer:
        if any(isinstance(value, str) and value in user_ids for value in layer):
            return True
        layer = [
            child
            for value in layer
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return False


def _decode(raw: bytes) -> Job:
    return msgspec.json.decode(raw, type=Job)


def _save(store: RedisStore, job: Job) -> None:
    store.hash_set(ERASURES_KEY, job.receipt_id, msgspec.json.encode(job))
