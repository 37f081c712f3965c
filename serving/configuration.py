"""Every configuration file that a decision depends on, read once and named by one version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from engine.actions import Actions, load_actions
from engine.modules import ModulesFile, load_modules
from engine.objective import Objective, load_objective
from engine.push_file import PushFile, load_push
from engine.recommending import Recommending, load_recommending
from engine.rules_file import RulesFile, load_rules
from engine.settings import Settings
from engine.situation_rules import SituationFile, load_situations

RELOADED = ("objective", "recommend", "modules", "rules", "push")  # settings that name the files


class Configuration(msgspec.Struct, frozen=True):
    """The operator's files."""

    actions: dict[str, Any]
    objective: Objective
    recommending: Recommending
    situations: SituationFile
    modules: ModulesFile
    rules: RulesFile
    push: PushFile

    @property
    def version(self) -> str:
        """The same for the same contents."""
        encoded = msgspec.json.encode(self, order="sorted")
        return hashlib.blake2b(encoded, digest_size=6).hexdigest()


def read_configuration(settings: Settings) -> tuple[Actions, Configuration]:
    """Read all files; raises SettingsError naming the file and key."""
    actions = load_actions(_path(settings.actions))
    objective = load_objective(actions, _path(settings.objective))
    recommending = load_recommending(_path(settings.recommend))
    situations = load_situations(_path(settings.situations))
    modules = load_modules(actions, situations.names, _path(settings.modules))
    rules = load_rules(actions, _path(settings.rules))
    push = load_push(situations.names, _path(settings.push))
    found = Configuration(
        dict(actions.by_name), objective, recommending, situations, modules, rules, push
    )
    return actions, found


class ConfigurationWatch:
    """Notices that a file was changed; `changed` is cheap enough to be asked every second."""

    def __init__(self, settings: Settings, current: Configuration) -> None:
        self._settings = settings
        self._current = current
        self._files = [Path(path) for name in RELOADED if (path := getattr(settings, name))]
        self._seen = self._stamps()

    def changed(self) -> Configuration | None:
        """What the files say now, where that is another thing; raises SettingsError.

        Files of actions and situations are read at the start alone: states depend on them.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return None
        self._seen = stamps
        _, found = read_configuration(self._settings)
        found = msgspec.structs.replace(
            found, actions=self._current.actions, situations=self._current.situations
        )
        if found.version == self._current.version:
            return None
        self._current = found
        return found

    def _stamps(self) -> list[tuple[int, int]]:
        stamps = []
        for file in self._files:
            try:
                told = file.stat()
                stamps.append((told.st_mtime_ns, told.st_size))
            except OSError:
                stamps.append((0, 0))
        return stamps


def _path(setting: str) -> Path | None:
    return Path(setting) if setting else None
