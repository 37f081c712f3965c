"""Short forms of `python -m loadtests.faults`, against one process; what they say is true."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from loadtests.faults import store
from loadtests.faults.bench import Bench, Outcome, bench, ingest_refused, reads_stood
from loadtests.steady import Answer, Seen, Steady

pytestmark = pytest.mark.timeout(240)
RATES = {"recommend": 10.0, "page": 5.0, "events": 10.0}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("faults"), RATES, dev=True) as made:
        yield made


@pytest.mark.parametrize("fault", [store.frozen, store.resets, store.full])
def test_a_store_in_trouble(
    broken: Bench, fault: store.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "AFTER_S", 1.0)

    outcome = fault(broken, 5.0)

    failed = [name for name, held in outcome.checks.items() if not held]
    assert not failed, outcome.figures


def answer(status: int = 200, degraded: str | None = None, kind: str = "recommend") -> Answer:
    return Answer(kind, 1.0, 0.01, status, degraded)


def test_what_fails_is_told() -> None:
    good = [answer(degraded="store"), answer(degraded="store", kind="page")] * 10
    stood, silent, refused, acked = Outcome(), Outcome(), Outcome(), Outcome()

    reads_stood(stood, good)
    reads_stood(silent, [one._replace(degraded=None) for one in good])
    reads_stood(refused, [*good, answer(503)])
    ingest_refused(acked, [answer(202, kind="events"), answer(503, kind="events")])

    assert stood.held
    assert not silent.held
    assert [name for name, held in refused.checks.items() if not held] == [
        "recommend: 99.9% answered with 200"
    ]
    assert not acked.held


def test_times_of_answers() -> None:
    answers = [Answer("page", 0.0, ms / 1000, 200, None) for ms in range(100)]

    seen = Seen.of([*answers, Answer("page", 0.0, 9.0, 0, None)])

    assert (seen.count, seen.statuses) == (101, {"200": 100, "none": 1})
    assert (seen.p50_ms, seen.p99_ms, seen.max_ms) == (50.0, 99.0, 9000.0)


def test_requests_leave_when_they_are_due_though_none_comes_back() -> None:
    with Steady("http://127.0.0.1:9", ["ada"], {"recommend": 200.0}) as steady:  # nobody listens
        while len(steady.answers) < 40:
            pass

    dues = sorted(one.due for one in steady.answers)
    assert {one.status for one in steady.answers} == {0}
    assert all(abs(b - a - 1 / 200) < 1e-6 for a, b in itertools.pairwise(dues))
