"""The ranker as it serves: two ONNX graphs, one thread. The door of onnxruntime.

Each graph takes `rows` float32 [n, engine.features.COUNT] and gives `chances` float32
[n, outcomes]: one with every tree, one with the first few alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.features import NAMES
from models.artifact import Artifact, BadArtifact, Meta

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
        self._whole = _open(WHOLE, whole, len(meta.outcomes))
        self._first = _open(FIRST, first, len(meta.outcomes))

    def chances(self, rows: Rows) -> Rows:
        """float32 [n, outcomes], each 0–1, by the whole model."""
        return _run(self._whole, rows)

    def first_chances(self, rows: Rows) -> Rows:
        """The same by the first trees alone."""
        return _run(self._first, rows)

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


def _open(name: str, graph: bytes, outcomes: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # A second thread would spin between calls and take the core from the request loop:
    # p99 5.6 ms instead of 1.2 at 200 rows × 200 trees.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common public type
        raise BadArtifact(f"{name}: {error}") from error
    _check_shape(name, "input", session.get_inputs(), INPUT, len(NAMES))
    _check_shape(name, "output", session.get_outputs(), OUTPUT, outcomes)
    return session


def _check_shape(
    name: str, what: str, found: Sequence[ort.NodeArg], expected: str, width: int
) -> None:
    told = [(node.name, node.type, node.shape[-1]) for node in found]
    if told != [(expected, "tensor(float)", width)]:
        raise BadArtifact(f"{name}: expected {what} {expected} float32 [n, {width}], got {told}")


def _run(session: ort.InferenceSession, rows: Rows) -> Rows:
    [chances] = session.run([OUTPUT], {INPUT: rows})
    found: Rows = chances
    return found
