"""A KAIROS_HOME made by commands, as an operator would: imported, trained, served, measured."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.terminal import console
from engine.errors import KairosError
from engine.settings import Settings
from models.registry import open_registry
from models.release import Card

SAMPLED_S = 2.0
Home = Annotated[Path | None, typer.Option(help="Build it here, or use what was built before.")]


class Cost(msgspec.Struct, frozen=True):
    """What a command took."""

    seconds: float
    peak_mib: float  # the largest of its processes
    peak_mib_together: float  # all of its processes, what they share counted once


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A KAIROS_HOME that is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="kairos-benchmark-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def home_at(kept: Path | None) -> Iterator[Path]:
    """This one, which stays, or a temporary one."""
    if kept is None:
        with temporary_home() as home:
            yield home
        return
    kept.mkdir(parents=True, exist_ok=True)
    yield kept.absolute()


@contextmanager
def served(home: Path, environ: dict[str, str], *options: str) -> Iterator[tuple[str, int]]:
    """`kairos up` on a free port: its address and pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"KAIROS_HOME": str(home), "KAIROS_PORT": str(port)} | environ
    with (home / "up.log").open("wb") as log, console().status("starting kairos up"):
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", *options], env=env, stdout=log, stderr=log
        )
        while b"Kairos is ready" not in (home / "up.log").read_bytes():
            if process.poll() is not None:
                raise SystemExit((home / "up.log").read_text())
            time.sleep(0.2)
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def kairos(home: Path, *arguments: object) -> Any:
    """Run `kairos … --json` on a home, its progress going to our standard error; its JSON.

    Raises KairosError where it ends with an error.
    """
    return measured(home, *arguments)[0]


def measured(home: Path, *arguments: object) -> tuple[Any, Cost]:
    """The same, and what it took: the store that it starts counts as well."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *map(str, arguments), "--json"],
        env=os.environ | {"KAIROS_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout, _watched(process.pid) as peaks:
        raw = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        why = msgspec.json.decode(raw).get("reason", "") if raw else ""  # as `kairos train` says
        raise KairosError(f"kairos {arguments[0]} ended with {process.returncode}: {why}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    largest = round(usage.ru_maxrss / unit, 1)
    together = round(max(peaks, default=0) / 2**20, 1)
    return msgspec.json.decode(raw), Cost(round(time.monotonic() - started, 1), largest, together)


def release_of(home: Path) -> dict[str, Any]:
    """What serves: each model's kind, bytes, dimensions and settings, from its card."""
    registry = open_registry(Settings(home=str(home)))
    release = registry.current()
    if release is None:
        raise KairosError(f"nothing is published in {home}")
    cards = {version.model: registry.card(version) for version in release.versions()}
    return {"release": release.release_id} | {
        model: {"bytes": card.bytes, "dimensions": card.dimensions} | {"settings": _short(card)}
        for model, card in cards.items()
    }


def _short(card: Card) -> dict[str, Any]:
    """A card's settings without its vocabularies: the hybrid names every attribute it knows."""
    return {k: value for k, value in card.settings.items() if not isinstance(value, list)}


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """Bytes of a process and its descendants together, sampled until the block ends (Linux)."""
    found: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLED_S):
            found.append(sum(map(shared_fairly_bytes, processes_of(pid))))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def processes_of(pid: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        parents.setdefault(int(parent), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def shared_fairly_bytes(pid: int) -> int:
    """Proportional set size: of a shared page each process has its share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # gone by now
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
