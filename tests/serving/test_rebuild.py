"""`kairos rebuild`: the states folded anew from the log, while serving goes on or after a loss."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.archive import Archive, rows_of
from engine.catalog import decode_item
from engine.ids import ITEMS
from engine.records import ItemRecord, UserRecord, encode
from engine.redis_store import RedisStore, connect
from engine.settings import Settings, load_settings
from engine.state import encode_state
from serving import embedded
from serving.folders import rules_of
from serving.rebuild import Rebuild
from training.replay import WholeLog, replay

Event = dict[str, Any]
Eventually = Callable[..., Any]
PARTITIONS = range(16)
PATIENCE_S = 120.0

_numbers = itertools.count()


def event(kind: str, user: str, **fields: Any) -> Event:
    made = {"type": kind, "event_id": f"e{next(_numbers)}", "user_id": user, "ts": time.time()}
    return made | fields


def act(user: str, **fields: Any) -> Event:
    return event("interaction", user, **({"action": "view", "item_id": "soup"} | fields))


def session(user: str, chance: random.Random) -> list[Event]:
    """One act, and whatever else can stand in a log."""
    items = [f"i{chance.randrange(30)}" for _ in range(4)]
    shown = [{"position": 0, "item_ids": items}]
    return [
        act(user, item_id=items[0], decision_id="d"),
        event("impression", user, decision_id="d", shown=shown),
        event("device", user, device={"device_id": "phone", "activity": "walking"}),
        event("push", user, message_id="m", status="opened"),
        {"type": "user", "user_id": user, "attributes": {"n": chance.random()}},
        {"type": "item", "item_id": items[1], "attributes": {"n": chance.random()}},
    ]


def states(store: RedisStore) -> dict[str, bytes]:
    return {user: encode_state(s) for p in PARTITIONS for user, s in store.states(p)}


def counters(store: RedisStore) -> Counter[tuple[int, int]]:
    total: Counter[tuple[int, int]] = Counter()
    for partition in PARTITIONS:
        total.update(store.counters(partition))
    return total


def items(store: RedisStore) -> dict[str, Any]:
    return {state.item_id: state for state in map(decode_item, store.all_items()[1])}


def replayed(store: RedisStore) -> dict[str, bytes]:
    log = WholeLog(Archive(store.settings.archive_path), store)
    found = replay(log, PARTITIONS, 16, rules_of(store.settings), [])
    return {user: encode_state(state) for user, state in found.states.items()}


def quiet(store: RedisStore) -> bool:
    """Whether nothing is left to fold, twice with a pause for what aliases send on."""
    for _ in range(3):
        if any(p.oldest_ms is not None for p in store.progress([ITEMS, *PARTITIONS])):
            return False
        time.sleep(0.05)
    return True


def assert_only_one_generation(store: RedisStore) -> None:
    for partition in [ITEMS, *PARTITIONS]:
        for gone in range(1, store.generation(partition)):
            assert store.drop_generation(partition, gone) == 0, (partition, gone)


def rebuilding(environ: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    ours = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "rebuild"],
        env=ours | environ, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rebuild(environ: dict[str, str], folder: Path) -> int:
    """Run the command; returns how many records it says it folded."""
    out, err = (process := rebuilding(environ, folder)).communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert out.startswith("rebuilt from ")
    return int(out.split()[2].replace(",", ""))


# Beside a living folder


def test_beside_a_quiet_service_everything_is_as_before(
    another: Callable[..., Any], eventually: Eventually
) -> None:
    service = another()
    chance = random.Random(1)
    store = service.store()
    with service.client() as client:
        for n in range(40):
            events = session(f"u{n % 25}", chance)
            client.post("/v1/events", json=events).raise_for_status()
        client.post("/v1/events", json=[event("alias", "u1", previous_id="u0")])
        client.post("/v1/events", json=[act("u0")])
        eventually(lambda: quiet(store))
        before = states(store), counters(store), items(store)
        for generation in (2, 3):
            folded = rebuild(service.environ, service.home)
            assert folded >= 242
            assert (states(store), counters(store), items(store)) == before
            assert store.generations([ITEMS, *PARTITIONS]) == [generation] * 17
            assert_only_one_generation(store)
        told = client.post("/v1/events?wait=folded", json=[act("u1"), act("u7")]).json()
        assert told["folded"] is True
        assert client.get("/v1/users/u7").json()["counters"] == {"view": 3}
    assert states(store) == replayed(store)
    store.close()


class Traffic(threading.Thread):
    """Steady events; whoever reads after `wait=folded` sees what was sent. Counts what it sent."""

    def __init__(self, client: httpx.Client, seed: int) -> None:
        super().__init__()
        self.client = client
        self.chance = random.Random(seed)
        self.sent: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.joined: dict[str, str] = {}
        self.done = threading.Event()

    def run(self) -> None:
        for turn in itertools.count():
            if self.done.is_set():
                return
            users = [f"u{self.chance.randrange(50)}" for _ in range(10)]
            reader = f"reader {turn % 5}"
            batch = [e for user in [*users, reader] for e in session(user, self.chance)]
            visitor, into = f"visitor {turn}", users[0]
            batch += [act(visitor), event("alias", into, previous_id=visitor), act(visitor)]
            told = self.client.post("/v1/events?wait=folded", json=batch).json()
            if told.get("accepted") != len(batch) or not told["folded"]:
                self.wrong.append(f"turn {turn}: {told}")
                continue
            self.sent.update([*users, reader, into, into])
            self.joined[visitor] = into
            seen = self.client.get(f"/v1/users/{reader}").json().get("counters", {}).get("view")
            if seen != self.sent[reader]:
                self.wrong.append(f"turn {turn}: {reader} had {seen}, sent {self.sent[reader]}")

    def stop(self) -> None:
        self.done.set()
        self.join()


def test_while_events_come_in_nothing_is_lost_and_nothing_counts_twice(
    another: Callable[..., Any], eventually: Eventually
) -> None:
    """Aliases are in flight all the time; readers never see less than they were promised."""
    service = another()
    store = service.store()
    with service.client() as client:
        traffic = Traffic(client, 5)
        traffic.start()
        try:
            eventually(lambda: len(traffic.sent) > 50)
            for _ in range(3):
                rebuild(service.environ, service.home)
        finally:
            traffic.stop()
        assert traffic.wrong == []
        eventually(lambda: quiet(store))
        seen = {u: client.get(f"/v1/users/{u}").json()["counters"]["view"] for u in traffic.sent}
        assert seen == dict(traffic.sent)
        for visitor, into in list(traffic.joined.items())[-20:]:
            assert client.get(f"/v1/users/{visitor}").json()["user_id"] == into
    assert store.generations([ITEMS, *PARTITIONS]) == [4] * 17
    assert_only_one_generation(store)
    assert states(store) == replayed(store)
    assert sum(p.dead for p in store.progress(PARTITIONS)) == 0
    store.close()


def test_a_rebuild_that_was_killed_can_be_run_again(
    another: Callable[..., Any], eventually: Eventually
) -> None:
    service = another()
    store = service.store()
    with service.client() as client:
        for n in range(20):
            events = [act(f"u{n * 100 + m}") for m in range(900)]
            client.post("/v1/events", json=events).raise_for_status()
        eventually(lambda: quiet(store))
        before = states(store)
        for attempt in range(2):
            process = rebuilding(service.environ, service.home)
            start = store.generations(PARTITIONS)
            while process.poll() is None:
                moved = [g > s for g, s in zip(store.generations(PARTITIONS), start, strict=True)]
                if sum(moved) >= 3 + 4 * attempt:
                    break
            process.kill()
            _, err = process.communicate()
            assert process.returncode == -9, f"it was done before it could be killed: {err}"
            assert states(store).keys() == before.keys()
            told = client.post("/v1/events?wait=folded", json=[act(f"u{n}") for n in range(90)])
            assert told.json()["folded"] is True
        # As if the second had been killed between a swap and the old generation's end.
        old = store.generation(0) - 1
        assert store.claim("killed", 0, max(old, 1)) is not None
        rebuild(service.environ, service.home)
        eventually(lambda: quiet(store))
        assert client.get("/v1/users/u5").json()["counters"] == {"view": 3}
    assert_only_one_generation(store)
    assert states(store) == replayed(store)
    assert states(store).keys() == before.keys()
    store.close()


# After the states were lost


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The log's address and the states'."""
    servers = [
        embedded.start(Settings(home=str(tmp_path / name), appendfsync="no"))
        for name in ("log", "states")
    ]
    yield servers[0].url, servers[1].url
    for server in servers:
        server.stop()


