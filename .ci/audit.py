"""`make audit`: what requirements.lock pins, against PyPI's database of known vulnerabilities.

Ends with 1 where pip-audit finds one. Where the database cannot be reached, or a mirror does not
have it, that is said, and nothing fails: an unreachable database is no fault of the change.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

TIMEOUT_S = 180
# Known, looked into, and not reachable here: id -> why. It is looked at again with each release.
IGNORED: dict[str, str] = {}
# Asked about first: pip-audit takes a database that knows no package for one that knows no fault.
VULNERABLE = "requests==2.19.0"


def audit(lock: str) -> tuple[int, str]:
    """Exit code and what to say."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as control:
        control.write(f"{VULNERABLE}\n")
        control.flush()
        found = pip_audit("-r", control.name, "--no-deps")
    if isinstance(found, str):
        return failed(found)
    if not any(one.get("vulns") for one in found):
        return 0, f"NOT AUDITED: the database here knows nothing against {VULNERABLE}"
    found = pip_audit("-r", lock, *(f"--ignore-vuln={name}" for name in IGNORED))
    return failed(found) if isinstance(found, str) else judged(found)


def pip_audit(*words: str) -> list[dict[str, Any]] | str:
    """Its packages, each with `vulns` or a `skip_reason`; or what it said instead."""
    command = [sys.executable, "-m", "pip_audit", *words, "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"ConnectionError: no answer within {TIMEOUT_S} s"
    except (ValueError, KeyError):
        return done.stderr
    return packages


def failed(stderr: str) -> tuple[int, str]:
    """What ended pip-audit: a network out of reach, or something to be mended."""
    last = stderr.strip().splitlines()[-1:] or ["it said nothing"]
    unreachable = "requests.exceptions." in last[0] or "ConnectionError" in last[0]
    return (0, f"NOT AUDITED: {last[0]}") if unreachable else (1, f"pip-audit failed: {last[0]}")


def judged(dependencies: list[dict[str, Any]]) -> tuple[int, str]:
    """The same of its packages."""
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    audited = len(dependencies) - len(skipped)
    lines = [
        f"{one['name']} {one['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for found in one.get("vulns", [])
    ]
    if skipped:
        lines.append(f"not known to the database: {', '.join(skipped)}")
    vulnerable = any(one.get("vulns") for one in dependencies)
    verdict = "vulnerabilities found" if vulnerable else "no known vulnerability"
    return int(vulnerable), "\n".join([*lines, f"{audited} packages audited: {verdict}"])


if __name__ == "__main__":
    code, said = audit("requirements.lock")
    print(said)
    sys.exit(code)
