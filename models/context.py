"""Posture, carriage and doing: what a phone's signals say of its person, as calibrated chances.

One ONNX graph of boosted trees, an output for each label; the labels of an axis do not have to sum
to one, since each was learned where people said anything of it. The clock's own chances ride along:
who multiplies a chance with a routine has to divide by what the clock had said already.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.senses import LABELS
from engine.signals import COUNT, NAMES
from models.artifact import Artifact, BadArtifact, Meta
from models.onnx_scorer import Graph

Floats = NDArray[np.float32]
KIND = "context"
GRAPH = "context.onnx"
HOURS = 24


class ContextMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `meta.json` says of a context model."""

    labels: list[str]
    columns: list[str]  # of a row, in order
    trees: int = 0


class ContextModel:
    """A fitted model of all axes."""

    def __init__(self, meta: ContextMeta, graph: bytes, clock: Floats) -> None:
        self.labels: Sequence[str] = tuple(meta.labels)
        self.meta = meta
        self.clock = clock  # float32 [24, labels]: what the local hour alone says
        self._blob = graph
        self._graph = Graph(GRAPH, graph, COUNT, len(meta.labels))

    def chances(self, rows: Floats) -> Floats:
        """float32 [n, labels], each 0–1, of rows float32 [n, signals.COUNT]."""
        return self._graph.chances(rows)

    def to_artifact(self) -> Artifact:
        """The model as files."""
        meta = Meta(kind=KIND, settings=msgspec.to_builtins(self.meta))
        return Artifact(meta, {"clock": self.clock}, {GRAPH: self._blob})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> ContextModel:
        """Raises BadArtifact where a file is missing or the columns are not the engine's."""
        meta = msgspec.convert(artifact.meta.settings, ContextMeta)
        if tuple(meta.labels) != LABELS:
            raise BadArtifact(f"context: expected the labels {', '.join(LABELS)}")
        if meta.columns != list(NAMES):
            raise BadArtifact("context: its columns are not those of engine.signals")
        if GRAPH not in artifact.blobs:
            raise BadArtifact(f"{GRAPH}: there is no such file")
        clock = artifact.arrays.get("clock")
        if clock is None or clock.shape != (HOURS, len(meta.labels)) or clock.dtype != np.float32:
            raise BadArtifact(f"clock.npy: expected float32 [{HOURS}, {len(meta.labels)}]")
        return cls(meta, artifact.blobs[GRAPH], clock)
