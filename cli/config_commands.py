"""Configuration files: written with comments by `kairos init`, read back by `kairos check`."""

from __future__ import annotations

import inspect
import json
import re
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from cli.terminal import print_json, say, settings_of
from engine.settings import Settings

# setting that names the file -> the shipped file
SHIPPED = {
    "actions": "actions.yaml",
    "objective": "objective.yaml",
    "recommend": "recommend.yaml",
    "situations": "situations.yaml",
    "rules": "rules.yaml",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(check)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path(),
    force: Annotated[bool, typer.Option(help="Overwrite files that are there.")] = False,
) -> None:
    """Write every configuration file, commented, with the defaults in it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: _shipped(name) for name in SHIPPED.values()} | {"kairos.toml": toml()}
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise typer.BadParameter(f"{', '.join(there)} exists in {folder}; --force overwrites")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        say(str(folder / name))


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read every configuration file and say what is wrong, or that nothing is."""
    from serving.configuration import read_configuration

    actions, configuration = read_configuration(settings_of())
    found = {
        "settings": "ok",
        "actions": f"ok, {len(actions.by_name)} declared",
        "objective": f"ok, {len(configuration.objective.outcomes)} outcomes",
        "recommend": "ok",
        "situations": f"ok, {len(configuration.situations.situations)} named",
        "rules": f"ok, {configuration.rules.count}",
        "config_version": configuration.version,
    }
    if as_json:
        print_json(found)
    else:
        for name, verdict in found.items():
            say(f"{name}: {verdict}")


def toml() -> str:
    """kairos.toml: every setting at its default, commented out; the configuration files named."""
    lines = ["# Every setting of Kairos. KAIROS_NAME in the environment wins over a line here.", ""]
    for line in inspect.getsource(Settings).splitlines():
        found = re.match(r"    (\w+): .*? = (.+?)(?:  # (.*))?$", line)
        if found is None:
            continue
        name, _, comment = found.groups()
        if name in SHIPPED:
            lines.append(f'{name} = "{SHIPPED[name]}"')
            continue
        shown = json.dumps(getattr(Settings(), name))
        lines.append(f"# {name} = {shown}" + (f"  # {comment}" if comment else ""))
    return "\n".join(lines) + "\n"


def _shipped(name: str) -> str:
    return (resources.files("engine") / name).read_text(encoding="utf-8")
