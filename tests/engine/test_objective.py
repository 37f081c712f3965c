"""`objective.yaml`: outcomes, their windows, and what each is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.actions import load_actions
from engine.errors import SettingsError
from engine.objective import Objective, changed, load_objective, value_of

ACTIONS = load_actions()


def read(tmp_path: Path, text: str) -> Objective:
    file = tmp_path / "objective.yaml"
    file.write_text(text, encoding="utf-8")
    return load_objective(ACTIONS, file)


def test_the_shipped_file_names_declared_actions() -> None:
    objective = load_objective(ACTIONS)

    assert list(objective.outcomes) == [
        "click",
        "complete",
        "save",
        "purchase",
        "dismiss",
        "return",
    ]
    assert objective.outcomes["click"].actions == ["view", "click"]
    assert objective.outcomes["purchase"].actions == ["purchase"]  # its own name, by default
    assert objective.outcomes["return"].actions == []
    assert objective.outcomes["dismiss"].weight < 0
    assert objective.ripe_hours == 168


def test_values_are_chances_times_weights() -> None:
    objective = load_objective(ACTIONS)
    weights = objective.weights(["dismiss", "click", "gone"])

    assert weights.tolist() == [-3, 1, 0]
    assert weights.dtype == np.float32
    chances = np.array([[0.5, 0.25, 1.0], [0.0, 1.0, 0.0]], np.float32)
    assert value_of(chances, weights).tolist() == [-1.25, 1.0]


def test_weights_can_be_changed_alone() -> None:
    objective = load_objective(ACTIONS)

    other = changed(objective, {"click": 0.0, "return": 9.0})

    assert other.weights(["click", "return", "save"]).tolist() == [0, 9, 4]
    assert other.outcomes["return"].within_hours == 168
    assert objective.weights(["click"]).tolist() == [1]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "objective.yaml"),
        ("{}", "at least one outcome"),
        ("love: {weight: 1}", "love.actions: 'love' is not declared"),
        ("click: {weight: 1, actions: [view, kiss]}", "click.actions: 'kiss' is not declared"),
        ("click: {}", "weight"),
        ("click: {weight: .nan}", "weight"),
        ("click: {weight: .inf}", "weight"),
        ("click: {weight: 1, within_hours: 0}", "within_hours"),
        ("click: {weight: 1, within: 3}", "within"),
        ("back: {weight: 1, returns: true, actions: [view]}", "back: expected no actions"),
        ("back: {weight: 1, returns: true, after_hours: 24}", "after_hours below within_hours"),
    ],
)
def test_an_error_names_the_outcome_and_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)

    assert named in str(refused.value)
    assert "objective.yaml" in str(refused.value)
