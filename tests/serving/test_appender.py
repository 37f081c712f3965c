"""Many senders at once, clients that leave, and a store that dies: 202 means that it counts."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import redis

from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from serving import embedded
from serving.ingest import Appender

Make = Callable[..., dict[str, Any]]
Eventually = Callable[..., Any]

SENDERS = 50
REQUESTS = 8
FAR = 9_999  # a partition that no other test writes to


def test_concurrent_senders_are_counted_exactly(
    client: httpx.Client,
    service: Any,
    act: Make,
    fresh: Callable[[str], str],
    eventually: Eventually,
) -> None:
    """Each has events of its own and sends, as all others do, the same events of one more user."""
    shared, item = fresh("shared"), fresh("soup")
    same = [act(shared, item_id=item) for _ in range(REQUESTS)]
    users = [fresh("sender") for _ in range(SENDERS)]

    async def sender(http: httpx.AsyncClient, user: str) -> int:
        accepted = 0
        for event in same:
            own = [act(user, item_id=item) for _ in range(3)]
            answer = await http.post("/v1/events", json=[own[0], event, own[1], {}, own[2]])
            told = answer.json()
            assert answer.status_code == 202, told
            assert (told["accepted"] + told["duplicates"], len(told["rejected"])) == (4, 1)
            accepted += told["accepted"]
        return accepted

    async def all_senders() -> list[int]:
        limits = httpx.Limits(max_connections=SENDERS)
        async with httpx.AsyncClient(
            base_url=service.url, timeout=30, trust_env=False, limits=limits
        ) as http:
            return await asyncio.gather(*(sender(http, user) for user in users))

    accepted = asyncio.run(all_senders())
    assert all(3 * REQUESTS <= n <= 4 * REQUESTS for n in accepted)
    assert sum(accepted) >= (3 * SENDERS + 1) * REQUESTS
    for user, count in [*((user, 3 * REQUESTS) for user in users), (shared, REQUESTS)]:
        eventually(
            lambda: client.get(f"/v1/users/{user}").json().get("counters"),  # noqa: B023
            lambda counters: counters == {"view": count},  # noqa: B023
        )
    eventually(
        lambda: client.get(f"/v1/items/{item}").json()["counters"],
        lambda counters: counters == {"view": (3 * SENDERS + 1) * REQUESTS},
    )


def test_clients_that_leave_take_nobody_along(
    client: httpx.Client,
    service: Any,
    act: Make,
    fresh: Callable[[str], str],
    eventually: Eventually,
) -> None:
    gone, stays = fresh("gone"), fresh("stays")
    for number in range(40):
        body = json.dumps([act(gone)]).encode()
        head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", service.port)) as link:
            link.sendall((head + body)[: None if number % 2 else -1])
        assert client.post("/v1/events", json=act(stays)).status_code == 202
    eventually(
        lambda: client.get(f"/v1/users/{stays}").json().get("counters"),
        lambda counters: counters == {"view": 40},
    )
    told = client.get(f"/v1/users/{gone}").json()
    assert told.get("counters", {"view": 0})["view"] <= 20


class Senders:
    """Threads that send events one by one, each until it is acknowledged, as clients should."""

    def __init__(self, service: Any, act: Make, count: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.acknowledged: dict[str, list[str]] = {f"sender-{n}": [] for n in range(count)}
        self.problems: list[str] = []
        self._service = service
        self._act = act
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(user,)) for user in self.acknowledged
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def _run(self, user: str) -> None:
        with self._service.client() as client:
            while not self._stop.is_set():
                event = self._act(user)
                while (answer := client.post("/v1/events", json=event)).status_code != 202:
                    self._refused(answer)
                    time.sleep(0.05)
                told = answer.json()
                if told["accepted"] + told["duplicates"] != 1:
                    self.problems.append(answer.text)
                self.statuses[202] += 1
                self.acknowledged[user].append(event["event_id"])

    def _refused(self, answer: httpx.Response) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code != 503 or int(answer.headers.get("retry-after", "0")) < 1:
            self.problems.append(f"{answer.status_code}: {answer.text}")


@pytest.mark.parametrize("restarted_by", ["the service", "hand"])
def test_a_store_that_is_killed_loses_nothing_acknowledged(
    another: Callable[..., Any],
    act: Make,
    eventually: Eventually,
    tmp_path: Path,
    restarted_by: str,
) -> None:
    """SIGKILL of the store under way: 503 while it is gone, and what 202 promised still counts."""
    # `always`, since everysec may hold back what it has for as long as its last fsync takes.
    outer = Settings(home=str(tmp_path / "outer"), appendfsync="always")
    external = embedded.start(outer) if restarted_by == "hand" else None
    url = {} if external is None else {"KAIROS_REDIS_URL": external.url}
    try:
        service = another(KAIROS_APPENDFSYNC="always", **url)
        senders = Senders(service, act, 4)
        senders.start()
        try:
            for _ in range(2):
                before = senders.total()
                eventually(lambda: senders.total() > before + 100)  # noqa: B023
                refused = senders.statuses[503]
                if external is None:
                    service.kill_store()
                else:
                    assert external.process is not None
                    external.process.kill()
                    external.process.wait()
                eventually(lambda: senders.statuses[503] > refused)  # noqa: B023
                if external is not None:
                    external = embedded.start(outer, again=external)
            before = senders.total()
            eventually(lambda: senders.total() > before + 100)
        finally:
            senders.stop()
        assert senders.problems == []
        assert set(senders.statuses) == {202, 503}
        counted_exactly(service, senders, eventually)
    finally:
        if external is not None:
            service.stop()
            external.stop()


def counted_exactly(service: Any, senders: Senders, eventually: Eventually) -> None:
    """Whatever was acknowledged counts once, in the states and in the archive."""
    with service.client() as client:
        eventually(lambda: client.get("/readyz").json()["fold_lag_events"] == 0)
        for user, sent in senders.acknowledged.items():
            told = client.get(f"/v1/users/{user}").json()
            assert told["counters"] == {"view": len(sent)}

    def archived() -> set[str]:
        frame = service.archive().filter(pl.col("type") == "interaction")
        return {json.loads(record)["event_id"] for record in frame["record"]}

    sent = {event_id for ids in senders.acknowledged.values() for event_id in ids}
    eventually(archived, lambda found: found == sent)


def test_who_leaves_takes_along_what_waited(valkey_url: str) -> None:
    """While an append hangs, what nobody waits for any more must not pile up behind it."""
    settings = Settings(redis_url=valkey_url, store_timeout_ms=10_000)

    async def run() -> int:
        store = AsyncRedisStore(settings, (False, False))
        appender = Appender(store)
        await appender.append({FAR: [b"warm"]})
        with redis.Redis.from_url(valkey_url) as link:
            link.execute_command("CLIENT", "PAUSE", 300, "WRITE")
            calls = []
            for record in (b"under way", b"leaves", b"stays"):
                calls.append(asyncio.create_task(appender.append({FAR: [record]})))
                await asyncio.sleep(0.02)
            for left in calls[:2]:
                left.cancel()
            link.execute_command("CLIENT", "UNPAUSE")
        ended = await asyncio.gather(*calls, return_exceptions=True)
        await store.close()
        assert [isinstance(one, asyncio.CancelledError) for one in ended] == [True, True, False]
        return appender._bytes

    assert asyncio.run(run()) == 0
    store = RedisStore.connect(settings)
    records = [record for entry in store.read_log(FAR, 0, 10) for record in entry.records]
    store.close()
    assert records == [b"warm", b"under way", b"stays"]
