"""`kairos demo`: a sample log imported, served, and one person's state changing live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cli.terminal import console, say
from engine.errors import KairosError
from engine.settings import Settings

PERSON = "you"
READY_S = 120


def run_demo(settings: Settings, users: int, days: int, once: bool) -> None:
    """Build, import, serve, show; leaves the server running until Ctrl-C unless `once`."""
    home = settings.home_path / "demo"
    environ = os.environ | {"KAIROS_HOME": str(home), "KAIROS_PORT": str(settings.port)}
    with tempfile.TemporaryDirectory() as folder:
        _import(Path(folder) / "sample.jsonl", users, days, environ)
    server = subprocess.Popen([sys.executable, "-m", "cli.main", "up"], env=environ)
    try:
        base = f"http://{settings.host}:{settings.port}"
        with console().status("starting the service"):
            _wait(base, server)
        _show(base)
        if not once:
            say(f"\nThe server goes on at {base} (try {base}/docs). Ctrl-C stops it.")
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)


def _import(file: Path, users: int, days: int, environ: dict[str, str]) -> None:
    from training.sample_log import sample_events

    with console().status("writing a sample log"), file.open("wb") as lines:
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        for event in sample_events(users=users, items=300, days=days, seed=7, end=end):
            lines.write(msgspec.json.encode(event) + b"\n")
    say(f"sample log: {users} people, 300 recipes, {days} days; importing it")
    subprocess.run([sys.executable, "-m", "cli.main", "import", str(file)], env=environ, check=True)


def _show(base: str) -> None:
    item = {
        "type": "item",
        "item_id": "demo-ramen",
        "attributes": {"title": "Smoky lentil ramen", "categories": ["japanese", "main"]},
    }
    _send(base, [item])
    steps: list[tuple[str, dict[str, Any]]] = [
        ("opens the recipe on the way home", {"type": "interaction", "action": "view"}),
        ("saves it", {"type": "interaction", "action": "save"}),
        ("walks into the supermarket", {"type": "device", "device": {
            "device_id": "phone", "activity": "walking", "place": "supermarket", "screen": "on"}}),
        ("puts the phone on the kitchen table", {"type": "device", "device": {
            "device_id": "phone", "activity": "still", "place": "home", "orientation": "face_up"}}),
        ("cooks it", {"type": "interaction", "action": "cook"}),
    ]  # fmt: skip
    say(f"\nOne person, live ({base}/v1/users/{PERSON}):")
    run = int(time.time())
    for number, (what, event) in enumerate(steps):
        event |= {"event_id": f"demo-{run}-{number}", "user_id": PERSON, "ts": time.time()}
        if event["type"] == "interaction":
            event["item_id"] = "demo-ramen"
        started = time.monotonic()
        _send(base, [event])
        state = _get(f"{base}/v1/users/{PERSON}")
        took_ms = (time.monotonic() - started) * 1000
        phone = state["devices"].get("phone", {})
        say(
            f"  {what:<38} → {state['counters']}"
            + (f", phone: {', '.join(_told(phone))}" if phone else "")
            + f"  ({took_ms:.0f} ms from event to answer)"
        )


def _told(device: dict[str, Any]) -> list[str]:
    activity = list(device.get("activity", {}))
    return [*activity, *(device[key] for key in ("place", "orientation") if key in device)]


def _wait(base: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise KairosError("the service ended before it was ready")
        try:
            _get(f"{base}/readyz")
            _get(f"{base}/openapi.json")
            return
        except OSError:
            time.sleep(0.2)
    raise KairosError(f"the service was not ready in {READY_S} s")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def _send(base: str, events: list[dict[str, Any]]) -> None:
    request = urllib.request.Request(
        f"{base}/v1/events?wait=folded",
        json.dumps(events).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=15) as answer:
        report = json.load(answer)
    if report["rejected"]:
        raise KairosError(f"the demo's own event was rejected: {report['rejected'][0]}")


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
