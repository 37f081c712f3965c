"""Counters of this process, added up over all processes in the store; and `GET /metrics`.

Totals of the log itself (appended, folded, duplicates …) are not counted here: they stand in the
partitions' own records, exact, and are read when asked for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine.errors import KairosError
from engine.push_outbox import ENDS
from engine.push_outbox import totals as totals_held
from engine.redis_store import Progress, RedisStore

METRICS_KEY = "{kairos}:metrics"
HELP = {
    "requests": ("Requests answered, by route and status.", ("route", "status")),
    "rejected": ("Events refused at the edge, by kind and field.", ("type", "field")),
    "duplicates_at_edge": ("Events recognised as duplicates before the append.", ()),
    "ignored_device_fields": ("Device fields that could not be read, by name.", ("field",)),
    "decisions_lost": ("Decisions that did not reach the log: a full queue, a store gone.", ()),
    "rows_lost": ("Training rows that were not written: a full queue, a full disk.", ()),
    "degraded": ("Answers that a missing part made plainer, by reason.", ("reason",)),
    "releases_loaded": ("Releases of models that began to serve.", ()),
    "releases_refused": ("Releases of models that never served, by reason.", ("reason",)),
    "registry_unavailable": ("Times the registry of models could not be read.", ()),
    "configuration_refused": ("Changed configuration files that could not be taken over.", ()),
    "webhook": ("Posts of held messages to the webhook, by answer.", ("answer",)),
    "overloaded": ("Requests turned away, by reason.", ("reason",)),
}


class Metrics:
    """Counters by name and labels; `flush` adds them to the store's and starts again from zero."""

    def __init__(self) -> None:
        self._pending: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to a counter named in HELP."""
        with self._lock:
            self._pending[(name, *labels)] += by

    def flush(self, store: RedisStore) -> None:
        """Hand over what was counted; what the store does not take is kept for the next time."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
        try:
            store.hash_increase(METRICS_KEY, {"|".join(key): n for key, n in pending.items()})
        except KairosError:
            with self._lock:
                self._pending.update(pending)
            raise


def render(store: RedisStore, partitions: Sequence[int]) -> bytes:
    """Prometheus text; where the store is gone, only that it is."""
    registry = CollectorRegistry(auto_describe=False)
    try:
        totals = {key: int(n) for key, n in store.hash_all(METRICS_KEY).items()}
        progress = store.progress(partitions)
        memory = store.memory()
        held = totals_held(store, partitions)
    except KairosError:
        registry.register(_Families([_gauge("store_up", "1 if the store answers.", 0)]))
        return generate_latest(registry)
    families = [
        _gauge("store_up", "1 if the store answers.", 1),
        _gauge("store_memory_ratio", "Used share of the store's maxmemory.", memory),
        *_counters(totals),
        *_of_the_log(progress),
        *_of_the_outbox(*held),
    ]
    registry.register(_Families(families))
    return generate_latest(registry)


def lag_s(progress: Sequence[Progress], now_ms: int | None = None) -> float:
    """Age of the oldest entry not yet folded, in seconds."""
    now_ms = now_ms or int(time.time() * 1000)
    oldest = min((p.oldest_ms for p in progress if p.oldest_ms is not None), default=now_ms)
    return max(0.0, (now_ms - oldest) / 1000)


def lag_events(progress: Sequence[Progress]) -> int:
    """Records appended and not yet folded."""
    return sum(max(0, p.appended - p.folded) for p in progress if p.partition >= 0)


class _Families:
    def __init__(self, families: Sequence[Any]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        yield from self._families


def _counters(totals: dict[str, int]) -> Iterator[Any]:
    for name, (text, labels) in HELP.items():
        family = CounterMetricFamily(f"kairos_{name}", text, labels=labels)
        if not labels and name not in totals:
            family.add_metric((), 0)
        for key, total in totals.items():
            found, *values = key.split("|")
            if found == name and len(values) == len(labels):
                family.add_metric(values, total)
        yield family


def _of_the_log(progress: Sequence[Progress]) -> Iterator[Any]:
    users = [p for p in progress if p.partition >= 0]
    totals = {
        "events_appended": ("Records appended to the log.", [p.appended for p in users]),
        "events_folded": ("Records the fold has dealt with.", [p.folded for p in users]),
        "events_duplicate": ("Records dropped as duplicates.", [p.duplicates for p in users]),
        "events_forgotten": ("Records dated before an erasure.", [p.forgotten for p in users]),
        "events_dead": ("Records the fold could not take.", [p.dead for p in progress]),
        "events_archived": ("Records in the archive.", [p.archived for p in progress]),
    }
    for name, (text, counts) in totals.items():
        family = CounterMetricFamily(f"kairos_{name}", text)
        family.add_metric((), sum(counts))
        yield family
    yield _gauge("fold_lag_events", "Records appended and not yet folded.", lag_events(progress))
    yield _gauge("fold_lag_seconds", "Age of the oldest record not yet folded.", lag_s(progress))


def _of_the_outbox(counts: dict[str, int], live: int, ready: int) -> Iterator[Any]:
    text = "Held messages that were accepted, handed out, or came to each end."
    family = CounterMetricFamily("kairos_outbox_messages", text, labels=("what",))
    for what in ("accepted", "handed_out", *ENDS):
        family.add_metric((what,), counts.get(what, 0))
    yield family
    yield _gauge("outbox_waiting", "Held messages that have not ended.", live)
    yield _gauge("outbox_ready", "Held messages that are ready or being delivered.", ready)


def _gauge(name: str, text: str, value: float) -> Any:
    family = GaugeMetricFamily(f"kairos_{name}", text)
    family.add_metric((), value)
    return family
