"""What a run's record says: by stage, over time, by process. Percentiles are of answers that were
taken (2xx), from when each request was due; what failed is counted beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.processes import Sample
from loadtests.record import NO_ANSWER, Rows
from loadtests.schedule import Stage
from loadtests.traffic import DEADLINE_MS, KINDS

Figures = dict[str, Any]
Bools = NDArray[np.bool_]

POINTS = (50, 90, 99, 99.9)
NAMES = (*(f"p{point:g}" for point in POINTS), "max")
BINS = 120  # of the whole run; a second each at least
NORMAL = 0.99  # of a second's requests, answered in time: as before the trouble
STEADY_S = 3  # so many normal seconds in a row are a recovery
PER_LIMIT = np.array([DEADLINE_MS[kind] for kind in KINDS], np.float64)


def accepted(rows: Rows) -> Bools:
    """Answered with 2xx."""
    taken: Bools = (rows["status"] >= 200) & (rows["status"] < 300)
    return taken


def in_time(rows: Rows) -> Bools:
    """Answered with 2xx within the deadline of their kind: what counts as goodput."""
    good: Bools = accepted(rows) & (rows["latency_ms"] <= PER_LIMIT[rows["kind"]])
    return good


def server_error(rows: Rows) -> Bools:
    """5xx, or no answer at all."""
    failed: Bools = (rows["status"] >= 500) | (rows["status"] == NO_ANSWER)
    return failed


def rejected(rows: Rows) -> Bools:
    """Turned away as overload is: 429 or 503."""
    away: Bools = (rows["status"] == 429) | (rows["status"] == 503)
    return away


def percentiles(values: NDArray[Any]) -> dict[str, float | None]:
    """p50, p90, p99, p99.9 and the largest, in the unit of the values; None of nothing."""
    if not len(values):
        return dict.fromkeys(NAMES)
    found = np.percentile(values, (*POINTS, 100), method="higher")
    return {name: round(float(value), 2) for name, value in zip(NAMES, found, strict=True)}


def of_stage(rows: Rows, stage: Stage) -> Figures:
    """Figures of one stage, whose rows these are."""
    taken, seconds = accepted(rows), stage.seconds
    return {
        "stage": stage.name,
        "seconds": stage.seconds,
        "asked_per_s": [stage.start_per_s, stage.end_per_s],
        "requests": len(rows),
        "accepted_per_s": round(float(taken.sum()) / seconds, 1),
        "goodput_per_s": round(float(in_time(rows).sum()) / seconds, 1),
        "ms": percentiles(rows["latency_ms"][taken]),
        "by_kind": {
            kind: {
                "requests": int((rows["kind"] == number).sum()),
                "deadline_ms": DEADLINE_MS[kind],
                "ms": percentiles(rows["latency_ms"][taken & (rows["kind"] == number)]),
            }
            for number, kind in enumerate(KINDS)
            if (rows["kind"] == number).any()
        },
        "failed": count_reasons(rows.where(~taken)),
        "degraded": count_reasons(rows.where(taken & (rows["why"] > 0))),
        "sent_late_ms": percentiles(rows["sent_late_ms"]),
    }


def count_reasons(rows: Rows) -> dict[str, int]:
    """Rows by why, most of them first."""
    numbers, counts = np.unique(rows["why"], return_counts=True)
    told = sorted(zip(counts.tolist(), numbers.tolist(), strict=True), reverse=True)
    return {rows.reasons[number]: count for count, number in told}


def of_stages(rows: Rows, plan: Sequence[Stage]) -> list[Figures]:
    """Each stage's figures, in order."""
    return [of_stage(rows.where(rows["stage"] == n), stage) for n, stage in enumerate(plan)]


def over_time(rows: Rows, seconds: float) -> list[Figures]:
    """The run cut into equal stretches of a second or more, by when requests were due."""
    width = max(1.0, seconds / BINS)
    place = (rows["due_s"] / width).astype(np.int64)
    found = []
    for number in range(int(np.ceil(seconds / width))):
        here = rows.where(place == number)
        taken = accepted(here)
        ms = percentiles(here["latency_ms"][taken])
        found.append(
            {
                "at_s": round(number * width, 1),
                "asked_per_s": round(len(here) / width, 1),
                "goodput_per_s": round(float(in_time(here).sum()) / width, 1),
                "failed_per_s": round(float((~taken).sum()) / width, 1),
                "p50_ms": ms["p50"],
                "p99_ms": ms["p99"],
            }
        )
    return found


def recovery_s(rows: Rows, stage: Stage, began_s: float) -> float | None:
    """Seconds into a stage from which on everything was normal again for STEADY_S; None: never."""
    place = (rows["due_s"] - began_s).astype(np.int64)
    good = in_time(rows)
    seconds = int(stage.seconds)
    asked, fine = (np.bincount(place[mask], minlength=seconds)[:seconds] for mask in (..., good))
    normal = fine >= NORMAL * asked
    for second in range(seconds - STEADY_S + 1):
        if normal[second : second + STEADY_S].all():
            return float(second)
    return None


def of_processes(samples: Sequence[Sample], first: float, last: float) -> list[Figures]:
    """What each process cost between two unix times; those that did nothing are added up."""
    by_pid: dict[int, list[Sample]] = {}
    for sample in samples:
        if first <= sample.at <= last:
            by_pid.setdefault(sample.pid, []).append(sample)
    found = [_process(of_one) for of_one in by_pid.values() if len(of_one) > 1]
    busy = [process for process in found if process["process"] != "Ray and others"]
    others = [process for process in found if process["process"] == "Ray and others"]
    if others:
        busy.append(_together(others))
    return sorted(busy, key=lambda process: -float(process["cpu_percent"]))


def _process(samples: list[Sample]) -> Figures:
    first, last = samples[0], samples[-1]
    return {
        "process": last.name,
        "processes": 1,
        "cpu_percent": round(100 * (last.cpu_s - first.cpu_s) / max(last.at - first.at, 1e-9), 1),
        "rss_mib": _ends([sample.rss_mib for sample in samples]),
        "descriptors": _ends([sample.descriptors for sample in samples]),
        "sockets": _ends([sample.sockets for sample in samples]),
    }


def _ends(values: Sequence[float]) -> Figures:
    """Median of the first and of the last sixth, and the most."""
    sixth = max(1, len(values) // 6)
    first, last = np.median(values[:sixth]), np.median(values[-sixth:])
    return {"first": round(float(first), 1), "last": round(float(last), 1), "most": max(values)}


def _together(processes: list[Figures]) -> Figures:
    def total(name: str) -> Figures:
        ends = [process[name] for process in processes]
        return {key: round(sum(end[key] for end in ends), 1) for key in ("first", "last", "most")}

    return {
        "process": "Ray and others",
        "processes": len(processes),
        "cpu_percent": round(sum(process["cpu_percent"] for process in processes), 1),
        "rss_mib": total("rss_mib"),
        "descriptors": total("descriptors"),
        "sockets": total("sockets"),
    }


def stage_times(plan: Sequence[Stage]) -> list[tuple[float, float]]:
    """When each stage begins and ends, in seconds since the start."""
    ends = np.cumsum([stage.seconds for stage in plan]).tolist()
    return list(zip([0.0, *ends[:-1]], ends, strict=True))
