"""`kairos benchmark push-gain | push-opens`: what push policies and models are worth in laws."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.terminal import console

LAWS_TOLD = "Only these; all but null_situation."


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command("push-gain")(push_gain)
    app.command("push-opens")(push_opens)


def push_gain(
    learner: Annotated[str, typer.Option(help="Who learns to push.")] = "kairos",
    law: Annotated[list[str] | None, typer.Option(help=LAWS_TOLD)] = None,
    users: Annotated[int, typer.Option(help="People of a world.")] = 400,
    explored: Annotated[int, typer.Option(help="Weeks in which it explores.")] = 8,
    judged: Annotated[int, typer.Option(help="Weeks that are judged.")] = 8,
    seeds: Annotated[int, typer.Option(help="Worlds of a law.", min=2)] = 5,
    jobs: Annotated[int, typer.Option(help="Worlds at a time.")] = 2,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Net worth of pushes over simulated weeks, beside still policies and an oracle."""
    from training import push_gain_figures
    from training.world import LAWS

    began = time.monotonic()
    laws = tuple(law or (name for name in LAWS if name != "null_situation"))
    plan = push_gain_figures.Plan(learner, laws, seeds, users, explored, judged)
    with console().status("living through weeks") as status:
        figures: Figures = push_gain_figures.evaluate(plan, jobs, status.update)
    figures["seconds"] = round(time.monotonic() - began)
    report("push_gain", figures, as_json, out)


def push_opens(
    law: Annotated[list[str] | None, typer.Option(help=LAWS_TOLD)] = None,
    users: Annotated[int, typer.Option(help="People of a world.")] = 1000,
    explored: Annotated[int, typer.Option(help="Weeks that are learned from.")] = 8,
    judged: Annotated[int, typer.Option(help="Weeks after them, that are judged.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the worlds.")] = 1,
    jobs: Annotated[int, typer.Option(help="Worlds at a time.")] = 2,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Chances of an open in later weeks, by situation, beside the true chances."""
    from training import push_open_figures
    from training.world import LAWS

    laws = tuple(law or (name for name in LAWS if not name.startswith("null")))
    plan = push_open_figures.Plan(laws, users, explored, judged, seed)
    with console().status("living through weeks") as status:
        figures: Figures = push_open_figures.measure(plan, jobs, status.update)
    report("push_opens", figures, as_json, out)
