"""Boosted trees as one ONNX graph. The door of onnx.

All outcomes' trees stand in one TreeEnsembleRegressor with an output for each, then a sigmoid:
one node to run instead of one per outcome. The conversion is our own, because parity has to hold
for every row: a threshold is rounded down to the single-precision number below it, so that
`x <= threshold` says the same of every float32 x as LightGBM's comparison in double precision,
and NaN goes where LightGBM sends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engine.errors import KairosError
from engine.features import COUNT, NAMES
from models.boosting import Boosted, Worth
from models.modules import ModuleMeta, ModuleModel
from models.onnx_scorer import INPUT, OUTPUT, OnnxRanker, RankerMeta

PARITY = 1e-5
OPSET, ML_OPSET, IR_VERSION = 18, 3, 9
Link = Literal["Sigmoid", "Softmax", "Exp", "Identity"]


class NotEqual(KairosError):
    """The exported ranker does not score as the fitted one; says by how much, and where."""


def export_ranker(boosted: Boosted) -> OnnxRanker:
    """The ranker that serves, of the trees as fitted."""
    meta = RankerMeta(
        outcomes=boosted.outcomes,
        features=list(NAMES),
        trees=sum(boosted.rounds(outcome) for outcome in boosted.outcomes),
        first_trees=sum(boosted.rounds(outcome, first=True) for outcome in boosted.outcomes),
    )
    return OnnxRanker(meta, graph(boosted), graph(boosted, first=True))


def check_parity(boosted: Boosted, ranker: OnnxRanker, rows: NDArray[np.float32]) -> float:
    """The largest difference of a chance on these rows; raises NotEqual above PARITY."""
    worst = 0.0
    for name, exported, first in (
        ("chances", ranker.chances, False),
        ("first_chances", ranker.first_chances, True),
    ):
        differences = np.abs(exported(rows) - boosted.chances(rows, first))
        if not (differences <= PARITY).all():
            row, outcome = np.unravel_index(int(np.nanargmax(differences)), differences.shape)
            raise NotEqual(
                f"{name}: {boosted.outcomes[int(outcome)]} of row {row} differs by "
                f"{differences[row, outcome]:.2g}, expected at most {PARITY}"
            )
        worst = max(worst, float(differences.max(initial=0.0)))
    return worst


def export_modules(
    fitted: Worth, meta: ModuleMeta, rows: NDArray[np.float32]
) -> tuple[ModuleModel, float]:
    """The model of modules that serves, and the largest relative difference on these rows.

    Raises NotEqual above PARITY.
    """
    trees = fitted.trees()
    meta = msgspec.structs.replace(meta, trees=len(trees))
    model = ModuleModel(meta, trees_graph([trees], len(meta.columns), "Exp"))
    differences = np.abs(model.ratios(rows) / fitted.ratios(rows) - 1)
    if not (differences <= PARITY).all():
        row = int(np.nanargmax(differences))
        raise NotEqual(
            f"modules: row {row} differs by {differences[row]:.2g}, expected at most {PARITY}"
        )
    return model, float(differences.max(initial=0.0))


def graph(boosted: Boosted, first: bool = False) -> bytes:
    """An ONNX model of all trees of every outcome, or of the first of each."""
    return trees_graph([boosted.trees(name, first) for name in boosted.outcomes], COUNT)


def trees_graph(
    trees: Sequence[Sequence[Mapping[str, Any]]], columns: int, link: Link = "Sigmoid"
) -> bytes:
    """An ONNX model of trees as LightGBM dumps them, by output; rows float32 [n, columns]."""
    nodes = _Nodes()
    for output, its_trees in enumerate(trees):
        for tree in its_trees:
            nodes.add(tree["tree_structure"], output)
    attributes: dict[str, Any] = nodes.attributes()
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["logits"],
        domain="ai.onnx.ml",
        n_targets=len(trees),
        aggregate_function="SUM",
        post_transform="NONE",
        **attributes,
    )
    linked = helper.make_node(link, ["logits"], [OUTPUT])
    made = helper.make_graph(
        [ensemble, linked],
        "trees",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, len(trees)])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found


def calibrated(
    trees: Sequence[Mapping[str, Any]], slope: float, intercept: float
) -> list[dict[str, Any]]:
    """Trees whose sum is slope × theirs + intercept: Platt's calibration, inside the leaves."""
    made: list[dict[str, Any]] = []
    for number, tree in enumerate(trees):
        added = 0.0 if number else intercept
        made.append({"tree_structure": _scaled(tree["tree_structure"], slope, added)})
    return made


def _scaled(node: Mapping[str, Any], slope: float, added: float) -> dict[str, Any]:
    if "split_index" not in node:
        return dict(node) | {"leaf_value": slope * node["leaf_value"] + added}
    sides = {side: _scaled(node[side], slope, added) for side in ("left_child", "right_child")}
    return dict(node) | sides


class _Nodes:
    """The ensemble's nodes as ONNX wants them: a list per attribute."""

    def __init__(self) -> None:
        self._trees = 0
        self._nodes: dict[str, list[Any]] = {name: [] for name in _NODE}
        self._leaves: dict[str, list[Any]] = {name: [] for name in _LEAF}

    def add(self, root: Mapping[str, Any], target: int) -> None:
        """One tree, adding to one output."""
        numbered = list(_walk(root))
        number_of = {id(node): number for number, node in enumerate(numbered)}
        for number, node in enumerate(numbered):
            if "split_index" in node:
                left, right = number_of[id(node["left_child"])], number_of[id(node["right_child"])]
                split = _split(node)
                self._put(self._nodes, _NODE, (self._trees, number, *split, left, right))
            else:
                leaf = (0, "LEAF", 0.0, 0, 0, 0)
                self._put(self._nodes, _NODE, (self._trees, number, *leaf))
                value = float(np.float32(node["leaf_value"]))
                self._put(self._leaves, _LEAF, (self._trees, number, target, value))
        self._trees += 1

    def attributes(self) -> dict[str, Any]:
        return self._nodes | self._leaves

    @staticmethod
    def _put(into: dict[str, list[Any]], names: Sequence[str], values: Sequence[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            into[name].append(value)


_NODE = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_missing_value_tracks_true",
    "nodes_truenodeids",
    "nodes_falsenodeids",
)
_LEAF = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    if "split_index" in node:
        yield from _walk(node["left_child"])
        yield from _walk(node["right_child"])


def _split(node: Mapping[str, Any]) -> tuple[int, str, float, int]:
    """Feature, mode, threshold, and whether NaN goes to the true (left) side."""
    if node["decision_type"] != "<=":
        raise KairosError(f"expected a split by <=, got {node['decision_type']!r}")
    threshold = float(node["threshold"])
    # Where a feature was never missing in training LightGBM reads NaN as 0.
    left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
    return int(node["split_feature"]), "BRANCH_LEQ", _float32_below(threshold), int(left)


def _float32_below(threshold: float) -> float:
    """The largest float32 that is not above the number."""
    limits = np.finfo(np.float32)
    rounded = np.float32(min(max(threshold, float(limits.min)), float(limits.max)))
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, limits.min)
    return float(rounded)
