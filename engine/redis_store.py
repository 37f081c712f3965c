"""Redis or Valkey, alone or a cluster: every round trip and expiry. The door to redis-py.

Keys and scripts, with their legend, are in engine/redis_keys.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.addresses import redact
from engine.errors import Fenced, Overloaded, StoreDamaged, StoreUnavailable
from engine.fold import Changes, DeadLetter, Loaded
from engine.ids import ITEMS, pack_position, unpack_position
from engine.module_counts import WEEKS, Cell, cell_of, field_of
from engine.records import Entry, encode
from engine.redis_keys import (
    APPEND,
    BLOCK,
    CHANGES_MS,
    CLAIM,
    COMMIT,
    COMMIT_ITEMS,
    INTERN,
    KNOWN,
    LINES,
    LOCK,
    MODULES_BLOCK,
    RELEASE,
    SETTINGS_KEY,
    SETTLE,
    SHARDS,
    SWAP,
    SWAP_LEDGERS,
    keys_of,
    names_key,
)
from engine.settings import Settings
from engine.state import UserState, decode_state, encode_state
from engine.store import FIRST_GENERATION, Claim, stale_days
from engine.times import DAY_MS

Command = tuple[Any, ...]
Client = Any  # redis.Redis or RedisCluster: their stubs differ in what they return
# ---- commands as data: the blocking and the asynchronous store send the same ones


def append_commands(records: Mapping[int, Sequence[bytes]]) -> list[Command]:
    """One entry per partition; each answers with its stream id."""
    commands: list[Command] = []
    for partition, batch in records.items():
        keys = keys_of(partition)
        commands.append(("EVAL", APPEND, 2, keys.log, keys.tail, LINES.join(batch), len(batch)))
    return commands


def intern_command(space: str, names: Sequence[str], arrived: int) -> Command:
    """Dense numbers for names, in their order."""
    keys = keys_of(ITEMS)
    return ("EVAL", INTERN, 3, names_key(space), keys.log, keys.tail, space, arrived, *names)


def user_command(user_id: str, partition: int, generation: int) -> Command:
    """The generation that serves, the user's state and whether an erasure is under way."""
    keys = keys_of(partition, generation)
    return ("MGET", keys.serving, keys.users + user_id, keys.forgotten + user_id)


def people_command(user_ids: Sequence[str], partition: int, generation: int) -> Command:
    """The generation that serves; of each user state, erasure under way and ledger."""
    keys = keys_of(partition, generation)
    named = [
        prefix + user_id
        for user_id in user_ids
        for prefix in (keys.users, keys.forgotten, keys.ledgers)
    ]
    return ("MGET", keys.serving, *named)


def swap_command(partition: int, swaps: Sequence[LedgerSwap]) -> Command:
    """Each answers with 1 where the ledger was written, 0 where it was not what was read."""
    ledgers = keys_of(partition).ledgers
    told = (part for swap in swaps for part in (swap.version, swap.ledger, swap.expires_ms))
    return ("EVAL", SWAP_LEDGERS, len(swaps), *(ledgers + swap.user_id for swap in swaps), *told)


