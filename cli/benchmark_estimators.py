"""`kairos benchmark uplift | off-policy`: the estimators on real decisions made at random."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.terminal import console


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(uplift)
    app.command("off-policy")(off_policy)


def uplift(
    runs: Annotated[int, typer.Option(help="Simulated trials for the gate.", min=1)] = 150,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Who gains from a mail (Hillstrom's trial), cross-fitted, and whether a model may say so."""
    from training import gate_figures, uplift_figures
    from training.hillstrom import ARMS
    from training.movielens import data_folder

    began = time.monotonic()
    figures: Figures = {
        "protocol": "each mail against none; effects by models that never saw the customer (5 "
        "folds); percentage points [value, 2.5 %, 97.5 %], 500 draws of customers"
    }
    with console().status("reading") as status:
        for mail in ARMS:
            for outcome in ("visit", "conversion"):
                status.update(f"{mail}, {outcome}")
                figures[f"{mail}, {outcome}"] = uplift_figures.of_mailing(
                    data_folder(), mail, outcome
                )
        status.update("power")
        figures["power"] = uplift_figures.powers()
        for spread in (0.0, 0.03):
            status.update(f"the gate, spread {spread}")
            name = (
                f"gate over {gate_figures.LOOKS} looks, {runs} trials of "
                f"{gate_figures.DECISIONS:,} decisions, effect ± {spread}"
            )
            figures[name] = gate_figures.let_through(runs, spread)
    figures["seconds"] = round(time.monotonic() - began)
    report("uplift", figures, as_json, out)


def off_policy(
    runs: Annotated[int, typer.Option(help="Simulated logs for coverage.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the simulated logs.")] = 1,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Values of one policy from another's log (Open Bandit Dataset); coverage of intervals."""
    from training import off_policy_figures
    from training.movielens import data_folder
    from training.open_bandit import CAMPAIGNS

    began = time.monotonic()
    figures: Figures = {"protocol": "clicks per row; [value, 2.5 %, 97.5 %]"}
    with console().status("reading") as status:
        for campaign in CAMPAIGNS:
            for source, target in (("random", "bts"), ("bts", "random")):
                status.update(f"{campaign}, {source} → {target}")
                figures[f"{campaign}, {source} → {target}"] = off_policy_figures.of_campaign(
                    data_folder(), source, target, campaign
                )
        status.update("where pushes tire")
        figures["where pushes tire"] = off_policy_figures.long_run(seed)
        status.update("coverage")
        figures["coverage"] = off_policy_figures.coverage(runs, seed)
        status.update("coverage of rare rewards")
        figures["coverage of rare rewards"] = off_policy_figures.rare_coverage(runs, seed)
    figures["seconds"] = round(time.monotonic() - began)
    report("off_policy", figures, as_json, out)
