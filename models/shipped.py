"""The situation models that ship with the project: a small registry, signed by its key.

`models/shipped` is laid out as any registry is (models.registry), cards included; what is in it
is verified before it is opened.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from engine.errors import KairosError
from engine.situation import Situations
from engine.situation_rules import SituationFile
from models.artifact import Artifact
from models.loading import SITUATION_MODELS, open_senses
from models.registry import Registry
from models.release import Release
from models.senses import Senses
from models.signing import Keyring

FOLDER = Path(__file__).parent / "shipped"
NO_KEYS = FOLDER / "keys"  # there is none: only the project's own key is believed


def shipped_registry() -> Registry:
    """Read it as any other; nothing can be published into it without the project's key."""
    return Registry(FOLDER, Keyring(NO_KEYS))


@lru_cache(maxsize=1)
def shipped_senses() -> Senses:
    """The models, opened once a process; raises Refused where they are not the project's."""
    registry = shipped_registry()
    release = shipped_release()
    found: dict[str, Artifact] = {v.model: registry.artifact(v) for v in release.versions()}
    return open_senses(found, f"shipped {release.release_id}", None)


def shipped_situations(file: SituationFile) -> Situations:
    """The operator's situations, read by the shipped models."""
    return shipped_senses().within(Situations(file))


def published_situations(registry: Registry, file: SituationFile) -> Situations:
    """… read by those of the release that serves; raises Refused."""
    release = registry.current()
    if release is None:
        return shipped_situations(file)
    models = [v for v in release.versions() if v.model in SITUATION_MODELS]
    found = {version.model: registry.artifact(version) for version in models}
    return open_senses(found, release.release_id, shipped_senses()).within(Situations(file))


def shipped_release() -> Release:
    """What ships; raises KairosError where it is missing."""
    release = shipped_registry().current()
    if release is None:
        raise KairosError(f"{FOLDER}: the shipped situation models are missing")
    return release
