"""Commands on the registry: `kairos models list | show | diff | add | publish | rollback`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.terminal import complain, print_json, say, settings_of
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from models.onnx_scorer import OnnxRanker
    from models.registry import Registry
    from models.release import Release

app = typer.Typer(no_args_is_help=True, help="Versions of models, and releases of them.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def opened() -> Registry:
    """The registry that the settings name."""
    from models.registry import open_registry

    return open_registry(settings_of())


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every version and every release; * is what serves."""
    from models.release import BadRelease, created_of

    registry = opened()
    try:
        current = registry.current()
    except BadRelease as error:  # the list is what the operator needs now
        current = None
        complain(str(error))
    serving = set(current.versions()) if current else set()
    versions = [
        {"name": str(v), "created": created_of(v.version), "serves": v in serving}
        for v in registry.versions()
    ]
    releases = registry.releases()
    if as_json:
        now = current.release_id if current else None
        print_json({"current": now, "versions": versions, "releases": releases})
        return
    for row in versions:
        say(f"{'*' if row['serves'] else ' '} {row['created']}  {row['name']}")
    for release in releases:
        mark = "*" if release == current else " "
        say(f"{mark} release {release.release_id}  {release.note}".rstrip())
        for version in release.versions():
            say(f"    {version}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="MODEL@VERSION, or MODEL for its newest.")],
    as_json: Json = False,
) -> None:
    """Verify a version, and show its signer, its files and its model card."""
    registry = opened()
    version = registry.find(name)
    manifest, key = registry.manifest(version)
    registry.artifact(version)
    told = {
        "version": str(version),
        "signed_by": key,
        "files": {file: found.bytes for file, found in sorted(manifest.files.items())},
        "card": registry.card(version),
    }
    if as_json:
        print_json(told)
        return
    for path, value in _flat(msgspec.to_builtins(told)):
        say(f"{path}: {value}")


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="MODEL@VERSION, or a release's id.")],
    b: Annotated[str, typer.Argument(help="The same of the other.")],
    as_json: Json = False,
) -> None:
    """What differs between two versions' cards and settings, or between two releases."""
    registry = opened()
    before, after = (dict(_flat(_described(registry, name))) for name in (a, b))
    found = {
        path: [before.get(path), after.get(path)]
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    }
    if as_json:
        print_json(found)
        return
    for path, (old, new) in found.items():
        say(f"{path}: {old} → {new}")
    if not found:
        say("no difference")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The model, as a release calls it: ranker.")],
    file: Annotated[Path, typer.Argument(help="An ONNX graph: rows [n, features] to chances.")],
    features: Annotated[
        Path | None, typer.Option(help="The columns it reads, one a line; default: the engine's.")
    ] = None,
    outcomes: Annotated[
        str | None, typer.Option(help="What it predicts, a,b,c; default: the objective's.")
    ] = None,
    note: Annotated[str, typer.Option(help="A line for the model card.")] = "",
    as_json: Json = False,
) -> None:
    """Check an ONNX file and add it as a version of the ranker; nothing serves it yet."""
    from engine.features import NAMES
    from engine.state import FOLD_VERSION
    from models.loading import RANKER
    from models.release import Card

    if name != RANKER:
        raise InvalidInput("name", f"an ONNX file can be a version of {RANKER}, not of {name!r}")
    names = _read(features).decode().split() if features else list(NAMES)
    ranker = _checked_ranker(
        file, names, outcomes.split(",") if outcomes else _outcomes_of_objective()
    )
    card = Card(
        settings=msgspec.to_builtins(ranker.meta),
        features=names,
        fold_version=FOLD_VERSION,
        notes=[f"added from {file.name}", *([note] if note else [])],
    )
    version = opened().add(name, ranker.to_artifact().files(), card)
    if as_json:
        print_json({"version": str(version)})
    else:
        say(f"added {version}; `kairos models publish {version}` serves it")


@app.command()
def publish(
    names: Annotated[list[str], typer.Argument(help="MODEL@VERSION; several move together.")],
    note: Annotated[str, typer.Option(help="Why, for whoever reads the list.")] = "",
    as_json: Json = False,
) -> None:
    """Verify and serve these versions, with the current release's of the other models."""
    registry = opened()
    found = [registry.find(name) for name in names]
    if len({version.model for version in found}) < len(found):
        raise InvalidInput("names", "expected one version of a model")
    release = registry.publish({version.model: version.version for version in found}, note)
    _tell(release, as_json)


@app.command()
def rollback(
    release: Annotated[str | None, typer.Argument(help="Its id; default: the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Verify an earlier release and serve it again."""
    _tell(opened().rollback(release), as_json)


def _tell(release: Release, as_json: bool) -> None:
    if as_json:
        print_json(release)
        return
    say(f"release {release.release_id} serves:")
    for version in release.versions():
        say(f"  {version}")


def _described(registry: Registry, name: str) -> dict[str, Any]:
    if "@" not in name:
        return dict(msgspec.to_builtins(registry.release(name)))
    version = registry.find(name)
    meta = registry.artifact(version).meta
    card = msgspec.to_builtins(registry.card(version))
    return {**card, "kind": meta.kind, "meta": meta.settings, "items": len(meta.items)}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path -> leaf; a list is a leaf."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{path}.{key}" if path else str(key))


def _checked_ranker(file: Path, features: list[str], outcomes: list[str]) -> OnnxRanker:
    """The ranker in an ONNX file, if it loads and answers every row with numbers."""
    import numpy as np

    from models.artifact import Artifact, BadArtifact, Meta
    from models.onnx_scorer import FIRST, KIND, WHOLE, OnnxRanker, RankerMeta

    graph = _read(file)
    meta = Meta(
        kind=KIND, settings=msgspec.to_builtins(RankerMeta(outcomes=outcomes, features=features))
    )
    try:
        ranker = OnnxRanker.from_artifact(Artifact(meta, {}, {WHOLE: graph, FIRST: graph}))
        probe = np.zeros((3, len(features)), np.float32)
        probe[1] = np.linspace(-10, 10, len(features), dtype=np.float32)
        probe[2] = np.nan
        chances = ranker.chances(probe)
    except BadArtifact as error:
        raise InvalidInput(str(file), str(error)) from error
    except Exception as error:  # onnxruntime's own errors have no common public type
        raise InvalidInput(str(file), f"fails on a probe: {error}") from error
    for rows, what in zip(chances, ("zeros", "numbers", "NaN, which is 'not known'"), strict=True):
        if not np.isfinite(rows).all():
            raise InvalidInput(str(file), f"expected finite chances for a row of {what}")
    return ranker


def _outcomes_of_objective() -> list[str]:
    from engine.actions import load_actions
    from engine.objective import load_objective

    settings = settings_of()
    actions = load_actions(Path(settings.actions) if settings.actions else None)
    path = Path(settings.objective) if settings.objective else None
    return list(load_objective(actions, path).outcomes)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(str(file), error.strerror or str(error)) from error
