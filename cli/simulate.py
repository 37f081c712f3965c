"""`kairos simulate`: a past of the simulated world as JSON Lines, ready for `kairos import`."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.terminal import console, settings_of

if TYPE_CHECKING:
    from training.world import Line, World

CHUNK = 10_000  # events encoded and written at a time


class Policy(StrEnum):
    """Who decided in the past."""

    LEGACY = "legacy"
    RANDOM = "random"


def simulate(
    users: Annotated[int, typer.Option(min=1, help="Accounts.")] = 2000,
    days: Annotated[int, typer.Option(min=0, help="Days of history.")] = 28,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    law: Annotated[
        str, typer.Option(help="amber, birch, cedar, delta, or a null world.")
    ] = "amber",
    items: Annotated[int, typer.Option(min=1, help="Recipes.")] = 3000,
    policy: Annotated[Policy, typer.Option(help="Who decided: legacy, or random.")] = Policy.LEGACY,
    start: Annotated[
        datetime | None, typer.Option(help="First day, in UTC; default 2025-01-06.")
    ] = None,
) -> None:
    """Write the log of a simulated recipe app to standard output, progress to standard error."""
    from training.world import LAWS, START, World, encode, real_sensors

    if law not in LAWS:
        raise typer.BadParameter(f"no such law: {law!r}; there are {', '.join(LAWS)}")
    sensors = real_sensors(Path(settings_of().data))
    began = START if start is None else start.replace(tzinfo=UTC)
    started, written = time.monotonic(), 0
    with console().status("making the world") as status:
        world = World(law, users, items, seed, began, sensors)
        events = _events(world, days, policy)
        while chunk := list(itertools.islice(events, CHUNK)):
            sys.stdout.buffer.write(encode(chunk))
            written += len(chunk)
            status.update(f"day {world.day} of {days}: {written:,} events")
        sys.stdout.buffer.flush()
    took_s = max(time.monotonic() - started, 1e-9)
    console().print(
        f"{written:,} events in {took_s:.1f} s ({written / took_s:,.0f}/s), "
        f"law {law}, {world.core.sensors.source} sensor streams",
        soft_wrap=True,
    )


def _events(world: World, days: int, policy: Policy) -> Iterator[Line]:
    yield from world.item_events()
    yield from world.user_events()
    yield from world.history(days, policy.value)
