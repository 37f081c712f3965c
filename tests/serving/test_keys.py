"""Who may call what, and what a service refuses to start on."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from engine.errors import NotFound, SettingsError, StoreUnavailable, StoreUnfit
from engine.redis_store import RedisStore
from engine.settings import Settings
from serving import check, embedded
from serving.app import build
from serving.http import Role, Route
from serving.keys import Keyring, create_key, revoke_keys

Make = Callable[..., dict[str, Any]]
Eventually = Callable[..., Any]


# Keys of a running service

SECURITY = Path(__file__).resolve().parents[2] / "SECURITY.md"
CALLERS = ("none", "wrong", "revoked", *Role)


def written_table() -> dict[tuple[str, str], tuple[str, ...]]:
    """What SECURITY.md says of each route, for CALLERS in their order."""
    lines = [line for line in SECURITY.read_text().splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        (method, path): tuple(rest)
        for route, *rest in rows
        for method, _, path in [route.strip("`").partition(" ")]
    }


def expected(route: Route) -> tuple[str, ...]:
    """The same by the route itself: a status, or yes."""
    if route.roles is None:
        return ("yes",) * len(CALLERS)
    return (
        *("401",) * 3,
        *("yes" if role in route.roles | {Role.ADMIN} else "403" for role in Role),
    )


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def test_the_written_table_is_that_of_the_routes(service: Any) -> None:
    routes = build(service.settings).routes
    assert len(routes) > 20
    assert written_table() == {(r.method, r.template): expected(r) for r in routes}


def test_the_life_of_keys(another: Callable[..., Any], act: Make, eventually: Eventually) -> None:
    service = another()
    store = service.store()
    with service.client() as client:
        assert "no API keys exist" in service.tail()
        assert client.post("/v1/events?wait=folded", json=act("u")).status_code == 202
        keys = {role: create_key(store, f"{role} app", role) for role in Role}
        assert all(key.startswith(f"kairos_{role}_") for role, key in keys.items())
        gone = create_key(store, "gone", Role.ADMIN)
        eventually(lambda: sent(client, act, gone) == 202)
        revoke_keys(store, "gone")
        eventually(lambda: sent(client, act, gone) == 401)
        callers = [None, keys[Role.ADMIN][:-1], gone, *(keys[role] for role in Role)]
        for route in build(service.settings).routes:
            every_caller_gets_what_is_written(client, route, callers)
        kept_nowhere(service.home, list(keys.values()))

        newer = create_key(store, "ingest app", Role.INGEST)
        eventually(lambda: sent(client, act, newer) == 202)
        assert revoke_keys(store, "ingest app") == 2
        eventually(lambda: sent(client, act, newer) == 401)
        assert sent(client, act, keys[Role.INGEST]) == 401
        assert sent(client, act, keys[Role.ADMIN]) == 202
        with pytest.raises(NotFound, match="ingest app"):
            revoke_keys(store, "ingest app")
    # The keys outlive the service: no moment without them.
    service.stop()
    service.start()
    with service.client() as client:
        assert sent(client, act, None) == 401
        assert sent(client, act, keys[Role.ADMIN]) == 202
    store.close()


def every_caller_gets_what_is_written(
    client: httpx.Client, route: Route, callers: list[str | None]
) -> None:
    """`yes` is whatever else the route answers to nobody in particular and an empty body."""
    path = re.sub(r"\{[^}]*\}", "nobody", route.template)
    answers = [client.request(route.method, path, headers=bearer(key)) for key in callers]
    told = tuple(str(a.status_code) if a.status_code in (401, 403) else "yes" for a in answers)
    assert told == written_table()[route.method, route.template], (route.method, path)
    for answer in answers:
        assert answer.status_code < 500, (path, answer.text)
        if answer.status_code in (401, 403):
            assert answer.json()["field"] == "Authorization"
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)


def sent(client: httpx.Client, act: Make, key: str | None) -> int:
    return client.post("/v1/events", json=act("u"), headers=bearer(key)).status_code


def kept_nowhere(home: Path, keys: list[str]) -> None:
    """Neither the store's files nor the log hold a key; its hash they do."""
    written = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    for key in keys:
        assert hashlib.sha256(key.encode()).hexdigest().encode() in written
        assert key.encode() not in written
        assert key.split("_", 2)[2].encode() not in written  # a secret may hold another _


