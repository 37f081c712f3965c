"""Configuration files: YAML read into a type, where every error names the file, line and key."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import yaml

from engine.errors import SettingsError

T = TypeVar("T")
Key = str | int
_BOOL, _TIME = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class YamlFile(Generic[T]):
    """What a file says, and on which line it says what."""

    def __init__(self, source: str, value: T, lines: Mapping[tuple[Key, ...], int]) -> None:
        self.source = source
        self.value = value
        self._lines = lines

    def error(self, path: Iterable[Key], detail: str) -> SettingsError:
        """What is wrong with the value at a path of keys, for raising."""
        return SettingsError(f"{_where(self.source, self._lines, tuple(path))}{detail}")


def read_yaml(path: Path | None, shipped: str, as_: type[T]) -> YamlFile[T]:
    """Read `path`, or the file of this name that is shipped; raises SettingsError."""
    source: Path | Traversable = path or resources.files("engine") / shipped
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from error
    return parse_yaml(text, str(source), as_)


def parse_yaml(text: str, source: str, as_: type[T]) -> YamlFile[T]:
    """The same for text that is at hand."""
    lines: dict[tuple[Key, ...], int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = {} if node is None else _read(node, (), lines, source)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{source}:{line}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"{source}: {error}") from error
    try:
        return YamlFile(source, msgspec.convert(raw, as_), lines)
    except msgspec.ValidationError as error:
        detail = str(error).partition(" - at `")[0]
        raise SettingsError(f"{_where(source, lines, _keys(error, raw, as_))}{detail}") from error


def _read(
    node: yaml.Node, path: tuple[Key, ...], lines: dict[tuple[Key, ...], int], source: str
) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_read(one, (*path, n), lines, source) for n, one in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        # `no: …` is Norwegian here, not false.
        key = key_node.value if key_node.tag == _BOOL else _scalar(key_node)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str | int | float) or key in found:
            what = "named twice" if isinstance(key, str | int | float) else "expected a name"
            raise SettingsError(f"{source}:{line}: {_dotted((*path, str(key)))}: {what}")
        lines[*path, str(key)] = line
        found[key] = _read(value_node, (*path, str(key)), lines, source)
    return found


def _scalar(node: yaml.Node) -> Any:
    if node.tag == _TIME:  # JSON has no dates either: what a time means is told by who reads it
        return node.value
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _keys(error: msgspec.ValidationError, raw: Any, as_: Any) -> tuple[Key, ...]:
    """The keys down to what is wrong."""
    keys: list[Key] = []
    detail, _, at = str(error).partition(" - at `")
    alone = copy.deepcopy(raw)
    for name, number in _STEP.findall(at.rstrip("`").removeprefix("key in ")):
        step = int(number) if number.isdigit() else name
        if number == "..." and not (step := _culprit(alone, keys, str(error), as_)):
            break
        keys.append(step)
    unknown = re.search(r"unknown field `(.+?)`", detail)
    return (*keys, unknown[1]) if unknown else tuple(keys)


def _culprit(raw: Any, keys: list[Key], wrong: str, as_: Any) -> str:
    """Which entry of the mapping there is `wrong`: msgspec does not say, so each is tried alone.

    Leaves that one alone in `raw`, so that a second error elsewhere is not taken for it.
    """
    mapping = _at(raw, keys)
    entries = dict(mapping)
    for name, value in entries.items():
        mapping.clear()
        mapping[name] = value
        try:
            msgspec.convert(raw, as_)
        except msgspec.ValidationError as error:
            if str(error) == wrong:
                return str(name)
    return ""


def _at(raw: Any, keys: list[Key]) -> Any:
    for key in keys:
        raw = raw[key]
    return raw


def _where(source: str, lines: Mapping[tuple[Key, ...], int], path: tuple[Key, ...]) -> str:
    """`file:line: a.b: `, with the line of the nearest part that the file has."""
    known = path
    while known not in lines and known:
        known = known[:-1]
    at = f"{source}:{lines.get(known, 1)}: "
    return f"{at}{_dotted(path)}: " if path else at


def _dotted(path: Iterable[Key]) -> str:
    dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return dotted.removeprefix(".")
