"""Nothing on the serving side runs what it reads: no pickle, no eval, no model but a signed one.

Drawn from the syntax trees of engine/, models/ and serving/. Two libraries unpickle by themselves,
what this machine alone can write or reach: numba its cache (engine/compiled.py), Ray what its own
processes send each other (serving/ray_app.py closes the one port that asks for no token).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engine", "models", "serving")

UNPICKLE = frozenset(
    {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "torch"}
)
RUN = frozenset({"eval", "exec", "compile", "__import__"})
SHELLS = frozenset({"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"})
LOADERS = frozenset({"SafeLoader", "BaseLoader", "CSafeLoader", "CBaseLoader"})
YAML = frozenset({"load", "load_all", "compose", "compose_all", "parse", "scan"})
UNSAFE_YAML = frozenset({"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"})
# What opens a model's bytes -> the one file that may call it; models/registry.py checks signatures.
OPENS = {
    "read_artifact": "models/registry.py",
    "InferenceSession": "models/onnx_scorer.py",
    "load_model_from_string": "models/onnx_check.py",
}


def faults(source: str, file: str) -> list[str]:
    """One line for each thing that could run what is read."""
    return [f"{file}:{line}: {what}" for line, what in _faults(ast.parse(source), file)]


def _faults(tree: ast.AST, file: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    if UNPICKLE & set(alias.name.split(".")):
                        yield node.lineno, f"imports {alias.name}"
            case ast.ImportFrom(module=module, names=names):
                found = {*(module or "").split("."), *(alias.name for alias in names)}
                for name in sorted(UNPICKLE & found):
                    yield node.lineno, f"imports {name}"
            case ast.Call(func=ast.Name(id=name)) if name in RUN:
                yield node.lineno, f"calls {name}"
            case ast.Call():
                yield from ((node.lineno, what) for what in _call(node, file))


def _call(node: ast.Call, file: str) -> Iterator[str]:
    owner, name = _named(node.func)
    told = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in OPENS and OPENS[name] != file:
        yield f"opens a model with {name}: only {OPENS[name]} may"
    if name in SHELLS or _is(told.get("shell"), True):
        yield f"runs a shell ({name})"
    if name == "load" and owner in ("np", "numpy") and not _is(told.get("allow_pickle"), False):
        yield "numpy.load without allow_pickle=False"
    if _is(told.get("allow_pickle"), True):
        yield "allow_pickle=True"
    if owner == "yaml" and name in UNSAFE_YAML:
        yield f"yaml.{name}"
    if owner == "yaml" and name in YAML:
        given = told.get("Loader", node.args[1] if len(node.args) > 1 else None)
        if given is None or _named(given)[1] not in LOADERS:
            yield f"yaml.{name} without a safe loader"


def _named(node: ast.expr) -> tuple[str, str]:
    """`a.b.c` as (b, c), `c` as ("", c)."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
            return owner, name
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return "", name
    return "", ""


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_the_serving_side_runs_nothing_that_it_reads() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 100
    found = [
        fault
        for path in files
        for fault in faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import pickle", "imports pickle"),
        ("def f():\n    from ray import cloudpickle", "imports cloudpickle"),
        ("import joblib.numpy_pickle", "imports joblib.numpy_pickle"),
        ("eval(text)", "calls eval"),
        ("compile(text, 'x', 'exec')", "calls compile"),
        ("np.load(file)", "numpy.load without allow_pickle=False"),
        ("np.load(file, allow_pickle=flag)", "numpy.load without allow_pickle=False"),
        ("np.save(file, a, allow_pickle=True)", "allow_pickle=True"),
        ("yaml.load(text)", "yaml.load without a safe loader"),
        ("yaml.load(text, yaml.Loader)", "yaml.load without a safe loader"),
        ("yaml.unsafe_load(text)", "yaml.unsafe_load"),
        ("subprocess.run(line, shell=True)", "runs a shell (run)"),
        ("os.system(line)", "runs a shell (system)"),
        ("ort.InferenceSession(path)", "opens a model with InferenceSession: only models/"),
        ("read_artifact(files)", "opens a model with read_artifact: only models/registry.py may"),
    ],
)
def test_a_planted_fault_is_found(source: str, said: str) -> None:
    [found] = faults(source, "serving/x.py")
    assert found.startswith(f"serving/x.py:{source.count(chr(10)) + 1}: {said}")


def test_what_is_safe_passes() -> None:
    source = """
re.compile("x"); yaml.safe_load(t); yaml.load(t, Loader=yaml.BaseLoader)
np.load(f, allow_pickle=False); subprocess.Popen([binary]); json.load(f)
"""
    assert faults(source, "serving/x.py") == []
