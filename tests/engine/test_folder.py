"""Poison: one record must neither stop the log nor be folded, and its neighbours count once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import engine.state
from engine.errors import Fenced
from engine.fold import FoldRules
from engine.folder import TRIES, Folder
from engine.ids import partition_of
from engine.records import InteractionRecord, PushRecord, encode

PARTITIONS = 4
USER = "u"
PARTITION = partition_of(USER, PARTITIONS)

Hits = list[str]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Hits:
    """Interactions on item 666 cannot be folded; the list has an entry for each attempt."""
    hits: Hits = []
    honest = engine.state._STEPS[InteractionRecord]

    def step(state: Any, record: InteractionRecord) -> None:
        honest(state, record)  # the state is half changed when it fails
        if record.item == 666:
            hits.append(record.event_id)
            raise ZeroDivisionError("poison")

    monkeypatch.setitem(engine.state._STEPS, InteractionRecord, step)
    return hits


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Hits:
    """Interactions on item 666 end the process that folds them."""
    hits: Hits = []
    honest = engine.state._STEPS[InteractionRecord]

    def step(state: Any, record: InteractionRecord) -> None:
        if record.item == 666:
            hits.append(record.event_id)
            raise SystemExit("killed")
        honest(state, record)

    monkeypatch.setitem(engine.state._STEPS, InteractionRecord, step)
    return hits


def folder_of(bench: Any) -> Folder:
    return Folder(bench.store, PARTITIONS, FoldRules())


def live_and_die(bench: Any, limit: int, until: Callable[[], bool]) -> int:
    """Folders take over from dead ones, each under a new name; how many died."""
    for life in range(limit):
        claim = bench.store.claim(f"life {life}", PARTITION)
        assert claim is not None
        folder = folder_of(bench)
        try:
            while entries := bench.store.read([claim], 100).get(PARTITION):
                folder.fold(claim, entries)
        except SystemExit:
            bench.expire(PARTITION)
            continue
        assert until()
        bench.store.release(claim)
        return life
    raise AssertionError(f"{limit} folders died and there is no end")


def test_a_record_that_raises_is_set_aside_after_five_tries(
    bench: Any, make: Any, raising: Hits
) -> None:
    bench.append(make.act(USER, 1), make.act(USER, 666), make.act(USER, 2))
    bench.append(make.act(USER, 3))

    (change,) = bench.fold_all()

    assert len(raising) == TRIES == 5
    assert (change.folded, bench.totals(USER), bench.dead(PARTITION)) == (3, {0: 3}, 1)
    assert bench.store.counters(PARTITION) == {(1, 0): 1, (2, 0): 1, (3, 0): 1}
    (letter,) = change.dead
    assert (letter.index, letter.reason) == (1, "ZeroDivisionError: poison")
    assert b"666" in letter.raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"broken",
        b"\xff\xfe",
        b"[]",
        b'{"type":"unheard of","ts":1}',
        b'{"type":"interaction"}',
        b'{"type":"user","user_id":"u","ts":1,"arrived":1,"attributes":' + b"[" * 99_999,
        b'{"type":"user","user_id":"\\ud800","ts":1,"arrived":1,"attributes":{}}',
    ],
)
def test_bytes_that_are_no_record_are_set_aside(bench: Any, make: Any, raw: bytes) -> None:
    bench.store.append({PARTITION: [encode(make.act(USER, 1)), raw, encode(make.act(USER, 2))]})

    (change,) = bench.fold_all()

    assert (change.folded, bench.totals(USER), bench.dead(PARTITION)) == (2, {0: 2}, 1)
    assert change.dead[0].raw == raw


def test_a_number_that_no_state_can_hold_is_set_aside(bench: Any, make: Any) -> None:
    # It once failed only when the state was encoded, in the commit: the partition stood still.
    bench.append(
        make.act(USER), make.user(USER, city="Köln", huge=[{"er": 10**30}]), make.act(USER)
    )

    (change,) = bench.fold_all()

    assert (change.folded, bench.totals(USER), bench.dead(PARTITION)) == (2, {0: 2}, 1)
    assert bench.state(USER).attributes == {}


def test_many_poisons_in_one_batch(bench: Any, make: Any, raising: Hits) -> None:
    for n in range(10):
        bench.append(make.act(USER, 666), make.act(USER, n), make.act(USER, 666))
    bench.store.append({PARTITION: [b"broken"]})

    (change,) = bench.fold_all()

    assert (change.folded, bench.dead(PARTITION)) == (10, 21)
    assert bench.totals(USER) == {0: 10}
    assert len(raising) == 20 * TRIES


def test_a_commit_that_was_fenced_leaves_no_letter_behind(
    bench: Any, make: Any, raising: Hits
) -> None:
    # Letters were once kept when a commit failed, and went along with the next one of any
    # partition: in memory, where positions are alike, they even took innocents out.
    other = "v"
    theirs = partition_of(other, PARTITIONS)
    assert theirs != PARTITION
    bench.append(make.act(USER, 666), make.act(USER, 1), make.act(other, 5), make.act(other, 6))
    folder = folder_of(bench)
    zombie = bench.store.claim("zombie", PARTITION)
    entries = bench.store.read([zombie], 10)[PARTITION]
    bench.expire(PARTITION)
    assert bench.store.claim("rival", PARTITION) is not None
    with pytest.raises(Fenced):
        folder.fold(zombie, entries)

    claim = bench.store.claim("zombie", theirs)
    change = folder.fold(claim, bench.store.read([claim], 10)[theirs])

    assert (change.folded, change.dead, bench.dead(theirs)) == (2, [], 0)
    assert bench.totals(other) == {0: 2}


def test_a_record_that_kills_is_found_and_set_aside(bench: Any, make: Any, killing: Hits) -> None:
    for n in range(9):
        bench.append(make.act(USER, n))
    bench.append(make.act(USER, 10), make.act(USER, 666), make.act(USER, 11), make.act(USER, 12))
    for n in range(20, 23):
        bench.append(make.act(USER, n))

    died = live_and_die(bench, 30, lambda: bench.totals(USER) == {0: 15})

    assert died <= 4 * TRIES  # however many entries stand before it
    assert len(set(killing)) == 1
    assert bench.dead(PARTITION) == 1
    expected = [*range(9), 10, 11, 12, 20, 21, 22]
    assert bench.store.counters(PARTITION) == {(item, 0): 1 for item in expected}


def test_several_killers_in_one_entry(bench: Any, make: Any, killing: Hits) -> None:
    # Only the last to kill was once remembered: with two of them, each folder stepped over one
    # and died on the other, for ever.
    items = [666, 1, 666, 2, 3, 666]
    bench.append(*(make.act(USER, item) for item in items))
    bench.append(make.act(USER, 4))

    live_and_die(bench, 40, lambda: bench.totals(USER) == {0: 4})

    assert bench.dead(PARTITION) == 3
    assert bench.store.counters(PARTITION) == {(item, 0): 1 for item in (1, 2, 3, 4)}


def test_killers_in_several_entries(bench: Any, make: Any, killing: Hits) -> None:
    for n in range(3):
        bench.append(make.act(USER, n), make.act(USER, 666))

    live_and_die(bench, 60, lambda: bench.totals(USER) == {0: 3})

    assert bench.dead(PARTITION) == 3


def test_raising_and_killing_records_side_by_side(
    bench: Any, make: Any, killing: Hits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(state: Any, record: PushRecord) -> None:
        raise ValueError("never")

    monkeypatch.setitem(engine.state._STEPS, PushRecord, refuse)
    bench.append(make.push(USER, "sent"), make.act(USER, 666), make.act(USER, 1))
    bench.store.append({PARTITION: [b"broken", encode(make.act(USER, 2))]})

    live_and_die(bench, 30, lambda: bench.totals(USER) == {0: 2})

    assert bench.dead(PARTITION) == 3


def test_deaths_that_no_record_caused_set_nothing_aside(
    bench: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.append(*(make.act(USER, n) for n in range(3)))
    deaths = iter(range(4 * TRIES))

    def commit(*_: Any) -> None:
        if next(deaths, None) is not None:
            raise SystemExit("out of memory")
        honest(*_)

    honest = type(bench.store).commit
    monkeypatch.setattr(type(bench.store), "commit", commit)

    died = live_and_die(bench, 50, lambda: bench.totals(USER) == {0: 3})

    assert (died, bench.dead(PARTITION)) == (4 * TRIES, 0)


def test_a_duplicate_of_what_was_set_aside_is_tried_anew(
    bench: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = make.act(USER, 666)

    def refuse(state: Any, record: InteractionRecord) -> None:
        raise ValueError("for now")

    with monkeypatch.context() as patched:
        patched.setitem(engine.state._STEPS, InteractionRecord, refuse)
        bench.append(poison)
        bench.fold_all()
    assert bench.dead(PARTITION) == 1

    bench.append(poison)  # `kairos` may send dead letters again, once what failed is mended
    bench.fold_all()

    assert bench.totals(USER) == {0: 1}
