"""Speaking with the person at the terminal, and reading the settings for a command."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from rich.console import Console

from engine.settings import Settings, load_settings

NOT_BETTER = 3  # exit code: nothing failed, and nothing was worth publishing

_out = Console(highlight=False, markup=False, emoji=False)
_err = Console(stderr=True, highlight=False, markup=False, emoji=False)


def settings_of(**changes: Any) -> Settings:
    """The settings, with what the command line says on top; logging as they say."""
    settings = load_settings()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # tells of every build it tries
    given = {name: value for name, value in changes.items() if value is not None}
    return msgspec.structs.replace(settings, **given)


def say(line: str) -> None:
    """A line for the operator."""
    _out.print(line, soft_wrap=True)


def complain(line: str) -> None:
    """An error, on standard error."""
    _err.print(f"error: {line}", style="red", soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(msgspec.json.encode(value).decode())


def console() -> Console:
    """Where progress is shown: standard error, so that output can be piped."""
    return _err
