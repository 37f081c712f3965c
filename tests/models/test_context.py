"""The context model as files, and its graph against the trees."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from engine.senses import AXES, LABELS
from engine.signals import COUNT, NAMES
from models.artifact import BadArtifact, read_artifact
from models.boosting import Binary, BinarySettings, fit_binary
from models.context import ContextMeta, ContextModel
from models.export import calibrated, trees_graph

SETTINGS = BinarySettings(trees=20, leaves=6, rows_in_leaf=20, columns=1.0)
SLOPE, INTERCEPT = 0.7, -0.4


def rows(seed: int = 1, count: int = 2000) -> np.ndarray:
    """With gaps, and with what float32 can hold at its ends."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(count, COUNT)).astype(np.float32)
    made[rng.random(made.shape) < 0.2] = np.nan
    made[0, :3] = [np.inf, -np.inf, np.finfo(np.float32).max]
    return made


@pytest.fixture(scope="module")
def fitted() -> list[Binary]:
    told, found = rows(), []
    for label in range(len(LABELS)):
        truth = (np.nan_to_num(told[:, label]) > 0.3).astype(np.float32)
        found.append(fit_binary(told, truth, np.ones(len(told), np.float32), SETTINGS))
    return found


@pytest.fixture(scope="module")
def model(fitted: list[Binary]) -> ContextModel:
    trees = [calibrated(one.trees(), SLOPE, INTERCEPT) for one in fitted]
    meta = ContextMeta(labels=list(LABELS), columns=list(NAMES))
    clock = np.full((24, len(LABELS)), 0.5, np.float32)
    return ContextModel(meta, trees_graph(trees, COUNT), clock)


def test_the_graph_scores_as_the_calibrated_trees(
    fitted: list[Binary], model: ContextModel
) -> None:
    told = rows(seed=2)
    logits = np.stack([one.logits(told) for one in fitted], axis=1)
    expected = 1 / (1 + np.exp(-(SLOPE * logits + INTERCEPT)))

    assert np.abs(model.chances(told) - expected).max() < 1e-5


def test_a_known_answer(model: ContextModel) -> None:
    told = np.zeros((2, COUNT), np.float32)
    told[0], told[1] = 2.0, -2.0

    yes, no = model.chances(told)

    assert (yes > no).all()


def test_files_there_and_back(model: ContextModel) -> None:
    again = ContextModel.from_artifact(read_artifact(model.to_artifact().files()))

    assert again.labels == LABELS
    assert np.array_equal(again.clock, model.clock)
    assert np.array_equal(again.chances(rows()), model.chances(rows()))


def test_other_columns_are_refused(model: ContextModel) -> None:
    artifact = model.to_artifact()
    meta = msgspec.structs.replace(model.meta, columns=["acc_std"])
    other = msgspec.structs.replace(artifact.meta, settings=msgspec.to_builtins(meta))

    with pytest.raises(BadArtifact, match="columns"):
        ContextModel.from_artifact(replace(artifact, meta=other))
    with pytest.raises(BadArtifact, match=r"context\.onnx"):
        ContextModel.from_artifact(replace(artifact, blobs={}))
    with pytest.raises(BadArtifact, match="clock"):
        ContextModel.from_artifact(replace(artifact, arrays={}))


def test_every_label_stands_on_one_axis() -> None:
    assert sorted(LABELS) == sorted({label for labels in AXES.values() for label in labels[:-1]})
