"""API keys: 256 random bits each, kept only as SHA-256, with a role, revocable."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

import msgspec

from engine.errors import NotFound
from engine.redis_keys import KEYS_KEY
from engine.redis_store import RedisStore
from serving.http import Role


class KeyRecord(msgspec.Struct, frozen=True):
    """What is kept of a key."""

    name: str
    role: Role
    created: int  # unix ms
    rate: float = 0.0  # requests a second; 0: without limit
    burst: float = 0.0  # requests at once; 0: as many as in a second

    @property
    def most(self) -> float:
        """Requests at once."""
        return max(self.burst or self.rate, 1.0)


@dataclass(slots=True)
class Keyring:
    """The keys as last read from the store; without any, `loopback` lets everybody in."""

    by_hash: dict[str, KeyRecord]
    loopback: bool = False  # only this machine can call
    any_limited: bool = False

    def authorize(self, key: str | None) -> Role | None:
        """The role of a key, None for an unknown one."""
        if not self.by_hash:
            return Role.ADMIN if self.loopback else None
        digest = _digest(key or "")
        found = None
        for known, record in self.by_hash.items():  # all of them: the time tells nothing
            if hmac.compare_digest(known, digest):
                found = record.role
        return found

    def limited(self, key: str | None) -> tuple[str, KeyRecord] | None:
        """Hash and record of a key that has a rate; None for all others.

        Looked up by its hash: whoever asks was authorized before.
        """
        if not self.any_limited or key is None:
            return None
        digest = _digest(key)
        record = self.by_hash.get(digest)
        return (digest, record) if record is not None and record.rate else None

    def refresh(self, store: RedisStore) -> None:
        """Read the keys anew."""
        raw = store.hash_all(KEYS_KEY)
        self.by_hash = {h: msgspec.json.decode(r, type=KeyRecord) for h, r in raw.items()}
        self.any_limited = any(record.rate for record in self.by_hash.values())


def create_key(
    store: RedisStore, name: str, role: Role, rate: float = 0.0, burst: float = 0.0
) -> str:
    """Create a key, of so many requests a second; this is the only time that it can be seen."""
    key = f"kairos_{role.value}_{secrets.token_urlsafe(32)}"
    record = KeyRecord(name, role, int(time.time() * 1000), rate, burst)
    store.hash_set(KEYS_KEY, _digest(key), msgspec.json.encode(record))
    return key


def revoke_keys(store: RedisStore, name: str) -> int:
    """Revoke the keys of this name; raises NotFound where there is none."""
    ring = Keyring({})
    ring.refresh(store)
    hashes = [h for h, record in ring.by_hash.items() if record.name == name]
    if not hashes:
        raise NotFound(f"no key is named {name!r}")
    for digest in hashes:
        store.hash_delete(KEYS_KEY, digest)
    return len(hashes)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
