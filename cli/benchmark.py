"""`kairos benchmark NAME`: figures with the machine, the commit and the command they are from.

Each runs on a store of its own in a temporary KAIROS_HOME; nothing of the user's is touched.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.homes import served, temporary_home
from cli.terminal import print_json, say
from engine.actions import load_actions
from engine.archive import Archive, rows_of
from engine.catalog import Catalog
from engine.events import Event, Interaction
from engine.fold import FoldRules
from engine.folder import Folder
from engine.records import ImpressionRecord, ShownItems, encode
from engine.redis_keys import CHANGES_MS
from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.stamp import Stamper
from engine.times import DAY_MS

app = typer.Typer(no_args_is_help=True, help="Measure, with the machine and commit beside it.")

Figures = dict[str, Any]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path | None, typer.Option(help="Also write the figures to this JSON file.")]
Fsync = Annotated[str, typer.Option(help="The embedded store's appendfsync.")]
CATEGORIES = 20  # MovieLens has 18 genres
ENTRY = 50  # records per entry, as concurrent requests make them


@app.command()
def ingest(
    rate: Annotated[int, typer.Option(help="Events a second.")] = 10_000,
    seconds: Annotated[float, typer.Option(help="How long.")] = 60.0,
    batch: Annotated[int, typer.Option(help="Events a request.")] = 100,
    probes: Annotated[int, typer.Option(help="Also measure visibility so often.")] = 0,
    fsync: Fsync = "everysec",
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Events over HTTP into `kairos up`, folding and archiving on."""
    with temporary_home() as home, served(home, {"KAIROS_APPENDFSYNC": fsync}) as (url, _):
        command = [sys.executable, "-m", "loadtests.ingest", "--url", url, "--rate", str(rate)]
        command += ["--seconds", str(seconds), "--batch", str(batch), "--probes", str(probes)]
        warm = [*command[:-8], "--rate", "2000", "--seconds", "3"]
        subprocess.run(warm, check=True, stdout=subprocess.DEVNULL)
        before = cpu_seconds(home)
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        figures = json.loads(run.stdout) | {"appendfsync": fsync}
        figures["cpu_s"] = {n: round(s - before.get(n, 0), 1) for n, s in cpu_seconds(home).items()}
    report("ingest", figures, as_json, out)


