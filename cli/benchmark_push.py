"""`kairos benchmark push-fuzz`: whether gates hold, whoever asks at once and whatever comes."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.homes import temporary_home
from cli.terminal import console
from engine.settings import Settings

PROTOCOL = (
    "callers with a store client and a clock of their own (off by up to 5 minutes in skewed "
    "worlds) ask about the same people at once, on one Valkey, while the log is folded; breaches "
    "are counted afterwards by training/push_truth.py, by the true time; in skewed worlds caps and "
    "the gap are counted over stretches 10 minutes shorter, expiry and not_before 5 minutes later "
    "and sooner, quiet hours and switches without any margin"
)


def register(app: typer.Typer) -> None:
    """Add the command to `kairos benchmark`."""
    app.command("push-fuzz")(push_fuzz)


def push_fuzz(
    decisions: Annotated[int, typer.Option(help="How many, at least.")] = 1_000_000,
    callers: Annotated[int, typer.Option(help="Who ask at once.", min=1)] = 16,
    processes: Annotated[int, typer.Option(help="That they are in.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of the worlds.")] = 1,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Decide on pushes, many callers at once, and count what no gate may let through."""
    from cli.push_fuzz import Plan, fuzz
    from serving import embedded

    plan = Plan(decisions, callers, processes, seed=seed)
    with temporary_home() as home, console().status("deciding") as status:
        server = embedded.start(Settings(home=str(home), appendfsync="no"))
        try:
            figures: Figures = {"protocol": PROTOCOL} | fuzz(plan, server.url, status.update)
        finally:
            server.stop()
    report("push_fuzz", figures, as_json, out)
    if any(figures["breaches"].values()):
        raise typer.Exit(1)
