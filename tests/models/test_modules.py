"""The model of modules: what serves is what was fitted, and unknown modules go by the counts."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.situation import Moment
from models.artifact import Artifact, BadArtifact, read_artifact
from models.boosting import Worth, Worths, WorthSettings, fit_worth
from models.export import NotEqual, export_modules
from models.loading import load
from models.modules import GRAPH, ModuleMeta, ModuleModel

META = ModuleMeta(modules=["a", "b"], situations=["unknown", "cooking"], segments=["vegan"])
SETTINGS = WorthSettings(trees=30, rows_in_leaf=20, evidence_in_leaf=1, l2=1)
MOMENT = Moment(0, 1, 0.9, None, 20.0, 6, "phone", "cooking", (0.1, 0.9))


def moment_at(hour: float) -> Moment:
    return replace(MOMENT, hour=hour)


def looks(count: int) -> Worths:
    """At `a` in the evening something is done, in the morning rather the contrary."""
    rng = np.random.default_rng(1)
    hours, names = rng.choice([8.0, 20.0], count), rng.choice(["a", "b"], count)
    rows = [
        META.rows([name], np.array([0.2]), moment_at(hour), "")[0]
        for hour, name in zip(hours, names, strict=True)
    ]
    rate = np.where(names == "a", np.where(hours > 12, 0.5, 0.05), 0.2)
    worth = (rng.random(count) < rate) - 0.5 * (rng.random(count) < 0.02)
    return Worths(np.stack(rows), worth, np.full(count, 0.2))


@pytest.fixture(scope="module")
def fitted() -> Worth:
    return fit_worth(looks(4000), SETTINGS)


@pytest.fixture(scope="module")
def model(fitted: Worth) -> ModuleModel:
    return export_modules(fitted, META, looks(500).rows)[0]


def test_a_row_says_what_is_known_and_nothing_else() -> None:
    [row] = META.rows(["b"], np.array([math.e]), MOMENT, "vegan", [3])
    told = dict(zip(META.columns, row.tolist(), strict=True))

    assert told["log_counted"] == pytest.approx(1)
    assert (told["slot"], told["weekend"]) == (3, 1)
    assert told["hour_cos"] == pytest.approx(0.5)
    assert told["situation cooking"] == pytest.approx(0.9)
    assert [name for name, value in told.items() if value == 1 and " " in name] == [
        "device phone",
        "segment vegan",
        "module b",
    ]
    # Situations that came later, and names that nobody knows.
    later = replace(MOMENT, probabilities=(0.1, 0.2, 0.7), device_type="fridge")
    [row] = META.rows(["c"], np.array([0.0]), later, "new")
    told = dict(zip(META.columns, row.tolist(), strict=True))
    assert told["situation cooking"] == pytest.approx(0.2)
    assert not any(told[name] for name in META.columns if name.startswith(("mod", "dev", "seg")))
    assert np.isfinite(row).all()


def test_what_serves_scores_as_what_was_fitted(fitted: Worth, model: ModuleModel) -> None:
    rows = looks(500).rows
    rows[:, :5] += np.random.default_rng(2).standard_normal((500, 5)).astype(np.float32)

    assert export_modules(fitted, META, rows)[1] <= 1e-5
    rows[7, 0] = np.nan
    assert np.isfinite(model.ratios(rows)).all()
    with pytest.raises(NotEqual, match="row"):
        export_modules(_Lying(fitted.booster), META, rows)


class _Lying(Worth):
    """Trees that say they were others."""

    def ratios(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1.001 * Worth.ratios(self, rows)


def test_the_hour_is_learned_and_what_is_unwelcome_counts(model: ModuleModel) -> None:
    counted = np.array([0.2, 0.2])
    morning = model.worth(["a", "b"], counted, moment_at(8.0), "")
    evening = model.worth(["a", "b"], counted, moment_at(20.0), "")

    assert morning[0] < 0.1 < morning[1]
    assert evening[0] > 0.35 > evening[1]
    # 2 in 100 looks bring half an act less than nothing.
    assert evening[1] == pytest.approx(0.19, abs=0.04)


def test_a_module_it_never_saw_goes_by_the_counts(model: ModuleModel) -> None:
    counted = np.array([0.7, 0.2, 0.3])
    found = model.worth(["new", "a", "newer"], counted, moment_at(20.0), "")

    assert found[[0, 2]].tolist() == [0.7, 0.3]
    assert found[1] > 0.3


def test_it_travels_as_files(model: ModuleModel) -> None:
    files = model.to_artifact().files()
    opened = load({"modules": read_artifact(files)}).modules

    assert opened is not None
    asked = ["a", "b"], np.array([0.2, 0.1]), MOMENT, "vegan"
    np.testing.assert_array_equal(opened.worth(*asked), model.worth(*asked))
    with pytest.raises(BadArtifact, match=GRAPH):
        load({"modules": Artifact(model.to_artifact().meta)})
    wider = msgspec.structs.replace(model.meta, modules=["a", "b", "c"])
    with pytest.raises(BadArtifact, match="expected input"):
        ModuleModel(wider, model.to_artifact().blobs[GRAPH])
