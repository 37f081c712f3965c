"""A small world under load: simulated people, imported, models fitted to them, and served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from cli.asking import answering
from cli.homes import home_at, kairos, served
from cli.terminal import complain, console
from engine.settings import Settings

SEED = 1
Users = Annotated[int, typer.Option(help="People of the simulated world.")]
Items = Annotated[int, typer.Option(help="Recipes.")]
Days = Annotated[int, typer.Option(help="Days of its past.")]
Replicas = Annotated[int, typer.Option(help="That decide.")]
Dev = Annotated[bool, typer.Option(help="Serve with `kairos up --dev`: one process, no Ray.")]


class World(NamedTuple):
    """How large a world is."""

    users: int
    items: int
    days: int


class Running(NamedTuple):
    """A service with its world in it."""

    url: str
    pid: int
    home: Path
    people: Path


@contextmanager
def running(kept: Path | None, world: World, replicas: int, dev: bool) -> Iterator[Running]:
    """Built where it is not there yet, and served by `kairos up` while the block runs."""
    with home_at(kept) as home:
        people = home / "people.jsonl"
        if not people.exists():
            build(home, people, world)
        options = ["--dev"] if dev else []
        with served(home, {"KAIROS_REPLICAS": str(replicas)}, *options) as (url, pid):
            answering(url)
            yield Running(url, pid, home, people)


def build(home: Path, people: Path, world: World) -> None:
    """Simulate up to now, import, fit; the people's file comes last, so that it says: built."""
    from models.registry import open_registry
    from serving.up import opened_store
    from training.unjudged import publish_unjudged

    start = (datetime.now(UTC) - timedelta(days=world.days)).date().isoformat()
    sizes = {"users": world.users, "items": world.items, "days": world.days, "seed": SEED}
    asked = [f"--{name}={value}" for name, value in {**sizes, "start": start}.items()]
    file = home / "world.jsonl"
    with console().status("simulating"), file.open("wb") as out:
        command = [sys.executable, "-m", "cli.main", "simulate", *asked]
        subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, check=True)
    kairos(home, "import", file)
    settings = Settings(home=str(home))
    with console().status("fitting"), opened_store(settings, complain) as (opened, _):
        publish_unjudged(opened, open_registry(settings), SEED)
    file.rename(people)
