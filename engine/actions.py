"""The actions people can take, from `actions.yaml`."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from engine.errors import InvalidInput, SettingsError


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One declared action; `weight` says how much one act tells about taste."""

    weight: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    sign: Literal[-1, 0, 1] = 1
    needs_item: bool = True
    undoes: str | None = None

    @property
    def signed_weight(self) -> float:
        """The weight with which the act enters a category's decayed counters."""
        return self.weight * self.sign


class Actions:
    """The declared actions by name."""

    def __init__(self, by_name: dict[str, Action]) -> None:
        self.by_name = by_name

    def get(self, name: str) -> Action:
        """The action of this name; raises InvalidInput naming the nearest declared one."""
        found = self.by_name.get(name)
        if found is None:
            raise InvalidInput("action", f"{name[:128]!r} is not declared{self._nearest(name)}")
        return found

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name[:128], self.by_name, n=1, cutoff=0.0)
        return f"; the nearest is {near[0]!r}" if near else ""


def load_actions(path: Path | None = None) -> Actions:
    """Read `path`, or the shipped file; raises SettingsError naming the action and key."""
    source = path or resources.files("engine") / "actions.yaml"
    try:
        raw = yaml.safe_load(source.read_text(encoding="utf-8"))
        by_name = msgspec.convert(
            raw, dict[Annotated[str, msgspec.Meta(min_length=1, max_length=128)], Action]
        )
    except (yaml.YAMLError, msgspec.ValidationError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from error
    for name, action in by_name.items():
        if action.undoes is not None and action.undoes not in by_name:
            raise SettingsError(f"{source}: {name}.undoes: {action.undoes!r} is not declared")
    return Actions(by_name)