def test_states_that_were_lost_are_restored(
    another: Callable[..., Any], eventually: Eventually, two_servers: tuple[str, str]
) -> None:
    log_url, state_url = two_servers
    service = another(KAIROS_REDIS_URL=state_url, KAIROS_LOG_URL=log_url)
    settings = load_settings(service.environ, service.home / "none.toml")
    store = RedisStore.connect(settings)
    chance = random.Random(2)
    client = service.client()
    title = {"type": "item", "item_id": "soup", "attributes": {"title": "Soup"}}
    client.post("/v1/events", json=title).raise_for_status()
    for n in range(80):  # more entries than one batch takes
        client.post("/v1/events", json=session(f"u{n % 25}", chance)).raise_for_status()
    more = {"type": "item", "item_id": "soup", "attributes": {"tags": ["warm"]}}
    batch = [more, event("alias", "u1", previous_id="u0"), act("u0")]
    client.post("/v1/events", json=batch).raise_for_status()
    eventually(lambda: quiet(store))
    before = states(store), counters(store), items(store)
    assert set(items(store)["soup"].attributes) == {"title", "tags"}
    eventually(lambda: all(p.archived_position >= p.offset for p in store.progress(PARTITIONS)))

    connect(state_url, 5000).flushall()
    eventually(lambda: "has a log but no states: run kairos rebuild" in service.tail())
    told = client.post("/v1/events", json=[act("u3"), act("new")])
    assert told.json()["accepted"] == 2
    assert states(store) == {}
    assert client.get("/v1/users/u3").status_code == 404

    rebuild(service.environ, service.home)
    eventually(lambda: quiet(store))
    assert client.get("/v1/users/new").json()["counters"] == {"view": 1}
    after = states(store)
    assert after == replayed(store)
    assert {user: s for user, s in after.items() if user not in ("u3", "new")} == {
        user: s for user, s in before[0].items() if user != "u3"
    }
    assert sum(counters(store).values()) == sum(before[1].values()) + 2
    assert items(store) == before[2], "an item's attributes came in several batches"
    client.close()
    store.close()


