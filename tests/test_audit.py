"""What `make audit` makes of pip-audit's answers; the answers themselves need the network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"

CLEAN = {"name": "redis", "version": "8.1.0", "vulns": []}
SKIPPED = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}
BAD = {
    "name": "requests",
    "version": "2.19.0",
    "vulns": [{"id": "PYSEC-2018-28", "fix_versions": ["2.20.0"], "aliases": []}],
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([CLEAN], 0, "1 packages audited: no known vulnerability"),
        ([CLEAN, BAD], 1, "requests 2.19.0: PYSEC-2018-28, mended in 2.20.0"),
        ([CLEAN, SKIPPED], 0, "not known to the database: ours"),
    ],
)
def test_answers(audit: ModuleType, found: list[dict[str, Any]], code: int, said: str) -> None:
    verdict, text = audit.judged(found)
    assert verdict == code
    assert said in text


def test_a_database_that_knows_nothing_is_told_from_one_that_knows_no_fault(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    answers: list[Any] = [[SKIPPED]]  # a mirror without the database: pip-audit is content

    def pip_audit(*words: str) -> Any:
        asked.append(words)
        return answers[len(asked) - 1]

    monkeypatch.setattr(audit, "pip_audit", pip_audit)
    code, said = audit.audit("requirements.lock")
    assert (code, len(asked)) == (0, 1)
    assert said == "NOT AUDITED: the database here knows nothing against requests==2.19.0"

    asked.clear()
    answers[:] = [[BAD], [CLEAN, BAD]]
    assert audit.audit("requirements.lock")[0] == 1
    assert asked[1][:2] == ("-r", "requirements.lock")


@pytest.mark.parametrize(
    ("stderr", "code", "said"),
    [
        ("…\nrequests.exceptions.ProxyError: HTTPSConnectionPool", 0, "NOT AUDITED: requests"),
        ("…\npip_audit.ServiceError: ConnectionError: no route", 0, "NOT AUDITED: pip_audit"),
        ("…\nrequirements.lock:3: expected a hash", 1, "pip-audit failed: requirements.lock:3"),
        ("", 1, "pip-audit failed: it said nothing"),
    ],
)
def test_what_ends_it(audit: ModuleType, stderr: str, code: int, said: str) -> None:
    verdict, text = audit.failed(stderr)
    assert verdict == code
    assert said in text
