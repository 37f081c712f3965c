"""Faults of the store, and of the way there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from loadtests.faults.bench import (
    Bench,
    Outcome,
    back_to_normal,
    ingest_refused,
    reads_stood,
    until,
)

Fault = Callable[[Bench, float], Outcome]
BEGIN_S = 2.0  # of a fault: what was under way when it came is looked at apart
END_S = 3.0  # what was asked just before the end may be answered by a store that is back
AFTER_S = 8.0


def frozen(bench: Bench, seconds: float) -> Outcome:
    """The store is stopped (SIGSTOP) and wakes: plainer answers, no event taken, none lost."""
    return _without_store(
        bench,
        seconds,
        lambda: bench.store.signal(signal.SIGSTOP),
        lambda: bench.store.signal(signal.SIGCONT),
    )


def dead(bench: Bench, seconds: float) -> Outcome:
    """The store is killed (SIGKILL) and started again with what it wrote."""
    return _without_store(
        bench, seconds, lambda: bench.store.signal(signal.SIGKILL), bench.store.start
    )


def black_hole(bench: Bench, seconds: float) -> Outcome:
    """The network swallows what goes to the store, without a word."""
    return _without_store(bench, seconds, bench.relay.swallow, bench.relay.pass_on)


def latency_500(bench: Bench, seconds: float) -> Outcome:
    """Half a second on every way to the store and back: as if it were gone."""
    return _without_store(
        bench, seconds, lambda: bench.relay.delay(0.5), lambda: bench.relay.delay(0.0)
    )


def latency_100(bench: Bench, seconds: float) -> Outcome:
    """A tenth of a second there and back: plainer answers in time; ingest waits and goes on."""
    outcome, before = Outcome(), bench.totals()
    pids = bench.service.pids("decide")
    with bench.traffic() as steady:
        bench.relay.delay(0.1)
        begin = time.monotonic()
        time.sleep(seconds)
        bench.relay.delay(0.0)
        over = time.monotonic()
        time.sleep(AFTER_S)
    reads_stood(outcome, steady.since(begin + BEGIN_S, over))
    back_to_normal(outcome, steady, over)
    _nothing_lost(outcome, bench, steady_lost=bench.lost(steady, before), pids=pids)
    return outcome


def resets(bench: Bench, seconds: float) -> Outcome:
    """Every connection to the store is cut again and again."""
    outcome, before = Outcome(), bench.totals()
    pids, cut = bench.service.pids("decide"), 0
    with bench.traffic() as steady:
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            cut += bench.relay.reset()
            time.sleep(0.5)
        over = time.monotonic()
        time.sleep(AFTER_S)
    reads_stood(outcome, steady.since(begin, over), degraded=False)
    outcome.figures["ends_cut"] = cut
    outcome.checks["connections were there to be cut"] = cut > 0
    back_to_normal(outcome, steady, over)
    _nothing_lost(outcome, bench, steady_lost=bench.lost(steady, before), pids=pids)
    return outcome


def full(bench: Bench, seconds: float) -> Outcome:
    """The store has no memory left (`noeviction`): events are refused, reads go on as before."""
    outcome, before = Outcome(), bench.totals()
    pids = bench.service.pids("decide")
    with bench.traffic() as steady:
        bench.store.ask("CONFIG", "SET", "maxmemory", "1mb")
        until(lambda: any(one.status == 503 for one in steady.answers), "events are refused")
        begin = time.monotonic()
        time.sleep(seconds)
        bench.store.ask("CONFIG", "SET", "maxmemory", "0")
        over = time.monotonic()
        time.sleep(AFTER_S)
    during = steady.since(begin, over - 1.0)
    reads_stood(outcome, during, degraded=False)
    ingest_refused(outcome, during)
    back_to_normal(outcome, steady, over)
    _nothing_lost(outcome, bench, steady_lost=bench.lost(steady, before), pids=pids)
    return outcome


def _without_store(
    bench: Bench, seconds: float, begin_it: Callable[[], None], end_it: Callable[[], None]
) -> Outcome:
    outcome, before = Outcome(), bench.totals()
    pids = bench.service.pids("decide")
    with bench.traffic() as steady:
        begin_it()
        begin = time.monotonic()
        time.sleep(seconds)
        end_it()
        over = time.monotonic()
        time.sleep(AFTER_S)
    during = steady.since(begin + min(BEGIN_S, seconds / 6), over - END_S)
    reads_stood(outcome, during)
    ingest_refused(outcome, during)
    back_to_normal(outcome, steady, over)
    _nothing_lost(outcome, bench, steady_lost=bench.lost(steady, before), pids=pids)
    return outcome


def _nothing_lost(outcome: Outcome, bench: Bench, steady_lost: int, pids: list[int]) -> None:
    outcome.figures["acknowledged_and_lost"] = steady_lost
    outcome.checks["no acknowledged event is lost"] = steady_lost == 0
    outcome.checks["no replica was restarted"] = bench.service.pids("decide") == pids


# name -> what is done, for how many seconds
FAULTS: dict[str, tuple[Fault, float]] = {
    "store_frozen": (frozen, 30),
    "store_dead": (dead, 300),
    "store_black_hole": (black_hole, 30),
    "store_full": (full, 30),
    "latency_100": (latency_100, 30),
    "latency_500": (latency_500, 30),
    "resets": (resets, 30),
}
