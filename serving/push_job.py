"""A job of messages to decide on offline: Parquet in blocks, one file of decisions for each.

A file comes into being under another name and is renamed once it is whole, so whatever kills a run,
the next one goes on with the blocks that are missing. `job.json` says what the files are of: of
another input, time, configuration or release nothing is added, since it would not go with them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from engine.actions import Actions
from engine.errors import InvalidInput
from engine.push_message import Message
from engine.settings import Settings
from models.registry import open_registry
from serving.configuration import read_configuration
from serving.push import MessageBody, to_message

ROWS = 20_000  # of a block: what is lost by a kill, and held in memory
FIELDS = frozenset(MessageBody.__struct_fields__)


class Source(msgspec.Struct, frozen=True):
    """A file of the input, as it was when the job began."""

    file: str
    bytes: int
    changed_ns: int
    rows: int


class Job(msgspec.Struct, frozen=True):
    """What is decided on, and by what."""

    sources: list[Source]
    message: dict[str, Any]  # what rows do not say of theirs
    at_ms: int | None  # as if it were then; None: as of when each is decided on
    reserve: bool
    release: str | None
    config_version: str
    rows: int = ROWS

    @property
    def blocks(self) -> list[Block]:
        """The parts of the input, each of which becomes one file of the output."""
        places = [
            (source.file, start)
            for source in self.sources
            for start in range(0, source.rows, self.rows)
        ]
        return [Block(number, *place, self.rows) for number, place in enumerate(places)]


class Block(msgspec.Struct, frozen=True):
    """Rows of one file."""

    number: int
    file: str
    start: int
    rows: int

    def part(self, folder: Path) -> Path:
        """Where the decisions on them lie."""
        return folder / f"part-{self.number:06d}.parquet"


def plan(
    settings: Settings, file: Path, message: dict[str, Any], at_ms: int | None, reserve: bool
) -> Job:
    """The job of one Parquet file, or a folder of them; raises InvalidInput."""
    files = sorted(file.glob("**/*.parquet")) if file.is_dir() else [file]
    if not files:
        raise InvalidInput(str(file), "there is no Parquet file in it")
    actions, configuration = read_configuration(settings)
    release = open_registry(settings).current()
    sources = [_source(one) for one in files]
    needed = {"message_id", "category", "expires_at"} - message.keys()
    for one in files:
        lacking = ({"user_id"} | needed) - set(pl.read_parquet_schema(one))
        if lacking:
            raise InvalidInput(str(one), f"expected columns {', '.join(sorted(lacking))}")
    if not needed:
        message_of(message, actions)
    name = None if release is None else release.release_id
    return Job(sources, message, at_ms, reserve, name, configuration.version)


def begin(job: Job, folder: Path, now_ms: int) -> Job:
    """Begin the job in a folder, or go on with it there; raises InvalidInput where it is another.

    A forecast without a time is as of when it began.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "job.json"
    if not known.exists():
        if job.at_ms is None and not job.reserve:
            job = msgspec.structs.replace(job, at_ms=now_ms)
        _write_whole(known, msgspec.json.encode(job))
        return job
    begun = msgspec.json.decode(known.read_bytes(), type=Job)
    if job.at_ms is None:
        job = msgspec.structs.replace(job, at_ms=begun.at_ms)
    for name in Job.__struct_fields__:
        if getattr(begun, name) != getattr(job, name):
            raise InvalidInput(str(folder), f"holds decisions of another job: its {name} differs")
    return begun


def missing(job: Job, folder: Path) -> list[Block]:
    """Blocks that were not decided on yet; what a killed run left half written is removed."""
    for left in folder.glob(".part-*"):
        left.unlink()
    return [block for block in job.blocks if not block.part(folder).exists()]


def message_of(told: dict[str, Any], actions: Actions) -> Message:
    """Times may be those of Parquet; raises InvalidInput."""
    plain = {
        name: value.timestamp() * 1000 if hasattr(value, "timestamp") else value
        for name, value in told.items()
    }
    try:
        return to_message(msgspec.convert(plain, MessageBody), actions)
    except msgspec.ValidationError as error:
        raise InvalidInput("message", str(error)) from error


def _source(file: Path) -> Source:
    try:
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        told = file.stat()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(str(file), f"cannot be read: {error}") from error
    return Source(str(file.absolute()), told.st_size, told.st_mtime_ns, rows)


def _write_whole(file: Path, content: bytes) -> None:
    writing = file.with_name(f".{file.name}.{os.getpid()}")
    writing.write_bytes(content)
    rename_whole(writing, file)


def rename_whole(writing: Path, file: Path) -> None:
    """What has the name afterwards is whole, whatever happens to the machine."""
    with writing.open("rb") as written:
        os.fsync(written.fileno())
    writing.replace(file)
