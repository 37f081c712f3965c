"""`python -m loadtests.schema_cases --url URL`: cases that Schemathesis makes of `/openapi.json`.

Drives Schemathesis, which is no dependency of Kairos (`pip install schemathesis` anywhere;
`--schemathesis` names its command): bodies, paths and queries as the description allows, and ones
that it does not. No answer may be of 500 or above, or take REQUEST_S; valid calls afterwards must
succeed. With `--pid` the growth of the memory of that process and all below it is told as well.
Prints JSON; exit code 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests.provenance import provenance
from loadtests.raw_bytes import works
from loadtests.resident import resident_mb

REQUEST_S = 30
WARM = 100  # examples of each operation before memory is looked at first: pools and caches fill


def main() -> None:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the service listens, without keys")
    parser.add_argument("--examples", type=int, default=1_200, help="of each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pid", type=int, help="of the service, for its memory")
    parser.add_argument("--schemathesis", default="schemathesis", help="the command")
    asked = parser.parse_args()
    if shutil.which(asked.schemathesis) is None:
        sys.exit("Schemathesis is not installed (pip install schemathesis)")
    run(asked.schemathesis, asked.url, WARM, asked.seed + 1)
    before = resident_mb(asked.pid) if asked.pid else 0.0
    report = run(asked.schemathesis, asked.url, asked.examples, asked.seed)
    figures: dict[str, Any] = {
        "cases": report["test_cases"]["generated"],
        "operations": report["operations"]["tested"],
        "seconds": round(report["running_time"]),
        "schemathesis": report["schemathesis_version"],
        "wrong": report["failures"] + report["errors"],
        "a_valid_call_works": works(asked.url),
    }
    if asked.pid:
        after = resident_mb(asked.pid)
        figures["memory_mb"] = {"before": before, "after": after, "grew": round(after - before, 1)}
    print(json.dumps({"benchmark": "schema_cases", "figures": figures} | provenance(), indent=2))
    sys.exit(1 if figures["wrong"] or not figures["a_valid_call_works"] else 0)


def run(schemathesis: str, url: str, examples: int, seed: int) -> dict[str, Any]:
    """One run; its report, as Schemathesis writes it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            schemathesis,
            "run",
            f"{url}/openapi.json",
            "--no-color",
            "--continue-on-failure",
        ]
        command += ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"]
        command += ["--max-examples", str(examples), "--seed", str(seed), "--no-shrink"]
        command += ["--generation-database", "none", "--request-timeout", str(REQUEST_S)]
        command += ["--report", "json", "--report-json-path", str(report)]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if not report.exists():
            sys.exit(ended.stdout + ended.stderr)
        found: dict[str, Any] = json.loads(report.read_text())
    return found


if __name__ == "__main__":
    main()
