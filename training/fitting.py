"""Fit the retrieval models to the acts up to some time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
import numpy as np
import scipy.sparse as sp

from engine.candidates import Retriever, Sources
from engine.errors import SettingsError
from engine.times import DAY_MS
from models import factors, hybrid, item_item, popularity, spectral
from models.lifts import attribute_rows
from training.history import Acts, History
from training.settings import TrainingSettings

# The newest, for LightFM: its epochs cost acts × attributes, and attributes need few acts.
HYBRID_ACTS = 50_000
RETRIEVAL = ("factors", "similar", "hybrid", "popular")


def _fit_neighbours(
    interactions: sp.csr_matrix, settings: item_item.ItemItemSettings, seed: int
) -> item_item.ItemItem:
    return item_item.fit(interactions, settings)  # nothing of it is drawn by chance


FACTORS: Mapping[str, tuple[type[msgspec.Struct], Callable[..., Retriever]]] = {
    "spectral": (spectral.SpectralSettings, spectral.fit),
    "als": (factors.AlsSettings, factors.fit_als),
    "bpr": (factors.BprSettings, factors.fit_bpr),
    "item_item": (item_item.ItemItemSettings, _fit_neighbours),
}


def fit_factors(history: History, acts: Acts, told: Mapping[str, Any], seed: int) -> Retriever:
    """One of `training.yaml`'s tries at factors; raises SettingsError naming the key."""
    kind = str(told.get("kind"))
    if kind not in FACTORS:
        raise SettingsError(f"factors.kind: expected one of {', '.join(FACTORS)}, got {kind!r}")
    made, fit = FACTORS[kind]
    settings = _settings("factors", made, {k: v for k, v in told.items() if k != "kind"})
    return fit(liked(history, acts), settings, seed)


def fit_sources(
    history: History, acts: Acts, settings: TrainingSettings, names: Collection[str] = RETRIEVAL
) -> Sources:
    """The retrieval models of these names, fitted to the acts; the first try at factors."""
    fits: dict[str, Callable[[], Any]] = {
        "factors": lambda: fit_factors(history, acts, settings.factors[0], settings.seed),
        "similar": lambda: item_item.fit(
            liked(history, acts),
            _settings("similar", item_item.ItemItemSettings, settings.similar),
        ),
        "hybrid": lambda: _fit_hybrid(history, acts, settings),
        "popular": lambda: _fit_popular(history, acts, settings),
    }
    return Sources(**{name: fits[name]() for name in RETRIEVAL if name in names})


def liked(history: History, acts: Acts) -> sp.csr_matrix:
    """float32 CSR [users, items]: 1 where a user's acts on an item add up to a liking."""
    shape = (len(history.users), history.catalog.columns.size)
    told = acts.item >= 0
    places = (acts.user[told], acts.item[told])
    sums = sp.csr_matrix((acts.weight[told], places), shape, np.float32)
    sums.data = np.where(sums.data > 0, np.float32(1), np.float32(0))
    sums.eliminate_zeros()
    return sums


def _fit_hybrid(history: History, acts: Acts, settings: TrainingSettings) -> hybrid.Hybrid:
    made = _settings("hybrid", hybrid.HybridSettings, settings.hybrid)
    told = acts.rows(slice(-HYBRID_ACTS, None))
    items = _item_attributes(history)
    return hybrid.fit(liked(history, told), items, history.attributes, made, settings.seed)


def _fit_popular(history: History, acts: Acts, settings: TrainingSettings) -> popularity.Popular:
    made = _settings("popular", popularity.PopularSettings, settings.popular)
    told = acts.rows(np.flatnonzero(acts.item >= 0))
    age_days = (told.at_ms.max(initial=0) - told.at_ms) / DAY_MS
    size = history.catalog.columns.size
    attributes = attribute_rows(_item_attributes(history))
    return popularity.fit(told.item, told.weight, age_days, told.situation, size, made, attributes)


def _item_attributes(history: History) -> list[dict[str, Any]]:
    return [
        {} if state is None else {name: value for name, (_, value) in state.attributes.items()}
        for state in history.catalog.items
    ]


def _settings(name: str, made: type[Any], told: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert(dict(told), made)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name}: {error}") from error
