"""The service on a Ray cluster that runs already: what `serveConfigV2` of a RayService names.

`kairos up` starts Ray and everything on it. Here somebody else does, and each function below is a
builder that Serve imports (deploy/rayservice.yaml):

    serving.ray_cluster:ingest    POST /v1/events
    serving.ray_cluster:decide    all other routes
    serving.ray_cluster:work      folders and archiver; no route

Settings are the KAIROS_* variables of the pods, read by each process: no secret stands in the
configuration that Ray keeps. A builder takes the `args` of that configuration; there are none.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from ray import serve

from engine.errors import KairosError, SettingsError
from engine.redis_store import RedisStore
from engine.settings import Settings, load_settings
from serving import check
from serving.connecting import connected
from serving.ray_app import QUIET, application
from serving.ray_folders import Workers
from serving.up import opened_store

log = logging.getLogger("kairos.cluster")

LOOK_S = 0.5
STOP_S = 60.0  # folders, then the archiver: STOP_S of serving/ray_folders.py each
WORKER_CPUS = 0.5  # set aside, so that they do not come to lie on a head without any


def ingest(_arguments: dict[str, str]) -> Any:
    """The application that takes events."""
    checked()
    return application("ingest", 1, load_settings)


def decide(_arguments: dict[str, str]) -> Any:
    """The application that decides and looks."""
    return application("decide", checked().replicas, load_settings)


def work(_arguments: dict[str, str]) -> Any:
    """Folders and archiver, kept by a replica of a deployment without a route."""
    checked()
    deployment: Any = serve.deployment(  # its stubs know only the decorator
        Work,
        name="work",
        logging_config=QUIET,
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=STOP_S,
    )
    return deployment.bind()


def checked() -> Settings:
    """The settings, of a store that answers and is fit; what `kairos up` checks before it starts.

    Waits for the store. Raises SettingsError, StoreUnfit: the application's status then names it.
    """
    settings = load_settings()
    if not settings.redis_url:
        raise SettingsError(
            "redis_url: a cluster needs a store that every node reaches; the embedded one listens "
            "on loopback alone"
        )
    connected(settings, threading.Event())
    with opened_store(settings, log.warning):
        store = RedisStore.connect(settings)
        check.check_fold_version(store)
        for remark in check.listening(store, settings.host):
            log.warning(remark)
        store.close()
    return settings


class Work:
    """Holds folders and archiver as `kairos up` does; one that dies takes them along, and Serve
    starts another. Two at once do no harm: a partition is folded by who holds its lease."""

    def __init__(self) -> None:
        settings = load_settings()
        self._stop = threading.Event()
        store = connected(settings, self._stop)
        assert store is not None, "nothing stops it yet"
        self._workers = Workers(settings, store, WORKER_CPUS)
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Serve replaces a replica whose health check raises."""
        if not self._thread.is_alive():
            raise RuntimeError("nobody watches the folders")

    def __del__(self) -> None:
        """What Serve calls at an orderly end: fold and archive what is there."""
        self._stop.set()
        self._thread.join()
        self._workers.stop()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self._workers.look()
            except KairosError as error:
                log.warning("%s", error)
