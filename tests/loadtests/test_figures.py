"""Figures and bars of records whose right answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.bars import judge
from loadtests.figures import in_time, of_processes, of_stages, over_time, recovery_s
from loadtests.processes import Sample
from loadtests.record import NO_ANSWER, Record, Rows, load_record
from loadtests.report import make_report
from loadtests.schedule import Stage, read_plan, write_plan
from loadtests.traffic import KINDS

PAGE, RECOMMEND, EVENTS, PUSH = range(len(KINDS))
STARTED = 1_770_000_000.0
Row = tuple[float, float, int, int, int, str]  # due, latency, stage, kind, status, why


def recorded(folder: Path, plan: list[Stage], rows: list[Row]) -> Rows:
    record = Record({"plan": write_plan(plan), "seed": 1, "mix": "", "started": STARTED})
    for due_s, latency_ms, stage, kind, status, why in rows:
        record.add(due_s, 0.5, latency_ms, stage, kind, status, why)
    record.save(folder)
    return load_record(folder)


def bar(bars: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [one for one in bars if name in one["what"]]
    return found


def sample(at: float, pid: int, name: str, mib: float, descriptors: int = 10) -> Sample:
    return Sample(STARTED + at, pid, name, at / 2, mib, descriptors, 5)


def test_stages_count_answers_failures_and_the_degraded(tmp_path: Path) -> None:
    plan = read_plan("a:10@10,b:10@1")
    rows = recorded(
        tmp_path,
        plan,
        [(n / 10, float(n + 1), 0, RECOMMEND, 200, "") for n in range(98)]
        + [(9.8, 250.0, 0, RECOMMEND, 200, "degraded: deadline")]  # too late for its kind …
        + [(9.9, 250.0, 0, EVENTS, 202, "")]  # … in time for this one
        + [(11.0, 3.0, 1, PAGE, 503, "503 overloaded"), (12.0, 9.0, 1, PAGE, NO_ANSWER, "no")],
    )

    first, second = of_stages(rows, plan)

    assert first["requests"] == 100
    assert first["ms"]["p50"] == 51.0
    assert first["ms"]["max"] == 250.0
    assert first["goodput_per_s"] == 9.9
    assert first["by_kind"]["events"]["requests"] == 1
    assert first["degraded"] == {"degraded: deadline": 1}
    assert first["failed"] == {}
    assert second["failed"] == {"503 overloaded": 1, "no": 1}
    assert second["ms"]["p50"] is None
    assert int(in_time(rows).sum()) == 99


def test_time_is_cut_by_when_requests_were_due(tmp_path: Path) -> None:
    plan = read_plan("a:3@2")
    rows = recorded(
        tmp_path,
        plan,
        [
            (0.1, 2900.0, 0, EVENTS, 202, ""),  # answered in the third second, due in the first
            (2.2, 5.0, 0, EVENTS, 202, ""),
            (2.3, 5.0, 0, EVENTS, 503, "503 overloaded"),
        ],
    )

    points = over_time(rows, 3.0)

    assert [point["asked_per_s"] for point in points] == [1.0, 0.0, 2.0]
    assert [point["p99_ms"] for point in points] == [2900.0, None, 5.0]
    assert [point["failed_per_s"] for point in points] == [0.0, 0.0, 1.0]


def soaked(folder: Path, last_ms: float, failures: int) -> Rows:
    times = np.linspace(0, 600, 6000, endpoint=False)
    rows: list[Row] = [
        (float(at), last_ms if at >= 500 else 10.0, 0, RECOMMEND, 200, "") for at in times
    ]
    rows[: failures * 7 : 7] = [
        (at, 1.0, stage, kind, 500, "500 internal")
        for at, _, stage, kind, _, _ in rows[: failures * 7 : 7]
    ]
    return recorded(folder, read_plan("soak:600@10"), rows)


@pytest.mark.parametrize(
    ("last_ms", "failures", "mib", "descriptors", "short"),
    [
        (10.5, 0, 103.0, 10, set()),
        (11.5, 0, 100.0, 10, {"p99"}),
        (10.0, 1, 100.0, 10, {"5xx"}),
        (10.0, 0, 112.0, 10, {"memory"}),
        (10.0, 0, 100.0, 30, {"descriptors"}),
    ],
)
def test_a_soak_is_judged(
    tmp_path: Path, last_ms: float, failures: int, mib: float, descriptors: int, short: set[str]
) -> None:
    rows = soaked(tmp_path, last_ms, failures)
    samples = [sample(at, 7, "store", 100.0) for at in range(0, 400, 10)]
    samples += [sample(at, 7, "store", mib, descriptors) for at in range(400, 600, 10)]
    # What leaks in the load generator is no fault of the service.
    samples += [sample(at, 8, "load generator", 50.0 + at) for at in range(0, 600, 10)]

    bars = judge(rows, read_plan("soak:600@10"), samples, 20.0)

    names = {"5xx": "5xx", "p99": "last sixth", "memory": "memory", "descriptors": "descriptors"}
    assert {key for key, name in names.items() if not bar(bars, name)["holds"]} == short


def overloaded(folder: Path, kept: int, status: int, why: str, back_s: int) -> tuple[Rows, Any]:
    """60 s at 300/s of which `kept` a second are answered in time; then normal after `back_s`."""
    plan = read_plan("overload:60@300,after:30@50")
    rows: list[Row] = []
    for second in range(60):
        for n in range(300):
            good = n < kept
            row = (150.0, 0, PAGE, 200, "") if good else (20.0, 0, PAGE, status, why)
            rows.append((second + n / 300, *row))
    for second in range(30):
        took_ms = 900.0 if second < back_s else 9.0
        rows += [(60 + second + n / 50, took_ms, 1, PAGE, 200, "") for n in range(50)]
    return recorded(folder, plan, rows), plan


@pytest.mark.parametrize(
    ("kept", "status", "why", "back_s", "short"),
    [
        (85, 503, "503 overloaded", 4, set()),
        (70, 429, "429 too-many", 4, {"goodput"}),
        (85, 500, "500 internal", 4, {"rejects,"}),
        (85, NO_ANSWER, "no answer: Timeout", 4, {"rejects,"}),
        (85, 503, "503 overloaded, without Retry-After", 4, {"from sending"}),
        (85, 503, "503 overloaded", 12, {"normal"}),
        (85, 503, "503 overloaded", 30, {"normal"}),
    ],
)
def test_an_overload_is_judged(
    tmp_path: Path, kept: int, status: int, why: str, back_s: int, short: set[str]
) -> None:
    rows, plan = overloaded(tmp_path, kept, status, why, back_s)

    bars = judge(rows, plan, [], 100.0)

    names = {
        "goodput": "goodput",
        "p99": "was accepted",
        "rejects,": "overload: rejects",
        "from sending": "from sending",
        "normal": "normal",
    }
    exact = [one for one in bars if one["what"] != "overload: rejects"]
    found = {key for key, name in names.items() if key != "rejects,"
             and not bar(exact, name)["holds"]}  # fmt: skip
    [rejects] = [one for one in bars if one["what"] == "overload: rejects"]
    assert found | (set() if rejects["holds"] else {"rejects,"}) == short


def test_one_good_second_is_no_recovery(tmp_path: Path) -> None:
    plan = read_plan("after:8@1")
    slow = {0, 2, 3}
    rows = recorded(
        tmp_path,
        plan,
        [(s + 0.5, 900.0 if s in slow else 5.0, 0, PAGE, 200, "") for s in range(8)],
    )

    assert recovery_s(rows, plan[0], 0.0) == 4.0


def test_processes_are_told_from_their_samples() -> None:
    samples = [sample(at, 3, "store", 100.0 + at) for at in range(0, 61, 10)]
    samples += [sample(at, pid, "Ray and others", 10.0) for at in (0, 60) for pid in (4, 5)]

    store, others = of_processes(samples, STARTED, STARTED + 60)

    assert store["process"] == "store" or others["process"] == "store"
    by_name = {one["process"]: one for one in (store, others)}
    assert by_name["store"]["cpu_percent"] == 50.0
    assert by_name["store"]["rss_mib"] == {"first": 100.0, "last": 160.0, "most": 160.0}
    assert by_name["Ray and others"]["processes"] == 2
    assert by_name["Ray and others"]["rss_mib"]["last"] == 20.0


def test_a_report_is_one_page_and_one_document(tmp_path: Path) -> None:
    rows, _ = overloaded(tmp_path, 85, 503, "503 <overloaded>", 4)
    samples = [sample(at, 3, "store", 100.0 + at) for at in range(90)]
    (tmp_path / "processes.json").write_text(json.dumps(samples))
    about = {"visible": {"p99": 30.0}, "saturation": 100.0, "ran": {"machine": "a <machine>"}}
    (tmp_path / "about.json").write_text(json.dumps(about))

    made = make_report(tmp_path)

    told = json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "report.html").read_text()
    assert told == json.loads(json.dumps(made))
    assert told["figures"]["requests"] == len(rows)
    assert told["machine"] == "a <machine>"
    assert [stage["stage"] for stage in told["figures"]["stages"]] == ["overload", "after"]
    assert page.count("<svg") == 4
    assert "a &lt;machine&gt;" in page
    assert "503 &lt;overloaded&gt;" in page
    assert "<script" not in page
    assert "http" not in page
