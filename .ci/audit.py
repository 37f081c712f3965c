"""`make audit`: what requirements.lock pins, against PyPI's database of known vulnerabilities.

Ends with 1 where pip-audit finds one. Where the database cannot be reached, or a mirror does not
have it, that is said, and nothing fails: an unreachable database is no fault of the change.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

TIMEOUT_S = 180
# Known, looked into, and not reachable here: id -> why. It is looked at again with each release.
IGNORED: dict[str, str] = {}


def audit(lock: str) -> tuple[int, str]:
    """Exit code and what to say; runs pip-audit."""
    command = [sys.executable, "-m", "pip_audit", "-r", lock, "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    command += [f"--ignore-vuln={name}" for name in IGNORED]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return 0, f"NOT AUDITED: the database did not answer within {TIMEOUT_S} s"
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return failed(done.stderr)
    return judged(found)


def failed(stderr: str) -> tuple[int, str]:
    """What ended pip-audit: a network out of reach, or something to be mended."""
    last = stderr.strip().splitlines()[-1:] or ["it said nothing"]
    unreachable = "requests.exceptions." in last[0] or "ConnectionError" in last[0]
    return (0, f"NOT AUDITED: {last[0]}") if unreachable else (1, f"pip-audit failed: {last[0]}")


def judged(dependencies: list[dict[str, Any]]) -> tuple[int, str]:
    """The same of its list of packages, each with `vulns` or a `skip_reason`."""
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    audited = len(dependencies) - len(skipped)
    if not audited:
        return 0, f"NOT AUDITED: the database here knows none of {len(skipped)} packages"
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
