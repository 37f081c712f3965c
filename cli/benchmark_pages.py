"""`kairos benchmark carousel`: choosing modules, beside what others would do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.terminal import console


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(carousel)


def carousel(
    onwards: Annotated[float, typer.Option(help="Chance to swipe to the next slot.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="How many.")] = 100,
    visits: Annotated[int, typer.Option(help="People who come in a round.")] = 20_000,
    seeds: Annotated[int, typer.Option(help="Worlds.", min=2)] = 3,
    policy: Annotated[list[str] | None, typer.Option(help="Only these, and random.")] = None,
    workers: Annotated[int, typer.Option(help="Processes, of a world each at a time.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Also draw the regret to this SVG.")] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Regret of bandits that fill a carousel, the engine's among them, on generated people."""
    from training import carousel_figures

    began = time.monotonic()
    course = carousel_figures.Course(onwards, rounds, visits, seeds)
    with console().status("filling carousels"):
        figures: Figures = carousel_figures.evaluate(course, policy or [], workers)
    if plot is not None:
        plot.write_text(carousel_figures.draw(figures["regret"]), encoding="utf-8")
    figures["seconds"] = round(time.monotonic() - began)
    report("carousel", figures, as_json, out)
