"""A push model's trees as ONNX graphs that score as the trees do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.boosting import Binary
from models.export import PARITY, NotEqual, calibrated, trees_graph
from models.push import LearnedPush, PushMeta, sigmoid

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Trees for a yes or no whose chance is the sigmoid of slope × logit + intercept."""

    trees: Binary
    slope: float = 1.0
    intercept: float = 0.0

    def chances(self, rows: Floats) -> Doubles:
        """float64 [n], by LightGBM itself."""
        return sigmoid(self.slope * self.trees.logits(rows) + self.intercept)

    def dumped(self) -> list[dict[str, Any]]:
        """The trees with the calibration inside their leaves."""
        return calibrated(self.trees.trees(), self.slope, self.intercept)


class EffectTrees(Protocol):
    """Trees whose sum is an effect."""

    def means(self, rows: Floats) -> Doubles: ...

    def trees(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """An effect, times a number."""

    effect: EffectTrees
    times: float

    def means(self, rows: Floats) -> Doubles:
        """float64 [n], by LightGBM itself."""
        return self.times * self.effect.means(rows)

    def trees(self) -> list[dict[str, Any]]:
        """Trees whose sum that is."""
        return calibrated(self.effect.trees(), self.times, 0.0)


def export_push(
    meta: PushMeta,
    opens: Calibrated,
    openness: Calibrated,
    uplift: EffectTrees | None,
    table: Floats,
) -> tuple[LearnedPush, float]:
    """The model that serves, and the largest difference on these rows [n, columns].

    Raises NotEqual above PARITY.
    """
    width, both = len(meta.columns), [opens.dumped(), openness.dumped()]
    effect = None if uplift is None else uplift.trees()
    graph = None if effect is None else trees_graph([effect], width + 1, "Identity")
    model = LearnedPush(meta, trees_graph(both, width), graph)
    chances = model.opens(table)
    pairs: list[tuple[str, NDArray[np.floating], Doubles]] = [
        ("opens", chances[:, 0], opens.chances(table)),
        ("openness", chances[:, 1], openness.chances(table)),
    ]
    if uplift is not None:
        told = np.column_stack([table, chances[:, 1]]).astype(np.float32)
        pairs.append(("uplift", model.uplift(told), uplift.means(told)))
    worst = 0.0
    for name, ours, theirs in pairs:
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        if not difference <= PARITY:
            raise NotEqual(f"push: {name} differs by {difference:.2g}, expected at most {PARITY}")
        worst = max(worst, difference)
    return model, worst
