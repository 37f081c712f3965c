"""`DELETE /v1/users/{id}`: forgotten at once, cleaned everywhere, whoever is killed meanwhile."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import polars as pl
import pytest

from engine.fold import DeadLetter
from engine.ids import ITEMS, partition_of
from engine.redis_store import RedisStore

Make = Callable[..., dict[str, Any]]
Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def store(service: Any) -> Iterator[RedisStore]:
    opened = service.store()
    yield opened
    opened.close()


def path_of(user_id: str) -> str:
    return f"/v1/users/{quote(user_id, safe='')}"


def erase(client: httpx.Client, user_id: str) -> Any:
    answer = client.delete(path_of(user_id))
    told = answer.json()
    assert answer.status_code == 202, told
    assert set(told) == {"receipt_id", "status", "asked_at"}
    assert told["status"] == "pending"
    return told


def done(client: httpx.Client, receipt_id: str, eventually: Eventually) -> Any:
    def ask() -> Any:
        told = client.get(f"/v1/erasures/{receipt_id}").json()
        assert told.get("status") in ("pending", "done"), told
        return told

    return eventually(ask, lambda told: told["status"] == "done")


def archived(service: Any, user_ids: list[str]) -> list[str]:
    """Types of the archived records that hold one of these ids, in whatever column or place."""
    frame = service.archive()
    needles = [json.dumps(user_id, ensure_ascii=False)[1:-1] for user_id in user_ids]
    found = frame.filter(
        pl.col("user_id").is_in(user_ids)
        | pl.any_horizontal([pl.col("record").str.contains(n, literal=True) for n in needles])
    )
    return sorted(found["type"].to_list())


def in_files(home: Path, needle: str) -> list[Path]:
    """Files of the archive that hold these bytes still."""
    files = (home / "log").rglob("*.parquet")
    return [
        file
        for file in files
        if pl.read_parquet(file)["record"].str.contains(needle, literal=True).any()
    ]


def streamed(store: RedisStore, user_ids: list[str]) -> list[str]:
    """Types of the records in the streams that name one of these ids."""
    found = []
    for partition in [ITEMS, *range(store.settings.partitions)]:
        for entry in store.read_log(partition, 0, 1_000_000):
            for raw in entry.records:
                record = json.loads(raw)
                if any(user_id in record.values() for user_id in user_ids):
                    found.append(record["type"])
    return found


def letter(store: RedisStore, user_id: str, mark: str) -> bytes:
    """Set a record aside as the fold does with what it cannot take."""
    raw = json.dumps({"type": "broken", "user_id": user_id, "mark": mark}, ensure_ascii=False)
    found = DeadLetter(1, 0, mark, raw.encode())
    store.set_aside(partition_of(user_id, store.settings.partitions), found)
    return found.raw


def set_aside(store: RedisStore) -> str:
    letters = [raw for p in range(store.settings.partitions) for raw in store.dead(p)]
    return "\n".join(json.loads(raw)["reason"] for raw in letters)


def send(client: httpx.Client, events: Any) -> Any:
    answer = client.post("/v1/events?wait=folded", json=events)
    assert answer.status_code == 202, answer.text
    return answer.json()


ODD_IDS = ["erase-me", 'O\'Brien "x"\\ {k1}%é🍲\n\x01']


@pytest.mark.parametrize("user", ODD_IDS)
def test_everything_of_a_user_goes(
    service: Any,
    client: httpx.Client,
    store: RedisStore,
    act: Make,
    eventually: Eventually,
    user: str,
) -> None:
    others = [user + "2", user[:-1]]
    acts = [act(user, query=f"secret {n}", device={"device_id": "phone"}) for n in range(5)]
    more = {"type": "user", "user_id": user, "attributes": {"diet": "vegan"}}
    send(client, [*acts, more, *map(act, others)])
    letter(store, user, "theirs")
    letter(store, others[0], "another's")
    eventually(lambda: len(archived(service, [user])) >= 6)

    receipt = erase(client, user)
    assert client.get(path_of(user)).status_code == 404
    told = done(client, receipt["receipt_id"], eventually)
    removed = {"archived records": 6, "training rows": 0, "dead letters": 1}
    removed |= {"held messages": 0, "states": 1}
    assert told["removed"] == removed
    assert told["asked_at"] == receipt["asked_at"] <= told["done_at"]
    assert client.get(path_of(user)).status_code == 404

    mine = service.archive().filter(pl.col("user_id") == user)
    assert mine["type"].to_list() == ["erase"]
    assert not in_files(service.home, f'{acts[0]["event_id"]}"')
    eventually(lambda: set(streamed(store, [user])) <= {"erase"})
    assert set_aside(store) == "another's"
    store.drop_dead(
        partition_of(others[0], 16), store.dead(partition_of(others[0], 16))
    )  # the session's last test wants none
    for other in others:
        assert client.get(path_of(other)).json()["counters"] == {"view": 1}


def test_what_was_before_stays_forgotten_and_what_comes_is_new(
    service: Any,
    client: httpx.Client,
    act: Make,
    fresh: Callable[[str], str],
    eventually: Eventually,
) -> None:
    user = fresh("u")
    send(client, [act(user, action="like"), act(user, ts=time.time() - 60)])
    receipt = erase(client, user)
    late = [act(user, ts=time.time() - ago, query="too late") for ago in (3600, 60, 1)]
    send(client, late)  # while the erasure is under way
    assert client.get(path_of(user)).status_code == 404
    done(client, receipt["receipt_id"], eventually)
    send(client, [act(user, ts=time.time() - ago, query="too late") for ago in (86_400, 60)])
    assert client.get(path_of(user)).status_code == 404
    old = {"type": "user", "user_id": user, "ts": time.time() - 60, "attributes": {"a": 1}}
    send(client, old)
    assert client.get(path_of(user)).status_code == 404
    send(client, act(user, action="cook", ts=time.time() + 1))
    assert client.get(path_of(user)).json()["counters"] == {"cook": 1}
    eventually(lambda: archived(service, [user]), lambda found: "interaction" in found)
    assert archived(service, [user]) == ["erase", "interaction"]


def test_an_erased_user_may_be_erased_again(
    client: httpx.Client, act: Make, fresh: Callable[[str], str], eventually: Eventually
) -> None:
    user = fresh("u")
    for _ in range(2):
        send(client, act(user, ts=time.time() + 1))
        time.sleep(1.1)  # an erasure takes what is dated before it
        first, second = erase(client, user), erase(client, user)
        assert first["receipt_id"] != second["receipt_id"]
        assert client.get(path_of(user)).status_code == 404
        done(client, first["receipt_id"], eventually)
        done(client, second["receipt_id"], eventually)


def test_an_unknown_user_can_be_erased(
    client: httpx.Client, fresh: Callable[[str], str], eventually: Eventually
) -> None:
    told = done(client, erase(client, fresh("u"))["receipt_id"], eventually)
    assert told["removed"]["archived records"] == 0


@pytest.mark.parametrize("user", ["x" * 129, "x" * 10_000])
def test_what_is_no_id_cannot_be_erased(client: httpx.Client, user: str) -> None:
    answer = client.delete(path_of(user))
    assert (answer.status_code, answer.json()["field"]) == (422, "user_id")


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_an_erasure_takes_all_ids_of_a_person(
    service: Any,
    client: httpx.Client,
    store: RedisStore,
    act: Make,
    fresh: Callable[[str], str],
    eventually: Eventually,
    asked: int,
) -> None:
    """Of two anonymous visitors who logged in, one over the other: whichever id is named."""
    ids = [fresh("anon"), fresh("anon"), fresh("u")]
    send(client, [act(user) for user in ids])
    for previous, user in ((ids[0], ids[1]), (ids[1], ids[2])):
        send(
            client,
            {
                "type": "alias",
                "event_id": fresh("e"),
                "previous_id": previous,
                "user_id": user,
                "ts": time.time(),
            },
        )
    send(client, act(ids[0]))

    def joined() -> bool:
        told = client.get(path_of(ids[2])).json()
        return told.get("counters") == {"view": 4} and set(told["aliases"]) == set(ids[:2])

    eventually(joined)
    receipt = erase(client, ids[asked])
    for user in ids:
        assert client.get(path_of(user)).status_code == 404
    told = done(client, receipt["receipt_id"], eventually)
    assert told["removed"]["states"] == 3
    eventually(lambda: archived(service, ids) == ["erase"] * 3)
    eventually(lambda: set(streamed(store, ids)) <= {"erase"})
    for user in ids:
        assert client.get(path_of(user)).status_code == 404
    send(client, act(ids[0], ts=time.time() + 1))  # nobody's alias any more
    assert client.get(path_of(ids[0])).json()["user_id"] == ids[0]
    assert client.get(path_of(ids[2])).status_code == 404


def test_an_erasure_outlives_kills(
    another: Callable[..., Any], act: Make, eventually: Eventually
) -> None:
    """SIGKILL at seeded moments, over and over: every receipt gets done all the same."""
    rng = random.Random(7)
    service = another(KAIROS_ARCHIVE_INTERVAL_S="0.05")
    users = [f"user-{n}" for n in range(3)]
    with service.client() as client:
        send(client, [act(user) for user in users for _ in range(20)] + [act("witness")])
    eventually(lambda: (service.home / "log").exists())
    receipts = []
    for user in users[:-1]:
        with service.client() as client:
            receipts.append(erase(client, user)["receipt_id"])
            time.sleep(rng.random() * 0.2)
            service.kill()
        service.start()
    with service.client() as client:
        for receipt_id in receipts:
            done(client, receipt_id, eventually)
        for user in users[:-1]:
            assert client.get(path_of(user)).status_code == 404
        for left, count in ((users[-1], 20), ("witness", 1)):
            told = client.get(path_of(left)).json()
            assert told["counters"] == {"view": count}
        eventually(lambda: archived(service, users[:-1]) == ["erase"] * 2)
        eventually(lambda: len(archived(service, [users[-1]])) == 20)
    # And through an orderly end and a start from the files alone.
    service.stop()
    service.start()
    with service.client() as client:
        assert client.get(path_of(users[0])).status_code == 404
        assert client.get(path_of(users[-1])).json()["counters"] == {"view": 20}
        past = datetime.fromtimestamp(time.time() - 3600, UTC).isoformat()
        send(client, act(users[0], ts=past))
        assert client.get(path_of(users[0])).status_code == 404


def test_the_archiver_does_not_take_over_from_a_living_asker(
    another: Callable[..., Any], act: Make, eventually: Eventually
) -> None:
    """Jobs are seen by the archiver before their erase records are in the log."""
    service = another(KAIROS_ARCHIVE_INTERVAL_S="0.001")
    users = [f"person-{n}" for n in range(25)]
    with service.client() as client:
        send(client, [act(user) for user in users])
        for receipt in [erase(client, user) for user in users]:
            done(client, receipt["receipt_id"], eventually)
    assert archived(service, users) == ["erase"] * 25


def test_an_erasure_whose_asker_was_killed_at_once(
    another: Callable[..., Any], act: Make, eventually: Eventually
) -> None:
    """Nothing but the answer was given: the archiver had no time to begin."""
    service = another(KAIROS_ARCHIVE_INTERVAL_S="600")
    with service.client() as client:
        send(client, [act("whoever") for _ in range(3)])
        receipt_id = erase(client, "whoever")["receipt_id"]
        assert client.get(f"/v1/erasures/{receipt_id}").json()["status"] == "pending"
    service.kill()
    service.environ["KAIROS_ARCHIVE_INTERVAL_S"] = "0.2"
    service.start()
    with service.client() as client:
        assert done(client, receipt_id, eventually)["removed"]["states"] == 1
        assert client.get(path_of("whoever")).status_code == 404
    assert archived(service, ["whoever"]) == ["erase"]
