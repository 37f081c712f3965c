"""`kairos benchmark diversity`: what breadth costs in relevance, by each of the slate's methods."""

from __future__ import annotations

import time

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.terminal import console


def register(app: typer.Typer) -> None:
    """Add the command to `kairos benchmark`."""
    app.command()(diversity)


def diversity(as_json: Json = False, out: Out = None) -> None:
    """NDCG, diversity and calibration of slates on MovieLens, and what filling them takes."""
    from training import diversity_figures
    from training.movielens import data_folder, events
    from training.recorded import record

    began = time.monotonic()
    figures: Figures = {
        "protocol": "movielens_small; each user's newest fifth held out, a spectral filter fitted "
        "to the rest offers 200 items, 20 are filled without exploration; settings chosen on half "
        "of the users for at most 2 % of NDCG@20 lost, judged on the other half; divergence and "
        "diversity by all of a film's genres; [value, 2.5 %, 97.5 %] over draws of users"
    }
    with console().status("filling slates"):
        figures |= diversity_figures.evaluate(record(events(data_folder()), 1.0))
        figures["µs of 20 slots from a pool of 500"] = diversity_figures.speed()
    figures["seconds"] = round(time.monotonic() - began)
    report("diversity", figures, as_json, out)
