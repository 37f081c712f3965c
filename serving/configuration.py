"""Every configuration file that a decision depends on, read once and named by one version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from engine.actions import Actions, load_actions
from engine.objective import Objective, load_objective
from engine.recommending import Recommending, load_recommending
from engine.rules_file import RulesFile, load_rules
from engine.settings import Settings
from engine.situation_rules import SituationFile, load_situations


class Configuration(msgspec.Struct, frozen=True):
    """The operator's files."""

    actions: dict[str, Any]
    objective: Objective
    recommending: Recommending
    situations: SituationFile
    rules: RulesFile

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
    rules = load_rules(actions, _path(settings.rules))
    found = Configuration(dict(actions.by_name), objective, recommending, situations, rules)
    return actions, found


def _path(setting: str) -> Path | None:
    return Path(setting) if setting else None
