"""`kairos benchmark motion`: what a raw motion window is worth, on people the model has not met."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import typer

from cli.benchmark import Figures, Json, Out, report
from cli.terminal import console
from engine.device import Motion
from engine.motion import read_window

if TYPE_CHECKING:
    from models.motion import MotionModel

# Six postures of the official split as mounted: Reyes-Ortiz et al. 2015; Dempster et al. 2023.
PUBLISHED = {"linear SVM, 561 features": 0.961, "Hydra and ridge": 0.962}
LENGTHS_S = (2.56, 20.0)
RUNS = 1000


def register(app: typer.Typer) -> None:
    """Add the command to `kairos benchmark`."""
    app.command("motion")(motion)


def motion(as_json: Json = False, out: Out = None) -> None:
    """Walking, stairs and rest on HAPT, turned at random; what carries a person on ExtraSensory."""
    from training.carried import evaluate_carrier, read_minutes
    from training.hapt import read_windows
    from training.motion import check_parity, film, fit_motion, gait_rows
    from training.motion_figures import evaluate_gait, evaluate_mounted
    from training.movielens import data_folder

    windows, minutes = read_windows(data_folder()), read_minutes(data_folder())
    figures: Figures = {}
    with console().status("fitting the model of everybody"):
        fitted = fit_motion(windows, minutes)
        model = fitted.export()
        rows = gait_rows(windows, 50.0)
        figures["largest difference of ONNX"] = check_parity(fitted, model, rows, minutes)
    figures["bytes of ONNX"] = {n: len(blob) for n, blob in model.to_artifact().blobs.items()}
    for length_s in LENGTHS_S:
        figures[f"ms a window of {length_s} s [p50, p99]"] = speed(model, length_s)
    with console().status("walking, stairs and rest"):
        for protocol, found in evaluate_gait(windows, minutes):
            figures |= {f"{protocol}, {setting}": f for setting, f in found.items()}
    with console().status("the reference as mounted"):
        mounted = evaluate_mounted(windows)
        figures |= {f"reference, six postures, {how}": f for how, f in mounted.items()}
    figures["reference, six postures, published"] = PUBLISHED
    with console().status("what carries a person"):
        carried = evaluate_carrier(minutes, film(windows))
        figures |= {f"people left out, {of}": f for of, f in carried.items()}
    report("motion", figures, as_json, out)


def speed(model: MotionModel, length_s: float) -> dict[str, list[float]]:
    """Milliseconds from the decoded request to all chances, at 50 and 100 Hz, gyroscope told."""
    rng = np.random.default_rng(1)
    found: dict[str, list[float]] = {}
    for rate_hz in (50.0, 100.0):
        count = round(length_s * rate_hz)
        acc, gyro = (
            [tuple(row) for row in (still + rng.normal(0, 0.2, (count, 3))).tolist()]
            for still in ([0, 0, 1], [0, 0, 0])
        )
        told = Motion(rate_hz, acc, gyro, unit="g")
        took = np.empty((RUNS, 2))
        for run in range(RUNS):
            began = time.perf_counter(), time.process_time()
            window = read_window(told)
            assert window is not None
            model.read(window)
            took[run] = time.perf_counter() - began[0], time.process_time() - began[1]
        wall, cpu = np.percentile(took[RUNS // 10 :] * 1000, (50, 99), axis=0).T.round(2).tolist()
        found |= {f"{rate_hz:.0f} Hz, wall": wall, f"{rate_hz:.0f} Hz, own CPU": cpu}
    return found
