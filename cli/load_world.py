"""A small world under load: simulated people, imported, trained quickly, and served."""

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
from cli.terminal import NOT_BETTER, console
from engine.errors import KairosError
from engine.settings import Settings

SEED = 1
# Of the world alone is asked what it costs to serve, not how good the models are.
QUICK = """
factors: [{kind: spectral, dimensions: 64}]
rows: {decisions: 3000}
evaluation: {moments: 300, resamples: 100}
"""
Users = Annotated[int, typer.Option(help="People of the simulated world.")]
Items = Annotated[int, typer.Option(help="Recipes.")]
Days = Annotated[int, typer.Option(help="Days of its past.")]
Replicas = Annotated[int, typer.Option(help="That decide.")]


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
def running(kept: Path | None, world: World, replicas: int) -> Iterator[Running]:
    """Built where it is not there yet, and served by `kairos up` while the block runs."""
    from models.registry import open_registry
    from training.noise_ranker import publish_noise_ranker

    with home_at(kept) as home:
        people = home / "people.jsonl"
        if not people.exists():
            build(home, people, world)
        # A ranker of the shipped size, so that an answer costs what it costs elsewhere.
        publish_noise_ranker(open_registry(Settings(home=str(home))), SEED)
        with served(home, {"KAIROS_REPLICAS": str(replicas)}) as (url, pid):
            answering(url)
            yield Running(url, pid, home, people)


def build(home: Path, people: Path, world: World) -> None:
    """Simulate up to now, import, train; the people's file comes last, so that it says: built."""
    start = (datetime.now(UTC) - timedelta(days=world.days)).date().isoformat()
    sizes = {"users": world.users, "items": world.items, "days": world.days, "seed": SEED}
    asked = [f"--{name}={value}" for name, value in {**sizes, "start": start}.items()]
    file, quick = home / "world.jsonl", home / "quick.yaml"
    with console().status("simulating"), file.open("wb") as out:
        command = [sys.executable, "-m", "cli.main", "simulate", *asked]
        subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, check=True)
    kairos(home, "import", file)
    quick.write_text(QUICK, encoding="utf-8")
    try:
        kairos(home, "train", "--settings", quick)
    except KairosError as error:
        if f"ended with {NOT_BETTER}" not in str(error):
            raise
    file.rename(people)
