"""What a folder infers situations with: the shipped models, or those of the release that serves."""

from __future__ import annotations

from collections.abc import Mapping

from engine.catalog import Catalog
from engine.settings import Settings
from engine.situation import Situations
from models.artifact import Artifact
from models.loading import SITUATION_MODELS, open_senses
from models.registry import open_registry
from models.release import Release
from models.shipped import shipped_senses, shipped_situations
from serving.configuration import read_configuration
from serving.metrics import Metrics
from serving.releases import ReleaseWatcher


class Sensing:
    """Follows the registry beside a folder; `current` never waits."""

    def __init__(self, settings: Settings) -> None:
        _, configuration = read_configuration(settings)
        self._file = configuration.situations
        self._shipped = shipped_situations(self._file)
        self._watcher = ReleaseWatcher[Situations](
            open_registry(settings),
            Catalog(),
            self._load,
            lambda situations: None,
            Metrics(),
            only=SITUATION_MODELS,
        )

    def start(self) -> None:
        self._watcher.start()

    def stop(self) -> None:
        self._watcher.stop()

    def current(self) -> Situations:
        """Those of the release that serves; the shipped ones before the first."""
        loaded = self._watcher.current
        return self._shipped if loaded is None else loaded.parts

    def _load(self, release: Release, artifacts: Mapping[str, Artifact]) -> Situations:
        return open_senses(artifacts, release.release_id, shipped_senses()).within(self._shipped)
