"""Faults of Kairos' own processes, and what operators do to them on purpose."""

from __future__ import annotations

import os
import signal
import time

from loadtests.faults.bench import Bench, Outcome, until
from loadtests.faults.store import Fault
from loadtests.steady import Answer, Seen, Steady

BACK_S = 15.0  # the edge is there again
AFTER_S = 20.0
GOOD = {"recommend": 200, "page": 200, "events": 202}


def replica_killed(bench: Bench, seconds: float) -> Outcome:
    """One of the replicas that decide is killed: what was on its way may be lost, no more."""
    return _killed(bench, "decide", one=True)


def ingest_killed(bench: Bench, seconds: float) -> Outcome:
    """The replica that takes events is killed: refused until another is there, none lost."""
    return _killed(bench, "ingest", quiet=("recommend", "page"))


def edge_killed(bench: Bench, seconds: float) -> Outcome:
    """The proxy at the edge is killed, HAProxy or Ray's own: back within 15 seconds."""
    return _killed(bench, "haproxy" if bench.service.pids("haproxy") else "proxy", quiet=())


def controller_killed(bench: Bench, seconds: float) -> Outcome:
    """Ray Serve's controller is killed: nobody who asks notices."""
    return _killed(bench, "controller")


def folder_killed(bench: Bench, seconds: float) -> Outcome:
    """The process that folds is killed: nobody who asks notices, and nothing is lost."""
    return _killed(bench, "folder")


def consumers_off(bench: Bench, seconds: float) -> Outcome:
    """Nobody folds or archives for a while: events are taken, and caught up with afterwards."""
    outcome, before = Outcome(), bench.totals()
    with bench.traffic() as steady:
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:  # those that take their place, too
            bench.service.signal("folder", signal.SIGSTOP)
            bench.service.signal("archiver", signal.SIGSTOP)
            time.sleep(0.5)
        bench.service.signal("folder", signal.SIGCONT)
        bench.service.signal("archiver", signal.SIGCONT)
        time.sleep(AFTER_S)
    _nobody_failed(outcome, steady.since(begin))
    _kept(outcome, bench, steady, before)
    return outcome


def rolling_update(bench: Bench, seconds: float) -> Outcome:
    """Every replica is replaced (SIGHUP) under keep-alive traffic: no request fails."""
    outcome, before = Outcome(), bench.totals()
    pids = set(bench.service.pids("decide") + bench.service.pids("ingest"))
    with bench.traffic() as steady:
        begin = time.monotonic()
        bench.service.hang_up()
        outcome.figures["replaced_after_s"] = round(time.monotonic() - begin, 1)
        time.sleep(AFTER_S)
    after = set(bench.service.pids("decide") + bench.service.pids("ingest"))
    outcome.checks["every replica is another"] = not pids & after
    _nobody_failed(outcome, steady.since(begin))
    _kept(outcome, bench, steady, before)
    return outcome


def scaling(bench: Bench, seconds: float) -> Outcome:
    """One replica, three, one, again and again under keep-alive traffic: no request fails."""
    outcome, before = Outcome(), bench.totals()
    with bench.traffic() as steady:
        begin, turns = time.monotonic(), 0
        while turns == 0 or time.monotonic() < begin + seconds:
            for replicas in (3, 1):
                bench.service.settings_file.write_text(f"replicas = {replicas}\n")
                bench.service.hang_up()
                _wait_for(bench, replicas)
            turns += 1
        time.sleep(2.0)
    outcome.figures["turns"] = turns
    _nobody_failed(outcome, steady.since(begin))
    _kept(outcome, bench, steady, before)
    return outcome


def _wait_for(bench: Bench, replicas: int) -> None:
    until(lambda: len(bench.service.pids("decide")) == replicas, f"{replicas} replicas")


def _killed(
    bench: Bench, part: str, one: bool = False, quiet: tuple[str, ...] = ("recommend", "page")
) -> Outcome:
    """Kill a part; `quiet` kinds of requests must notice nothing unless they were on their way."""
    outcome, before = Outcome(), bench.totals()
    with bench.traffic() as steady:
        pids = bench.service.pids(part)
        outcome.checks["it was there to be killed"] = bool(pids)
        killed = time.monotonic()
        for pid in pids[:1] if one else pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: _replaced(bench, part, pids, one), f"another {part}", 120)
        outcome.figures["replaced_after_s"] = round(time.monotonic() - killed, 1)
        time.sleep(AFTER_S)
    answers = steady.since(killed - 1.0)
    failed = [answer for answer in answers if not _good(answer)]
    on_the_way = [answer for answer in failed if answer.due <= killed]
    noticed = [a for a in failed if a.due > killed and a.kind in quiet]
    outcome.figures["failed_on_the_way"] = len(on_the_way)
    outcome.figures["failed_later"] = Seen.of([a for a in failed if a.due > killed])
    outcome.figures["during"] = Seen.of(answers)
    last = max((answer.due - killed for answer in failed), default=0.0)
    outcome.figures["last_failed_after_s"] = round(last, 1)
    outcome.checks[f"nobody else noticed: {', '.join(quiet) or 'none'}"] = not noticed
    outcome.timing[f"all is well within {BACK_S:g} s"] = last <= BACK_S
    _kept(outcome, bench, steady, before)
    return outcome


def _replaced(bench: Bench, part: str, pids: list[int], one: bool) -> bool:
    now, gone = bench.service.pids(part), set(pids[:1] if one else pids)
    return len(now) >= len(pids) and not gone & set(now)


def _good(answer: Answer) -> bool:
    return answer.status == GOOD[answer.kind]


def _nobody_failed(outcome: Outcome, answers: list[Answer]) -> None:
    failed = [answer for answer in answers if not _good(answer)]
    outcome.figures["during"] = Seen.of(answers)
    outcome.figures["failed"] = Seen.of(failed)
    outcome.checks["no request failed"] = not failed


def _kept(outcome: Outcome, bench: Bench, steady: Steady, before: dict[str, int]) -> None:
    outcome.figures["acknowledged"] = sum(steady.acknowledged.values())
    outcome.figures["acknowledged_and_lost"] = lost = bench.lost(steady, before)
    outcome.checks["no acknowledged event is lost"] = lost == 0


# name -> what is done, for how many seconds
FAULTS: dict[str, tuple[Fault, float]] = {
    "replica_killed": (replica_killed, 0),
    "ingest_killed": (ingest_killed, 0),
    "edge_killed": (edge_killed, 0),
    "controller_killed": (controller_killed, 0),
    "folder_killed": (folder_killed, 0),
    "consumers_off": (consumers_off, 600),
    "rolling_update": (rolling_update, 0),
    "scaling": (scaling, 300),
}
