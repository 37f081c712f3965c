"""`python -m loadtests.faults [NAME…]`: break a service of one's own, and see what it does.

Prints JSON; exit code 1 where something that must hold did not. Without names all are done.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from loadtests.faults import clients, processes, store
from loadtests.faults.bench import Outcome, bench
from loadtests.provenance import provenance

# name -> what is done, for how many seconds
FAULTS: Mapping[str, tuple[store.Fault, float]] = store.FAULTS | processes.FAULTS | clients.FAULTS
RATES = {"recommend": 25.0, "page": 10.0, "events": 25.0}


def main() -> None:
    """Do them one after the other, each to a service of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FAULTS, []], help=", ".join(FAULTS))
    parser.add_argument("--seconds", type=float, help="of each fault, in place of its own")
    parser.add_argument("--dev", action="store_true", help="one process, no Ray")
    parser.add_argument("--replicas", type=int, default=2, help="that decide, to begin with")
    parser.add_argument("--proxy", choices=["haproxy", "python"], default="haproxy")
    parser.add_argument("--out", type=Path, help="write the JSON there too")
    asked = parser.parse_args()
    found = {}
    for name in asked.names or FAULTS:
        fault, seconds = FAULTS[name]
        print(f"{name}: {(fault.__doc__ or '').strip()}", file=sys.stderr, flush=True)
        found[name] = _done(fault, asked.seconds or seconds, asked)
        print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    result = {"faults": found} | provenance()
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(any(not one["held"] for one in found.values()))


def _done(fault: store.Fault, seconds: float, asked: argparse.Namespace) -> dict[str, object]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kairos-faults-") as home:
        try:
            with bench(Path(home), RATES, asked.dev, asked.proxy, asked.replicas) as broken:
                outcome = fault(broken, seconds)
        except (TimeoutError, AssertionError, RuntimeError):
            outcome = Outcome({"the script came to its end": False})
            outcome.figures["error"] = traceback.format_exc(limit=3).replace(home, "")
    took = {"seconds": seconds, "took_s": round(time.monotonic() - began, 1)}
    return {"held": outcome.held} | took | asdict(outcome)


if __name__ == "__main__":
    main()