@app.command()
def fold(
    events: Annotated[int, typer.Option(help="How many.")] = 200_000,
    fsync: Fsync = "everysec",
    as_json: Json = False,
    out: Out = None,
) -> None:
    """One folder on the log of a real Valkey, nothing else running."""
    with store_of(fsync) as store:
        bench = Bench(store)
        records = bench.append(uuid_interactions(events // 20, 20))
        folded_s, cpu_s = timed(lambda: bench.fold())
    figures = {
        "events": records,
        "events_per_s": round(records / folded_s),
        "events_per_cpu_s": round(records / cpu_s),
        "appendfsync": fsync,
    }
    report("fold", figures, as_json, out)


@app.command()
def replay(
    events: Annotated[int, typer.Option(help="How many.")] = 500_000,
    points: Annotated[int, typer.Option(help="Points asked for.")] = 20_000,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Archived log → states at points: on one core, and over Ray on all of them."""
    from training.parallel import replay_points
    from training.replay import Point

    with temporary_home() as home:
        settings = Settings(home=str(home))
        archive = Archive(settings.archive_path)
        asked = [Point(*at) for at in fill_archive(archive, settings, events, points)]
        figures: Figures = {"events": events, "points": points}
        for workers in (1, os.cpu_count() or 1):
            if workers > 1:
                replay_points(settings, asked[:1], workers)  # Ray's start is not the replay's
            seconds, _ = timed(lambda n=workers: replay_points(settings, asked, n))  # type: ignore[misc]
            figures[f"events_per_s_{workers}_workers"] = round(events / seconds)
    report("replay", figures, as_json, out)


@app.command()
def memory(
    users: Annotated[int, typer.Option(help="How many.")] = 100_000,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Bytes of the store per user, in two shapes, deduplication included."""
    figures: Figures = {"users": users}
    with store_of("no") as store:
        half = users // 2
        shapes = metarank_shape(0, half), metarank_shape(half, users)
        figures["metarank_shape"] = measure_memory(store, shapes, users)
    with store_of("no") as store:
        halves = [uuid_interactions(half, 50, 90, seed) for seed in (1, 2)]
        figures["fifty_events"] = measure_memory(store, halves, users)
    report("memory", figures, as_json, out)


def uuid_interactions(users: int, each: int, days: int = 30, seed: int = 1) -> Iterator[Event]:
    """Interactions with UUID ids, on 20,000 items, each of 2 categories out of CATEGORIES."""
    from training.uuid_log import uuid_events

    end = datetime.now(UTC)
    for event in uuid_events(users, each, 20_000, seed, days, end):
        yield msgspec.convert(event, Interaction)


def metarank_shape(first: int, last: int) -> Iterator[tuple[str, int, str, int]]:
    """Per user 2 rankings of 20 items and 4 clicks over 30 days: (user, ts, kind, item)."""
    now = int(time.time() * 1000)
    for session in range(2):
        for n in range(first, last):
            ts = now - 30 * DAY_MS + (session * 15 + n % 15) * DAY_MS
            user = f"user-{n}"
            yield user, ts, "ranking", n * 7919 + session * 104_729
            for click in range(2):
                yield user, ts + 1000 * (click + 1), "click", n * 7919 + session * 104_729 + click


class Bench:
    """Stamps events as the edge does and appends them in entries of ENTRY records."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.catalog = bench_catalog(store)
        partitions = store.settings.partitions
        self.stamper = Stamper(load_actions(), self.catalog, partitions, imported=True)

    def append(self, events: Iterator[Any]) -> int:
        """Append everything; returns how many records that was."""
        now = int(time.time() * 1000)
        waiting: dict[int, list[bytes]] = {}
        count = 0
        for event in events:
            partition, raw = self._record(event, now)
            count += 1
            batch = waiting.setdefault(partition, [])
            batch.append(raw)
            if len(batch) >= ENTRY:
                self.store.append({partition: waiting.pop(partition)})
        self.store.append(waiting)
        return count

    def fold(self) -> None:
        """Fold everything that is in the log."""
        settings = self.store.settings
        folder = Folder(self.store, settings.partitions, FoldRules(settings.late_days))
        claims = [self.store.claim("benchmark", p) for p in range(settings.partitions)]
        held = {claim.partition: claim for claim in claims if claim is not None}
        while found := self.store.read(list(held.values()), 16):
            for partition, entries in found.items():
                folder.fold(held[partition], entries)

    def _record(self, event: Any, now: int) -> tuple[int, bytes]:
        if isinstance(event, tuple):
            return self._metarank(event, now)
        ts = self.stamper.check(event, now)
        partition, record = self.stamper.stamp(event, ts, now)
        return partition, encode(record)

    def _metarank(self, event: tuple[str, int, str, int], now: int) -> tuple[int, bytes]:
        user, ts, kind, item = event
        event_id = f"{user}-{ts}-{kind}"
        if kind == "click":
            click = Interaction(event_id, user, "click", ts, item_id=f"item-{item % 20_000}")
            return self._record(click, now)
        partition, record = self.stamper.stamp(Interaction(event_id, user, "click", ts), ts, now)
        shown = [ShownItems(0, [(item + i * 97) % 20_000 for i in range(20)])]
        impression = ImpressionRecord(
            ts=ts, arrived=now, imported=True, user_id=user, hash=record.hash,  # type: ignore[union-attr]
            event_id=event_id, decision_id=event_id, shown=shown,
        )  # fmt: skip
        return partition, encode(impression)


def bench_catalog(store: RedisStore | None) -> Catalog:
    """20,000 items of two categories each, out of CATEGORIES."""
    from engine.records import ItemRecord

    catalog = Catalog()
    for space, names in (
        ("category", [f"category-{n}" for n in range(CATEGORIES)]),
        ("action", ["view", "click", "save", "cook"]),
    ):
        numbers = store.intern(space, names, 0) if store is not None else range(len(names))
        for name, number in zip(names, numbers, strict=True):
            catalog.name(space, name, number)
    catalog.apply(
        ItemRecord(
            ts=0,
            arrived=0,
            item_id=f"item-{n}",
            item=n,
            attributes={
                "categories": [f"category-{n % CATEGORIES}", f"category-{n * 7 % CATEGORIES}"]
            },
        )
        for n in range(20_001)
    )
    return catalog


def measure_memory(store: RedisStore, halves: Sequence[Iterator[Any]], users: int) -> Figures:
    """Fill with one half of the users, then the other, reading the server's own used_memory.

    The second half's growth is the price of a user; what remains of the first is the fixed part
    (dedupe buckets, counters of the items), which a million users pay once.
    """
    empty = store.server_info()[0]["used_memory"]
    bench = Bench(store)
    records = 0
    used = []
    for half in halves:
        records += bench.append(half)
        bench.fold()
        used.append(settled_bytes(store) - empty)
    partitions = range(store.settings.partitions)
    per_user = (used[1] - used[0]) / (users / 2)
    fixed = used[1] - per_user * users
    return {
        "records": records,
        "used_mib": round(used[1] / 2**20, 1),
        "bytes_per_user": round(per_user),
        "fixed_mib": round(fixed / 2**20, 1),
        "gib_per_million_users": round((fixed + per_user * 1e6) / 2**30, 3),
        "gib_per_million_users_fixed_part_scaled_too": round(used[1] / users * 1e6 / 2**30, 3),
        "dedupe_hashes_per_user": round(sum(map(store.known_hashes, partitions)) / users, 2),
    }


def settled_bytes(store: RedisStore) -> int:
    """used_memory once the log is trimmed behind the fold, as the archiver does."""
    time.sleep(2 * CHANGES_MS / 1000)
    for progress in store.progress(range(store.settings.partitions)):
        store.trim(progress.partition, progress.offset)
        store.trim_changes(progress.partition)
    return int(store.server_info()[0]["used_memory"])


def fill_archive(
    archive: Archive, settings: Settings, events: int, points: int
) -> list[tuple[str, int]]:
    """Archive so many events as one log; returns points within it."""
    stamper = Stamper(load_actions(), bench_catalog(None), settings.partitions, imported=True)
    now = int(time.time() * 1000)
    entries: dict[int, list[list[bytes]]] = {p: [[]] for p in range(settings.partitions)}
    asked = []
    every = max(1, events // points)
    for number, event in enumerate(uuid_interactions(events // 20, 20)):
        assert isinstance(event, Interaction)
        ts = stamper.check(event, now)
        partition, record = stamper.stamp(event, ts, now)
        if len(entries[partition][-1]) >= ENTRY:
            entries[partition].append([])
        entries[partition][-1].append(encode(record))
        if number % every == 0:
            asked.append((event.user_id, ts))
    from engine.ids import pack_position
    from engine.records import Entry

    rows = []
    upto = {}
    for partition, batches in entries.items():
        made = [Entry(pack_position(f"{now + n}-0"), batch) for n, batch in enumerate(batches)]
        rows += rows_of(partition, made)
        upto[partition] = made[-1].position
    archive.append(rows, {}, upto)
    return asked


@contextmanager
def store_of(fsync: str) -> Iterator[RedisStore]:
    """An embedded Valkey of its own."""
    from serving import embedded

    with temporary_home() as home:
        settings = Settings(home=str(home), appendfsync=fsync)  # type: ignore[arg-type]
        server = embedded.start(settings)
        try:
            opened = msgspec.structs.replace(
                settings, redis_url=server.url, store_timeout_ms=60_000
            )
            yield RedisStore.connect(opened)
        finally:
            server.stop()


def cpu_seconds(home: Path) -> dict[str, float]:
    """CPU seconds so far by kind of process, of those whose KAIROS_HOME this is."""
    tick = os.sysconf("SC_CLK_TCK")
    found: dict[str, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"KAIROS_HOME={home}".encode() not in (folder / "environ").read_bytes():
                continue
            name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        name = Path(name.strip()).name
        found[name] = found.get(name, 0) + (int(fields[11]) + int(fields[12])) / tick
    return found


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - cpu


def report(name: str, figures: Figures, as_json: bool, out: Path | None) -> None:
    """Print the figures, and keep them where asked."""
    full = keep(name, figures, out)
    if as_json:
        print_json(full)
        return
    for key, value in figures.items():
        say(f"{key:>28}  {value}")
    say_where(full)


def keep(name: str, figures: Figures, out: Path | None) -> Figures:
    """The figures with what they are from, written where asked."""
    full = {"benchmark": name, "figures": figures} | where()
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(full, indent=2) + "\n")
    return full


def say_where(full: Figures) -> None:
    """What figures are from, as their last line."""
    say(f"{'on':>28}  {full['machine']}, commit {full['commit']}, {full['command']}")


def where() -> dict[str, str]:
    """The machine, the commit, the command, the day."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": commit or "unknown",
        "command": " ".join(("kairos", *(_named(told) for told in sys.argv[1:]))),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _named(argument: str) -> str:
    """A path by its last part: where it lies on this machine says nothing elsewhere."""
    return Path(argument).name if Path(argument).is_absolute() else argument
