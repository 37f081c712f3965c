"""Boosted trees: the ranker's, a binary classifier per outcome, and others. LightGBM's door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.features import NAMES

Floats = NDArray[np.float32]
PATIENCE = 20  # rounds without gain on held-out rows before an outcome has enough
HELD_OUT = 20  # held-out rows that came true, and that did not, before these are believed
THREADS = 2  # more than the cores of a small machine would wait for each other
FEW_ROWS = 30_000  # fewer than these one thread is through with before a second is awake
Positive = Annotated[int, msgspec.Meta(ge=1)]


class BoostingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of all outcomes together; `trees` is what a request pays for."""

    trees: Positive = 200
    first_trees: Positive = 36  # of them: those that choose which candidates all trees rank
    leaves: Annotated[int, msgspec.Meta(ge=2, le=256)] = 8
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.15
    rows_in_leaf: Positive = 100
    # Rare outcomes weigh most in an objective and carry most noise: a leaf needs evidence (the sum
    # of p(1 − p)), and little of it moves a chance little.
    evidence_in_leaf: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    l2: Annotated[float, msgspec.Meta(ge=0)] = 100.0
    columns: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.4  # share of them a tree may read
    positives: Positive = 100  # an outcome that came true less often is not learned


@dataclass(frozen=True, slots=True)
class Boosted:
    """Fitted trees: a booster per outcome, cut where held-out rows said that it was enough."""

    boosters: Mapping[str, lightgbm.Booster]
    first_rounds: int  # trees of each outcome that stand for the first ones

    @property
    def outcomes(self) -> list[str]:
        return list(self.boosters)

    def rounds(self, outcome: str, first: bool = False) -> int:
        """How many trees an outcome has, or has among the first ones."""
        every = int(self.boosters[outcome].num_trees())
        return min(every, self.first_rounds) if first else every

    def chances(self, rows: Floats, first: bool = False) -> NDArray[np.float64]:
        """float64 [n, outcomes] by LightGBM itself; of the first trees, or of all."""
        found = [
            np.asarray(booster.predict(rows, num_iteration=self.rounds(outcome, first)))
            for outcome, booster in self.boosters.items()
        ]
        return np.stack(found, axis=1)

    def importance(self) -> dict[str, float]:
        """Each feature's share of all gain, over all outcomes."""
        gains = np.sum([b.feature_importance("gain") for b in self.boosters.values()], axis=0)
        shares = gains / max(float(gains.sum()), 1e-12)
        return dict(zip(NAMES, shares.tolist(), strict=True))

    def trees(self, outcome: str, first: bool = False) -> list[dict[str, Any]]:
        """The trees of an outcome as LightGBM dumps them, in order."""
        dumped: list[dict[str, Any]] = self.boosters[outcome].dump_model()["tree_info"]
        return dumped[: self.rounds(outcome, first)]


@dataclass(frozen=True, slots=True)
class Examples:
    """What is learned from."""

    rows: Floats  # [n, features]
    labels: Floats  # [n, outcomes], NaN where not ripe
    weights: Floats  # [n]
    held_out: NDArray[np.bool_]  # [n]: not learned from; they say when to stop


