"""Trees as they serve: ONNX graphs on one thread. The door of onnxruntime.

A graph takes `rows` float32 [n, columns] and gives `chances` float32 [n, outputs]. The ranker has
two: one with every tree, one with the first few alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.features import NAMES
from models.artifact import Artifact, BadArtifact, Meta
from models.onnx_check import refuse_unsafe

Rows = NDArray[np.float32]
KIND = "ranker"
WHOLE, FIRST = "ranker.onnx", "ranker_first.onnx"
INPUT, OUTPUT = "rows", "chances"


class RankerMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `meta.json` says of a ranker."""

    outcomes: list[str]
    features: list[str]  # the columns that it reads, in order
    trees: int = 0
    first_trees: int = 0


class OnnxRanker:
    """A fitted ranker; see engine.ranking.Ranker."""

    def __init__(self, meta: RankerMeta, whole: bytes, first: bytes) -> None:
        self.outcomes: Sequence[str] = tuple(meta.outcomes)
        self.meta = meta
        self._blobs = {WHOLE: whole, FIRST: first}
        self._whole = Graph(WHOLE, whole, len(NAMES), len(meta.outcomes))
        self._first = Graph(FIRST, first, len(NAMES), len(meta.outcomes))

    def chances(self, rows: Rows) -> Rows:
        """float32 [n, outcomes], each 0–1, by the whole model."""
        return self._whole.chances(rows)

    def first_chances(self, rows: Rows) -> Rows:
        """The same by the first trees alone."""
        return self._first.chances(rows)

    def to_artifact(self) -> Artifact:
        """The ranker as files."""
        return Artifact(Meta(kind=KIND, settings=msgspec.to_builtins(self.meta)), {}, self._blobs)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> OnnxRanker:
        """Raises BadArtifact where a graph is missing or the features are not the engine's."""
        meta = msgspec.convert(artifact.meta.settings, RankerMeta)
        _check_features(meta.features)
        for name in (WHOLE, FIRST):
            if name not in artifact.blobs:
                raise BadArtifact(f"{name}: there is no such file")
        return cls(meta, artifact.blobs[WHOLE], artifact.blobs[FIRST])


def _check_features(names: Sequence[str]) -> None:
    for column in range(max(len(names), len(NAMES))):
        theirs = names[column] if column < len(names) else "nothing"
        ours = NAMES[column] if column < len(NAMES) else "nothing"
        if theirs != ours:
            raise BadArtifact(f"ranker: column {column} is {theirs}, the engine makes {ours}")


class Graph:
    """One ONNX graph, opened; raises BadArtifact where it is unsafe or not shaped as told."""

    def __init__(self, name: str, graph: bytes, columns: int, outputs: int) -> None:
        refuse_unsafe(name, graph)
        options = ort.SessionOptions()
        # A second thread would spin between calls and take the core from the request loop:
        # p99 5.6 ms instead of 1.2 at 200 rows × 200 trees.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors have no common public type
            raise BadArtifact(f"{name}: {error}") from error
        _check_shape(name, "input", self._session.get_inputs(), INPUT, columns)
        _check_shape(name, "output", self._session.get_outputs(), OUTPUT, outputs)

    def chances(self, rows: Rows) -> Rows:
        """float32 [n, outputs], each 0–1; of a graph that ends in Exp, above 0."""
        [chances] = self._session.run([OUTPUT], {INPUT: rows})
        found: Rows = chances
        return found


def _check_shape(
    name: str, what: str, found: Sequence[ort.NodeArg], expected: str, width: int
) -> None:
    told = [(node.name, node.type, node.shape[-1]) for node in found]
    if told != [(expected, "tensor(float)", width)]:
        raise BadArtifact(f"{name}: expected {what} {expected} float32 [n, {width}], got {told}")
