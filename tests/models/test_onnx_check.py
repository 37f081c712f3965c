"""ONNX files that hold more than standard operators and their own numbers are never opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.artifact import BadArtifact
from models.onnx_check import refuse_unsafe
from models.onnx_scorer import Graph

COLUMNS = 3
OPSETS = [
    helper.make_opsetid("", 17),
    *(helper.make_opsetid(domain, 1) for domain in ("com.microsoft", "mine")),
]


def model(*nodes: onnx.NodeProto, **more: list[onnx.FunctionProto]) -> onnx.ModelProto:
    """`rows` [n, 3] to `chances` [n, 1]: a product with weights, then the nodes, named a to b."""
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, COLUMNS])
    chances = helper.make_tensor_value_info("chances", TensorProto.FLOAT, [None, 1])
    weights = numpy_helper.from_array(np.ones((COLUMNS, 1), np.float32), "weights")
    first = helper.make_node("MatMul", ["rows", "weights"], ["a"])
    last = helper.make_node("Sigmoid", [nodes[-1].output[0] if nodes else "a"], ["chances"])
    graph = helper.make_graph([first, *nodes, last], "g", [rows], [chances], [weights])
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, **more)


def in_a_branch() -> onnx.ModelProto:
    """An If whose branches are hidden one level down."""
    value = helper.make_tensor_value_info("c", TensorProto.FLOAT, None)
    inner = helper.make_node("Gelu", ["a"], ["c"], domain="com.microsoft")
    branch = helper.make_graph([inner], "branch", [], [value])
    yes = helper.make_node(
        "Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "yes")
    )
    return model(
        yes, helper.make_node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch)
    )


def with_a_function() -> onnx.ModelProto:
    body = [helper.make_node("Relu", ["x"], ["y"])]
    function = helper.make_function("mine", "F", ["x"], ["y"], body, OPSETS[:1])
    return model(helper.make_node("F", ["a"], ["b"], domain="mine"), functions=[function])


def outside(folder: Path) -> bytes:
    """A graph whose weights lie in another file."""
    onnx.save_model(
        model(),
        folder / "m.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (folder / "weights.bin").stat().st_size >= COLUMNS * 4
    return (folder / "m.onnx").read_bytes()


def constant_outside(folder: Path) -> bytes:
    """The same with a Constant's tensor, which is no initializer."""
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "passwords")
    made = model(
        helper.make_node("Constant", [], ["k"], value=tensor),
        helper.make_node("Add", ["a", "k"], ["b"]),
    )
    [inside] = [node.attribute[0].t for node in made.graph.node if node.op_type == "Constant"]
    onnx.external_data_helper.set_external_data(inside, "../../../../etc/passwd")
    inside.ClearField("raw_data")
    return made.SerializeToString()


def test_a_standard_graph_opens() -> None:
    assert Graph("m.onnx", model().SerializeToString(), COLUMNS, 1).chances(
        np.zeros((2, COLUMNS), np.float32)
    ) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda _: model(helper.make_node("F", ["a"], ["b"], domain="mine")).SerializeToString(),
            r"custom operator mine\.F: expected one of ai\.onnx, ai\.onnx\.ml",
        ),
        (lambda _: in_a_branch().SerializeToString(), r"custom operator com\.microsoft\.Gelu"),
        (lambda _: with_a_function().SerializeToString(), "defines functions"),
        (outside, r"external data \(weights\): save the model as one file"),
        (constant_outside, r"external data \(passwords\)"),
        (lambda _: b"not a graph", "not an ONNX model"),
    ],
)
def test_what_is_refused_is_named(made: Callable[[Path], bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=rf"^m\.onnx: {said}"):
        Graph("m.onnx", made(tmp_path), COLUMNS, 1)


@pytest.mark.parametrize("made", [in_a_branch, with_a_function])
def test_onnxruntime_itself_would_open_them(made: Callable[[], onnx.ModelProto]) -> None:
    """So that the check is no second lock on a door that is shut anyway."""
    raw = made().SerializeToString()
    ort.InferenceSession(raw, providers=["CPUExecutionProvider"])
    with pytest.raises(BadArtifact):
        refuse_unsafe("m.onnx", raw)