def fit(
    examples: Examples, outcomes: Sequence[str], settings: BoostingSettings, seed: int = 1
) -> Boosted | None:
    """A classifier per outcome; None where no outcome came true often enough."""
    learned = [
        number
        for number in range(len(outcomes))
        if _enough(examples.labels[~examples.held_out, number], settings.positives)
    ]
    if not learned:
        return None
    rounds = max(settings.trees // len(learned), 1)
    boosters = {
        outcomes[number]: _fit_one(examples, number, settings, rounds, seed) for number in learned
    }
    return Boosted(boosters, min(max(settings.first_trees // len(learned), 1), rounds))


def _enough(labels: Floats, positives: int) -> bool:
    return bool(min(np.nansum(labels), np.nansum(1 - labels)) >= positives)


def _fit_one(
    examples: Examples, number: int, settings: BoostingSettings, rounds: int, seed: int
) -> lightgbm.Booster:
    parameters = {
        "objective": "binary",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_in_leaf,
        "min_sum_hessian_in_leaf": settings.evidence_in_leaf,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.columns,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    ripe = ~np.isnan(examples.labels[:, number])
    learned = _dataset(examples, number, ripe & ~examples.held_out)
    if not _enough(examples.labels[ripe & examples.held_out, number], HELD_OUT):
        return lightgbm.train(parameters, learned, num_boost_round=rounds)
    held_out = _dataset(examples, number, ripe & examples.held_out, learned)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    fitted = lightgbm.train(
        parameters, learned, num_boost_round=rounds, valid_sets=[held_out], callbacks=[stop]
    )
    best = max(fitted.best_iteration, 1)
    return lightgbm.Booster(model_str=fitted.model_to_string(num_iteration=best))


def _dataset(
    examples: Examples,
    number: int,
    wanted: NDArray[np.bool_],
    like: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        examples.rows[wanted],
        examples.labels[wanted, number],
        weight=examples.weights[wanted],
        reference=like,
        feature_name=list(NAMES),
        params={"verbosity": -1},
    )


class ClassSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a classifier of exclusive classes; `rounds` trees for each class."""

    rounds: Positive = 60
    leaves: Annotated[int, msgspec.Meta(ge=2, le=256)] = 8
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    rows_in_leaf: Positive = 30
    evidence_in_leaf: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    l2: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    columns: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3  # share of them a tree may read
    rows: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5  # share of them that make a tree


@dataclass(frozen=True, slots=True)
class Classifier:
    """Fitted trees of exclusive classes."""

    booster: lightgbm.Booster
    classes: int

    def chances(self, rows: Floats) -> NDArray[np.float64]:
        """float64 [n, classes] by LightGBM itself; each row sums to 1."""
        return np.asarray(self.booster.predict(rows))

    def trees(self) -> list[list[dict[str, Any]]]:
        """Each class's trees as LightGBM dumps them, in order."""
        dumped: list[dict[str, Any]] = self.booster.dump_model()["tree_info"]
        return [dumped[number :: self.classes] for number in range(self.classes)]


def fit_classes(
    rows: Floats,
    labels: NDArray[np.int64],
    weights: Floats,
    classes: int,
    settings: ClassSettings,
    seed: int = 1,
) -> Classifier:
    """Trees for `labels` int [n], each 0 to `classes` − 1, of float32 rows [n, columns]."""
    parameters = {
        "objective": "multiclass",
        "num_class": classes,
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_in_leaf,
        "min_sum_hessian_in_leaf": settings.evidence_in_leaf,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.columns,
        "bagging_fraction": settings.rows,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": THREADS,
        "verbosity": -1,
    }
    examples = lightgbm.Dataset(rows, labels, weight=weights, params={"verbosity": -1})
    return Classifier(lightgbm.train(parameters, examples, settings.rounds), classes)


class BinarySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one yes or no."""

    trees: Positive = 60
    leaves: Annotated[int, msgspec.Meta(ge=2, le=256)] = 15
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    rows_in_leaf: Positive = 100
    l2: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    columns: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3  # share of them a tree may read
    rows: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.6  # share of them a tree learns from
    bins: Annotated[int, msgspec.Meta(ge=2, le=255)] = 63


@dataclass(frozen=True, slots=True)
class Binary:
    """Fitted trees for one yes or no."""

    booster: lightgbm.Booster

    def logits(self, rows: Floats) -> NDArray[np.float64]:
        """float64 [n]: the sum of the trees."""
        return np.asarray(self.booster.predict(rows, raw_score=True), np.float64)

    def trees(self) -> list[dict[str, Any]]:
        """The trees as LightGBM dumps them, in order."""
        dumped: list[dict[str, Any]] = self.booster.dump_model()["tree_info"]
        return dumped


def fit_binary(
    rows: Floats, truth: Floats, weights: Floats, settings: BinarySettings, seed: int = 1
) -> Binary:
    """Trees that tell 1 from 0: rows [n, columns], truth [n], weights [n]."""
    parameters = {
        "objective": "binary",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_in_leaf,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.columns,
        "bagging_fraction": settings.rows,
        "bagging_freq": 1,
        "max_bin": settings.bins,
        "num_threads": _threads(rows),
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    learned = lightgbm.Dataset(rows, truth, weight=weights, params={"verbosity": -1})
    return Binary(lightgbm.train(parameters, learned, num_boost_round=settings.trees))


class WorthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a rate beside an expectation; strengths count what is expected."""

    trees: Positive = 150
    leaves: Annotated[int, msgspec.Meta(ge=2, le=256)] = 8
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    rows_in_leaf: Positive = 50
    evidence_in_leaf: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    l2: Annotated[float, msgspec.Meta(ge=0)] = 10.0


@dataclass(frozen=True, slots=True)
class Worths:
    """Looks to learn from."""

    rows: Floats  # [n, columns]
    worth: NDArray[np.float64]  # [n] in acts; below 0 where what came was unwelcome
    expected: NDArray[np.float64]  # [n] in acts, above 0

    def some(self, wanted: NDArray[np.bool_]) -> Worths:
        """These looks only."""
        return Worths(self.rows[wanted], self.worth[wanted], self.expected[wanted])


@dataclass(frozen=True, slots=True)
class Worth:
    """Fitted trees: what is expected × exp(their sum)."""

    booster: lightgbm.Booster

    def ratios(self, rows: Floats) -> NDArray[np.float64]:
        """float64 [n] by LightGBM itself: times what is expected."""
        return np.exp(np.asarray(self.booster.predict(rows), np.float64))

    def trees(self) -> list[dict[str, Any]]:
        """The trees as LightGBM dumps them, in order."""
        dumped: list[dict[str, Any]] = self.booster.dump_model()["tree_info"]
        return dumped


def fit_worth(
    looks: Worths,
    settings: WorthSettings,
    held_out: Worths | None = None,
    trees: int | None = None,
    seed: int = 1,
) -> Worth:
    """Trees for the quasi-likelihood of a Poisson rate (McCullagh and Nelder 1989, chapter 9).

    Its score, exp(s) − y, asks nothing of y but its mean, so that a look may be worth less than
    nothing, which LightGBM's own Poisson refuses. Looks held out say when there are enough trees.
    """
    parameters: dict[str, Any] = {
        "objective": _rate_slopes,
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_in_leaf,
        "min_sum_hessian_in_leaf": settings.evidence_in_leaf,
        "lambda_l2": settings.l2,
        "max_delta_step": 1.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    learned, rounds = _looks(looks), trees or settings.trees
    if held_out is None:
        return Worth(lightgbm.train(parameters, learned, num_boost_round=rounds))
    fitted = lightgbm.train(
        parameters,
        learned,
        num_boost_round=rounds,
        valid_sets=[_looks(held_out, learned)],
        feval=_deviance,
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    best = max(fitted.best_iteration, 1)
    return Worth(lightgbm.Booster(model_str=fitted.model_to_string(num_iteration=best)))


def _looks(looks: Worths, like: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        looks.rows,
        looks.worth,
        init_score=np.log(looks.expected),
        reference=like,
        params={"verbosity": -1},
    )


def _rate_slopes(
    scores: NDArray[np.float64], looks: lightgbm.Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rates = np.exp(scores)
    return rates - np.asarray(looks.get_label()), rates


def _deviance(scores: NDArray[np.float64], looks: lightgbm.Dataset) -> tuple[str, float, bool]:
    worth = np.asarray(looks.get_label())
    return "deviance", float((np.exp(scores) - worth * scores).mean()), False


class RegressionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a mean, by squared error."""

    trees: Positive = 60
    leaves: Annotated[int, msgspec.Meta(ge=2, le=256)] = 8
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    rows_in_leaf: Positive = 100
    l2: Annotated[float, msgspec.Meta(ge=0)] = 20.0  # in rows
    columns: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5  # share of them a tree may read
    bins: Annotated[int, msgspec.Meta(ge=2, le=255)] = 63


@dataclass(frozen=True, slots=True)
class Regression:
    """Fitted trees for a mean: their sum."""

    booster: lightgbm.Booster

    def means(self, rows: Floats) -> NDArray[np.float64]:
        """float64 [n] by LightGBM itself."""
        return np.asarray(self.booster.predict(rows, num_threads=1), np.float64)

    def trees(self) -> list[dict[str, Any]]:
        """The trees as LightGBM dumps them, in order."""
        dumped: list[dict[str, Any]] = self.booster.dump_model()["tree_info"]
        return dumped


def fit_regression(
    rows: Floats,
    truth: NDArray[np.float64],
    weights: NDArray[np.float64],
    settings: RegressionSettings,
    seed: int = 1,
) -> Regression:
    """Trees for the mean of `truth` [n]: rows [n, columns], weights [n]."""
    parameters = {
        "objective": "regression",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.rows_in_leaf,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.columns,
        "max_bin": settings.bins,
        # Cross-fitting fits many small ones: threads would wait longer than they work.
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    quiet = {"verbosity": -1, "max_bin": settings.bins}
    learned = lightgbm.Dataset(rows, truth, weight=weights, params=quiet)
    return Regression(lightgbm.train(parameters, learned, num_boost_round=settings.trees))


def _threads(rows: Floats) -> int:
    """Threads that spin for each other cost a busy machine a hundred times what they bring."""
    return THREADS if len(rows) >= FEW_ROWS else 1
