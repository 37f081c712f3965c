"""The store's own doors: what each role may do there (the lines of SECURITY.md), and TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.archive import Archive
from engine.errors import StoreUnavailable
from engine.redis_keys import KEYS_KEY, keys_of
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings, as_role
from serving import check, embedded
from serving.app import build
from serving.archiver import Archiver
from serving.folders import FolderLoop

SECURITY = Path(__file__).resolve().parents[2] / "SECURITY.md"
ROLES = ("ingest", "serve", "fold")
PATIENT = {"read_timeout_ms": 10_000, "store_timeout_ms": 10_000, "lease_ms": 500}
USER = keys_of(3).users + "ada"


def written_users() -> dict[str, list[str]]:
    """The ACL lines of SECURITY.md, by the user that each makes."""
    [block] = re.findall(r"```acl\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    return {words[1]: words[1:] for words in map(str.split, block.splitlines())}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server with these users; the settings know each role's login."""
    home = str(tmp_path_factory.mktemp("store-access"))
    server = embedded.start(Settings(home=home))
    admin = redis.Redis.from_url(server.url)
    for words in written_users().values():
        admin.execute_command("ACL", "SETUSER", *words)
    admin.close()
    logins = {f"{role}_login": f"{role}:{role.upper()}_PASSWORD" for role in ROLES}
    yield Settings(home=home, redis_url=server.url, archive_interval_s=0.2, **logins, **PATIENT)
    server.stop()


