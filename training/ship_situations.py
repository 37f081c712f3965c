"""`python -m training.ship_situations FOLDER KEYS`: the situation models that ship, fitted anew.

Writes a registry like any other into FOLDER, signed with the key in KEYS (`local.pem`, made where
there is none). What ships is such a folder as models/shipped, its public key in models.signing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from models.artifact import Artifact
from models.loading import CONTEXT, MOTION
from models.registry import Registry
from models.release import Card, Span
from models.signing import Keyring
from training import context, extrasensory
from training.carried import read_minutes
from training.hapt import read_windows
from training.motion import fit_motion
from training.movielens import data_folder
from training.publishing import commit

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
                commit=commit(),
                notes=[HAPT, EXTRASENSORY, "Figures: `kairos benchmark motion`.", *NOT_FOR],
            ),
        ),
        CONTEXT: (
            context.fit(context.material(minutes)).to_artifact(),
            Card(
                data=Span("ExtraSensory"),
                rows=len(minutes.users),
                commit=commit(),
                notes=[
                    EXTRASENSORY,
                    "Figures by people left out: `kairos benchmark context`. Cooking, shopping and "
                    "eating are hardly better than the clock.",
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


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), Path(sys.argv[2]), data_folder()))
