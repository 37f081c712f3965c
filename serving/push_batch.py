"""Messages for millions, offline: Parquet in, decisions as Parquet out, by the road of the API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from threadpoolctl import threadpool_limits

from engine.errors import InvalidInput, StoreUnavailable
from engine.ids import partition_of
from engine.push import Asked, Decided, PushParts, decide_pushes
from engine.push_message import Message
from engine.push_record import push_record
from engine.records import encode
from engine.redis_store import AsyncRedisStore, RedisStore
from engine.settings import Settings
from models.registry import open_registry
from serving.configuration import ConfigurationWatch, read_configuration
from serving.deciding import Deciding
from serving.follow import Follower
from serving.metrics import Metrics
from serving.people import StorePeople
from serving.push_job import FIELDS, Block, Job, message_of, rename_whole
from serving.users import Users

AT_ONCE = 1000  # rows that are decided on together
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "user_id": pl.String,
    "message_id": pl.String,
    "decision_id": pl.String,
    "action": pl.String,
    "hold_until": pl.Datetime("ms", "UTC"),
    "reserved_until": pl.Datetime("ms", "UTC"),
    "p_open_now": pl.Float64,
    "p_open_best": pl.Float64,
    "uplift": pl.Float64,
    "fatigue_cost": pl.Float64,
    "net_value": pl.Float64,
    "propensity": pl.Float64,
    "situation": pl.String,
    "reason": pl.String,  # the code of the first
    "reasons": pl.String,  # in words
    "forced": pl.String,
    "measured": pl.Boolean,
    "repeated": pl.Boolean,
    "degraded": pl.String,
    "error": pl.String,  # why there is no decision
}


class BatchScorer:
    """Decides on blocks in a process of its own, which it holds the catalogue and release in."""

    def __init__(self, settings: Settings, job: Job, folder: Path) -> None:
        threadpool_limits(1)
        self._job, self._folder = job, folder
        self._actions, configuration = read_configuration(settings)
        store = RedisStore.connect(settings)
        follower = Follower(store, Metrics(), counters=False, actions=self._actions)
        follower.load()
        self._catalog = follower.catalog
        self._store = AsyncRedisStore(settings, store.clustered())
        self._people = StorePeople(self._store)
        self._deciding = Deciding(
            self._actions,
            configuration,
            Users(self._store),
            follower.catalog,
            open_registry(settings),
            Metrics(),
            follower.modules,
            ConfigurationWatch(settings, configuration),
        )
        self._deciding.load()
        store.close()
        self._loop = asyncio.Runner()  # the store's connections are of one loop

    def score(self, block: Block) -> dict[str, int]:
        """Decide on a block and write its file; how many rows of it came to what."""
        file = pl.scan_parquet(block.file).slice(block.start, block.rows)
        frame = file.select("user_id", *(FIELDS & set(file.collect_schema()))).collect()
        decided = self._loop.run(self._decide(frame))
        part = block.part(self._folder)
        writing = part.with_name(f".{part.name}.{os.getpid()}")
        decided.write_parquet(writing)
        rename_whole(writing, part)
        return dict(decided["action"].fill_null("error").value_counts().iter_rows())

    def close(self) -> None:
        self._loop.run(self._store.close())
        self._loop.close()

    async def _decide(self, frame: pl.DataFrame) -> pl.DataFrame:
        parts = self._deciding.push_parts(self._people, await self._people.key())
        if (parts.release, parts.config_version) != (self._job.release, self._job.config_version):
            raise InvalidInput("release", "another one was published since the job began")
        asked, wrong = self._read(frame)
        columns: dict[str, list[Any]] = {name: [None] * len(frame) for name in SCHEMA}
        columns["user_id"] = frame["user_id"].to_list()
        for place, why in wrong.items():
            columns["error"][place] = why
        places = list(asked)
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            decided = await self._ask([asked[place] for place in some], parts)
            for place, one in zip(some, decided, strict=True):
                for name, value in _shown(one, self._job.reserve).items():
                    columns[name][place] = value
        return pl.DataFrame(columns, schema=SCHEMA)

    def _read(self, frame: pl.DataFrame) -> tuple[dict[int, Asked], dict[int, str]]:
        """What is asked, by row, and what is wrong with the other rows."""
        asked: dict[int, Asked] = {}
        wrong: dict[int, str] = {}
        known: dict[tuple[Any, ...], Message | str] = {}
        names = [name for name in frame.columns if name != "user_id"]
        rows = frame.select(names).iter_rows() if names else iter([()] * len(frame))
        for place, (user_id, row) in enumerate(zip(frame["user_id"], rows, strict=True)):
            if row not in known:
                known[row] = self._told(names, row)
            message = known[row]
            if not isinstance(user_id, str) or not 1 <= len(user_id) <= 128:
                wrong[place] = "user_id: expected a text of 1 to 128 characters"
            elif isinstance(message, str):
                wrong[place] = message
            else:
                asked[place] = Asked(user_id, message)
        return asked, wrong

    def _told(self, names: Sequence[str], row: Sequence[Any]) -> Message | str:
        told = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        try:
            return message_of(self._job.message | told, self._actions)
        except InvalidInput as error:
            return str(error)

    async def _ask(self, asked: Sequence[Asked], parts: PushParts) -> list[Decided]:
        """Decisions, reserved and logged where that is wanted; raises StoreUnavailable."""
        job = self._job
        decided = await decide_pushes(asked, parts, job.at_ms, dry_run=not job.reserve)
        if any(one.decision.degraded == "store" for one in decided):
            raise StoreUnavailable("the store does not answer; run it again to go on")
        if job.reserve:
            records: dict[int, list[bytes]] = {}
            for one in decided:
                if not one.repeated:
                    raw = encode(push_record(one, one.decision.at_ms, self._catalog))
                    partition = partition_of(one.user_id, self._people.partitions)
                    records.setdefault(partition, []).append(raw)
            await self._store.append(records)
        return decided


def _shown(decided: Decided, reserved: bool) -> dict[str, Any]:
    decision, scores = decided.decision, decided.decision.scores
    shown: dict[str, Any] = {} if scores is None else msgspec.structs.asdict(scores)
    if reserved or decided.repeated:  # else nobody will know the id
        shown["decision_id"] = decision.decision_id
    return shown | {
        "message_id": decision.message_id,
        "action": decision.action,
        "hold_until": decision.hold_until_ms,
        "reserved_until": decision.reserved_until_ms if reserved or decided.repeated else None,
        "propensity": decision.propensity,
        "situation": decided.moment.name,
        "reason": decision.reasons[0].code if decision.reasons else None,
        "reasons": "; ".join([one.text for one in decision.reasons]),
        "forced": decision.forced,
        "measured": decision.measured,
        "repeated": decided.repeated,
        "degraded": decision.degraded,
    }
