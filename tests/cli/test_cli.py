"""The commands themselves: what they say, how they end, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Until = Callable[[Callable[[], Any], str], Any]
Runs = Callable[[int], bool]


def errors(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("error: ")]


def says(home: Any, *arguments: object, **environ: str) -> str:
    """The one line with which a command ends in exit code 1."""
    out, err = home.run(*arguments, code=1, **environ)
    assert out == ""
    assert len(err.splitlines()) == len(errors(err)) == 1, err
    return err.strip().removeprefix("error: ")


# Help and configuration


def test_help_names_every_command(home: Any) -> None:
    out, _ = home.run("--help")
    for name in ("up", "demo", "check", "import", "replay", "rebuild", "tail", "keys", "erase"):
        assert f" {name} " in out
    assert "Traceback" not in home.run("nonsense", code=2)[1]


def test_check_says_what_is_right(home: Any) -> None:
    told = home.run("check")[0].splitlines()
    assert told[:3] == ["settings: ok", "actions: ok, 16 declared", "objective: ok, 6 outcomes"]
    assert json.loads(home.run("check", "--json")[0])["settings"] == "ok"
    own = home.folder / "actions.yaml"
    own.write_text("wave: {weight: 2, needs_item: false}\n")
    assert "actions: ok, 1 declared" in home.run("check", KAIROS_ACTIONS=str(own))[0]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("prot = 8300\n", "kairos.toml: prot: no such setting; did you mean port?"),
        ("port = 'many'\n", "settings: Expected `int`, got `str` - at `$.port`"),
        ("port = 99999\n", "at `$.port`"),
        ("port =\n", "kairos.toml: Invalid value (at line 1, column 7)"),
        ("\xff\n", "kairos.toml: 'utf-8' codec"),
    ],
)
def test_check_names_the_key_at_fault(home: Any, toml: str, said: str) -> None:
    (home.folder / "kairos.toml").write_bytes(toml.encode("latin-1"))
    del home.environ["KAIROS_PORT"]
    assert said in says(home, "check")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("view: {weight: heavy}\n", "Expected `float`, got `str` - at `$[...].weight`"),
        ("view: {wieght: 1}\n", "contains unknown field `wieght`"),
        ("unlike: {weight: 1, undoes: like}\n", "unlike.undoes: 'like' is not declared"),
        ("view: {weight: 1\n", "line 2, column 1"),
        ("- view\n", "Expected `object`, got `array`"),
    ],
)
def test_check_names_what_is_wrong_with_the_actions(home: Any, text: str, said: str) -> None:
    file = home.folder / "actions.yaml"
    file.write_text(text)
    out, err = home.run("check", code=1, KAIROS_ACTIONS=str(file))
    assert out == ""
    assert f"error: {file}: " in err
    assert said in err


def test_check_of_a_missing_actions_file(home: Any) -> None:
    assert "gone.yaml" in says(home, "check", KAIROS_ACTIONS=str(home.folder / "gone.yaml"))


# A store that is not there


@pytest.mark.parametrize(
    "command",
    [["up", "--dev"], ["import", "{file}"], ["keys", "create", "me"], ["rebuild"], ["tail"]],
)
def test_a_store_that_does_not_answer_is_one_line(home: Any, command: list[str]) -> None:
    with socket.socket() as probe:  # bound, never listening: nobody else can take it
        probe.bind(("127.0.0.1", 0))
        url = f"redis://:secret@127.0.0.1:{probe.getsockname()[1]}/0"
        file = home.write("events.jsonl", [])
        said = says(home, *[part.format(file=file) for part in command], KAIROS_REDIS_URL=url)
    assert said.startswith("no Redis or Valkey answers at redis://127.0.0.1:")
    assert "secret" not in said


def test_an_address_that_is_none_is_one_line(home: Any) -> None:
    assert "nonsense" in says(home, "erase", "u", KAIROS_REDIS_URL="nonsense")


# Keys, erasures and the log, beside a service


def test_keys_open_and_close_the_door(home: Any, until: Until) -> None:
    _, err = home.run("keys", "create", "me", "--role", "god", code=2)
    assert "expected ingest, serve or admin, got god" in " ".join(err.replace("│", " ").split())
    rate = ("--rate", "50", "--burst", "20")
    key = home.run("keys", "create", "ops", "--role", "admin", *rate)[0].strip()
    assert key.startswith("kairos_admin_")
    reader = home.run("keys", "create", "app")[0].strip()
    assert reader.startswith("kairos_serve_")
    with home.up() as client:

        def answer(key: str | None) -> httpx.Response:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            return client.get("/v1/users/nobody", headers=headers)

        def status(key: str | None) -> int:
            return answer(key).status_code

        assert [status(key), status(reader), status(None)] == [404, 403, 401]
        assert answer(key).headers["ratelimit-policy"] == '"key";q=20;w=1'
        assert home.run("keys", "revoke", "app")[0] == "revoked 1\n"
        until(lambda: status(reader) == 401, "a revoked key still opens")
        assert says(home, "keys", "revoke", "app") == "no key is named 'app'"


def test_tail_shows_a_record_as_it_comes(
    shared_home: Any, live: httpx.Client, until: Until
) -> None:
    def view(user: str, number: int) -> Any:
        return {
            "type": "interaction", "event_id": f"tail {number}", "user_id": user,
            "action": "view", "item_id": ":pizza:", "ts": time.time(), "query": "tomato ✓ [b]",
        }  # fmt: skip

    tails = [shared_home.start("tail", "--user", "watched"), shared_home.start("tail")]
    for process in tails:
        os.set_blocking(process.stdout.fileno(), False)
    seen: list[list[Any]] = [[], []]
    sent = 0

    def all_seen() -> bool:
        nonlocal sent
        sent += 1
        for user in ("watched", "another"):
            live.post("/v1/events", json=view(user, sent)).raise_for_status()
        time.sleep(0.1)
        for process, records in zip(tails, seen, strict=True):
            assert process.poll() is None
            while line := process.stdout.readline():
                records.append(json.loads(line))
        return len(seen[0]) > 2 and len({r.get("user_id") for r in seen[1]} - {None}) == 2

    until(all_seen, "nothing was shown")
    assert {record["user_id"] for record in seen[0]} == {"watched"}
    assert {(r["item_id"], r["query"]) for r in seen[0]} == {(":pizza:", "tomato ✓ [b]")}
    for process in tails:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert shared_home.run("tail", "--dead")[0] == ""


def test_erase_by_command(shared_home: Any, live: httpx.Client, until: Until) -> None:
    event = {"type": "interaction", "event_id": "e", "user_id": "forget me", "action": "view"}
    event |= {"item_id": "soup", "ts": time.time()}
    live.post("/v1/events?wait=folded", json=event).raise_for_status()
    receipt = json.loads(shared_home.run("erase", "forget me", "--json")[0])
    assert receipt["status"] == "pending"
    assert live.get("/v1/users/forget%20me").status_code == 404
    path = f"/v1/erasures/{receipt['receipt_id']}"
    until(lambda: live.get(path).json()["status"] == "done", "it does not end")


# Starting and stopping


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_dev_says_that_it_is_ready_and_stops_clean(
    home: Any, until: Until, runs: Runs, how: signal.Signals
) -> None:
    process = home.start("up", "--dev")
    lines = []
    while not (line := process.stdout.readline()).startswith("Kairos is ready"):
        assert line, process.communicate()[1]
        lines.append(line)
    assert line == f"Kairos is ready at {home.url}\n"
    assert any("no API keys exist" in line for line in lines)
    event = {"type": "item", "item_id": "soup", "attributes": {"title": "Soup"}}
    assert httpx.post(f"{home.url}/v1/events", json=event, trust_env=False).status_code == 202
    children = _children(process.pid)
    assert home.store_pid() in children
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in out + err
    assert [child for child in children if runs(child)] == []
    assert home.store_pid() is None
    with home.store() as store:
        assert [raw for _, raws in [store.all_items()] for raw in raws] != []


def _children(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listing.stdout.splitlines()[1:]]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def test_a_port_in_use_is_one_line_and_nothing_is_started(home: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", home.port))
        other.listen()
        said = says(home, "up", "--dev")
        assert said == f"port: cannot listen on 127.0.0.1:{home.port}: Address already in use"
    assert home.store_pid() is None
    assert not Path(home.environ["KAIROS_HOME"]).exists()


def test_a_service_open_to_others_needs_a_key(home: Any, runs: Runs) -> None:
    said = says(home, "up", "--dev", "--host", "0.0.0.0")
    assert "kairos keys create" in said
    assert home.store_pid() is None


@pytest.mark.slow  # Ray starts
def test_the_demo_runs_to_its_end(home: Any) -> None:
    out, _ = home.run("demo", "--once", "--users", "60", "--days", "7", "--port", home.port)
    assert "60 people over 7 days" in out
    assert "0 rejected" in out
    for situation in ("commuting", "shopping", "cooking", "in_bed"):
        assert f"→ {situation} (" in out
    assert f"{home.url}/v1/decisions/" in out
    with socket.socket() as probe:
        probe.settimeout(1)
        assert probe.connect_ex(("127.0.0.1", home.port)) != 0, "it goes on serving"
