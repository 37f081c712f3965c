"""The ranker: what is exported scores as what was fitted, and learns what is there to learn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.candidates import Sources
from engine.features import COLUMN, COUNT, NAMES
from models.artifact import Artifact, BadArtifact, Meta, read_artifact
from models.boosting import Boosted, BoostingSettings, Examples, fit
from models.export import NotEqual, check_parity, export_ranker, graph
from models.loading import load
from models.onnx_scorer import FIRST, WHOLE, OnnxRanker

Floats = NDArray[np.float32]
OUTCOMES = ("click", "complete", "never")
SETTINGS = BoostingSettings(trees=60, first_trees=10, positives=50, l2=1, columns=1)


def rows_with_holes(n: int, seed: int) -> Floats:
    """Rows in which a third of the columns is missing now and then, some are whole numbers."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, COUNT)).astype(np.float32)
    rows[:, COLUMN["situation"]] = rng.integers(0, 9, n)
    holes = rng.random((n, COUNT)) < 0.2
    holes[:, 1::3] = holes[:, 2::3] = False
    rows[holes] = np.nan
    return rows


@pytest.fixture(scope="module")
def boosted() -> Boosted:
    rows = rows_with_holes(4000, 1)
    liking = np.nan_to_num(rows[:, 0], nan=1.0) + rows[:, 1]
    labels = np.stack([liking > 0, liking > 1, np.zeros(len(rows))], axis=1).astype(np.float32)
    labels[:200, 1] = np.nan
    held_out = np.arange(len(rows)) >= 3200
    found = fit(
        Examples(rows, labels, np.ones(len(rows), np.float32), held_out), OUTCOMES, SETTINGS
    )
    assert found is not None
    return found


@pytest.fixture(scope="module")
def ranker(boosted: Boosted) -> OnnxRanker:
    return export_ranker(boosted)


def test_an_outcome_that_never_came_true_is_not_learned(boosted: Boosted) -> None:
    assert boosted.outcomes == ["click", "complete"]
    nothing = Examples(
        np.zeros((99, COUNT), np.float32),
        np.zeros((99, 1), np.float32),
        np.ones(99, np.float32),
        np.zeros(99, np.bool_),
    )
    assert fit(nothing, ("never",), SETTINGS) is None


def test_the_trees_of_all_outcomes_stay_within_their_number(boosted: Boosted) -> None:
    assert sum(boosted.rounds(name) for name in boosted.outcomes) <= SETTINGS.trees
    assert sum(boosted.rounds(name, first=True) for name in boosted.outcomes) <= 10


def test_what_serves_scores_as_what_was_fitted_on_rows_with_holes_anywhere(
    boosted: Boosted, ranker: OnnxRanker
) -> None:
    rows = rows_with_holes(2000, 2)
    # Columns that were whole in training are missing here as well.
    rows[np.random.default_rng(3).random(rows.shape) < 0.1] = np.nan

    assert check_parity(boosted, ranker, rows) <= 1e-5


def test_a_value_at_a_threshold_goes_where_the_fitted_tree_sends_it(
    boosted: Boosted, ranker: OnnxRanker
) -> None:
    # LightGBM reads what lies within 1e-35 of 0 as 0; no feature comes so near.
    thresholds = [found for found in set(_thresholds(boosted)) if abs(found) > 1e-30]
    rows = np.zeros((3 * len(thresholds), COUNT), np.float32)
    near = np.array(thresholds, np.float32)
    rows[:] = np.concatenate(
        [near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9))]
    )[:, np.newaxis]

    assert check_parity(boosted, ranker, rows) <= 1e-5


def _thresholds(boosted: Boosted) -> list[float]:
    found: list[float] = []
    todo = [tree["tree_structure"] for name in boosted.outcomes for tree in boosted.trees(name)]
    while todo:
        node = todo.pop()
        if "split_index" in node:
            found.append(float(node["threshold"]))
            todo += [node["left_child"], node["right_child"]]
    return found


def test_chances_say_what_was_learned(ranker: OnnxRanker) -> None:
    rows = np.zeros((2, COUNT), np.float32)
    rows[:, 1] = -2, 2
    for chances in (ranker.chances(rows), ranker.first_chances(rows)):
        assert chances.dtype == np.float32
        assert chances.shape == (2, 2)
        assert (chances[1] > chances[0]).all()
    assert ranker.chances(rows)[0, 0] < 0.1 < 0.9 < ranker.chances(rows)[1, 0]


def test_another_ranker_is_told_apart(boosted: Boosted, ranker: OnnxRanker) -> None:
    first = graph(boosted, first=True)
    swapped = OnnxRanker(ranker.meta, first, first)

    with pytest.raises(NotEqual, match=r"chances: \w+ of row \d+ differs by"):
        check_parity(boosted, swapped, rows_with_holes(200, 4))


def test_a_ranker_survives_its_files(ranker: OnnxRanker) -> None:
    models = load({"ranker": read_artifact(ranker.to_artifact().files())})
    rows = rows_with_holes(50, 5)

    assert models.outcomes == ["click", "complete"]
    assert models.sources == Sources()
    assert models.ranker is not None
    np.testing.assert_array_equal(models.ranker.chances(rows), ranker.chances(rows))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["other", *NAMES[1:]], f"column 0 is other, the engine makes {NAMES[0]}"),
        (NAMES[:-1], f"column {COUNT - 1} is nothing, the engine makes {NAMES[-1]}"),
        ([*NAMES, "more"], f"column {COUNT} is more, the engine makes nothing"),
    ],
)
def test_other_features_are_refused_by_name(
    ranker: OnnxRanker, names: list[str], told: str
) -> None:
    meta = msgspec.structs.replace(ranker.meta, features=list(names))
    artifact = Artifact(
        Meta(kind="ranker", settings=msgspec.to_builtins(meta)), {}, ranker.to_artifact().blobs
    )
    with pytest.raises(BadArtifact, match=told):
        load({"ranker": artifact})


def test_what_is_no_ranker_is_refused(ranker: OnnxRanker) -> None:
    whole = ranker.to_artifact()
    bad = {
        "factors": Artifact(Meta(kind="ranker")),
        "unheard-of": whole,
        "ranker": Artifact(whole.meta, {}, {WHOLE: b"no graph", FIRST: b""}),
    }
    for name, artifact in bad.items():
        with pytest.raises(BadArtifact):
            load({name: artifact})
    with pytest.raises(BadArtifact, match=r"ranker_first\.onnx"):
        load({"ranker": Artifact(whole.meta, {}, {WHOLE: whole.blobs[WHOLE]})})


def test_onnxruntime_keeps_nothing_for_its_maker(tmp_path: Path) -> None:
    # Its import wrote an id of the machine and queued events, in ~/.cache.
    subprocess.run(
        [sys.executable, "-c", "import models.onnx_scorer"],
        cwd=Path(__file__).resolve().parents[2],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
