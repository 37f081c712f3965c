"""The HTTP applications as Ray Serve deployments: ingest apart from deciding and looking."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve._private import replica
from ray.serve.config import BackpressureConfig, HTTPOptions
from ray.serve.schema import LoggingConfig

from engine.settings import Settings, as_role
from serving import edge, guarded
from serving.app import build
from serving.connecting import connected

# Ray's own defaults are queues without limit.
ONGOING, QUEUED = 200, 100  # the lanes of serving/admission.py turn away before
TURNED_AWAY = BackpressureConfig(status_code=503, retry_after_s=1)
REQUEST_TIMEOUT_S = 20.0  # longer than ?wait=folded; the app has deadlines of its own
QUIET = LoggingConfig(enable_access_log=False, log_level="WARNING")


def start(settings: Settings) -> None:
    """Start Serve on the settings' address and run both applications; returns when ready."""
    # Replicas listen where they are told that the edge does: with HAProxy before them it alone
    # is for others to reach (serving/edge.py).
    host = edge.LOOPBACK if settings.proxy == "haproxy" else settings.host
    serve.start(
        http_options=HTTPOptions(
            host=host, port=settings.port, request_timeout_s=REQUEST_TIMEOUT_S
        ),
        logging_config=QUIET,
    )
    deploy(settings)


def deploy(settings: Settings) -> None:
    """Run both applications; what runs goes on serving until what takes its place is ready."""
    ingest, decide = (
        application(name, settings.replicas, lambda: settings) for name in ("ingest", "decide")
    )
    serve.run(ingest, name="ingest", route_prefix="/v1/events")
    serve.run(decide, name="decide", route_prefix="/")


def stop() -> None:
    """Drain and stop the applications."""
    serve.shutdown()  # type: ignore[no-untyped-call]


def application(name: str, replicas: int, read_settings: Callable[[], Settings]) -> Any:
    """The half of the service of this name, ingest or decide; each replica reads the settings."""

    def half() -> Any:  # built in the replica: connections can't travel
        own = as_role(read_settings(), "ingest" if name == "ingest" else "serve")
        guarded.use()  # where Ray was not told of serving/ahead.py
        _take_no_calls()
        connected(own, threading.Event())
        return build(own, ingest=name == "ingest", decide=name == "decide")

    deployment: Any = serve.deployment(  # its stubs know only the decorator
        serve.ingress(half)(),
        name=name,
        max_ongoing_requests=ONGOING,
        max_queued_requests=QUEUED,
        backpressure_config=TURNED_AWAY,
        logging_config=QUIET,
        num_replicas=replicas if name == "decide" else 1,
        max_surge_percent=100,  # a new replica is ready before the old one goes, the only one too
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=5,
    )
    return deployment.bind()


def _take_no_calls() -> None:
    """Keep Ray from opening this replica's port for calls between deployments.

    Nothing here makes such calls. The port would listen on every network, ask for no token, and
    unpickle whatever comes: whoever reached it could run code.
    """
    name = "add_port_to_grpc_server"
    if not hasattr(replica, name):
        raise RuntimeError(f"ray.serve._private.replica has no {name}: is that port closed?")
    setattr(replica, name, lambda server, address: 0)
