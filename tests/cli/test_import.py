"""`kairos import`: history counts once each, whatever the files are like and however often."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.ids import partition_of

Event = dict[str, Any]
Until = Callable[[Callable[[], Any], str], Any]
IN_1995 = 800_000_000

_numbers = itertools.count()


def act(user: str, **fields: Any) -> Event:
    """A view of the soup in 1995, with whatever a test wants otherwise."""
    event = {
        "type": "interaction",
        "event_id": f"e{next(_numbers)}",
        "user_id": user,
        "action": "view",
        "item_id": "soup",
        "ts": IN_1995,
    }
    return event | fields


def counts(client: httpx.Client, user: str) -> Any:
    return client.get(f"/v1/users/{user}").json().get("counters")


def packed(path: Path) -> Path:
    """A gzip file of the same lines, whose name does not say so."""
    out = path.with_suffix(".packed")
    out.write_bytes(gzip.compress(path.read_bytes()))
    return out


def started_by(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listing.stdout.splitlines()[1:]]
    return [int(child) for child, parent in pairs if int(parent) == pid]


# Without a service


def test_plain_and_gzip_files_of_any_past_time_count_once_each(home: Any) -> None:
    item = {"type": "item", "item_id": "soup", "attributes": {"categories": ["warm"]}}
    person = {"type": "user", "user_id": "a", "attributes": {"time_zone": "Asia/Tokyo"}}
    first = home.write("1.jsonl", [item, person, act("a"), act("a", ts="1995-05-09T06:13:20Z")])
    second = packed(home.write("2.jsonl", [act("b", ts=time.time() - 60), act("c", ts=1)]))
    report = home.imported(first, second)
    assert (report["lines"], report["accepted"], report["duplicates"]) == (6, 6, 0)
    # Items and users have no event id: they are taken again, and change nothing.
    again = home.imported(first, second, first)
    assert (again["accepted"], again["duplicates"], again["rejected"]) == (4, 6, 0)
    assert home.totals() == {"a": 2, "b": 1, "c": 1}
    out, _ = home.run("import", second)
    assert "0 accepted, 2 duplicates, 0 rejected" in out
    with home.store() as store:
        state = store.user("a", partition_of("a", 16))
    assert state.first_s == state.last_s == IN_1995
    assert state.categories[0].total == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_after_a_run_that_was_killed_in_the_middle(
    home: Any, until: Until, runs: Callable[[int], bool], how: signal.Signals
) -> None:
    """Regression: its folder and archiver lived on, and its lock stood for a minute."""
    users = [f"u{n}" for n in range(40)]
    size = 40_000
    file = home.write("many.jsonl", [act(users[n % 40]) for n in range(size)])
    process = home.start("import", file)

    def appended() -> int:
        with home.store() as store:
            return sum(p.appended for p in store.progress(range(16)))

    until(lambda: home.store_pid() and appended() > 5000, "nothing was imported")
    children = started_by(process.pid)
    process.send_signal(how)
    process.wait()
    assert process.returncode in (-how, 128 + how)
    assert len(children) >= 2
    until(lambda: not any(runs(child) for child in children if child != home.store_pid()), "stays")
    if how == signal.SIGTERM:
        assert home.store_pid() is None, "what it started has to stop with it"
    report = home.imported(file)
    assert report["accepted"] + report["duplicates"] == size
    assert 0 < report["accepted"] < size
    assert home.totals() == dict.fromkeys(users, size // 40)


# Beside a service


def test_lines_that_cannot_be_taken(shared_home: Any, live: httpx.Client) -> None:
    user = "rejects"
    lines: list[Any] = [
        act(user),
        b"",  # blank lines are no lines
        b"   \t",
        b'{"type": "interaction", ',  # 4
        b"\xff\xfe not UTF-8 \xc3",
        json.dumps(act(user, query="caf")).encode().replace(b"caf", b"caf\xe9"),  # 6
        act(user, action="vieww"),
        act(user, ts=time.time() + 400),  # 8
        act(user, colour="red"),
        {"type": "nonsense"},  # 10
        json.dumps(act(user, query="x" * 10_000_000)).encode(),
        act(user, query="x" * 600),  # 12
        b"[1]",
        b"null",  # 14
        act(user, item_id=None),
        b"[" * 100_000,  # 16
        act(user),
        act(user),  # 18, without an end of line
    ]
    file = shared_home.write("bad.jsonl", lines)
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    crlf = shared_home.folder / "crlf.jsonl"
    crlf.write_bytes(json.dumps(act(user)).encode() + b"\r\n\r\n")
    empty = shared_home.write("empty.jsonl", [])
    rejects = shared_home.folder / "rejects.jsonl"
    report = shared_home.imported(file, empty, crlf, "--rejects", rejects)
    assert (report["lines"], report["accepted"], report["rejected"]) == (17, 4, 13)
    assert counts(live, user) == {"view": 4}
    kept = [json.loads(line) for line in rejects.read_bytes().splitlines()]
    assert [(line["line"], line["field"]) for line in kept] == [
        (4, ""), (5, ""), (6, ""), (7, "action"), (8, "ts"), (9, "colour"), (10, "type"),
        (11, ""), (12, "query"), (13, ""), (14, ""), (15, "item_id"), (16, ""),
    ]  # fmt: skip
    assert all(line["file"] == str(file) and line["detail"] for line in kept)
    assert kept[0]["raw"] == '{"type": "interaction", '
    assert "nearest is 'view'" in kept[3]["detail"]
    assert len(kept[7]["raw"]) == 1 << 20
    assert report["first_line"]["action: 'vieww' is not declared; the nearest is 'view'"] == (
        f"{file}:7"
    )
    assert sum(report["reasons"].values()) == 13


def test_the_reasons_are_told_to_people_too(shared_home: Any, live: httpx.Client) -> None:
    file = shared_home.write("told.jsonl", [act("t"), *[act("t", action=":save:")] * 3])
    out, _ = shared_home.run("import", file)
    assert "4 lines in" in out
    assert "1 accepted, 0 duplicates, 3 rejected" in out
    assert "3 × action: ':save:' is not declared; the nearest is 'save'" in out
    assert f"(first at {file}:2)" in out


def test_a_file_that_breaks_off_counts_up_to_there(shared_home: Any, live: httpx.Client) -> None:
    before = shared_home.write("before.jsonl", [act("broken")])
    whole = shared_home.write("whole.jsonl", [act("broken", query=f"{n:060}") for n in range(9000)])
    cut = shared_home.folder / "cut.jsonl.gz"
    squeezed = gzip.compress(whole.read_bytes())
    cut.write_bytes(squeezed[: len(squeezed) // 2])
    after = shared_home.write("after.jsonl", [act("broken")])
    out, err = shared_home.run("import", "--json", before, cut, after, code=1)
    report = json.loads(out)
    assert f"error: {cut}: broken after line " in err
    told = int(err.partition("broken after line ")[2].partition(",")[0])
    assert 1000 < told < 9000
    assert report["accepted"] == report["lines"] == told + 1
    assert counts(live, "broken") == {"view": told + 1}
    again = shared_home.imported(before, whole, after)
    assert (again["accepted"], again["duplicates"]) == (9000 - told + 1, told + 1)
    assert counts(live, "broken") == {"view": 9002}


@pytest.mark.parametrize("garbage", [b"\x1f\x8b", b"\x1f\x8bnot gzip at all", b"\x1f\x8b\x08" * 9])
def test_what_only_begins_as_gzip_is_said(
    shared_home: Any, live: httpx.Client, garbage: bytes
) -> None:
    file = shared_home.folder / "garbage.gz"
    file.write_bytes(garbage)
    _, err = shared_home.run("import", file, code=1)
    assert f"error: {file}: broken after line 0" in err


def test_a_missing_file_is_said_before_anything_is_done(shared_home: Any) -> None:
    there = shared_home.write("there.jsonl", [act("missing")])
    for gone in (shared_home.folder / "gone.jsonl", shared_home.folder):
        out, err = shared_home.run("import", there, gone, code=2)
        assert "is not a file" in " ".join(err.replace("│", " ").split())
        assert out == ""


def test_one_event_in_two_files_and_twice_in_one(shared_home: Any, live: httpx.Client) -> None:
    event = act("twice")
    one = shared_home.write("one.jsonl", [event, event, event | {"user_id": "other"}])
    two = shared_home.write("two.jsonl", [event | {"ts": IN_1995 + 5}, act("twice")])
    report = shared_home.imported(one, packed(two))
    assert (report["accepted"], report["duplicates"]) == (3, 2)
    assert (counts(live, "twice"), counts(live, "other")) == ({"view": 2}, {"view": 1})


def test_decisions_of_another_system_imply_what_was_seen(
    shared_home: Any, live: httpx.Client
) -> None:
    user = "decided"
    slots = [{"item_id": f"i{n}", "position": n, "propensity": 0.5} for n in range(5)]
    random.Random(1).shuffle(slots)
    decision = {"type": "decision", "decision_id": "d", "user_id": user, "ts": IN_1995}
    events = [
        decision | {"slots": slots, "surface": "home"},
        act(user, item_id="i2", decision_id="d", ts=IN_1995 + 9),
        act(user, item_id="i1", decision_id="d", ts=IN_1995 + 10),  # above: seen already
        act(user, item_id="i9", decision_id="d"),  # was not shown
        act(user, item_id="i4", decision_id="another"),
    ]
    file = shared_home.write("decisions.jsonl", events)
    assert shared_home.imported(file)["accepted"] == 5
    seen = live.get(f"/v1/users/{user}").json()
    assert seen["impressions"] == 3
    assert [shown["item_ids"] for shown in seen["shown"]] == [["i0", "i1", "i2"]]
    again = shared_home.imported(file)
    assert (again["accepted"], again["duplicates"]) == (0, 5)
    # The impression itself says more, and what was implied is not counted twice.
    impression = {"type": "impression", "event_id": "seen", "user_id": user, "decision_id": "d"}
    shown = [{"position": 0, "item_ids": [f"i{n}" for n in range(5)]}]
    extra = shared_home.write("extra.jsonl", [impression | {"ts": IN_1995, "shown": shown}])
    shared_home.imported(extra)
    assert live.get(f"/v1/users/{user}").json()["impressions"] == 5


def test_a_live_event_that_is_in_a_file_too_counts_once(
    shared_home: Any, live: httpx.Client
) -> None:
    now = time.time()
    first = [act("live first", ts=now - age) for age in (1, 86_400, 6 * 86_400)]
    second = [act("live second", ts=now - age) for age in (1, 86_400, 6 * 86_400)]
    live.post("/v1/events?wait=folded", json=first).raise_for_status()
    report = shared_home.imported(shared_home.write("live.jsonl", [*first, *second]))
    assert (report["accepted"], report["duplicates"]) == (3, 3)
    told = live.post("/v1/events?wait=folded", json=second).json()
    assert told["rejected"] == []
    for user in ("live first", "live second"):
        assert counts(live, user) == {"view": 3}


def test_the_service_folds_what_is_imported_beside_it(shared_home: Any, live: httpx.Client) -> None:
    with shared_home.store() as store:
        before = store.progress(range(16))
        users = [f"beside {n}" for n in range(50)]
        events = [act(user) for user in users for _ in range(60)]
        assert shared_home.imported(shared_home.write("beside.jsonl", events))["accepted"] == 3000
        after = store.progress(range(16))
    assert [(p.owner, p.epoch) for p in after] == [(p.owner, p.epoch) for p in before]
    assert sum(p.folded for p in after) - sum(p.folded for p in before) == 3000
    assert all(counts(live, user) == {"view": 60} for user in users)


def test_an_import_into_steady_traffic_comes_to_an_end(
    shared_home: Any, live: httpx.Client
) -> None:
    """Regression: it waited for an instant in which nothing was left to fold or to archive."""
    done = threading.Event()
    sent = 0

    def traffic() -> None:
        nonlocal sent
        with httpx.Client(base_url=str(live.base_url), timeout=30, trust_env=False) as client:
            while not done.is_set():
                batch = [act(f"steady {n}", ts=time.time()) for n in range(20)]
                client.post("/v1/events", json=batch).raise_for_status()
                sent += 1

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        file = shared_home.write("steady.jsonl", [act(f"steady {n}") for n in range(20)])
        report = shared_home.imported(file)
    finally:
        done.set()
        thread.join()
    assert report["accepted"] == 20
    live.post(
        "/v1/events?wait=folded", json=[act(f"steady {n}", ts=time.time()) for n in range(20)]
    )
    for n in range(20):
        assert counts(live, f"steady {n}") == {"view": sent + 2}


def test_the_order_of_the_file_is_the_order_of_the_fold(
    shared_home: Any, live: httpx.Client
) -> None:
    """Regression: users' attributes went before the events of the lines above."""
    message = {"type": "push", "user_id": "ordered", "message_id": "m", "status": "opened"}
    zone = {"type": "user", "user_id": "ordered", "attributes": {"time_zone": "Asia/Tokyo"}}
    monday = "2024-01-01T00:30:00Z"
    events = [
        message | {"event_id": "opened 1", "ts": monday},
        zone | {"ts": monday},
        message | {"event_id": "opened 2", "ts": monday},
    ]
    assert shared_home.imported(shared_home.write("ordered.jsonl", events))["accepted"] == 3
    push = live.get("/v1/users/ordered").json()["push"]
    assert push["opens_by_hour_of_week"] == {"0": 1, "9": 1}


def test_what_was_erased_does_not_come_back(
    shared_home: Any, live: httpx.Client, until: Until
) -> None:
    file = shared_home.write("erased.jsonl", [act("gone"), act("stays")])
    shared_home.imported(file)
    receipt = live.delete("/v1/users/gone").json()["receipt_id"]
    until(lambda: live.get(f"/v1/erasures/{receipt}").json()["status"] == "done", "no erasure")
    shared_home.imported(file)
    assert live.get("/v1/users/gone").status_code == 404
    assert counts(live, "stays") == {"view": 1}


def test_only_one_import_at_a_time(shared_home: Any, live: httpx.Client) -> None:
    file = shared_home.write("locked.jsonl", [act("locked")])
    done = threading.Event()
    with shared_home.store() as store:

        def hold() -> None:
            while not done.is_set():
                store.lock("import", "another", 5000)
                done.wait(0.5)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            _, err = shared_home.run("import", file, code=1)
        finally:
            done.set()
            thread.join()
            store.unlock("import")
    assert "error: another import is running on this store" in err
    assert shared_home.imported(file)["accepted"] == 1
