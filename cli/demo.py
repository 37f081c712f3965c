"""`kairos demo`: a simulated recipe app, imported, trained, served; one person through a day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from cli.terminal import console, say
from engine.errors import KairosError
from engine.settings import Settings

READY_S = 120
TRAINED = (0, 3)  # exit codes: published; not better than what serves
SHOWN = 4
ASKED = ["title", "categories", "minutes"]
MODULES, ITEMS = 4, 3
LISTED = 2  # recipes put on the shopping list


class Scene(NamedTuple):
    """A moment of a day, as a phone tells of it."""

    clock: str  # local
    what: str
    device: dict[str, Any]


class Offered(NamedTuple):
    """A message that a push service asks about, from a time of the day on."""

    clock: str
    message_id: str
    what: str
    category: str
    lasts_h: float


MESSAGES = (
    Offered("12:40", "dinner", "what to cook tonight", "dinner_ideas", 9),
    Offered("18:40", "side_dish", "a side dish that goes with it", "dinner_ideas", 20),
    Offered("22:45", "breakfast", "a new breakfast", "new_recipes", 20),
)

DAY = (
    Scene("07:10", "wakes up, phone charging beside the bed",
          {"place": "home", "activity": "still", "charging": True, "screen": "on"}),
    Scene("08:20", "on the bus to work",
          {"place": "transit", "activity": "in_vehicle", "headphones": True}),
    Scene("12:40", "at the desk, in a meeting until lunch",
          {"place": "work", "activity": "still", "ringer": "silent"}),
    Scene("17:50", "walks into the supermarket", {"place": "supermarket", "activity": "walking"}),
    Scene("18:40", "in the kitchen, phone on the table, taps 'start cooking'",
          {"place": "home", "activity": "still", "orientation": "face_up", "label": "cooking"}),
    Scene("20:30", "on the sofa, puts the phone down on the table",
          {"place": "home", "activity": "still", "orientation": "face_up", "screen": "off",
           "ringer": "normal"}),
    Scene("22:45", "lies in bed, browsing",
          {"place": "home", "activity": "still", "charging": True, "brightness": 0.1}),
)  # fmt: skip


def run_demo(settings: Settings, users: int, days: int, once: bool) -> None:
    """Build, import, train, serve, show; leaves the server running until Ctrl-C unless `once`."""
    home = settings.home_path / "demo"
    environ = os.environ | {"KAIROS_HOME": str(home), "KAIROS_PORT": str(settings.port)}
    person = _build(users, days, environ)
    server = subprocess.Popen(_kairos("up"), env=environ)
    try:
        base = f"http://{settings.host}:{settings.port}"
        with console().status("starting the service"):
            _wait(base, server)
        _walk(base, person)
        _learn_at_once(base, person)
        if not once:
            say(f"\nThe server goes on at {base} (try {base}/docs). Ctrl-C stops it.")
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)


def _build(users: int, days: int, environ: Mapping[str, str]) -> str:
    """Simulate, import and train; returns the person to follow."""
    start = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "world.jsonl"
        say(f"1. A simulated recipe app: {users:,} people over {days} days")
        asked = ["--users", str(users), "--days", str(days), "--start", start]
        with file.open("wb") as out:
            subprocess.run(_kairos("simulate", *asked), env=environ, stdout=out, check=True)
        say("2. Its log, imported and folded")
        subprocess.run(_kairos("import", str(file)), env=environ, check=True)
        person = _busy_person(file)
    say("3. Models, trained on it and published")
    code = subprocess.run(_kairos("train"), env=environ, check=False).returncode
    if code not in TRAINED:
        raise KairosError("training failed")
    return person


def _busy_person(file: Path) -> str:
    """Somebody with a full history."""
    acts: Counter[str] = Counter()
    with file.open("rb") as lines:
        for line in lines:
            if b'"interaction"' in line:
                acts[json.loads(line)["user_id"]] += 1
    ordered = acts.most_common()
    return ordered[len(ordered) // 10][0]


def _walk(base: str, person: str) -> None:
    zone = ZoneInfo(_get(f"{base}/v1/users/{person}")["attributes"].get("time_zone", "UTC"))
    listed = _recommend(base, person)["items"][:LISTED]
    for item in listed:
        _act(base, person, "add_to_cart", item["item_id"])
    say(f"\n4. {person} puts {' and '.join(map(_titled, listed))} on the list")
    say(f"\n5. One day of {person} ({zone.key}): their home screen and their pushes, and why")
    before: list[str] = []
    pushes = _Pushes(base, person)
    for scene in DAY:
        hour, minute = map(int, scene.clock.split(":"))
        at = datetime.now(zone).replace(hour=hour, minute=minute, second=0, microsecond=0)
        device = scene.device | {"time_zone": zone.key}
        page = _page(base, person, at=at.isoformat(), device=device, locale="en")
        situation = page["situation"]
        name = f"{situation['name']} ({situation['confidence']:.0%})"
        say(f"\n   {scene.clock}  {scene.what} → {name}")
        for module in page["modules"]:
            mark = " " if module["module_id"] in before or not before else "+"
            say(f"     {mark} {module['title']:<44} {_worth(module)}")
            for item in module["items"]:
                say(f"         {_titled(item)}")
        before = [module["module_id"] for module in page["modules"]]
        pushes.ask(scene.clock, at, device)


class _Pushes:
    """What a push service does: asks, and asks again when the time it was told has come."""

    def __init__(self, base: str, person: str) -> None:
        self._base = base
        self._person = person
        self._run = time.time_ns()  # another message for each run of the demo
        self._waiting: dict[str, datetime] = {}

    def ask(self, clock: str, at: datetime, device: Mapping[str, Any]) -> None:
        """About messages that are new, and those whose time has come."""
        self._waiting |= {one.message_id: at for one in MESSAGES if one.clock == clock}
        for one in MESSAGES:
            due = self._waiting.get(one.message_id)
            if due is None or due > at:
                continue
            decision = self._decide(one, at, device)
            del self._waiting[one.message_id]
            if until := decision.get("hold_until"):
                self._waiting[one.message_id] = datetime.fromisoformat(until).astimezone(at.tzinfo)
            reasons = "; ".join(reason["text"] for reason in decision["reasons"])
            say(f"     push: {one.what} → {decision['action'].upper()}, {reasons}")

    def _decide(self, one: Offered, at: datetime, device: Mapping[str, Any]) -> Any:
        hour, minute = map(int, one.clock.split(":"))
        expires = at.replace(hour=hour, minute=minute) + timedelta(hours=one.lasts_h)
        message = {"message_id": f"{one.message_id}-{self._run}", "category": one.category,
                   "expires_at": expires.isoformat()}  # fmt: skip
        asked = {"requests": [{"user_id": self._person, "device": device}], "message": message,
                 "at": at.isoformat(), "explore": False}  # fmt: skip
        [decision] = _post(f"{self._base}/v1/push/score", asked)["decisions"]
        return decision


def _learn_at_once(base: str, person: str) -> None:
    """One save, and the next answer is another."""
    first = _recommend(base, person)
    item = first["items"][0]
    started = time.monotonic()
    _act(base, person, "save", item["item_id"], decision_id=first["decision_id"])
    after = _recommend(base, person)
    took_ms = (time.monotonic() - started) * 1000
    say(f"\n6. {person} saves {_titled(item)}; {took_ms:.0f} ms later the next answer:")
    before = {shown["item_id"] for shown in first["items"]}
    for shown in after["items"]:
        say(f"     {'+' if shown['item_id'] not in before else ' '} {_titled(shown)}")
    say(f"   What was decided, and why: {base}/v1/decisions/{first['decision_id']}")


def _act(base: str, person: str, action: str, item_id: str, **fields: Any) -> None:
    """Something the person does; counts when this returns."""
    event = {"type": "interaction", "event_id": f"demo-{time.time_ns()}", "user_id": person,
             "action": action, "item_id": item_id, "ts": time.time()}  # fmt: skip
    _post(f"{base}/v1/events?wait=folded", [event | fields])


def _page(base: str, person: str, **fields: Any) -> Any:
    body = {"user_id": person, "modules": MODULES, "items_per_module": ITEMS, "explain": True,
            "explore": False, "dry_run": True, "attributes": ASKED}  # fmt: skip
    return _post(f"{base}/v1/page", body | fields)


def _recommend(base: str, person: str, **fields: Any) -> Any:
    body = {"user_id": person, "size": SHOWN, "explore": False, "attributes": ASKED}
    return _post(f"{base}/v1/recommend", body | fields)


def _titled(item: dict[str, Any]) -> str:
    told = item.get("attributes", {})
    kinds = ", ".join((told.get("categories") or [])[:2])
    return f"{told.get('title') or item['item_id']} ({kinds}, {told.get('minutes')} min)"


def _worth(module: dict[str, Any]) -> str:
    return f"worth {module['score']:.2g} a look"


def _kairos(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *arguments]


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


def _post(url: str, body: Any) -> Any:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.load(answer)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
