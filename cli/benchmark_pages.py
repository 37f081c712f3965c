"""`kairos benchmark carousel | page-gain`: choosing modules, beside what others would do."""

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
    app.command("page-gain")(page_gain)


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


def page_gain(
    law: Annotated[list[str] | None, typer.Option(help="Only these; all but null_push.")] = None,
    users: Annotated[int, typer.Option(help="People of a world.")] = 250,
    sessions: Annotated[int, typer.Option(help="Visits of a world.")] = 40_000,
    seeds: Annotated[int, typer.Option(help="Worlds of a law.", min=2)] = 5,
    jobs: Annotated[int, typer.Option(help="Worlds at a time.")] = 2,
    plots: Annotated[Path | None, typer.Option(help="Draw the regret of each law there.")] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Worth of learned orders of modules in the simulated laws, beside still ones and an oracle."""
    from training import page_gain_figures
    from training.world import LAWS

    began = time.monotonic()
    laws = tuple(law or (name for name in LAWS if name != "null_push"))
    plan = page_gain_figures.Plan(laws, seeds, users, sessions)
    with console().status("living through worlds") as status:
        figures: Figures = page_gain_figures.evaluate(plan, jobs, status.update)
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        for name in laws:
            file = plots / f"page_gain_{name}.svg"
            file.write_text(page_gain_figures.draw(figures, name), encoding="utf-8")
    figures["seconds"] = round(time.monotonic() - began)
    report("page_gain", figures, as_json, out)
