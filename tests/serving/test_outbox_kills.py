"""Kill -9 anywhere: nothing is sent twice, nothing is held for ever.

Sent twice is what the receiver takes twice: it knows messages by their `webhook-id`, as Standard
Webhooks asks of receivers. A second post under the same id is the same message.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.push_message import Message
from engine.push_outbox import Added, Held, Kept, Outbox
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from serving.outbox_delivering import POLL_S as DELIVER_POLL_S

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("outbox_worker.py")
PATH = "/v1/push/outbox"
Start = Callable[[str], subprocess.Popen[str]]


def load_worker() -> Any:
    spec = importlib.util.spec_from_file_location("outbox_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def reached(box: Outbox, user: str, name: str, state: str) -> None:
    """Wait until a message has come to a state."""
    async with asyncio.timeout(60):
        for _ in itertools.count():
            if (await kept_in(box, user, name)).state == state:
                return
            await asyncio.sleep(0.02)


async def finish(box: Outbox, name: str, settings: Settings, receiver: Any) -> None:
    """Work on, in this process, until the message is delivered."""
    work = load_worker().work(settings.redis_url, receiver.url, receiver.secret, "nowhere")
    task = asyncio.create_task(work)
    await reached(box, "u", name, "delivered")
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    told = Settings(redis_url=valkey_url, store_timeout_ms=20_000)
    store = RedisStore.connect(told)
    store._state.flushall()
    store.close()
    return told


@pytest.fixture
def start(settings: Settings, receiver: Any) -> Iterator[Start]:
    """Start a worker that stops where told."""
    workers: list[subprocess.Popen[str]] = []

    def begin(where: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), settings.redis_url, receiver.url, receiver.secret]
        worker = subprocess.Popen(
            [*command, where],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        workers.append(worker)
        return worker

    yield begin
    for worker in workers:
        kill(worker)


def kill(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.wait(30)
    assert worker.stdout is not None
    worker.stdout.close()


def on(settings: Settings, act: Callable[[Outbox], Any]) -> Any:
    async def go() -> Any:
        store = AsyncRedisStore(settings, (False, False))
        try:
            return await act(Outbox(store))
        finally:
            await store.close()

    return asyncio.run(go())


def soon() -> int:
    return int(time.time() * 1000) + 600_000


def hand_over(settings: Settings, user: str, name: str) -> None:
    message = Message(name, "news", soon())
    assert on(settings, lambda box: box.add([Held(user, message, b'{"a": 1}')])) == [Added.TAKEN]


async def kept_in(box: Outbox, user: str, name: str) -> Kept:
    found = await box.find(user, name)
    assert found is not None
    return found


def kept(settings: Settings, name: str) -> Kept:
    found: Kept = on(settings, lambda box: kept_in(box, "u", name))
    return found


@pytest.mark.parametrize(
    ("where", "name", "left", "posts"),
    [
        ("decided", "m", "waiting", 1),  # taken and decided on, and not written down
        ("settled", "hold", "waiting", 1),  # held
        ("settled", "m", "ready", 1),  # to be delivered
        ("delivering", "m", "delivering", 2),  # posted, and no answer heard
        ("delivered", "m", "delivering", 2),  # taken by the receiver, and not written down
    ],
)
def test_a_worker_is_killed(
    settings: Settings,
    receiver: Any,
    start: Start,
    eventually: Any,
    where: str,
    name: str,
    left: str,
    posts: int,
) -> None:
    if where == "delivering":
        receiver.answer = lambda webhook_id, times: time.sleep(2 * (times == 1)) or 204
    hand_over(settings, "u", name)
    worker = start(where)
    if where == "delivering":
        eventually(lambda: receiver.posts)
    else:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
    kill(worker)
    assert kept(settings, name).state == left

    on(settings, lambda box: finish(box, name, settings, receiver))

    assert len(set(receiver.ids("u"))) == 1
    assert len(receiver.ids("u")) == posts
    assert receiver.refused == []
    assert on(settings, lambda box: box.waiting()) == ([], [])


def test_a_receiver_that_wants_no_more_gets_no_more(settings: Settings, receiver: Any) -> None:
    receiver.answer = lambda webhook_id, times: 410
    worker = load_worker()

    async def scene(box: Outbox) -> None:
        looker = worker.Looker(box, worker.Scripted())
        acks = worker.Acknowledgements(box, worker.Scripted())
        deliverer = worker.Deliverer(box, acks, worker.hook(settings, receiver), worker.Metrics())
        await looker.start()
        await deliverer.start()
        while not deliverer.gone:
            await reached(box, "u", "m", "ready")
        await box.add([Held("v", Message("m", "news", soon()), b"1")])
        await reached(box, "v", "m", "ready")
        await asyncio.sleep(2 * DELIVER_POLL_S)
        await looker.stop()
        await deliverer.stop()
        left = {one.user_id: one.attempt for one in await box.hand_out(10, 1000)}
        assert left["v"] == 1  # it was not posted, and can be claimed

    hand_over(settings, "u", "m")
    on(settings, scene)
    assert len(receiver.posts) == 1


MESSAGES = 150


def test_the_service_is_killed(another: Any, receiver: Any, eventually: Any) -> None:
    # Answers take their time and some refuse, so that it meets messages in all states.
    def answer(webhook_id: str, times: int) -> int:
        time.sleep(0.02)
        return 503 if times == 1 and len(receiver.posts) % 5 == 0 else 200

    receiver.answer = answer
    service = another(
        KAIROS_PUSH_WEBHOOK_URL=receiver.url,
        KAIROS_PUSH_WEBHOOK_SECRET=receiver.secret,
        KAIROS_PUSH_WEBHOOK_TIMEOUT_S="1",
    )
    now = time.time()
    messages = [
        {
            "user_id": f"u{n}",
            "message_id": "m",
            "category": "receipt",
            "urgency": "transactional",
            "value": 100,
            "expires_at": now + 600,
            "payload": {"n": n},
        }
        for n in range(MESSAGES)
    ]
    with service.client() as client:
        assert client.post(PATH, json={"messages": messages}).json()["accepted"] == MESSAGES
    eventually(lambda: len(receiver.posts) > MESSAGES / 3)
    service.kill()
    service.start()

    def states(client: httpx.Client) -> Counter[str]:
        asked = [client.get(f"{PATH}/{one['user_id']}/m").json() for one in messages]
        return Counter(one["state"] for one in asked)

    with service.client() as client:
        text = "kairos_outbox_waiting 0.0"
        eventually(lambda: text in client.get("/metrics").text)
        assert states(client) == {"delivered": MESSAGES}
    for n in range(MESSAGES):
        assert len(set(receiver.ids(f"u{n}"))) == 1
    assert {body["data"]["payload"]["n"] for _, body in receiver.posts} == set(range(MESSAGES))
    assert receiver.refused == []
