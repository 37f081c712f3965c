"""`kairos models …` on a real registry, with real ONNX files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cli.model_commands import app
from engine.features import COUNT, NAMES
from engine.settings import Settings
from models.artifact import Artifact, Meta
from models.registry import Registry, open_registry
from models.release import Card, Metric

Kairos = Callable[..., str]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(Settings(home=str(tmp_path / "home")))


@pytest.fixture
def kairos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kairos:
    """Run `kairos models …`: what it says, or the error that it ends with."""
    monkeypatch.setenv("KAIROS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, fails: bool = False) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert (result.exit_code != 0) == fails, result.output
        return str(result.exception) if fails else result.stdout

    return run


def add(registry: Registry, name: str, dimensions: int) -> str:
    """A version, as `model@version`."""
    artifact = Artifact(
        Meta(kind="demo", settings={"power": 0.5}), {"v": np.ones((2, dimensions), np.float32)}
    )
    metrics = {"recall@20": Metric(dimensions / 1000, 0.0, 1.0)}
    card = Card(settings={"fit": {"dimensions": dimensions}}, metrics=metrics)
    return str(registry.add(name, artifact.files(), card))


def graph(
    path: Path, width: int = COUNT, outcomes: int = 6, name: str = "rows", nan_safe: bool = True
) -> Path:
    """A logistic regression as an ONNX file; NaN counts as 0 where it is safe."""
    weights = np.full((width, outcomes), 0.01, np.float32)
    known = "known" if nan_safe else name
    nodes = [
        helper.make_node("IsNaN", [name], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", name], ["known"]),
        helper.make_node("MatMul", [known, "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["chances"]),
    ]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "ranker",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])],
            [helper.make_tensor_value_info("chances", TensorProto.FLOAT, [None, outcomes])],
            [
                numpy_helper.from_array(weights, "weights"),
                numpy_helper.from_array(np.float32(0), "zero"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(made, path)
    return path


def test_list_marks_what_serves(kairos: Kairos, registry: Registry) -> None:
    assert json.loads(kairos("list", "--json")) == {"current": None, "versions": [], "releases": []}
    old, new = add(registry, "factors", 64), add(registry, "factors", 128)
    kairos("publish", old)

    told = json.loads(kairos("list", "--json"))
    assert [(v["name"], v["serves"]) for v in told["versions"]] == [(old, True), (new, False)]
    assert told["current"] == told["releases"][0]["release_id"]
    lines = kairos("list").splitlines()
    assert [line[0] for line in lines] == ["*", " ", "*", " "]
    assert old in lines[0]
    assert new in lines[1]


def test_show_verifies_and_prints_the_card(
    kairos: Kairos, registry: Registry, tmp_path: Path
) -> None:
    name = add(registry, "factors", 64)

    told = json.loads(kairos("show", "factors", "--json"))
    assert told["version"] == name
    assert told["card"]["metrics"]["recall@20"] == {"value": 0.064, "low": 0.0, "high": 1.0}
    assert set(told["files"]) == {"card.json", "meta.json", "v.npy"}
    assert "card.settings.fit.dimensions: 64" in kairos("show", name).splitlines()

    [array] = tmp_path.glob("home/models/versions/*/*/v.npy")
    array.write_bytes(array.read_bytes()[:-1])
    assert "v.npy: expected" in kairos("show", name, fails=True)
    assert "no version ranker" in kairos("show", "ranker", fails=True)


def test_diff_of_versions_and_of_releases(kairos: Kairos, registry: Registry) -> None:
    a, b = add(registry, "factors", 64), add(registry, "factors", 128)

    found = json.loads(kairos("diff", a, b, "--json"))
    assert found["settings.fit.dimensions"] == [64, 128]
    assert found["metrics.recall@20.value"] == [0.064, 0.128]
    assert not any(path.startswith("meta") for path in found)
    assert "settings.fit.dimensions: 64 → 128" in kairos("diff", a, b)
    assert kairos("diff", a, a) == "no difference\n"

    first, second = (json.loads(kairos("publish", v, "--json"))["release_id"] for v in (a, b))
    found = json.loads(kairos("diff", first, second, "--json"))
    assert found["models.factors"] == [a.partition("@")[2], b.partition("@")[2]]
    assert "no release id" in kairos("diff", first, "nonsense", fails=True)


def test_publish_and_rollback(kairos: Kairos, registry: Registry) -> None:
    factors, similar = add(registry, "factors", 64), add(registry, "similar", 8)
    both = json.loads(kairos("publish", factors, similar, "--note", "first", "--json"))
    newer = add(registry, "factors", 128)
    kairos("publish", newer)

    current = registry.current()
    assert current is not None
    assert sorted(map(str, current.versions())) == [newer, similar]
    assert kairos("rollback").splitlines()[0] == f"release {both['release_id']} serves:"
    assert "no earlier release" in kairos("rollback", fails=True)
    again = json.loads(kairos("rollback", current.release_id, "--json"))
    assert again["models"] == current.models
    assert "one version of a model" in kairos("publish", newer, factors, fails=True)


def test_list_still_lists_when_the_pointer_is_torn(
    kairos: Kairos, registry: Registry, tmp_path: Path
) -> None:
    name = add(registry, "factors", 64)
    kairos("publish", name)
    (tmp_path / "home/models/current").write_text("{")

    assert name in kairos("list")
    kairos("rollback")
    assert json.loads(kairos("list", "--json"))["current"] is not None


def test_an_onnx_file_becomes_a_version(kairos: Kairos, registry: Registry, tmp_path: Path) -> None:
    from models.onnx_scorer import OnnxRanker

    file = graph(tmp_path / "mine.onnx")
    name = json.loads(kairos("add", "ranker", file, "--note", "by hand", "--json"))["version"]
    kairos("publish", name)

    version = registry.find(name)
    card = registry.card(version)
    assert card.features == list(NAMES)
    assert card.notes == ["added from mine.onnx", "by hand"]
    ranker = OnnxRanker.from_artifact(registry.artifact(version))
    chances = ranker.chances(np.ones((1, COUNT), np.float32))
    assert chances == pytest.approx(1 / (1 + np.exp(-0.01 * COUNT)), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "arguments", "said"),
    [
        ({"width": 3}, (), f"expected input rows float32 [n, {COUNT}], got [('rows'"),
        ({"outcomes": 2}, (), "expected output chances float32 [n, 6]"),
        ({"outcomes": 2}, ("--outcomes", "click"), "expected output chances float32 [n, 1]"),
        ({"name": "x"}, (), "expected input rows"),
        ({"nan_safe": False}, (), "expected finite chances for a row of NaN"),
        ({}, ("--features", "wrong.txt"), "column 1 is wrong, the engine makes"),
        ({}, ("--features", "nowhere.txt"), "nowhere.txt: No such file"),
    ],
)
def test_an_onnx_file_that_would_not_serve_is_refused(
    kairos: Kairos,
    registry: Registry,
    tmp_path: Path,
    shape: dict[str, Any],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    (tmp_path / "wrong.txt").write_text("\n".join([NAMES[0], "wrong", *NAMES[2:]]))
    file = graph(tmp_path / "mine.onnx", **shape)

    assert said in kairos("add", "ranker", file, *arguments, fails=True)
    assert registry.versions() == []


def test_weights_in_another_file_are_refused(
    kairos: Kairos, registry: Registry, tmp_path: Path
) -> None:
    file = graph(tmp_path / "mine.onnx")
    onnx.save_model(
        onnx.load(file), file, save_as_external_data=True, location="w.bin", size_threshold=0
    )

    said = kairos("add", "ranker", file, fails=True)
    assert "mine.onnx: ranker.onnx: external data (weights): save the model as one file" in said
    assert registry.versions() == []


def test_a_file_that_is_no_onnx_is_refused(kairos: Kairos, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a graph")

    assert "x.onnx: ranker.onnx: " in kairos("add", "ranker", "x.onnx", fails=True)
    assert "nowhere.onnx: No such file" in kairos("add", "ranker", "nowhere.onnx", fails=True)
    mine = graph(tmp_path / "mine.onnx")
    assert "can be a version of ranker, not of 'x'" in kairos("add", "x", mine, fails=True)