def commit_command(claim: Claim, changes: Changes, settings: Settings) -> tuple[Command, set[int]]:
    """The one atomic write of a folded batch, and the days whose buckets then exist."""
    keys = keys_of(claim.partition, claim.generation)
    days = claim.days | set(changes.hashes)
    days -= set(stale_days(days, settings.late_days))
    hashes = [(day, h) for day, found in changes.hashes.items() for h in found]
    lists: list[Any] = []
    for user, state in changes.states.items():
        lists += (keys.users + user, encode_state(state), _expiry_ms(state, settings))
    for pair in hashes:
        lists += pair
    for (item, term), increase in changes.counters.items():
        lists += (f"{item}:{term}", item // BLOCK, increase)
    for cell, increase in changes.modules.items():
        lists += (field_of(cell), MODULES_BLOCK, increase)
    lists += [encode(record) for record in changes.outbox]
    lists += [msgspec.json.encode(letter) for letter in changes.dead]
    lists += changes.stirred
    for told in changes.told:
        lists += told
    for erased in changes.erased.items():
        lists += erased
    command = (
        *("EVAL", COMMIT, 4, keys.meta, keys.prefix, keys.erased, keys.outbox),
        *(claim.epoch, claim.offset, changes.offset, settings.lease_ms),
        *(",".join(map(str, sorted(days))), 0),
        *(changes.folded, changes.duplicates, changes.forgotten),
        *(len(changes.states), len(hashes), len(changes.counters) + len(changes.modules)),
        *(len(changes.outbox), len(changes.dead), len(changes.stirred), len(changes.told)),
        *lists,
    )
    return command, days


def _expiry_ms(state: UserState, settings: Settings) -> int:
    """When an idle user's key may go; the fold itself forgets a day earlier. 0: never."""
    if not settings.idle_days or state.alias_to is not None or state.erased_ms:
        return 0
    return state.arrived_s * 1000 + (settings.idle_days + 1) * DAY_MS


def entries_of(reply: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    """Stream entries as they come from XRANGE."""
    return [Entry(pack_position(id_.decode()), f[b"r"].split(LINES)) for id_, f in reply]


def check_replies(replies: Sequence[Any]) -> list[Any]:
    """Raise the first error among a pipeline's replies as one of ours."""
    for reply in replies:
        if isinstance(reply, Exception):
            full = isinstance(reply, redis.OutOfMemoryError)  # whose text has lost its "OOM"
            if full or str(reply).startswith("MISCONF"):
                raise Overloaded("the store takes no writes: it is full, or its disk is") from reply
            raise StoreUnavailable(f"the store refused: {reply}") from reply
    return list(replies)


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"the store did not answer: {type(error).__name__}") from error


# ---- connections


def connect(url: str, timeout_ms: int) -> Client:
    """A blocking client of a server alone or of a cluster, without retries.

    Raises StoreUnavailable where nothing answers. A retried append could be written twice.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        client: Client = redis.Redis.from_url(url, **options)
        clustered = client.info("cluster").get("cluster_enabled") == 1
        if clustered:
            client.close()
            client = redis.cluster.RedisCluster.from_url(url, **options)
    except ValueError:  # whose text may hold a piece of the password
        wanted = "redis:// or rediss://[user:password@]host:port/0, each part percent-encoded"
        raise StoreUnavailable(f"{redact(url)}: expected {wanted}") from None
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailable(f"no Redis or Valkey answers at {redact(url)}: {error}") from error
    return client


def connect_async(url: str, timeout_ms: int, clustered: bool) -> Client:
    """An asynchronous client: bounded pool, short timeouts, no retries."""
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "retry": AsyncRetry(NoBackoff(), 0),
    }
    if clustered:
        return redis.asyncio.cluster.RedisCluster.from_url(url, **options)
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=64, timeout=timeout_ms / 1000, **options
    )
    return redis.asyncio.Redis.from_pool(pool)  # which closes the pool with the client


def _is_cluster(client: Client) -> bool:
    return isinstance(client, redis.cluster.RedisCluster)


class RedisStore:
    """A FeatureStore on Redis or Valkey, for the one who folds, archives or administers.

    `log` and `state` may be one client. Every method raises StoreUnavailable when the server
    does not answer in time, Overloaded when it takes no writes.
    """

    def __init__(self, settings: Settings, state: Client, log: Client) -> None:
        self.settings = settings
        self._state = state
        self._log = log
        self._weeks: dict[int, int] = {}  # partition -> the newest of its module counts

    @classmethod
    def connect(cls, settings: Settings) -> RedisStore:
        """Connect as the settings say; raises StoreUnavailable."""
        state = connect(settings.redis_url, settings.store_timeout_ms)
        same = settings.log_url in ("", settings.redis_url)
        log = state if same else connect(settings.log_url, settings.store_timeout_ms)
        return cls(settings, state, log)

    def close(self) -> None:
        self._state.close()
        self._log.close()

    # -- the log

    def append(self, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        replies = self._run(self._log, append_commands(records))
        return {
            partition: pack_position(reply.decode())
            for partition, reply in zip(records, replies, strict=True)
        }

    def intern(self, space: str, names: Sequence[str], arrived: int) -> list[int]:
        """Dense numbers of names, new ones appended to the item stream."""
        (numbers,) = self._run(self._log, [intern_command(space, names, arrived)])
        return list(numbers)

    def names(self, space: str) -> dict[str, int]:
        """Every name of a space with its dense number."""
        key = names_key(space)
        with _as_ours():
            found = {k.decode(): int(v) for k, v in self._log.hscan_iter(key, count=1000)}
        return found

    def read_log(
        self, partition: int, after: int, count: int, upto: int | None = None
    ) -> list[Entry]:
        """Up to `count` entries after a position, and up to another, inclusive."""
        last = "+" if upto is None else unpack_position(upto)
        first = _after(after)
        command = ("XRANGE", keys_of(partition).log, first, last, "COUNT", count)
        (reply,) = self._run(self._log, [command])
        return entries_of(reply)

    def read(self, claims: Sequence[Claim], count: int) -> dict[int, list[Entry]]:
        commands = [
            ("XRANGE", keys_of(c.partition).log, _after(c.offset), "+", "COUNT", count)
            for c in claims
        ]
        replies = self._run(self._log, commands)
        return {
            claim.partition: entries_of(reply)
            for claim, reply in zip(claims, replies, strict=True)
            if reply
        }

    def trim(self, partition: int, upto: int) -> None:
        """Remove the entries up to a position, inclusive: exactly."""
        command = ("XTRIM", keys_of(partition).log, "MINID", "=", unpack_position(upto + 1))
        self._run(self._log, [command])

    def trim_changes(self, partition: int) -> None:
        """Remove counter changes that every replica has seen; a commit does so too."""
        keys = keys_of(partition, self.generation(partition))
        oldest = int(time.time() * 1000) - 2 * CHANGES_MS
        self._run(self._state, [("XTRIM", keys.changes, "MINID", oldest)])

    def last_position(self, partition: int) -> int:
        """The position of the newest entry ever appended, 0 where there is none."""
        (reply,) = self._run(self._log, [("XINFO", "STREAM", keys_of(partition).log)], lenient=True)
        if isinstance(reply, Exception):
            return 0
        return pack_position(_info_field(reply, "last-generated-id").decode())

    def archived(self, partition: int) -> int:
        """The position up to which the partition is archived."""
        (reply,) = self._run(self._log, [("HGET", keys_of(partition).tail, "archived")])
        return int(reply or 0)

    def set_archived(self, partition: int, position: int, records: int) -> None:
        """The archive now holds everything up to the position, `records` more than before."""
        key = keys_of(partition).tail
        self._run(
            self._log,
            [("HSET", key, "archived", position), ("HINCRBY", key, "archived_n", records)],
        )

    # -- folding

    def generation(self, partition: int) -> int:
        """The generation of the states that serves."""
        (reply,) = self._run(self._state, [("GET", keys_of(partition).serving)])
        return int(reply or FIRST_GENERATION)

    def generations(self, partitions: Sequence[int]) -> list[int]:
        """The generation that serves, of each partition."""
        replies = self._run(self._state, [("GET", keys_of(p).serving) for p in partitions])
        return [int(reply or FIRST_GENERATION) for reply in replies]

    def claim(self, folder: str, partition: int, generation: int | None = None) -> Claim | None:
        return self._claim(folder, partition, generation or self.generation(partition), force=0)

    def _claim(self, folder: str, partition: int, generation: int, force: int) -> Claim | None:
        meta = keys_of(partition, generation).meta
        command = ("EVAL", CLAIM, 1, meta, folder, self.settings.lease_ms, force)
        (reply,) = self._run(self._state, [command])
        if reply is None:
            return None
        epoch, offset, tries, mark, days = reply
        return Claim(
            partition,
            generation,
            int(epoch),
            int(offset or 0),
            int(tries or 0),
            int(mark if mark is not None else -1),
            {int(day) for day in (days or b"").split(b",") if day},
        )

    def release(self, claim: Claim) -> None:
        meta = keys_of(claim.partition, claim.generation).meta
        self._run(self._state, [("EVAL", RELEASE, 1, meta, claim.epoch)])

    def load(self, claim: Claim, users: Sequence[str], hashes: Sequence[int]) -> Loaded:
        keys = keys_of(claim.partition, claim.generation)
        commands: list[Command] = [("HSET", keys.meta, "busy", "1")]
        if users:
            commands.append(("MGET", *(keys.users + user for user in users)))
        if hashes and claim.days:
            days = ",".join(map(str, sorted(claim.days)))
            commands.append(("EVAL", KNOWN, 1, keys.days, days, *hashes))
        replies = self._run(self._state, commands)
        raws = replies[1] if users else []
        known = replies[-1] if hashes and claim.days else []
        states = {u: decode_state(raw) for u, raw in zip(users, raws, strict=True) if raw}
        return Loaded(states, {int(h) for h in known})

    def mark(self, claim: Claim, bits: int) -> None:
        meta = keys_of(claim.partition, claim.generation).meta
        self._run(self._state, [("HSET", meta, "mark", bits, "busy", "1")])

    def commit(self, claim: Claim, changes: Changes) -> None:
        command, days = commit_command(claim, changes, self.settings)
        self._drop_days(claim, (claim.days | set(changes.hashes)) - days)
        self._drop_weeks(claim, changes.modules)
        (reply,) = self._run(self._state, [command])
        if not reply:
            raise Fenced(f"partition {claim.partition} is no longer ours")
        claim.offset, claim.tries, claim.mark, claim.days = changes.offset, 0, -1, days

    def _drop_days(self, claim: Claim, days: set[int]) -> None:
        """Before the commit that forgets them: after a crash they are dropped again."""
        keys = keys_of(claim.partition, claim.generation)
        for day in days:
            shards = [("UNLINK", f"{keys.days}{day}:{shard:03d}") for shard in range(SHARDS)]
            self._run(self._state, shards)

    def outbox(self, claim: Claim) -> list[bytes]:
        key = keys_of(claim.partition, claim.generation).out
        (reply,) = self._run(self._state, [("LRANGE", key, 0, -1)])
        return list(reply)

    def settle(self, claim: Claim, count: int) -> None:
        keys = keys_of(claim.partition, claim.generation)
        command = ("EVAL", SETTLE, 2, keys.meta, keys.out, claim.epoch, count)
        self._run(self._state, [command])

    def counters(self, partition: int) -> dict[tuple[int, int], int]:
        prefix = keys_of(partition, self.generation(partition)).counters
        (items,) = self._run(self._log, [("HLEN", names_key("item"))])
        blocks = [("HGETALL", f"{prefix}{block}") for block in range(items // BLOCK + 1)]
        replies = self._run(self._state, blocks)
        return {_counter_key(n): int(total) for reply in replies for n, total in reply.items()}

    def module_counts(self, partition: int) -> dict[Cell, int]:
        prefix = keys_of(partition, self.generation(partition)).counters
        (reply,) = self._run(self._state, [("HGETALL", f"{prefix}{MODULES_BLOCK}")])
        return {cell_of(name.decode()): int(total) for name, total in reply.items()}

    def _drop_weeks(self, claim: Claim, cells: Iterable[Cell]) -> None:
        """Take out counts of modules too old to be read, once a week and process."""
        newest = max((cell.week for cell in cells), default=0)
        if newest <= self._weeks.get(claim.partition, 0):
            return
        self._weeks[claim.partition] = newest
        key = f"{keys_of(claim.partition, claim.generation).counters}{MODULES_BLOCK}"
        (fields,) = self._run(self._state, [("HKEYS", key)])
        stale = [name for name in fields if cell_of(name.decode()).week < newest - WEEKS]
        if stale:
            self._run(self._state, [("HDEL", key, *stale)])

    def dead(self, partition: int) -> list[bytes]:
        """Records set aside, as JSON, oldest first."""
        key = keys_of(partition, self.generation(partition)).dead
        (reply,) = self._run(self._state, [("LRANGE", key, 0, -1)])
        return list(reply)

    def set_aside(self, partition: int, letter: DeadLetter) -> None:
        """Keep a dead letter outside of a commit (the item stream's)."""
        keys = keys_of(partition, self.generation(partition))
        raw = msgspec.json.encode(letter)
        self._run(self._state, [("RPUSH", keys.dead, raw), ("HINCRBY", keys.meta, "dead", 1)])

    def drop_dead(self, partition: int, letters: Sequence[bytes]) -> None:
        """Remove dead letters, given as `dead` returned them."""
        key = keys_of(partition, self.generation(partition)).dead
        self._run(self._state, [("LREM", key, 0, letter) for letter in letters])

    # -- items

    def commit_items(self, claim: Claim, offset: int, items: Mapping[str, bytes]) -> None:
        """Write folded items and move the item stream's offset; raises Fenced."""
        keys = keys_of(ITEMS, claim.generation)
        flat = [part for pair in items.items() for part in pair]
        command = (
            *("EVAL", COMMIT_ITEMS, 2, keys.meta, keys.items, claim.epoch, claim.offset),
            *(offset, self.settings.lease_ms, *flat),
        )
        (reply,) = self._run(self._state, [command])
        if not reply:
            raise Fenced("the item stream is no longer ours")
        claim.offset = offset

    def load_items(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Folded items by id, None for the unknown."""
        if not item_ids:
            return []
        keys = keys_of(ITEMS, self.generation(ITEMS))
        (reply,) = self._run(self._state, [("HMGET", keys.items, *item_ids)])
        return list(reply)

    def all_items(self) -> tuple[int, Iterator[bytes]]:
        """The item stream's folded offset, then every folded item (as of then or later)."""
        keys = keys_of(ITEMS, self.generation(ITEMS))
        (offset,) = self._run(self._state, [("HGET", keys.meta, "offset")])
        return int(offset or 0), self._scan_items(keys.items)

    def _scan_items(self, key: str) -> Iterator[bytes]:
        with _as_ours():
            for _, packed in self._state.hscan_iter(key, count=1000):
                yield packed

    # -- rebuilding

    def swap(self, partition: int, old: int, new: int) -> bool:
        """Serve another generation from now on, and fence the folder of the old one."""
        keys = keys_of(partition, old)
        (reply,) = self._run(self._state, [("EVAL", SWAP, 2, keys.serving, keys.meta, old, new)])
        return bool(reply)

    def fence(self, claim_name: str, partition: int, generation: int) -> Claim:
        """Take a generation's lease from whoever holds it: nothing of theirs commits any more."""
        claim = self._claim(claim_name, partition, generation, force=1)
        assert claim is not None
        return claim

    def restore_names(self, space: str, numbers: Mapping[str, int]) -> None:
        """Give names the numbers they have in the archive, where the log server lost them."""
        key = names_key(space)
        self._run(self._log, [("HSETNX", key, name, n) for name, n in numbers.items()])

    def drop_generation(self, partition: int, generation: int) -> int:
        """Delete all keys of a generation; returns how many."""
        pattern = _escaped(keys_of(partition, generation).prefix) + "*"
        dropped = 0
        with _as_ours():
            batch: list[bytes] = []
            for key in self._state.scan_iter(match=pattern, count=1000):
                batch.append(key)
                if len(batch) >= 1000:
                    dropped += self._unlink(batch)
                    batch = []
            dropped += self._unlink(batch)
        return dropped

    def _unlink(self, keys: Sequence[bytes]) -> int:
        self._run(self._state, [("UNLINK", key) for key in keys])
        return len(keys)

    def states(self, partition: int) -> Iterator[tuple[str, UserState]]:
        """Every state of a partition, by a scan of the whole server: for checks, not serving."""
        prefix = keys_of(partition, self.generation(partition)).users
        with _as_ours():
            for key in self._state.scan_iter(match=_escaped(prefix) + "*", count=1000):
                raw = self._state.get(key)
                if raw is not None:
                    yield key.decode()[len(prefix) :], decode_state(raw)

    # -- looking

    def user(self, user_id: str, partition: int) -> UserState | None:
        """One user's state as it is stored: neither alias nor erasure is followed."""
        key = keys_of(partition, self.generation(partition)).users + user_id
        (raw,) = self._run(self._state, [("GET", key)])
        return _state(raw)

    def progress(self, partitions: Sequence[int]) -> list[Progress]:
        """How far each partition is appended, folded and archived; one trip a server."""
        tails = self._run(self._log, [("HGETALL", keys_of(p).tail) for p in partitions])
        pairs = list(zip(partitions, self.generations(partitions), strict=True))
        metas = self._run(self._state, [("HGETALL", keys_of(p, g).meta) for p, g in pairs])
        offsets = [int(meta.get(b"offset", 0)) for meta in metas]
        nexts = self._run(
            self._log,
            [
                ("XRANGE", keys_of(p).log, _after(offset), "+", "COUNT", 1)
                for p, offset in zip(partitions, offsets, strict=True)
            ],
        )
        return [_progress(*row) for row in zip(partitions, tails, metas, nexts, strict=True)]

    def memory(self) -> float:
        """The largest share of maxmemory in use on any server, 0 where there is no limit."""
        with _as_ours():
            return max(
                _memory_share(client) for client in {id(c): c for c in self._both()}.values()
            )

    def _both(self) -> list[Client]:
        return [self._state, self._log]

    def counter_changes(self, after: Mapping[int, int]) -> dict[int, list[CounterChange]]:
        """Per partition what changed after a position, oldest first."""
        partitions = list(after)
        generations = self.generations(partitions)
        commands = [
            ("XRANGE", keys_of(p, g).changes, _after(after[p]), "+", "COUNT", 1000)
            for p, g in zip(partitions, generations, strict=True)
        ]
        replies = self._run(self._state, commands)
        return {
            partition: [_counter_change(*entry) for entry in reply]
            for partition, reply in zip(partitions, replies, strict=True)
            if reply
        }

    def last_change(self, partition: int) -> CounterChange:
        """The newest counter change; its position and number are 0 where there is none."""
        key = keys_of(partition, self.generation(partition)).changes
        (reply,) = self._run(self._state, [("XREVRANGE", key, "+", "-", "COUNT", 1)])
        return _counter_change(*reply[0]) if reply else CounterChange(0, 0, {})

    # -- what is kept beside the partitions

    def hash_get(self, key: str, field: str) -> bytes | None:
        (reply,) = self._run(self._state, [("HGET", key, field)])
        return reply if reply is None else bytes(reply)

    def hash_all(self, key: str) -> dict[str, bytes]:
        (reply,) = self._run(self._state, [("HGETALL", key)])
        return {name.decode(): value for name, value in reply.items()}

    def hash_set(self, key: str, field: str, value: bytes | str | int, new: bool = False) -> bool:
        """Set a field; with `new`, only where there is none. Returns whether it was set."""
        (reply,) = self._run(self._state, [("HSETNX" if new else "HSET", key, field, value)])
        return bool(reply)

    def hash_increase(self, key: str, by_field: Mapping[str, int]) -> None:
        """Add to integer fields."""
        self._run(self._state, [("HINCRBY", key, name, n) for name, n in by_field.items()])

    def hash_delete(self, key: str, field: str) -> bool:
        (reply,) = self._run(self._state, [("HDEL", key, field)])
        return bool(reply)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Commands on the state server, in one trip."""
        return self._run(self._state, commands)

    def set_forgotten(self, partition: int, user_id: str, at_ms: int) -> None:
        """From now on nobody reads what was folded before the erasure."""
        self._run(self._state, [("SET", keys_of(partition).forgotten + user_id, at_ms)])

    def clear_forgotten(self, partition: int, user_id: str) -> None:
        keys = keys_of(partition)
        named = [keys.ledgers + user_id, keys.forgotten + user_id]
        self._run(self._state, [("DEL", name) for name in named])

    def known_hashes(self, partition: int) -> int:
        """How many event ids the partition's dedupe buckets hold."""
        keys = keys_of(partition, self.generation(partition))
        days = (self._run(self._state, [("HGET", keys.meta, "days")])[0] or b"").decode()
        shards = [
            ("SCARD", f"{keys.days}{day}:{shard:03d}")
            for day in days.split(",")
            if day
            for shard in range(SHARDS)
        ]
        return sum(self._run(self._state, shards))

    def erased(self, partition: int, users: Sequence[str]) -> dict[str, int]:
        """Of these users, those that were erased, and up to when."""
        if not users:
            return {}
        (reply,) = self._run(self._state, [("HMGET", keys_of(partition).erased, *users)])
        return {u: int(ms) for u, ms in zip(users, reply, strict=True) if ms is not None}

    def erased_upto(self, partition: int, user_id: str) -> int:
        """When the user was last erased, or asked to be; unix ms, 0 for never."""
        keys = keys_of(partition)
        commands = [("HGET", keys.erased, user_id), ("GET", keys.forgotten + user_id)]
        return max(int(reply or 0) for reply in self._run(self._state, commands))

    def lock(self, name: str, token: str, ttl_ms: int) -> bool:
        """Take or keep a lock that runs out by itself; False while another holds it."""
        key = "{kairos}:lock:" + name
        (reply,) = self._run(self._state, [("EVAL", LOCK, 1, key, token, ttl_ms)])
        return bool(reply)

    def unlock(self, name: str) -> None:
        self._run(self._state, [("DEL", "{kairos}:lock:" + name)])

    def rewrite_append_only_file(self) -> None:
        """Ask the servers to drop overwritten values from their files; best effort."""
        for client in self._both():
            try:
                client.bgrewriteaof()
            except redis.RedisError:
                continue  # under way already, or not permitted: the next rewrite does it

    def server_info(self) -> list[dict[str, Any]]:
        """INFO of the state server and of the log server."""
        with _as_ours():
            return [_info(client) for client in self._both()]

    def clustered(self) -> tuple[bool, bool]:
        """Whether the state server and the log server are clusters."""
        return _is_cluster(self._state), _is_cluster(self._log)

    def _run(self, client: Client, commands: Sequence[Command], lenient: bool = False) -> list[Any]:
        if not commands:
            return []
        with _as_ours():
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies = pipe.execute(raise_on_error=False)
        return replies if lenient else check_replies(replies)


@dataclass(frozen=True, slots=True)
class CounterChange:
    """Item counters as one commit left them; a missing number between two means a gap."""

    position: int
    number: int
    totals: dict[tuple[int, int], int]  # (item, term) -> total
    modules: dict[Cell, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Person:
    """A state and a ledger, as they were read together."""

    state: UserState | None
    ledger: bytes | None
    erasing: bool = False  # an erasure is under way: nothing is known, and nothing may be sent


@dataclass(frozen=True, slots=True)
class LedgerSwap:
    """A ledger to write, if its version is still the one that was read (empty: there was none)."""

    user_id: str
    version: bytes
    ledger: bytes
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition has come."""

    partition: int
    appended: int  # records
    folded: int  # records dealt with: folded, duplicates, forgotten, dead
    duplicates: int
    forgotten: int
    dead: int
    archived: int  # records
    offset: int
    archived_position: int
    oldest_ms: int | None  # arrival of the oldest entry not yet folded
    owner: str
    lease_ms: int
    epoch: int


def _progress(
    partition: int,
    tail: Mapping[bytes, bytes],
    meta: Mapping[bytes, bytes],
    following: Sequence[tuple[bytes, Any]],
) -> Progress:
    folded, duplicates, forgotten, dead = (
        int(meta.get(name, 0)) for name in (b"folded", b"duplicates", b"forgotten", b"dead")
    )
    return Progress(
        partition=partition,
        appended=int(tail.get(b"appended", 0)),
        folded=folded + duplicates + forgotten + dead,
        duplicates=duplicates,
        forgotten=forgotten,
        dead=dead,
        archived=int(tail.get(b"archived_n", 0)),
        offset=int(meta.get(b"offset", 0)),
        archived_position=int(tail.get(b"archived", 0)),
        oldest_ms=int(following[0][0].partition(b"-")[0]) if following else None,
        owner=meta.get(b"owner", b"").decode(),
        lease_ms=int(meta.get(b"lease", 0)),
        epoch=int(meta.get(b"epoch", 0)),
    )


class AsyncRedisStore:
    """The few trips that stand in a request's way, without blocking the event loop."""

    def __init__(self, settings: Settings, clustered: tuple[bool, bool]) -> None:
        self.settings = settings
        state_clustered, log_clustered = clustered
        self._reads = connect_async(settings.redis_url, settings.read_timeout_ms, state_clustered)
        self._log = connect_async(
            settings.log_url or settings.redis_url, settings.store_timeout_ms, log_clustered
        )
        self._states = connect_async(settings.redis_url, settings.store_timeout_ms, state_clustered)
        self._waits = settings.wait_replicas
        self._generations: dict[int, int] = {}

    async def close(self) -> None:
        await self._reads.aclose()
        await self._log.aclose()
        await self._states.aclose()

    async def append(self, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Append one entry per partition; returns once every server took it (and WAIT, if set)."""
        commands = append_commands(records)
        if self._waits:
            commands.append(("WAIT", self._waits, self.settings.store_timeout_ms // 2))
        replies = await self._run(self._log, commands)
        if self._waits and replies.pop() < self._waits:
            raise StoreUnavailable(f"fewer than {self._waits} replicas hold the append")
        return {
            partition: pack_position(reply.decode())
            for partition, reply in zip(records, replies, strict=True)
        }

    async def intern(self, space: str, names: Sequence[str], arrived: int) -> list[int]:
        """Dense numbers of names, new ones appended to the item stream."""
        (numbers,) = await self._run(self._log, [intern_command(space, names, arrived)])
        return list(numbers)

    async def read_user(self, user_id: str, partition: int) -> UserState | None:
        """One user's state in one trip; None where nothing is known or it is being erased."""
        generation = self._generations.get(partition, FIRST_GENERATION)
        while True:
            command = user_command(user_id, partition, generation)
            (reply,) = await self._read([command])
            serving = int(reply[0] or FIRST_GENERATION)
            if serving == generation:
                break
            generation = self._generations[partition] = serving
        return _person(reply[1], reply[2], None).state

    async def read_people(
        self, by_partition: Mapping[int, Sequence[str]]
    ) -> tuple[int, dict[str, Person]]:
        """The store's time, unix ms, and the states and ledgers of people, in one trip."""
        wanted = dict(by_partition)
        found: dict[str, Person] = {}
        while True:
            told = {p: self._generations.get(p, FIRST_GENERATION) for p in wanted}
            commands = [people_command(wanted[p], p, told[p]) for p in wanted]
            clock, *replies = await self._read([("TIME",), *commands])
            stale = {}
            for (partition, user_ids), reply in zip(wanted.items(), replies, strict=True):
                serving = int(reply[0] or FIRST_GENERATION)
                if serving != told[partition]:
                    self._generations[partition] = serving
                    stale[partition] = user_ids
                    continue
                for place, user_id in enumerate(user_ids):
                    found[user_id] = _person(*reply[3 * place + 1 : 3 * place + 4])
            if not stale:
                return int(clock[0]) * 1000 + int(clock[1]) // 1000, found
            wanted = stale

    async def secret(self, name: str) -> bytes:
        """A secret that all processes share, made by whoever asks first."""
        made = secrets.token_hex(16)
        commands = [("HSETNX", SETTINGS_KEY, name, made), ("HGET", SETTINGS_KEY, name)]
        _, found = await self._read(commands)
        return bytes(found)

    async def swap_ledgers(self, swaps: Mapping[int, Sequence[LedgerSwap]]) -> set[str]:
        """Write ledgers where nobody else has since they were read, by partition, in one trip.

        Returns the users for whom somebody has. Not tried again: a swap that may have been made
        reads as one of somebody else's.
        """
        commands = [swap_command(partition, some) for partition, some in swaps.items()]
        replies = await self._run(self._reads, commands) if commands else []
        return {
            swap.user_id
            for some, done in zip(swaps.values(), replies, strict=True)
            for swap, wrote in zip(some, done, strict=True)
            if not wrote
        }

    async def offsets(self, partitions: Sequence[int]) -> dict[int, int]:
        """The position up to which each partition is folded."""
        serving = await self._read([("GET", keys_of(p).serving) for p in partitions])
        metas = [
            keys_of(p, int(reply or FIRST_GENERATION)).meta
            for p, reply in zip(partitions, serving, strict=True)
        ]
        replies = await self._read([("HGET", meta, "offset") for meta in metas])
        return {p: int(reply or 0) for p, reply in zip(partitions, replies, strict=True)}

    async def handed_over(self, partitions: Sequence[int]) -> bool:
        """Whether what these partitions' folds sent on to others was appended there."""
        serving = await self._read([("GET", keys_of(p).serving) for p in partitions])
        outs = [
            keys_of(p, int(reply or FIRST_GENERATION)).out
            for p, reply in zip(partitions, serving, strict=True)
        ]
        return not any(await self._read([("LLEN", out) for out in outs]))

    async def last_positions(self, partitions: Sequence[int]) -> dict[int, int]:
        """The position of the newest entry in each partition's stream, 0 where it is empty."""
        commands = [("XREVRANGE", keys_of(p).log, "+", "-", "COUNT", 1) for p in partitions]
        replies = await self._run(self._log, commands)
        newest = [pack_position(reply[0][0].decode()) if reply else 0 for reply in replies]
        return dict(zip(partitions, newest, strict=True))

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Commands on the state server, in one trip that may take as long as a fold's."""
        return await self._run(self._states, commands) if commands else []

    async def _read(self, commands: Sequence[Command]) -> list[Any]:
        """Reads may be sent again: a server that restarted leaves dead connections in the pool."""
        try:
            return await self._run(self._reads, commands)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, redis.ConnectionError):
                raise
        if isinstance(self._reads, redis.asyncio.Redis):
            await self._reads.connection_pool.disconnect(inuse_connections=False)
        return await self._run(self._reads, commands)

    async def _run(self, client: Client, commands: Sequence[Command]) -> list[Any]:
        with _as_ours():
            if len(commands) == 1:  # 62 instead of 78 µs of processor time
                try:
                    return [await client.execute_command(*commands[0])]
                except redis.ResponseError as error:
                    return check_replies([error])
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies = await pipe.execute(raise_on_error=False)
        return check_replies(replies)


def _state(raw: bytes | None) -> UserState | None:
    """As it is stored; raises StoreDamaged, since it is no caller's fault."""
    try:
        return decode_state(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreDamaged("a person's state in the store cannot be read") from error


def _person(raw: bytes | None, forgotten: bytes | None, ledger: bytes | None) -> Person:
    state = _state(raw)
    if forgotten and (state is None or state.erased_ms < int(forgotten)):
        return Person(None, ledger, erasing=True)
    return Person(state, ledger)


def _counter_key(name: bytes) -> tuple[int, int]:
    item, _, term = name.partition(b":")
    return int(item), int(term)


def _after(position: int) -> str:
    """The start of a range that leaves the position itself out."""
    return "(" + unpack_position(position)


def _counter_change(id_: bytes, fields: dict[bytes, bytes]) -> CounterChange:
    totals, modules = {}, {}
    for name, total in fields.items():
        if name.startswith(b"@"):
            modules[cell_of(name.decode())] = int(total)
        elif name != b"#":
            totals[_counter_key(name)] = int(total)
    return CounterChange(pack_position(id_.decode()), int(fields[b"#"]), totals, modules)


def _escaped(pattern: str) -> str:
    return pattern.replace("{", "[{]").replace("}", "[}]")


def _info_field(reply: Any, name: str) -> bytes:
    if isinstance(reply, dict):
        return bytes(reply[name] if name in reply else reply[name.encode()])
    pairs = dict(zip(reply[::2], reply[1::2], strict=True))
    return bytes(pairs[name.encode()])


def _info(client: Client) -> dict[str, Any]:
    found = client.info()
    if _is_cluster(client) and found and isinstance(next(iter(found.values())), dict):
        return dict(next(iter(found.values())))
    return dict(found)


def _memory_share(client: Client) -> float:
    info = _info(client)
    limit = int(info.get("maxmemory", 0))
    return int(info["used_memory"]) / limit if limit else 0.0
