"""Before anything starts: is the store at this address fit to hold the log?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from engine.errors import SettingsError, StoreUnfit
from engine.redis_keys import KEYS_KEY, SETTINGS_KEY
from engine.redis_store import RedisStore
from engine.state import FOLD_VERSION


def refuse_or_warn(store: RedisStore) -> list[str]:
    """Raises StoreUnfit where acknowledged events could vanish unseen; returns warnings."""
    warnings = []
    for role, info in zip(("state", "log"), store.server_info(), strict=True):
        policy = str(info.get("maxmemory_policy", ""))
        if policy.startswith("allkeys-"):
            raise StoreUnfit(
                f"the {role} server's maxmemory-policy is {policy}: it would drop states and log "
                "entries to make room. Set it to noeviction."
            )
        if role == "log" and not info.get("aof_enabled"):
            warnings.append(
                "the log server has no append-only file (appendonly no): what was acknowledged "
                "is lost when it restarts"
            )
    if store.settings.wait_replicas and store.clustered()[1]:
        raise SettingsError(
            "wait_replicas: WAIT speaks for one connection, an append to a cluster uses several; "
            "set min-replicas-to-write on the cluster's nodes instead"
        )
    return list(dict.fromkeys(warnings))


def fix_partitions(store: RedisStore) -> None:
    """The number of partitions is fixed with the first start; raises SettingsError later."""
    wanted = store.settings.partitions
    if not store.hash_set(SETTINGS_KEY, "partitions", wanted, new=True):
        fixed = int(store.hash_get(SETTINGS_KEY, "partitions") or wanted)
        if fixed != wanted:
            raise SettingsError(
                f"partitions: the log was begun with {fixed}, the settings say {wanted}; "
                "the number is fixed for the life of a log"
            )


def fix_situations(store: RedisStore, names: tuple[str, ...]) -> None:
    """States know situations by their place in the file; raises SettingsError where one moved."""
    wanted = ",".join(names)
    before = (store.hash_get(SETTINGS_KEY, "situations") or b"").decode()
    if before and not f"{wanted},".startswith(f"{before},"):
        raise SettingsError(
            f"situations: the states know {before} in this order, the file names {wanted}; add new "
            "ones at the end, and keep what is no longer wanted with `retired: true`"
        )
    if wanted != before:
        store.hash_set(SETTINGS_KEY, "situations", wanted)


def check_fold_version(store: RedisStore) -> None:
    """States of another fold cannot be folded on; raises StoreUnfit."""
    if store.hash_set(SETTINGS_KEY, "fold_version", FOLD_VERSION, new=True):
        return
    version = int(store.hash_get(SETTINGS_KEY, "fold_version") or FOLD_VERSION)
    if version != FOLD_VERSION:
        raise StoreUnfit(
            f"the states were folded by version {version} of the fold, this is version "
            f"{FOLD_VERSION}: run kairos rebuild"
        )


def set_fold_version(store: RedisStore) -> None:
    """All states are of this fold now."""
    store.hash_set(SETTINGS_KEY, "fold_version", FOLD_VERSION)


def listening(store: RedisStore, host: str) -> Iterator[str]:
    """Refuse to listen beyond loopback without keys; say so where there are none."""
    if store.hash_all(KEYS_KEY):
        return
    if not is_loopback(host):
        raise SettingsError(
            f"host: {host} can be reached by others and no API key exists: create one with "
            "`kairos keys create`, or listen on 127.0.0.1"
        )
    yield "no API keys exist: anyone on this machine may do everything (kairos keys create)"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
