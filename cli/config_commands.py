"""Configuration files: written with comments by `kairos init`, read back by `kairos check`."""

from __future__ import annotations

import inspect
import json
import re
import time
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli.terminal import complain, console, print_json, say, settings_of
from engine.settings import Settings

# setting that names the file -> the shipped file
SHIPPED = {
    "actions": "actions.yaml",
    "objective": "objective.yaml",
    "recommend": "recommend.yaml",
    "situations": "situations.yaml",
    "modules": "modules.yaml",
    "rules": "rules.yaml",
    "push": "push.yaml",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(check)
    app.command()(preview)


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
        "modules": f"ok, {len(configuration.modules.modules)} named",
        "rules": f"ok, {configuration.rules.count}",
        "push": f"ok, {len(configuration.push.caps)} caps",
        "config_version": configuration.version,
    }
    if as_json:
        print_json(found)
    else:
        for name, verdict in found.items():
            say(f"{name}: {verdict}")


def preview(
    config: Annotated[Path, typer.Option(help="A folder with the files to try.")],
    since: Annotated[str, typer.Option(help="How far back: 90m, 6h, 1d.")] = "1d",
    most: Annotated[int, typer.Option(help="The last so many decisions.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print every decision as JSON.")] = False,
) -> None:
    """Show what past pages and lists would have been under other configuration files."""
    from cli.preview import compare, seconds, show, with_files_of
    from serving.up import opened_store

    since_ms = round((time.time() - seconds(since)) * 1000)
    settings = settings_of()
    with_files_of(settings, config)  # refuses before anything starts
    with opened_store(settings, complain) as (opened, _), console().status("deciding again"):
        previews = compare(opened, with_files_of(opened, config), since_ms, most)
    if as_json:
        print_json([msgspec.to_builtins(one) for one in previews])
    else:
        show(previews, config)


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
