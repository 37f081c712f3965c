"""What an ONNX graph may hold: standard operators, and all of its numbers within it.

Weights in another file would be read from wherever the file's name leads, past the signature;
an operator of somebody's own is code that no signature here speaks of. onnxruntime is shown
neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from models.artifact import BadArtifact

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def refuse_unsafe(name: str, graph: bytes) -> None:
    """Raises BadArtifact, naming the file and what in it is refused."""
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own, which ships no types
        raise BadArtifact(f"{name}: not an ONNX model: {error}") from error
    if model.functions:
        raise BadArtifact(f"{name}: defines functions: only standard operators are taken")
    for node in _nodes(model.graph):
        if node.domain not in DOMAINS:
            raise BadArtifact(
                f"{name}: custom operator {node.domain}.{node.op_type}: expected one of "
                f"{', '.join(filter(None, sorted(DOMAINS)))}"
            )
    for tensor in _tensors(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BadArtifact(
                f"{name}: external data ({tensor.name}): save the model as one file, with its "
                "weights inside"
            )


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and all that its nodes hold, such as the branches of an If."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    for found in _graphs(graph):
        yield from found.node


def _tensors(graph: Any) -> Iterator[Any]:
    for found in _graphs(graph):
        sparse = [*found.sparse_initializer]
        yield from found.initializer
        for node in found.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)
