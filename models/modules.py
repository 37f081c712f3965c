"""What a look at a module is worth, learned in batches: trees that correct what is counted.

    worth(module, moment, person) = counted × exp(trees(row))

The counts (engine.module_choice) know a module, a situation and a person each as a factor of its
own; the trees read them together with the hour, the day and the device. With no trees the counts
are left as they are, and so they are for a module that the trees have never seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.senses import SENSES
from engine.situation import Moment
from models.artifact import Artifact, BadArtifact, Meta
from models.onnx_scorer import Graph

KIND = "modules"
GRAPH = "modules.onnx"
SMALL = 1e-9
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


class ModuleMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the trees were fitted to; `meta.json` says it."""

    modules: list[str]
    situations: list[str]  # by number; later ones are not read
    segments: list[str]
    devices: list[str] = msgspec.field(default_factory=lambda: list(SENSES["device_type"]))
    trees: int = 0

    @property
    def columns(self) -> list[str]:
        """Names of a row's columns, in order."""
        return [
            "log_counted",
            "slot",
            "hour_sin",
            "hour_cos",
            "weekend",
            *(f"situation {name}" for name in self.situations),
            *(f"device {name}" for name in self.devices),
            *(f"segment {name}" for name in self.segments),
            *(f"module {name}" for name in self.modules),
        ]

    def rows(
        self,
        modules: Sequence[str],
        counted: Doubles,
        moment: Moment,
        segment: str,
        slots: Sequence[int] = (),
    ) -> Floats:
        """float32 [modules, columns]: a row for each; unknown names are zeros.

        `slots` says where each was looked at, in training; what stands low is looked at by those
        who look far, and serving asks for the top slot.
        """
        places = len(self.situations), len(self.devices), len(self.segments), len(self.modules)
        starts = np.cumsum([5, *places])
        table = np.zeros((len(modules), int(starts[-1])), np.float32)
        angle = 2 * math.pi * moment.hour / 24
        table[:, 0] = np.log(np.maximum(counted, SMALL))
        if len(slots):
            table[:, 1] = slots
        table[:, 2:5] = math.sin(angle), math.cos(angle), float(moment.weekday >= 5)
        likely = moment.probabilities[: len(self.situations)]
        table[:, 5 : 5 + len(likely)] = likely
        if moment.device_type in self.devices:
            table[:, starts[1] + self.devices.index(moment.device_type)] = 1
        if segment in self.segments:
            table[:, starts[2] + self.segments.index(segment)] = 1
        for row, name in enumerate(modules):
            if name in self.modules:
                table[row, starts[3] + self.modules.index(name)] = 1
        return table


class ModuleModel:
    """The fitted trees as they serve; see engine.module_choice.ModuleScorer."""

    def __init__(self, meta: ModuleMeta, graph: bytes) -> None:
        self.meta = meta
        self._blob = graph
        self._graph = Graph(GRAPH, graph, len(meta.columns), 1)
        self._known = frozenset(meta.modules)

    def ratios(self, rows: Floats) -> Floats:
        """float32 [n]: times what is counted."""
        return self._graph.chances(rows)[:, 0]

    def worth(
        self, modules: Sequence[str], counted: Doubles, moment: Moment, segment: str
    ) -> Doubles:
        """float64 [modules], in the objective's; of unknown modules as counted."""
        ratios = self.ratios(self.meta.rows(modules, counted, moment, segment)).astype(np.float64)
        known = np.array([name in self._known for name in modules], np.bool_)
        usable = known & np.isfinite(ratios) & (ratios > 0)
        return np.asarray(counted * np.where(usable, ratios, 1.0))

    def to_artifact(self) -> Artifact:
        """The model as files."""
        settings = msgspec.to_builtins(self.meta)
        return Artifact(Meta(kind=KIND, settings=settings), {}, {GRAPH: self._blob})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> ModuleModel:
        """Raises BadArtifact where the graph is missing or reads other columns than it says."""
        if GRAPH not in artifact.blobs:
            raise BadArtifact(f"{GRAPH}: there is no such file")
        return cls(msgspec.convert(artifact.meta.settings, ModuleMeta), artifact.blobs[GRAPH])
