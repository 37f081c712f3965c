"""Each event exactly once, while every process of the service is killed again and again.

    python -m loadtests.exactly_once --events 20000 --kills 20 --senders 50 --seed 1

Starts a `kairos up` of its own (store append-only `always`), sends every event three times in
random order from concurrent senders that repeat until they are acknowledged, and meanwhile
SIGKILLs folders, ingest replicas, the store and the rest, stops a folder until it is replaced and
lets it wake, and erases a person. Then every person's and every item's totals are compared with
an oracle's (loadtests/oracle.py), and all of every person's state with `kairos replay`. Prints
one JSON object; exit code 0 only if all of it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from loadtests.oracle import (
    ERASED,
    ERASED_ITEMS,
    ERASED_VISITOR,
    Event,
    World,
    differences,
    events_after_erasure,
    item_events,
    make_world,
    probe_events,
    tally,
)
from loadtests.provenance import provenance
from loadtests.service import Service

COPIES = 3
BATCH = 20
ANSWER_S = 10.0  # a sender that waited so long sends again: the first may have got through
RECOVER_S = 60.0
STALL_S = 120.0
SETTLE_S = 60.0  # the bar: nothing pending so long after the last acknowledgement
ERASE_S = 60.0
SETTINGS = {"APPENDFSYNC": "always", "LEASE_MS": "1000", "ARCHIVE_INTERVAL_S": "1"}


TOTALS = (
    "events_appended",
    "events_folded",
    "events_duplicate",
    "events_forgotten",
    "events_dead",
    "duplicates_at_edge",
)


class Broken(Exception):
    """Something that must hold did not."""


@dataclass(slots=True)
class Sending:
    """Batches still to be sent, and what became of the others."""

    batches: list[list[Event]]
    taken: int = 0
    acknowledged: int = 0  # batches
    allowed: int = 0  # so many may be taken by now: what is killed is killed under load
    statuses: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    last: float = 0.0


class Run:
    """One run against a service that is up."""

    def __init__(self, service: Service, client: httpx.AsyncClient, seed: int) -> None:
        self.service = service
        self.client = client
        self.rng = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.zombies_s: list[float] = []
        self.receipts: list[str] = []
        self.erased_ms = 0
        self.extra: list[Event] = []

    # -- HTTP

    async def ask(self, method: str, path: str, statuses: Counter[str], **options: Any) -> Any:
        """Repeat until there is an answer below 500; 404 is one. Raises Broken for other 4xx."""
        deadline = time.monotonic() + RECOVER_S * 2
        while time.monotonic() < deadline:
            try:
                answer = await self.client.request(method, path, **options)
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
            else:
                statuses[str(answer.status_code)] += 1
                if answer.status_code < 400:
                    return answer.json()
                if answer.status_code == 404 and method == "GET":
                    return None
                if answer.status_code < 500 and answer.status_code not in (408, 429):
                    raise Broken(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
        raise Broken(f"{method} {path}: no answer in {RECOVER_S * 2:.0f} s: {dict(statuses)}")

    async def post(self, events: list[Event], sending: Sending, wait: bool = False) -> None:
        path = "/v1/events" + "?wait=folded" * wait
        report = await self.ask("POST", path, sending.statuses, json=events)
        if report["rejected"] or report["accepted"] + report["duplicates"] != len(events):
            raise Broken(f"events were refused: {report}")
        sending.ids |= {event["event_id"] for event in events if "event_id" in event}
        sending.last = time.monotonic()

    async def send(self, sending: Sending) -> None:
        """One of the concurrent senders."""
        while sending.taken < len(sending.batches):
            if sending.taken >= sending.allowed:
                await asyncio.sleep(0.01)
                continue
            batch = sending.batches[sending.taken]
            sending.taken += 1
            await self.post(batch, sending)
            sending.acknowledged += 1

    async def get(self, path: str) -> Any:
        return await self.ask("GET", path, Counter())

    async def metric(self, name: str) -> float:
        """A metric's value, as /metrics says it; repeats while the store is away."""
        deadline = time.monotonic() + RECOVER_S
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                for line in (await self.client.get("/metrics")).text.splitlines():
                    if line.startswith(name + " "):
                        return float(line.rpartition(" ")[2])
            await asyncio.sleep(0.1)
        raise Broken(f"/metrics did not tell {name}")

    # -- what is done to the service

    async def kill(self, part: str) -> None:
        """SIGKILL every process of a part, once there is one."""
        await self.until(lambda: bool(self.service.pids(part)), f"a {part} to kill", RECOVER_S)
        if self.service.signal(part, signal.SIGKILL):
            self.killed[part] += 1

    async def zombie(self, sending: Sending) -> None:
        """Freeze the folders until another folds in their place, then let them wake."""
        await self.until(lambda: bool(self.service.pids("folder")), "a folder", RECOVER_S)
        frozen = self.service.signal("folder", signal.SIGSTOP)
        started = time.monotonic()
        try:
            probes = probe_events(len(self.zombies_s), _now_ms())
            await self.post(probes, sending)
            self.extra += probes
            for event in probes:
                while await self.get(f"/v1/users/{event['user_id']}") is None:
                    if time.monotonic() - started > RECOVER_S:
                        raise Broken("nobody folds in place of the folder that was stopped")
                    await asyncio.sleep(0.1)
        finally:
            for pid in frozen:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.zombies_s.append(round(time.monotonic() - started, 1))

    async def erase(self, sending: Sending, seed: int) -> None:
        """Forget one person; what they do afterwards is sent among the rest, three times too."""
        receipt = await self.ask("DELETE", f"/v1/users/{ERASED}", Counter())
        self.receipts.append(receipt["receipt_id"])
        asked = datetime.fromisoformat(receipt["asked_at"].replace("Z", "+00:00"))
        self.erased_ms = round(asked.timestamp() * 1000)
        await asyncio.sleep(0.1)
        events = events_after_erasure(self.erased_ms + 1, _now_ms(), seed)
        self.extra += events
        for event in events * COPIES:
            place = self.rng.randrange(sending.taken, len(sending.batches))
            sending.batches[place].append(event)

    async def until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise Broken(f"not within {seconds:.0f} s: {what}\n{self.service.tail()}")
            await asyncio.sleep(0.05)

    async def reached(self, sending: Sending, batches: float) -> None:
        await self.until(lambda: sending.acknowledged >= batches, "acknowledgements", STALL_S)

    async def storm(self, sending: Sending, kills: int, zombies: int, seed: int) -> None:
        """All that is done to the service, spread evenly over the acknowledgements."""
        few = -(-kills // 5)
        deeds: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        for part, times in {"folder": kills, "ingest": kills, "store": kills}.items():
            deeds += [(f"kill {part}", lambda part=part: self.kill(part))] * times  # type: ignore[misc]
        for part in ("decide", "archiver"):
            deeds += [(f"kill {part}", lambda part=part: self.kill(part))] * few  # type: ignore[misc]
        deeds += [("zombie", lambda: self.zombie(sending))] * zombies
        self.rng.shuffle(deeds)
        deeds.insert(len(deeds) // 2, ("erase", lambda: self.erase(sending, seed)))
        share = len(sending.batches) / (len(deeds) + 1)
        for number, (name, deed) in enumerate(deeds):
            sending.allowed = round((number + 2) * share)
            await self.reached(sending, (number + 0.5) * share)
            say(
                f"{sending.acknowledged:>5} of {len(sending.batches)} batches acknowledged, "
                f"{number + 1}/{len(deeds)}: {name}"
            )
            await deed()
        sending.allowed = len(sending.batches)

    # -- what must hold at the end

    async def settle(self) -> float:
        """Seconds until nothing is pending and that lasts."""
        started = time.monotonic()
        calm_since: float | None = None
        ready: Any = None
        while time.monotonic() - started < SETTLE_S:
            ready = await self.get("/readyz")
            if ready["fold_lag_events"] != 0:
                calm_since = None
            elif calm_since is None:
                calm_since = time.monotonic()
            elif time.monotonic() - calm_since > 3:
                return calm_since - started
            await asyncio.sleep(0.1)
        raise Broken(f"still pending after {SETTLE_S:.0f} s: {ready}")

    async def erasures_done(self) -> float:
        started = time.monotonic()
        for receipt_id in self.receipts:
            while (await self.get(f"/v1/erasures/{receipt_id}"))["status"] != "done":
                if time.monotonic() - started > ERASE_S:
                    raise Broken(f"the erasure is not done after {ERASE_S:.0f} s")
                await asyncio.sleep(0.2)
        return time.monotonic() - started

    async def compare(self, world: World) -> tuple[dict[str, Any], dict[str, tuple[int, Event]]]:
        """Every person and item against the oracle; also answers: user -> (time, state)."""
        ends = world.people
        counted = [e for e in world.events if ends[e["user_id"]] != ERASED] + self.extra
        people, items = tally(world, counted)
        wrong: list[str] = []
        worst, answers = 0.0, {}
        for user, person in people.items():
            before = _now_ms()
            said = await self.get(f"/v1/users/{user}")
            if said is None:
                wrong.append(f"{user}: nothing is known")
                continue
            found, error, at_ms = differences(user, person, said, (before, _now_ms()))
            wrong += found
            worst = max(worst, error)
            answers[user] = (at_ms, said)
        for previous, end in ends.items():
            said = await self.get(f"/v1/users/{previous}") if previous != end else None
            if previous == ERASED_VISITOR:
                wrong += [f"{previous} is not forgotten"] if said is not None else []
            elif previous != end and (said is None or said["user_id"] != end):
                wrong.append(f"{previous} does not lead to {end}")
        wrong += await self.wrong_items(world, items)
        if wrong:
            raise Broken(f"{len(wrong)} differences: " + "; ".join(wrong[:10]))
        totals = sum(sum(p.counters.values()) + p.opened for p in people.values())
        figures = {
            "people_compared": len(people),
            "items_compared": len(world.items) - len(ERASED_ITEMS),
            "interactions_and_pushes_counted": totals,
            "worst_decayed_error": worst,
        }
        return figures, answers

    async def wrong_items(self, world: World, items: dict[str, Counter[str]]) -> list[str]:
        """Items whose totals differ; a replica may be a second behind with them."""
        wrong: list[str] = []
        for name in world.items:
            if name in ERASED_ITEMS:  # what was erased stays in the totals of items, or not
                continue
            wanted, deadline = dict(items.get(name, {})), time.monotonic() + 5
            while (got := (await self.get(f"/v1/items/{name}"))["counters"]) != wanted:
                if time.monotonic() > deadline:
                    wrong.append(f"{name}: expected {wanted}, got {got}")
                    break
                await asyncio.sleep(0.2)
        return wrong

    def compare_replay(self, answers: dict[str, tuple[int, Event]]) -> int:
        """Each answer against the log folded again, as of the same millisecond: all of it equal.

        The answers' decayed values are doubles written so that reading gives back every bit.
        """
        points, out = self.service.home / "points.csv", self.service.home / "replayed"
        with points.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "time"])
            writer.writerows([user, at_ms] for user, (at_ms, _) in answers.items())
        command = [sys.executable, "-m", "cli.main", "replay", "--points", str(points)]
        done = subprocess.run(
            [*command, "--out", str(out), "--workers", "1"],
            cwd=self.service.home,
            env=self.service.environ,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Broken(f"kairos replay failed: {done.stderr[-2000:]}")
        frame = pl.read_parquet(out / "states.parquet")
        wrong = []
        for user, state in zip(frame["user_id"], frame["state"], strict=True):
            replayed, said = json.loads(state) if state else {}, answers[user][1]
            for view in (replayed, said):  # caps are of the ledger and of now, not of the log
                view.get("push", {}).pop("caps_left", None)
            wrong += [f"{user}.{k}" for k in said if said[k] != replayed.get(k)]
        if wrong or len(frame) != len(answers):
            raise Broken(f"replay differs in {len(wrong)} places: {wrong[:10]}")
        return len(frame)


def shuffled(world: World, rng: random.Random) -> list[list[Event]]:
    """All copies in batches; half of what will be erased comes only when it has been."""
    private = [e for e in world.events if world.people[e["user_id"]] == ERASED]
    late = {event["event_id"] for event in private[::2]}
    early = [e for e in [*world.events, *world.aliases[1]] if e["event_id"] not in late]
    copies = early * COPIES
    rng.shuffle(copies)
    batches = [copies[i : i + BATCH] for i in range(0, len(copies), BATCH)]
    for event in private[::2] * COPIES:
        batches[rng.randrange(len(batches) * 3 // 4, len(batches))].append(event)
    return batches


async def run(service: Service, args: argparse.Namespace) -> dict[str, Any]:
    """The whole test; raises Broken where something does not hold."""
    world = make_world(args.events, args.seed, _now_ms())
    before, amid, after = world.aliases
    sending = Sending(shuffled(world, random.Random(args.seed + 2)))
    limits = httpx.Limits(max_connections=args.senders + 5)
    async with httpx.AsyncClient(
        base_url=service.url, timeout=ANSWER_S, limits=limits, trust_env=False
    ) as client:
        test = Run(service, client, args.seed + 3)
        await test.post(item_events(world), sending, wait=True)
        await test.post(before * COPIES, sending, wait=True)
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(args.senders):
                tasks.create_task(test.send(sending))
            tasks.create_task(test.storm(sending, args.kills, args.zombies, args.seed))
        await test.post(after * COPIES, sending)
        storm_s = time.monotonic() - started
        say("all is acknowledged; waiting until nothing is pending")
        settle_s = await test.settle()
        erase_s = await test.erasures_done()
        compared, answers = await test.compare(world)
        say("totals are the oracle's; folding the log again")
        replayed = test.compare_replay(answers)
        totals = {name: int(await test.metric(f"kairos_{name}_total")) for name in TOTALS}
    wanted = {e["event_id"] for e in [*world.events, *test.extra, *before, *amid, *after]}
    if sending.ids != wanted:
        raise Broken(f"{len(wanted - sending.ids)} events were never acknowledged")
    if not totals["events_forgotten"]:
        raise Broken("no event of the erased person came late: nothing was shown")
    if totals["events_dead"]:
        raise Broken(f"{totals['events_dead']} records were set aside")
    return {
        "events": len(wanted),
        "copies_sent": sum(map(len, sending.batches)) + COPIES * len([*before, *after]),
        "events_acknowledged": len(sending.ids),
        "acknowledged_lost": 0,
        "killed": dict(test.killed),
        "zombies_replaced_after_s": test.zombies_s,
        "erased_done_after_s": round(erase_s, 1),
        "answers_to_senders": dict(sorted(sending.statuses.items())),
        "storm_s": round(storm_s, 1),
        "nothing_pending_after_s": round(settle_s, 1),
        "states_equal_to_replay": replayed,
        "log": totals,
        **compared,
    }


def main() -> None:
    """Run, print the figures; exit code 1 where something does not hold."""
    args = _arguments()
    failures: list[str] = []
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="exactly-once-") as folder,
        Service(args.home or Path(folder) / "home", SETTINGS) as service,
    ):
        try:
            figures = _test(service, args)
        except* (Broken, RuntimeError) as group:
            failures = [str(error) for error in group.exceptions]
        if failures:
            log = f"the service's log is {service.log}" if args.home else service.tail()
            say("\n".join([*failures, log]))
    report: dict[str, Any] = {"test": "exactly_once", "holds": not failures}
    report |= {"failures": failures, "figures": figures} | provenance()
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    sys.exit(1 if failures else 0)


def _test(service: Service, args: argparse.Namespace) -> dict[str, Any]:
    say(f"starting kairos up under {service.home}")
    figures = {"up_s": round(service.start(), 1)} | asyncio.run(run(service, args))
    code, stop_s = service.stop()
    left = service.processes()
    if code or left:
        raise Broken(f"kairos up ended with {code} and left {left}")
    return figures | {"stop_s": round(stop_s, 1)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20, help="of each: folder, ingest, store")
    parser.add_argument("--zombies", type=int, default=1, help="folders stopped, then continued")
    parser.add_argument("--senders", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="keep the service's files here")
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _now_ms() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    main()
