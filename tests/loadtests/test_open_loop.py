"""Locust as it is run, against a server that answers nothing until everything has been asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtests.load import Target, run_plan
from loadtests.processes import Watch, name_of
from loadtests.schedule import arrivals, read_plan

PLAN = read_plan("warm:0.2@40,steady:1@40")
DUE = list(arrivals(PLAN, seed=1))
GATE_S = 60.0
ANSWERS: dict[str, tuple[int, Any]] = {
    "/v1/page": (200, {"decision_id": "d", "modules": [], "degraded": "no_release"}),
    "/v1/recommend": (200, {"decision_id": "d", "items": [{"item_id": "i"}]}),
    "/v1/events": (503, {"type": "urn:kairos:problem:overloaded"}),
    "/v1/push/score": (200, {"decisions": []}),
}


class Gated:
    """Takes requests at once, and answers the first only when the last of the plan has come."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self._all = threading.Event()
        gated = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                status, body = gated._answer(self.path)
                raw = json.dumps(body, separators=(",", ":")).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _answer(self, path: str) -> tuple[int, Any]:
        with self._lock:
            self.asked.append(path)
            if len(self.asked) == len(DUE):
                self._all.set()
        assert self._all.wait(GATE_S)
        return ANSWERS[path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gated() -> Iterator[Gated]:
    server = Gated()
    yield server
    server.close()


@pytest.fixture
def people(tmp_path: Path) -> Path:
    lines = [{"type": "item", "item_id": "i", "ts": 0}]
    lines += [
        {"type": "device", "user_id": f"u{n}", "ts": n * 600_000, "device": {"place": "home"}}
        for n in range(50)
    ]
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in lines))
    return file


def test_what_is_due_is_sent_whatever_became_of_the_rest(
    gated: Gated, people: Path, tmp_path: Path
) -> None:
    # A closed loop of any number of users below the plan's would wait here for ever.
    with Watch([], every_s=0.2) as watch:
        rows = run_plan(Target(gated.url, people), PLAN, tmp_path / "run", watch)

    assert len(rows) == len(gated.asked) == len(DUE)
    assert sorted(rows["due_s"].tolist()) == [due_s for due_s, _ in DUE]
    # Nothing was answered before the last was due, and each latency counts from its own time.
    last_s = DUE[-1][0]
    assert (rows["latency_ms"] >= (last_s - rows["due_s"]) * 1000 - 1e-2).all()
    reasons = {rows.reasons[number] for number in rows["why"].tolist()}
    assert reasons == {"", "degraded: no_release", "503 overloaded, without Retry-After"}
    assert set(rows["status"].tolist()) == {200, 503}
    assert {"load generator", "whole machine"} <= {sample.name for sample in watch.samples}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ray::ServeReplica:decide:Decide.handle", "decide replica"),
        ("/x/valkey-server 127.0.0.1:1", "store"),
        ("python -m cli.main up", "kairos up"),
        ("python -m something.else", "Ray and others"),
    ],
)
def test_processes_have_names(line: str, name: str) -> None:
    assert name_of(line) == name
