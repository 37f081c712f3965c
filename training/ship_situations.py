"""`python -m training.ship_situations FOLDER KEYS`: the situation models that ship, fitted anew.

Writes a registry like any other into FOLDER, signed with the key in KEYS (`local.pem`, made where
there is none). What ships is such a folder as models/shipped, its public key in models.signing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from models.artifact import Artifact
from models.loading import CONTEXT, MOTION
from models.registry import Registry
from models.release import Card, Metric, Span
from models.signing import Keyring
from training import context, extrasensory
from training.carried import read_minutes
from training.hapt import read_windows
from training.motion import fit_motion
from training.movielens import data_folder
from training.publishing import ROOT, commit

NOT_FOR = [
    "Made to choose what an app shows and when it speaks. Not for health, safety, insurance, "
    "credit, work or any decision about a person that matters to them.",
    "Small samples of volunteers (30 people, a waist-worn phone; 29 people, mostly students of one "
    "campus): expect less for children, the old, wheelchairs, and other phones.",
]
HAPT = (
    "HAPT (Reyes-Ortiz, Oneto, Samà, Parra, Anguita 2015; UCI 341): 30 people. Its terms are "
    "non-commercial; no record of it is in these files."
)
EXTRASENSORY = (
    "ExtraSensory (Vaizman, Ellis, Lanckriet 2017): 144,200 minutes of 29 people, published for "
    "research; no record of it is in these files."
)


def ship(folder: Path, keys: Path, data: Path) -> str:
    """Fit, write and publish; the release's id."""
    registry = Registry(folder, Keyring(keys))
    minutes = extrasensory.read(data)
    made: dict[str, tuple[Artifact, Card]] = {
        MOTION: (
            fit_motion(read_windows(data), read_minutes(data)).export().to_artifact(),
            Card(
                data=Span("HAPT, ExtraSensory"),
                rows=len(minutes.users),
                metrics=motion_metrics(),
                commit=commit(),
                notes=[
                    HAPT,
                    EXTRASENSORY,
                    "Windows turned at random, people left out: `kairos benchmark motion`. Running "
                    "and short windows of cycling are hardly recognised.",
                    *NOT_FOR,
                ],
            ),
        ),
        CONTEXT: (
            context.fit(context.material(minutes)).to_artifact(),
            Card(
                data=Span("ExtraSensory"),
                rows=len(minutes.users),
                metrics=context_metrics(),
                commit=commit(),
                notes=[
                    EXTRASENSORY,
                    "AUC of people left out, with intervals over people: `kairos benchmark "
                    "context`. Cooking and eating are no better than the clock. Thresholds, "
                    "calibration and smoothing are of training people alone; columns and sizes of "
                    "trees were chosen with these four folds in view.",
                    *NOT_FOR,
                ],
            ),
        ),
    }
    versions = {
        name: registry.add(name, artifact.files(), card).version
        for name, (artifact, card) in made.items()
    }
    return registry.publish(versions, "situation models as shipped").release_id


def motion_metrics() -> dict[str, Metric]:
    """As `kairos benchmark motion` measured them last."""
    figures = _measured("motion")
    return {
        f"accuracy, {name}": Metric(found["accuracy"])
        for name, found in figures.items()
        if isinstance(found, dict) and "accuracy" in found
    }


def context_metrics() -> dict[str, Metric]:
    """As `kairos benchmark context` measured them last."""
    return {
        f"auc, {name}": Metric(*found["auc"])
        for name, found in _measured("context").items()
        if isinstance(found, dict) and "auc" in found
    }


def _measured(name: str) -> dict[str, Any]:
    file = ROOT / "loadtests" / "results" / f"{name}.json"
    figures: dict[str, Any] = msgspec.json.decode(file.read_bytes())["figures"]
    return figures


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), Path(sys.argv[2]), data_folder()))