def test_each_role_does_all_its_work_under_its_own_login(settings: Settings) -> None:
    admin = RedisStore.connect(settings)
    check.fix_partitions(admin)
    check.check_fold_version(admin)
    fold = as_role(settings, "fold")
    loops = [
        FolderLoop(RedisStore.connect(fold), 0),
        Archiver(RedisStore.connect(fold), Archive(fold.archive_path)),
    ]
    threads = [threading.Thread(target=loop.run, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        asyncio.run(everything(settings))
    finally:
        for loop, thread in zip(loops, threads, strict=True):
            loop.stop()
            thread.join()
    with redis.Redis.from_url(settings.redis_url) as link:
        refused = [(e["username"], e["reason"], e["object"]) for e in link.acl_log()]
    assert refused == []
    admin.close()


async def everything(settings: Settings) -> None:
    """What the applications do to the store; each answer would be 503 where it refuses."""
    ingest = build(as_role(settings, "ingest"), decide=False)
    decide = build(as_role(settings, "serve"), ingest=False)
    await ingest.start()
    await decide.start()
    try:
        now = time.time()
        act = {"type": "interaction", "user_id": "ada", "item_id": "soup", "ts": now}
        events = [
            act | {"event_id": "1", "action": "save"},
            {"type": "device", "user_id": "ada", "event_id": "2", "ts": now, "device": {}},
            {"type": "alias", "event_id": "3", "previous_id": "a", "user_id": "ada", "ts": now},
        ]
        answer = await ask(ingest, "POST", "/v1/events?wait=folded", events)
        assert answer["folded"] is True
        message = {"message_id": "m", "category": "c", "expires_at": now + 9e4}
        await ask(decide, "POST", "/v1/recommend", {"user_id": "ada"})
        await ask(decide, "POST", "/v1/page", {"user_id": "ada", "modules": 2})
        person = {"user_id": "ada", "message": message}
        await ask(decide, "POST", "/v1/push/score", {"requests": [person]})
        held = {"user_id": "ada", **message, "message_id": "n", "payload": {}}
        answer = await ask(decide, "POST", "/v1/push/outbox", {"messages": [held]})
        assert answer["accepted"] == 1, answer
        await ask(decide, "POST", "/v1/push/outbox/claim", {"max": 1, "lease_s": 10})
        await ask(decide, "DELETE", "/v1/push/outbox?campaign_id=none")
        for path in ("users/ada", "users/ada/decisions", "situation/ada", "push/outbox/ada/n"):
            await ask(decide, "GET", f"/v1/{path}")
        await ask(decide, "GET", "/v1/items/soup")
        receipt = (await ask(decide, "DELETE", "/v1/users/ada"))["receipt_id"]
        while (await ask(decide, "GET", f"/v1/erasures/{receipt}"))["status"] != "done":
            assert time.time() < now + 60
            await asyncio.sleep(0.05)
    finally:
        await decide.stop()
        await ingest.stop()


async def ask(app: Any, method: str, path: str, body: Any = None) -> Any:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://kairos") as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code < 300, f"{method} {path}: {answer.text}"
    return answer.json()


NOT_ALLOWED = {
    "ingest": [
        ("GET", USER),  # what is known of people
        ("GET", keys_of(3).users + "x:log"),  # one whose id looks like another key
        ("SET", USER, "x"),
        ("HSET", KEYS_KEY, "hash", "{}"),  # a key of one's own
        ("HGETALL", "{kairos}:settings"),
        ("SCAN", "0"),
    ],
    "serve": [
        ("SET", USER, "x"),
        ("SET", keys_of(3).users + "x:p:y", "x"),
        ("HSET", keys_of(3).meta, "owner", "me"),
        ("HSET", KEYS_KEY, "hash", "{}"),
        ("HDEL", KEYS_KEY, "hash"),
        ("SCAN", "0"),
    ],
    "fold": [("HGETALL", KEYS_KEY), ("HSET", KEYS_KEY, "hash", "{}")],
}
NOBODY = [("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*"), ("ACL", "LIST"), ("SHUTDOWN",)]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_nothing_else(settings: Settings, role: Any) -> None:
    with redis.Redis.from_url(as_role(settings, role).redis_url) as link:
        for command in (*NOT_ALLOWED[role], *NOBODY):
            with pytest.raises(redis.exceptions.NoPermissionError):
                link.execute_command(*command)
        with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
            link.eval("return redis.call('HSET', KEYS[1], 'a', 'b')", 1, KEYS_KEY)


def test_a_role_knows_no_other_login(settings: Settings) -> None:
    for role in ROLES:
        known = msgspec.json.encode(as_role(settings, role)).decode()
        assert re.findall(r"[A-Z]+_PASSWORD", known) == [f"{role.upper()}_PASSWORD"]
        assert settings.redis_url.split(":")[2].partition("@")[0] not in known
    plain = Settings(redis_url="redis://h")
    assert as_role(plain, "serve") is plain


# TLS


class Authority:
    """Signs certificates for addresses of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self.file = folder / "ca.pem"
        folder.mkdir()
        self.file.write_bytes(self._sign(self._name, self._key, x509.BasicConstraints(True, None)))

    def certify(self, address: str) -> tuple[Path, Path]:
        """Certificate and key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        files = self._folder / "server.pem", self._folder / "server.key"
        files[0].write_bytes(self._sign(name, key, names))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: Any) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(extension, critical=True)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture
def serve_tls(authority: Authority, tmp_path: Path) -> Iterator[Any]:
    """Start Redis with a certificate for an address; its port, where it speaks TLS alone."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip(
            "TLS needs a redis-server (apt install redis-server); the embedded one has none"
        )
    started: list[subprocess.Popen[bytes]] = []

    def start(address: str) -> int:
        certificate, key = authority.certify(address)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        told = {
            "bind": "127.0.0.1",
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": str(certificate),
            "tls-key-file": str(key),
            "tls-ca-cert-file": str(authority.file),
            "tls-auth-clients": "no",
            "requirepass": "admin",
            "dir": str(tmp_path),
            "save": "",
            "logfile": str(tmp_path / "redis.log"),
        }
        words = [word for name, value in told.items() for word in (f"--{name}", value)]
        started.append(subprocess.Popen([binary, *words]))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.02)
        raise AssertionError((tmp_path / "redis.log").read_text())

    yield start
    for process in started:
        process.terminate()
        process.wait()


def test_a_store_behind_tls(serve_tls: Any, authority: Authority, tmp_path: Path) -> None:
    address = f"127.0.0.1:{serve_tls('127.0.0.1')}/0"
    trusting = f"?ssl_ca_certs={authority.file}"

    def settings(url: str) -> Settings:
        return Settings(redis_url=url, **PATIENT)

    with redis.Redis.from_url(f"rediss://:admin@{address}{trusting}") as admin:
        for words in written_users().values():
            admin.execute_command("ACL", "SETUSER", *words)
    encrypted = settings(f"rediss://serve:SERVE_PASSWORD@{address}{trusting}")
    store = RedisStore.connect(encrypted)
    assert store.append({3: [b'{"type":"none"}']}).keys() == {3}
    assert store.last_position(3) > 0
    store.close()
    assert asyncio.run(read_nobody(encrypted)) is None

    other = Authority(tmp_path / "other")
    for url, said in (
        (f"rediss://:admin@{address}?ssl_ca_certs={other.file}", "CERTIFICATE_VERIFY_FAILED"),
        (f"rediss://:admin@{address}", "CERTIFICATE_VERIFY_FAILED"),
        (f"redis://:admin@{address}", "no Redis or Valkey answers"),
        (f"rediss://:wrong@{address}{trusting}", r"(?i)password"),
    ):
        with pytest.raises(StoreUnavailable, match=said) as caught:
            RedisStore.connect(settings(url))
        assert "admin@" not in str(caught.value)


def test_a_certificate_of_another_host_is_refused(serve_tls: Any, authority: Authority) -> None:
    port = serve_tls("127.0.0.2")
    url = f"rediss://:admin@127.0.0.1:{port}/0?ssl_ca_certs={authority.file}"
    with pytest.raises(StoreUnavailable, match=r"(?i)mismatch"):
        RedisStore.connect(Settings(redis_url=url, **PATIENT))


async def read_nobody(settings: Settings) -> Any:
    store = AsyncRedisStore(settings, (False, False))
    try:
        return await store.read_user("nobody", 3)
    finally:
        await store.close()
