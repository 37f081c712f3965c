"""A release for benchmarks of speed has a ranker of the shipped size."""

from __future__ import annotations

from pathlib import Path

from engine.settings import Settings
from models.boosting import BoostingSettings
from models.registry import open_registry
from training.noise_ranker import publish_noise_ranker


def test_it_is_published_once_and_as_large_as_one_that_learned(tmp_path: Path) -> None:
    registry = open_registry(Settings(home=str(tmp_path)))
    assert publish_noise_ranker(registry, seed=1)
    release = registry.current()
    assert release is not None
    [version] = release.versions()
    trees = registry.card(version).settings["trees"]
    assert trees > 0.9 * BoostingSettings().trees
    assert not publish_noise_ranker(registry, seed=1)
    assert registry.current() == release
