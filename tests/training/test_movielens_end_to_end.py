"""Real ratings through the whole service: imported, served, replayed; and equal all the way."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from engine.archive import Archive
from engine.ids import partition_of
from engine.redis_store import RedisStore
from engine.settings import Settings, load_settings
from engine.state import encode_state
from serving.folders import rules_of
from training import movielens
from training.replay import WholeLog, replay

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("KAIROS_DATA") or ROOT / "../shared/data")
pytestmark = pytest.mark.skipif(
    not (DATA / "movielens_small").is_dir(),
    reason=f"no movielens_small in {DATA}: set KAIROS_DATA to the folder that holds it",
)
PATIENCE_S = 200.0
RATINGS, USERS = 100_836, 610


class Served:
    """The data set imported by the command, and `kairos up --dev` on it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.home = folder / "home"
        self.environ = {
            "KAIROS_HOME": str(self.home),
            "KAIROS_PORT": str(port),
            "KAIROS_ARCHIVE_INTERVAL_S": "0.3",
            "KAIROS_READ_TIMEOUT_MS": "5000",  # a busy machine is not a dead store
            "KAIROS_DEADLINE_MS": "10000",
            "KAIROS_BATCH_DEADLINE_MS": "20000",
        }
        self.log = folder / "up.log"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "cli.main", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        ours = {name: text for name, text in os.environ.items() if "KAIROS_" not in name}
        return ours | self.environ

    def imported(self, file: Path) -> Any:
        done = subprocess.run(
            self.command("import", file, "--json"),
            env=self.environment(), cwd=self.home.parent, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("up", "--dev"),
                env=self.environment(), cwd=self.home.parent, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            with contextlib.suppress(httpx.HTTPError):
                if self.client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()[-4000:]

    def clean(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads((self.home / "store" / "server.json").read_text())
            os.kill(known["pid"], signal.SIGKILL)

    @property
    def settings(self) -> Settings:
        known = json.loads((self.home / "store" / "server.json").read_text())
        url = f"redis://:{known['password']}@127.0.0.1:{known['port']}/0"
        more = {"KAIROS_REDIS_URL": url, "KAIROS_STORE_TIMEOUT_MS": "10000"}
        return load_settings(self.environ | more, self.home / "none.toml")

    def user(self, user_id: str) -> Any:
        answer = self.client.get(f"/v1/users/{user_id}")
        return answer.json() if answer.status_code == 200 else None

    def send(self, events: list[dict[str, Any]]) -> Any:
        answer = self.client.post("/v1/events?wait=folded", json=events)
        assert answer.status_code == 202, answer.text
        assert answer.json()["folded"] is True
        assert answer.json()["rejected"] == []
        return answer.json()

    def quiet(self) -> None:
        """Until everything is folded, what aliases send across partitions included."""
        store = RedisStore.connect(self.settings)
        still = 0
        deadline = time.monotonic() + PATIENCE_S
        while still < 5:
            assert time.monotonic() < deadline, "it never was quiet"
            behind = [p for p in store.progress(range(16)) if p.oldest_ms is not None]
            still = 0 if behind else still + 1
            time.sleep(0.03)
        store.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("movielens")
    file = folder / "events.jsonl.gz"
    count = movielens.write(DATA, file)
    made = Served(folder)
    try:
        report = made.imported(file)
        assert (report["lines"], report["accepted"]) == (count, count)
        assert (report["duplicates"], report["rejected"]) == (0, 0)
        made.start()
        yield made
        made.stop()
    finally:
        made.clean()
    assert "Traceback" not in made.log.read_text()


@pytest.fixture(scope="module")
def ratings() -> pl.DataFrame:
    """userId, movieId, timestamp and genres, each user's in time order, ties as in the file."""
    folder = DATA / "movielens_small"
    movies = pl.read_parquet(folder / "movies.parquet").select("movieId", "genres")
    table = pl.read_parquet(folder / "ratings.parquet").sort("timestamp", maintain_order=True)
    return table.join(movies, on="movieId", how="left", maintain_order="left")


def served_and_replayed(served: Served) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Every user's packed state, as the store has it and as replay makes it."""
    settings = served.settings
    store = RedisStore.connect(settings)
    partitions = range(settings.partitions)
    stored = {user: encode_state(s) for p in partitions for user, s in store.states(p)}
    log = WholeLog(Archive(settings.archive_path), store)
    found = replay(log, partitions, settings.partitions, rules_of(settings), [])
    store.close()
    return stored, {user: encode_state(state) for user, state in found.states.items()}


def assert_equal(served: Served) -> dict[str, bytes]:
    stored, replayed = served_and_replayed(served)
    assert stored.keys() == replayed.keys()
    assert [user for user in stored if stored[user] != replayed[user]] == []
    return stored


def test_states_are_what_the_ratings_say(served: Served, ratings: pl.DataFrame) -> None:
    sample = [414, 53, *random.Random(3).sample(range(1, USERS + 1), 40)]  # most, fewest, some
    for user_id in dict.fromkeys(sample):
        own = ratings.filter(pl.col("userId") == user_id)
        state = served.user(str(user_id))
        assert state["counters"] == {"rate": own.height}
        movies = own["movieId"].cast(pl.String).to_list()
        assert state["recent"] == movies[:-51:-1]
        assert state["seen_items"] == min(own.height, 1000)
        genres = (
            own.select(pl.col("genres").str.split("|"), pl.col("timestamp"))
            .explode("genres", empty_as_null=True)
            .filter(pl.col("genres") != "(no genres listed)")
        )
        totals = dict(genres["genres"].value_counts().iter_rows())
        assert {name: c["total"] for name, c in state["categories"].items()} == totals
        assert _seconds(state["first_seen"]) == own["timestamp"].min()
        assert _seconds(state["last_seen"]) == own["timestamp"].max()
        assert [_seconds(touch["ts"]) for touch in state["touches"]] == (
            own["timestamp"].to_list()[:-51:-1]
        )
        _check_decayed(state, genres, own["timestamp"].to_list())


def _check_decayed(state: Any, genres: pl.DataFrame, times: list[int]) -> None:
    now = time.time()
    months = sum(2 ** (-(now - at) / (30 * 86_400)) for at in times)
    assert state["actions"]["rate"]["month"] == pytest.approx(months, rel=1e-3)
    for name, counter in state["categories"].items():
        of_genre = genres.filter(pl.col("genres") == name)["timestamp"].to_list()
        weighted = 3 * sum(2 ** (-(now - at) / (30 * 86_400)) for at in of_genre)
        assert counter["month"] == pytest.approx(weighted, rel=1e-3)


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).astimezone(UTC).timestamp()


def test_replay_gives_every_state_bit_for_bit(served: Served) -> None:
    assert len(assert_equal(served)) == USERS


def test_and_after_live_events_on_top(served: Served) -> None:
    """Aliases, devices, impressions, pushes, duplicates, an erasure, and acts after each."""
    chance = random.Random(11)
    run = _Live(served, chance)
    for _ in range(6):
        run.send_some()
    run.log_in("visitor", "1")
    run.log_in("visitor", "1")  # said twice
    run.log_in("2", "3")  # a person with a history becomes another
    run.log_in("3", "4")  # and that one a third
    run.send_some(["visitor", "2", "3", "4", "1"])
    served.quiet()
    states = assert_equal(served)
    assert len(states) == USERS + 1
    assert served.user("2")["user_id"] == "4"
    assert served.user("4")["counters"]["rate"] > 0

    receipt = served.client.delete("/v1/users/3").json()["receipt_id"]
    run.send_some(["2", "3", "4", "5"])  # the erased come back, under any of their ids
    deadline = time.monotonic() + PATIENCE_S
    while served.client.get(f"/v1/erasures/{receipt}").json()["status"] != "done":
        assert time.monotonic() < deadline, "the erasure does not end"
        time.sleep(0.1)
    served.quiet()
    states = assert_equal(served)
    assert len(states) == USERS + 1
    assert "rate" not in (served.user("4") or {"counters": {}})["counters"]

    served.stop()
    served.start()
    run.send_some()
    served.quiet()
    assert_equal(served)


class _Live:
    """Live events of every kind by a few of the people; some are sent twice."""

    def __init__(self, served: Served, chance: random.Random) -> None:
        self.served = served
        self.chance = chance
        self.count = 0

    def _event(self, kind: str, user: str, **fields: Any) -> dict[str, Any]:
        self.count += 1
        late_s = self.chance.choice([0, 0, 0, 3600, 3 * 86_400])
        event = {"type": kind, "event_id": f"live-{self.count}", "user_id": user}
        return event | {"ts": time.time() - late_s} | fields

    def log_in(self, visitor: str, user: str) -> None:
        acts = [self._event("interaction", visitor, action="view", item_id="1")]
        self.served.send([*acts, self._event("alias", user, previous_id=visitor)])
        self.served.quiet()

    def send_some(self, users: list[str] | None = None) -> None:
        users = users or [str(self.chance.randrange(1, USERS + 1)) for _ in range(60)]
        users += ["visitor"]
        events = [event for user in users for event in self._session(user)]
        told = self.served.send(events)
        assert told["accepted"] + told["duplicates"] == len(events)
        again = self.chance.sample(events, 30)
        # Of an erased user's or another id's they count anew; here each is known.
        assert self.served.send(again)["duplicates"] > 0

    def _session(self, user: str) -> list[dict[str, Any]]:
        items = [str(self.chance.randrange(1, 200)) for _ in range(6)]
        device = {"device_id": f"phone-{user}", "activity": "walking", "battery": 0.5}
        decision = f"d-{user}-{self.count}"
        shown = [{"position": 0, "item_ids": items[:3]}, {"position": 1, "item_ids": items[3:]}]
        message = {"message_id": f"m-{user}-{self.count}", "category": "news"}
        zone = self.chance.choice(["Asia/Tokyo", "Europe/Berlin", None])
        return [
            {"type": "user", "user_id": user, "attributes": {"time_zone": zone}},
            self._event("device", user, device=device),
            self._event("impression", user, decision_id=decision, shown=shown),
            self._event("interaction", user, action="view", item_id=items[0], decision_id=decision),
            self._event("interaction", user, action="save", item_id="new", device=device),
            self._event("push", user, status="sent", **message),
            self._event("push", user, status=self.chance.choice(["opened", "disabled"]), **message),
        ]


def test_the_people_of_the_test_live_apart() -> None:
    """Else the aliases above would not cross partitions."""
    assert len({partition_of(user, 16) for user in ("visitor", "1")}) == 2
    assert len({partition_of(user, 16) for user in ("2", "3", "4")}) == 3
