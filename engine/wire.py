"""Outside JSON becomes one typed value, or an InvalidInput that names the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from engine.errors import InvalidInput

T = TypeVar("T")

_AT = re.compile(r" - at (?:`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
_NAMED = re.compile(r"(?:missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)
MAX_DEPTH = 32


def decode(body: bytes, type_: type[T]) -> T:
    """Strict JSON of this type; raises InvalidInput with an empty field for malformed JSON."""
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("", malformed(error)) from None


def malformed(error: Exception) -> str:
    """What to tell the sender of bytes that are no JSON at all."""
    return "nested too deeply" if isinstance(error, RecursionError) else f"malformed JSON: {error}"


def from_validation(error: msgspec.ValidationError) -> InvalidInput:
    """Name the field that msgspec's message ends with, as `shown[0].item_ids`."""
    text = str(error)
    path = ""
    if found := _AT.search(text):
        text, path = text[: found.start()], found["path"].lstrip(".")
    if named := _NAMED.search(text):
        path = f"{path}.{named['name']}".lstrip(".")
    return InvalidInput(path[:128], text[:256])


def depth_of(value: object, limit: int = MAX_DEPTH) -> int:
    """How deeply lists and objects nest in `value`; stops counting past `limit`."""
    level, layer = 0, [value]
    while layer and level <= limit + 1:
        layer = [
            child
            for parent in layer
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        level += 1
    return level - 1
