"""The parts of an import: lines out of files, the set of hashes, who folds, and the lock."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.actions import load_actions
from engine.archive import Archive
from engine.errors import InvalidInput, Overloaded
from engine.redis_store import RedisStore
from engine.settings import Settings
from serving import embedded, importing
from serving.background import Background, someone_folds
from serving.importing import CHUNK, CHUNK_BYTES, MAX_LINE, HashSet, Importer, Lock, chunks

Eventually = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisStore]:
    settings = Settings(home=str(tmp_path / "home"), appendfsync="no")
    server = embedded.start(settings)
    opened = RedisStore.connect(
        Settings(home=settings.home, redis_url=server.url, partitions=2, lease_ms=300,
                 archive_interval_s=0.05)
    )  # fmt: skip
    yield opened
    opened.close()
    server.stop()


# Lines


def lines_of(*files: Path) -> list[tuple[str, int, bytes]]:
    return [line for chunk in chunks(files) for line in chunk]


def test_lines_keep_their_numbers_and_lose_their_ends(tmp_path: Path) -> None:
    one, two, empty = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    one.write_bytes(b"a\n\n  \r\nb\r\n c \nlast")
    two.write_bytes(gzip.compress(b"x\n") + gzip.compress(b"\ny"))  # two members
    empty.write_bytes(b"")
    assert lines_of(one, empty, two) == [
        (str(one), 1, b"a"), (str(one), 4, b"b"), (str(one), 5, b" c "), (str(one), 6, b"last"),
        (str(two), 1, b"x"), (str(two), 3, b"y"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_of_a_line_that_is_too_long_the_beginning_is_kept(tmp_path: Path, end: bytes) -> None:
    sizes = [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, MAX_LINE + 2, 2 * MAX_LINE + 5, 10_000_000]
    for size in sizes:
        file = tmp_path / "long"
        file.write_bytes(b"before\n" + b"x" * size + end + (b"after" if end else b""))
        found = lines_of(file)
        assert [(number, raw[:6]) for _, number, raw in found] == [
            (1, b"before"), (2, b"xxxxxx"), (3, b"after"),
        ][: 3 if end else 2]  # fmt: skip
        kept = len(found[1][2])
        assert kept == size if size <= MAX_LINE else MAX_LINE < kept <= MAX_LINE + 2


def test_chunks_are_bounded_in_lines_and_in_bytes(tmp_path: Path) -> None:
    """Regression: five thousand long lines were held at once."""
    short, long = tmp_path / "short", tmp_path / "long"
    short.write_bytes(b"x\n" * (CHUNK + 1))
    long.write_bytes((b"x" * MAX_LINE + b"\n") * 20)
    assert [len(chunk) for chunk in chunks([short])] == [CHUNK, 1]
    per_chunk = CHUNK_BYTES // MAX_LINE
    assert [len(chunk) for chunk in chunks([long])] == [per_chunk, per_chunk, 20 - 2 * per_chunk]


def test_what_came_before_a_file_that_cannot_be_opened_is_kept(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"a\nb\n")
    taken = chunks([good, tmp_path / "gone"])
    assert [raw for _, _, raw in next(taken)] == [b"a", b"b"]
    with pytest.raises(InvalidInput, match="gone: No such file"):
        next(taken)


# Hashes


def test_the_set_of_hashes_is_a_set() -> None:
    chance = random.Random(4)
    known = [chance.randrange(-50, 50) for _ in range(40)]
    hashes = HashSet(np.unique(np.asarray(known, np.int64)))
    told = set(known)
    for _ in range(300):
        batch = [chance.randrange(-2000, 2000) for _ in range(chance.choice([0, 1, 5, 60]))]
        expected = []
        for value in batch:
            expected.append(value not in told)
            told.add(value)
        assert hashes.add(batch) == expected
    extremes = [2**63 - 1, -(2**63), 0, 2**63 - 1]
    assert hashes.add(extremes)[:2] == [True, True]
    assert hashes.add(extremes) == [False] * 4


# Who folds, and who imports


def test_a_living_folder_is_seen_and_a_dead_ones_leases_are_not(store: RedisStore) -> None:
    """Regression: beside the leases of a killed service, an import waited for ever."""
    assert not someone_folds(store)
    for partition in range(2):
        assert store.claim("killed", partition) is not None
    assert not someone_folds(store)
    background = Background(store.settings)
    background.start()
    try:
        deadline = time.monotonic() + 30
        while not someone_folds(store):
            assert time.monotonic() < deadline
    finally:
        background.stop()
    assert not someone_folds(store)


def test_the_lock_of_a_killed_run_runs_out(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LOCK_MS", 300)
    assert store.lock("import", "killed", 300)
    with Lock(store) as lock:
        lock.check()
        with pytest.raises(Overloaded, match="another import is running"):
            Lock(store).__enter__()  # for as long as this one lives, which renews its own
        lock.check()
    with Lock(store):
        pass


def test_who_lost_the_lock_stops_and_leaves_it_to_the_other(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LOCK_MS", 300)
    with Lock(store) as lock:
        store.unlock("import")
        deadline = time.monotonic() + 30
        while not store.lock("import", "other", 60_000):  # the thread may be quicker
            store.unlock("import")
            assert time.monotonic() < deadline
        while not lock._lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(Overloaded, match="another import has begun"):
            lock.check()
    assert not store.lock("import", "third", 1000), "it was not ours to give back"


def test_an_alias_at_the_end_is_folded_in_both_partitions(
    store: RedisStore, tmp_path: Path
) -> None:
    """The import returns once what the alias sent to the other partition is folded there."""
    before = threading.active_count()
    background = Background(store.settings)
    background.start()
    try:
        for n in range(10):
            file = tmp_path / f"{n}.jsonl"
            act = '{"type":"interaction","event_id":"1","user_id":"%s","action":"view",'
            act += '"item_id":"soup","ts":1}\n'
            alias = '{"type":"alias","event_id":"2","previous_id":"%s","user_id":"%s","ts":2}\n'
            a, b, c = f"a{n}", f"b{n}", f"c{n}"
            file.write_text(act % a + alias % (a, b) + alias % (b, c))
            importer = Importer(
                store, Archive(store.settings.archive_path), load_actions(None), lambda _: None
            )
            assert importer.run([file]).accepted == 3
            found = {user: state for p in range(2) for user, state in store.states(p)}
            assert found[c].actions[0].total == 1
            assert found[c].aliases == [b, a] or found[c].aliases == [a, b]
    finally:
        background.stop()
    assert threading.active_count() < before + 20  # ten imports leave no threads of their own
