"""The models that ship: whole, signed, small, and worth something on the plainest cases."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import models.shipped
from engine.device import Motion, read_device
from engine.motion import read_window
from engine.senses import ACTIVITIES, LABELS
from engine.situation_rules import load_situations
from engine.state import UserState
from models.release import Refused
from models.shipped import (
    FOLDER,
    shipped_registry,
    shipped_release,
    shipped_senses,
    shipped_situations,
)

NOON = 1_770_034_800_000


def test_they_are_small_and_say_what_they_are() -> None:
    release = shipped_release()
    assert set(release.models) == {"motion", "context"}
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 2 * 2**20
    for version in release.versions():
        card = shipped_registry().card(version)
        assert card.data is not None
        assert any("ExtraSensory" in note for note in card.notes)
        assert any("Not for" in note for note in card.notes)


def test_what_somebody_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path / "shipped")
    [graph] = (tmp_path / "shipped").rglob("context.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(models.shipped, "FOLDER", tmp_path / "shipped")
    shipped_senses.cache_clear()
    with pytest.raises(Refused, match=r"context\.onnx"):
        shipped_senses()
    shipped_senses.cache_clear()


def test_a_phone_at_rest_and_one_that_is_shaken() -> None:
    senses = shipped_senses()
    rng = np.random.default_rng(0)
    t = np.arange(500) / 50
    rest = rng.normal((0, 0, 9.81), 0.02, (500, 3))
    stride = np.stack([np.sin(2 * math.pi * 2 * t), 3 * np.sin(2 * math.pi * 2 * t + 1),
                       2 * np.cos(2 * math.pi * 4 * t)], axis=1)  # fmt: skip
    walk = rest + stride + rng.normal(0, 0.4, (500, 3))
    still = []
    for samples in (rest, walk):
        window = read_window(Motion(50.0, [tuple(s) for s in samples.tolist()]))
        assert window is not None
        told = senses.activity(window)
        assert set(told) == set(ACTIVITIES)
        still.append(told["still"])
    assert still[0] > 0.6
    assert still[1] < 0.2


def test_chances_are_chances_whatever_is_missing() -> None:
    situations = shipped_situations(load_situations())
    for raw in ({}, {"battery": 0.5}, {"lux": 1e6, "speed_mps": 400, "brightness": 1}):
        device, _ = read_device(raw)
        glance = situations.glance(UserState(), device, NOON, None, NOON)
        labels = shipped_senses().labels(glance.row[np.newaxis])
        assert labels.shape == (1, len(LABELS))
        assert ((labels >= 0) & (labels <= 1)).all()
    assert shipped_senses().usual(23.9).shape == (len(LABELS),)