def test_a_key_is_256_random_bits_and_is_compared_with_each_that_is_known(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [create_key(store, "many", Role.SERVE) for _ in range(5)]
    bits = {base64.urlsafe_b64decode(key.removeprefix("kairos_serve_") + "=") for key in keys}
    assert sorted(map(len, bits)) == [32] * 5
    ring = Keyring({})
    ring.refresh(store)
    compared: list[str] = []
    monkeypatch.setattr(
        "serving.keys.hmac.compare_digest", lambda a, b: compared.append(a) or a == b
    )
    for key, role in ((keys[0], Role.SERVE), (keys[4], Role.SERVE), ("wrong", None)):
        compared.clear()
        assert ring.authorize(key) is role
        assert sorted(compared) == sorted(ring.by_hash)  # whichever it is, the same work
    assert not any(key in str(ring) for key in keys)
    revoke_keys(store, "many")


def test_without_keys_only_this_machine_is_served() -> None:
    """Revoking the last key must not open a service that others can reach."""
    assert Keyring({}, loopback=True).authorize(None) is Role.ADMIN
    assert Keyring({}, loopback=False).authorize(None) is None
    assert Keyring({}).authorize("anything") is None


def test_a_host_that_others_reach_wants_keys(another: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended at once.*host: 0\.0\.0\.0.*keys create"):
        another(KAIROS_HOST="0.0.0.0")


# What a store must be


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Embedded]:
    started = embedded.start(Settings(home=str(tmp_path_factory.mktemp("unfit"))))
    yield started
    started.stop()


@pytest.fixture
def configure(server: embedded.Embedded) -> Iterator[Callable[[str, str], None]]:
    """Set the server's configuration for one test."""
    link = redis.Redis.from_url(server.url)
    before: dict[str, str] = {}

    def set_(name: str, value: str) -> None:
        before.update(link.config_get(name) if name not in before else {})
        link.config_set(name, value)

    yield set_
    for name, value in before.items():
        link.config_set(name, value)
    link.close()


@pytest.fixture
def store(server: embedded.Embedded) -> Iterator[RedisStore]:
    opened = RedisStore.connect(Settings(redis_url=server.url))
    yield opened
    opened.close()


def test_the_embedded_server_is_fit(store: RedisStore) -> None:
    assert check.refuse_or_warn(store) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_drops_keys_is_refused(
    store: RedisStore, configure: Callable[[str, str], None], policy: str
) -> None:
    configure("maxmemory-policy", policy)
    with pytest.raises(StoreUnfit, match=rf"{policy}.*noeviction"):
        check.refuse_or_warn(store)


def test_a_server_without_a_file_is_warned_of(
    store: RedisStore, configure: Callable[[str, str], None]
) -> None:
    configure("appendonly", "no")
    (warning,) = check.refuse_or_warn(store)
    assert "appendonly no" in warning


def test_a_wrong_address_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:1/0") as raised:
        RedisStore.connect(Settings(redis_url="redis://:hidden@127.0.0.1:1/0"))
    assert "hidden" not in str(raised.value)


def test_a_wrong_password_is_said_to_be_wrong(server: embedded.Embedded) -> None:
    address = server.url.rpartition("@")[2]
    with pytest.raises(StoreUnavailable, match=r"(?i)password|auth"):
        RedisStore.connect(Settings(redis_url=f"redis://:hidden@{address}"))


@pytest.mark.parametrize("url", ["", "nonsense", "http://127.0.0.1:1", "redis://[::1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(StoreUnavailable):
        RedisStore.connect(Settings(redis_url=url))


def test_the_number_of_partitions_is_fixed(server: embedded.Embedded) -> None:
    def opened(partitions: int) -> RedisStore:
        return RedisStore.connect(Settings(redis_url=server.url, partitions=partitions))

    check.fix_partitions(opened(8))
    check.fix_partitions(opened(8))
    with pytest.raises(SettingsError, match=r"partitions.*begun with 8.*say 16"):
        check.fix_partitions(opened(16))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_keys_but_says_so(store: RedisStore, host: str) -> None:
    assert [line for line in check.listening(store, host) if "keys create" in line]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "kairos.example", ""])
def test_other_hosts_need_keys(store: RedisStore, host: str) -> None:
    with pytest.raises(SettingsError, match=r"host:.*kairos keys create"):
        list(check.listening(store, host))
    create_key(store, "one", Role.SERVE)
    assert list(check.listening(store, host)) == []
    revoke_keys(store, "one")


def test_situations_keep_their_places(server: embedded.Embedded) -> None:
    """States know them by number: a file in which one moved would give acts another meaning."""
    store = RedisStore.connect(Settings(redis_url=server.url))
    check.fix_situations(store, ("unknown", "away", "here"))
    check.fix_situations(store, ("unknown", "away", "here", "there"))
    for names in (("unknown", "here", "away", "there"), ("unknown", "away"), ("unknown", "awayx")):
        with pytest.raises(SettingsError, match=r"unknown,away,here,there.*at the end"):
            check.fix_situations(store, names)
