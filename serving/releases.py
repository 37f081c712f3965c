"""A replica's side of the registry: follow the pointer, load beside what serves, swap once.

A release is verified, built, and tried on a probe before one reference is swapped; a request keeps
the parts that it began with. What fails never serves, and is not tried again until the pointer
moves; a registry out of reach is asked again, with growing pauses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.catalog import Catalog
from engine.features import NAMES
from engine.state import FOLD_VERSION
from models.artifact import Artifact
from models.registry import Registry, pointed
from models.release import BadRelease, Reason, Refused, Release, features_hash, new_id
from models.signing import BadKey
from models.storage import StorageUnavailable
from serving.metrics import Metrics

log = logging.getLogger("kairos.releases")

POLL_S = 1.0
LONGEST_PAUSE_S = 30.0

T = TypeVar("T")
Load = Callable[[Release, Mapping[str, Artifact]], T]  # models by name, items in our own rows


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A release and what was built of it: always of one piece."""

    release: Release
    parts: T


class ReleaseWatcher(Generic[T]):
    """Keeps `current` at the release that the pointer names, or at the last that could serve.

    `load` builds the parts, `probe` raises where they answer wrongly. Read `current` once a
    request: it is None until a release could be loaded.
    """

    def __init__(
        self,
        registry: Registry,
        catalog: Catalog,
        load: Load[T],
        probe: Callable[[T], None],
        metrics: Metrics,
        only: Collection[str] | None = None,
    ) -> None:
        self._only = only  # models that are read of a release; None: every one
        self.current: Loaded[T] | None = None
        self._registry = registry
        self._catalog = catalog
        self._load = load
        self._probe = probe
        self._metrics = metrics
        self._seen: bytes | None = None  # the pointer last read
        self._settled = True  # whether it was dealt with
        self._refused: set[str] = set()  # releases, since it moved
        self._failures = 0  # in a row
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)

    def start(self) -> None:
        """Load what there is, then follow in a thread of its own."""
        self.check()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Look at the pointer once, and load what it names if it moved."""
        try:
            self._follow()
            self._failures = 0
        except (StorageUnavailable, BadKey) as error:
            self._failures += 1
            self._metrics.count("registry_unavailable")
            log.warning("cannot read the registry, %s serves on: %s", self._serving(), error)

    def _run(self) -> None:
        while not self._stop.wait(min(POLL_S * 2**self._failures, LONGEST_PAUSE_S)):
            try:
                self.check()
            except Exception:
                log.exception("the watcher of releases goes on after an unexpected error")

    def _follow(self) -> None:
        pointer = self._registry.pointer()
        if pointer != self._seen:
            self._seen, self._settled = pointer, pointer is None
            self._refused.clear()
        if pointer is not None and not self._settled:
            self._move_to(pointer)
            self._settled = True

    def _move_to(self, pointer: bytes) -> None:
        try:
            wanted = pointed(pointer).release_id
        except BadRelease as error:
            self._refuse("", error)
            wanted = new_id()  # later than all there are
        else:
            if self._serves(wanted):
                return
        if self.current is not None:
            return
        for release in self._registry.earlier(wanted):  # after a start: better than none
            if self._serves(release.release_id):
                return

    def _serves(self, release_id: str) -> bool:
        """Whether this release serves now, loaded if need be."""
        if self.current is not None and self.current.release.release_id == release_id:
            return True
        if release_id in self._refused:
            return False
        try:
            loaded = self._loaded(release_id)
        except Refused as error:
            self._refuse(release_id, error)
            return False
        self.current = loaded
        self._metrics.count("releases_loaded")
        log.info("release %s serves", release_id)
        return True

    def _loaded(self, release_id: str) -> Loaded[T]:
        release = self._registry.release(release_id)
        check_fit(release)
        with _refusing(release_id, "artifact"):
            artifacts = {
                version.model: self._registry.artifact(version).aligned(self._catalog.by_id)
                for version in release.versions()
                if self._only is None or version.model in self._only
            }
        with _refusing(release_id, "load"):
            parts = self._load(release, artifacts)
        with _refusing(release_id, "probe"):
            self._probe(parts)
        return Loaded(release, parts)

    def _refuse(self, release_id: str, error: Refused) -> None:
        self._refused.add(release_id)
        self._metrics.count("releases_refused", error.reason)
        log.error(
            "release %s refused, %s serves on: %s",
            release_id,
            self._serving(),
            error,
            exc_info=error if error.reason in ("load", "probe") else None,
        )

    def _serving(self) -> str:
        return self.current.release.release_id if self.current else "no release"


def check_fit(release: Release) -> None:
    """Raises BadRelease where it was made for other features or another fold than this program."""
    ours = features_hash(NAMES)
    if release.features not in ("", ours):
        detail = f"reads features {release.features}, this program computes {ours}"
        raise BadRelease(release.release_id, "features", detail)
    if release.fold_version not in (None, FOLD_VERSION):
        detail = f"learned from fold {release.fold_version}, this program folds by {FOLD_VERSION}"
        raise BadRelease(release.release_id, "features", detail)


@contextmanager
def _refusing(release_id: str, reason: Reason) -> Iterator[None]:
    """Whatever goes wrong inside is the release's fault, unless the registry is out of reach."""
    try:
        yield
    except (Refused, StorageUnavailable, BadKey):
        raise
    except Exception as error:
        raise BadRelease(release_id, reason, f"{type(error).__name__}: {error}") from error
