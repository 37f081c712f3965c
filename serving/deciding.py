"""The parts that requests are answered with, built anew when a release, an item or a name comes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engine.actions import Actions
from engine.catalog import Catalog
from engine.errors import KairosError, SettingsError
from engine.module_book import ModuleBook
from engine.module_counts import ModuleCounts
from engine.page import page_known
from engine.pipeline import NOBODY, Parts, Request, Users, recommend_known
from engine.push import People, PushParts
from engine.push_file import Cap
from engine.push_value import Assumptions
from engine.rules import NO_RULES, Rules
from engine.state import TOUCH, Touch, UserState
from engine.taste import weights_by_term
from engine.times import HOUR_MS
from models.artifact import Artifact
from models.loading import Models, load
from models.registry import Registry
from models.release import Release
from models.shipped import shipped_situations
from serving.configuration import Configuration, ConfigurationWatch
from serving.late_items import GrowingModels
from serving.metrics import Metrics
from serving.releases import Loaded, ReleaseWatcher

log = logging.getLogger("kairos.deciding")

PROBED = 10  # modules of the page that a release is tried out on
RENEW_S = 0.5  # how often modules learn, models are told of new items, files are looked at


class Deciding:
    """Gives each request its Parts; `start` loads the release that is published."""

    def __init__(
        self,
        actions: Actions,
        configuration: Configuration,
        users: Users,
        catalog: Catalog,
        registry: Registry,
        metrics: Metrics,
        modules: ModuleCounts,
        watch: ConfigurationWatch,
    ) -> None:
        self._actions = actions
        self._configuration = configuration
        self._metrics = metrics
        self._counts = modules
        self._watch = watch
        self._users = users
        self._catalog = catalog
        self._book = self._make_book(configuration)
        self._rules = Rules(configuration.rules)
        self._situations = shipped_situations(configuration.situations)
        self._watcher = ReleaseWatcher[GrowingModels](
            registry, catalog, self._load, self._probe, metrics
        )
        self._made_for: tuple[Models | None, int, Configuration | None] = (None, -1, None)
        self._parts = self._build(None, None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="renewal", daemon=True)

    def start(self) -> None:
        self._watcher.start()
        self._book.refresh(int(time.time() * 1000))
        self._thread.start()

    def load(self) -> None:
        """Load the release that is published, once, and follow nothing."""
        self._watcher.check()
        self._book.refresh(int(time.time() * 1000))

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._watcher.stop()

    def parts(self) -> Parts:
        """The parts of the release that serves now."""
        loaded = self._watcher.current
        models = None if loaded is None else loaded.parts.models  # replaced as items come
        terms, told = len(self._catalog.terms["action"]), self._configuration
        before = self._made_for
        if models is not before[0] or terms != before[1] or told is not before[2]:
            self._parts = self._build(loaded, models)
            self._made_for = (models, terms, told)
        return self._parts

    def page_parts(self) -> tuple[Parts, ModuleBook]:
        """The same, and the modules that serve now."""
        return self.parts(), self._book

    def push_parts(self, people: People, key: bytes | None) -> PushParts:
        """What pushes are decided with now."""
        parts, told = self.parts(), self._configuration
        loaded = self._watcher.current
        model = None if loaded is None else loaded.parts.models.push
        return PushParts(
            people,
            parts.situations,
            told.push,
            model or Assumptions(told.push.assumed),
            self._catalog,
            key,
            parts.release,
            told.version,
        )

    def caps(self) -> list[Cap]:
        """Of messages, as configured now."""
        return self._configuration.push.caps

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                self._reconfigure()
                self._book.refresh(int(time.time() * 1000))
                self._rules.renew(self._catalog)  # so that no request waits for many items
                if (loaded := self._watcher.current) is not None:
                    loaded.parts.grow()
            except Exception:
                log.exception("tried again after an unexpected error")

    def _reconfigure(self) -> None:
        """Take over changed files; wrong ones are told of, and what served goes on serving."""
        try:
            changed = self._watch.changed()
        except SettingsError as error:
            self._metrics.count("configuration_refused")
            log.error("the configuration stays as it was: %s", error)
            return
        if changed is None:
            return
        book, rules = self._make_book(changed), Rules(changed.rules)
        rules.renew(self._catalog)
        # What a request reads first comes last: parts made of both would be kept.
        self._book, self._rules = book, rules
        self._configuration = changed
        log.info("configuration %s serves", changed.version)

    def _make_book(self, configuration: Configuration) -> ModuleBook:
        return ModuleBook(
            configuration.modules,
            configuration.situations.names,
            configuration.objective,
            self._counts,
            self._catalog,
            int(time.time() * 1000),
        )

    def _build(self, loaded: Loaded[GrowingModels] | None, models: Models | None) -> Parts:
        weights = weights_by_term(self._actions, self._catalog)
        parts = Parts(
            self._users,
            self._catalog,
            self._configuration.recommending,
            weights,
            self._situations,
            config_version=self._configuration.version,
            rules=self._rules,
            demote_ms=round(self._configuration.push.demote_h * HOUR_MS),
        )
        if loaded is None or models is None:
            return parts
        return models.within(parts, self._configuration.objective, loaded.release.release_id)

    def _load(self, release: Release, artifacts: Mapping[str, Artifact]) -> GrowingModels:
        return GrowingModels(load(artifacts), self._catalog)

    def _probe(self, grown: GrowingModels) -> None:
        """Answer for somebody unknown and for somebody who touched items."""
        bare = replace(self._build(None, None), rules=NO_RULES)  # which may leave nothing to show
        parts = grown.models.within(bare, self._configuration.objective, "probe")
        for state in (NOBODY, _somebody(self._catalog)):
            asked = Request("probe", int(time.time() * 1000), size=10, seed=1)
            slate = recommend_known(asked, state, parts)
            if not np.isfinite(slate.ranked.values).all():
                raise KairosError("the release gives values that are no numbers")
            if slate.eligible.allowed.any() and not slate.choices:
                raise KairosError("the release finds nothing to show")
            page = page_known(asked, PROBED, None, state, parts, self._book).page
            if page is not None and not np.isfinite(list(page.scores.values())).all():
                raise KairosError("the release gives modules values that are no numbers")


def _somebody(catalog: Catalog) -> UserState:
    """Somebody who touched the ten most popular items."""
    now_s = int(time.time())
    items = catalog.columns.popular[:10].tolist()
    recent = [TOUCH.pack(*Touch(item, 0, now_s, 0)) for item in items]
    return UserState(recent=b"".join(recent), first_s=now_s, last_s=now_s)