# Without a service


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RedisStore]:
    settings = Settings(home=str(tmp_path / "home"), appendfsync="no", partitions=2, lease_ms=200)
    server = embedded.start(settings)
    store = RedisStore.connect(
        Settings(home=settings.home, redis_url=server.url, partitions=2, lease_ms=200)
    )
    yield store
    store.close()
    server.stop()


def test_what_is_archived_and_trimmed_meanwhile_is_not_missed(alone: RedisStore) -> None:
    """Regression: from the second thousand entries on, the stream was gone when they were due."""
    archive = Archive(alone.settings.archive_path)
    user = next(f"u{n}" for n in itertools.count() if n % 2 == 0)
    partition = 0
    records = [UserRecord(ts=n, arrived=n, user_id=user, attributes={"n": n}) for n in range(2500)]
    for record in records:
        alone.append({partition: [encode(record)]})
    every = alone.read_log(partition, 0, 9999)
    claim = alone.claim("folder", partition)
    assert claim is not None
    archived = False

    def archive_now(_: int, __: int) -> None:
        nonlocal archived
        if not archived:
            archived = True
            archive.append(rows_of(partition, every), {}, {partition: every[-1].position})
            alone.set_archived(partition, every[-1].position, len(every))
            alone.trim(partition, every[-1].position)

    job = Rebuild(alone, archive, archive_now)
    job._folder.fold(claim, every)  # the old generation is as far as the log
    alone.release(claim)
    assert job.rebuild(partition) == 2500
    assert archived
    state = alone.user(user, partition)
    assert state is not None
    assert state.attributes == {"n": (2499, 2499)}


def test_records_that_cannot_be_read_do_not_stop_it(alone: RedisStore) -> None:
    """Regression: an item record set aside once ended every rebuild after it."""
    archive = Archive(alone.settings.archive_path)
    good = ItemRecord(ts=1, arrived=1, item_id="a", item=0, attributes={"n": 1})
    alone.append({ITEMS: [b"\xff no record", encode(good), b'{"type": "martian"}']})
    entries = alone.read_log(ITEMS, 0, 9)
    archive.append(rows_of(ITEMS, entries), {}, {ITEMS: entries[-1].position})
    alone.set_archived(ITEMS, entries[-1].position, 3)
    Rebuild(alone, archive, lambda *_: None).run()
    assert items(alone)["a"].attributes == {"n": (1, 1)}
