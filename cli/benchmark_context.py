"""`kairos benchmark context | signals`: what a phone's signals say of people nobody has met.

Both read ExtraSensory (see training.extrasensory) and leave whole people out. They measure models
fitted for the purpose, in this process; nothing is served.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.terminal import console

if TYPE_CHECKING:
    from training.context import Material

PROTOCOL = (
    "people left out by cv_fold; figures pooled over all minutes of left-out people whose label is "
    "known, as the data's published ones; thresholds (the base rate) and calibration from training "
    "people alone; [value, 2.5 %, 97.5 %] of 2,000 draws of people"
)


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(context)
    app.command()(signals)


def context(as_json: Json = False, out: Out = None) -> None:
    """Posture, carriage and doing from ExtraSensory, beside a linear model and the clock."""
    from training import context_figures

    began = time.monotonic()
    figures: Figures = {"protocol": PROTOCOL}
    with console().status("reading") as status:
        source = _material()
        judged = context_figures.fresh(source, lambda label: status.update(f"fitting {label}"))
        figures |= context_figures.evaluate(
            source, judged, lambda label: status.update(f"judging {label}")
        )
        figures["composites"] = context_figures.composites(source, judged)
        status.update("smoothing")
        figures["smoothing"] = context_figures.smoothing(source, judged)
    figures["seconds"] = round(time.monotonic() - began)
    report("context", figures, as_json, out)


def signals(as_json: Json = False, out: Out = None) -> None:
    """What each signal is worth: models refitted without it, the shipped ones without sensors."""
    from training import signal_worth

    began = time.monotonic()
    figures: Figures = {"protocol": PROTOCOL}
    with console().status("reading") as status:
        source = _material()
        figures |= signal_worth.evaluate(source, status.update)
    figures["seconds"] = round(time.monotonic() - began)
    report("signals", figures, as_json, out)


def _material() -> Material:
    from training import extrasensory
    from training.context import material
    from training.movielens import data_folder

    return material(extrasensory.read(data_folder()))
