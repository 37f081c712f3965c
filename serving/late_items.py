"""A release's models, and the items that came after it: known by their attributes, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from engine.catalog import Catalog
from models.hybrid import Hybrid
from models.loading import Models


class GrowingModels:
    """The models of a release; `models` is replaced as a whole where items are added to it.

    One thread at a time grows them; a request keeps the models that it began with.
    """

    def __init__(self, models: Models, catalog: Catalog) -> None:
        self.models = models
        self._catalog = catalog
        self._seen = 0  # changes of the catalogue
        self.grow()

    def grow(self) -> None:
        """Let the hybrid know the items that it was not fitted to, as far as they changed."""
        sources, columns = self.models.sources, self._catalog.columns
        if not isinstance(sources.hybrid, Hybrid) or columns.changes == self._seen:
            return
        changed, seen = columns.changed_since(self._seen)
        late = changed[~sources.hybrid.fitted(changed)]
        if len(late):
            hybrid = sources.hybrid.with_items(self._attributes(late.tolist()))
            self.models = replace(self.models, sources=replace(sources, hybrid=hybrid))
        self._seen = seen

    def _attributes(self, items: Iterable[int]) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for item in items:
            state = self._catalog.at(item)
            if state is not None:
                # A copy first: the follower's thread may be writing to them.
                told = dict(state.attributes)
                found[item] = {name: value for name, (_, value) in told.items()}
        return found
