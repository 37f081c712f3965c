"""The HTTP applications as Ray Serve deployments: ingest apart from deciding and looking."""

from __future__ import annotations

import threading
from typing import Any

from ray import serve
from ray.serve._private import replica
from ray.serve.config import BackpressureConfig, HTTPOptions
from ray.serve.schema import LoggingConfig

from engine.settings import Settings, as_role
from serving import edge
from serving.app import build
from serving.connecting import connected

# Ray's own defaults are queues without limit.
ONGOING, QUEUED = 200, 100  # the lanes of serving/admission.py turn away before
TURNED_AWAY = BackpressureConfig(status_code=503, retry_after_s=1)
REQUEST_TIMEOUT_S = 20.0  # longer than ?wait=folded; the app has deadlines of its own


def deploy(settings: Settings) -> None:
    """Start Serve on the settings' address and run both applications; returns when ready."""
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    # Replicas listen where they are told that the edge does: with HAProxy before them it alone
    # is for others to reach (serving/edge.py).
    host = edge.LOOPBACK if settings.proxy == "haproxy" else settings.host
    serve.start(
        http_options=HTTPOptions(
            host=host, port=settings.port, request_timeout_s=REQUEST_TIMEOUT_S
        ),
        logging_config=quiet,
    )
    serve.run(_deployment(settings, "ingest", quiet), name="ingest", route_prefix="/v1/events")
    serve.run(_deployment(settings, "decide", quiet), name="decide", route_prefix="/")


def stop() -> None:
    """Drain and stop the applications."""
    serve.shutdown()  # type: ignore[no-untyped-call]


def _deployment(settings: Settings, name: str, logging_config: LoggingConfig) -> Any:
    own = as_role(settings, "ingest" if name == "ingest" else "serve")

    def application() -> Any:  # built in the replica: connections can't travel
        _take_no_calls()
        connected(own, threading.Event())
        return build(own, ingest=name == "ingest", decide=name == "decide")

    deployment: Any = serve.deployment(  # its stubs know only the decorator
        serve.ingress(application)(),
        name=name,
        max_ongoing_requests=ONGOING,
        max_queued_requests=QUEUED,
        backpressure_config=TURNED_AWAY,
        logging_config=logging_config,
        num_replicas=settings.replicas if name == "decide" else 1,
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
