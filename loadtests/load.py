"""`python -m loadtests.load --url URL --people FILE --out DIR`: a load of some shape, its report.

Finds the saturation rate first where none is told, drives locust (loadtests.locustfile) through the
shape's plan, watches the service's processes where `--pid` names the one that started them, and
writes report.json and report.html. Prints the figures as JSON. Knows HTTP alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from loadtests.figures import Figures
from loadtests.processes import Watch
from loadtests.record import Rows, load_record
from loadtests.report import make_report
from loadtests.saturation import Searched, search
from loadtests.schedule import Plan, read_plan, seconds_of, write_plan
from loadtests.shapes import LENGTHS_S, SHAPES
from loadtests.visible import probed

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
PROBED_S = 2.0  # a probe of visibility so often
SLOW_S = 600.0  # plans as long as this are sampled every five seconds


@dataclass(frozen=True)
class Target:
    """What is loaded, by whom."""

    url: str
    people: Path
    key: str = ""
    mix: str = ""
    seed: int = 1


def run_plan(
    target: Target, plan: Plan, folder: Path, watch: Watch | None = None, page_port: int = 0
) -> Rows:
    """Send a plan with locust, headless, or with its page at a port; returns the record."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", target.url,
        "--people", str(target.people), "--plan", write_plan(plan), "--record", str(folder),
        "--seed", str(target.seed), "--mix", target.mix, "--key", target.key,
        "--only-summary", "--stop-timeout", "1",
    ]  # fmt: skip
    command += (
        ["--web-host", "127.0.0.1", "--web-port", str(page_port), "--autostart", "--autoquit", "5"]
        if page_port
        else ["--headless"]
    )
    with (folder / "locust.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        if watch is not None:
            watch.roots.append(process.pid)
        try:
            code = process.wait(seconds_of(plan) + 120)
        finally:
            process.kill()
    if code != 0 or not (folder / "run.json").exists():
        raise SystemExit(f"locust failed:\n{(folder / 'locust.log').read_text()[-3000:]}")
    return load_record(folder)


def find_saturation(
    target: Target, folder: Path, seconds: float, within: float, first: float
) -> Searched:
    """The highest rate at which 99 % are answered in time; see loadtests.saturation."""

    def run(plan: Plan) -> Rows:
        return run_plan(target, plan, folder / "step")

    return search(run, target.url, seconds, within, first)


def load(target: Target, plan: Plan, folder: Path, pid: int, page_port: int = 0) -> Figures:
    """Run a plan beside a watch and a prober, which leave their findings in the folder.

    Returns how soon events could be seen.
    """
    every_s = 5.0 if seconds_of(plan) >= SLOW_S else 1.0
    watching = Watch([pid] if pid else [], every_s)
    with watching as watch, probed(target.url, PROBED_S, target.key) as visible:
        run_plan(target, plan, folder, watch, page_port)
    watch.save(folder / "processes.json")
    return visible


def main() -> None:
    """Measure, report, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    add = parser.add_argument
    add("--url", required=True, help="where the service listens")
    add("--people", required=True, type=Path, help="JSON Lines of `kairos simulate`")
    add("--out", required=True, type=Path, help="folder of the report")
    add("--shape", choices=[*SHAPES, "plan", "none"], default="short", help="none: search alone")
    add("--plan", default="", help="name:seconds@rate-rate,… for --shape plan")
    add("--seconds", type=float, default=0, help="of the shape; by default its own")
    add("--saturation", type=float, default=0, help="requests/s; 0: search for it")
    add("--step", type=float, default=5, help="seconds of each step of the search")
    add("--within", type=float, default=0.25, help="how narrow the search gets, as a share")
    add("--first", type=float, default=40, help="requests/s at which the search begins")
    add("--pid", type=int, default=0, help="of `kairos up`, to watch its processes")
    add("--page", type=int, default=0, help="port for locust's page")
    add("--key", default="", help="API key")
    add("--mix", default="", help="page=30,recommend=40,events=29,push=1")
    add("--seed", type=int, default=1)
    asked = parser.parse_args()
    target = Target(asked.url, asked.people, asked.key, asked.mix, asked.seed)
    about: Figures = {"saturation": asked.saturation or None}
    if not asked.saturation and asked.shape != "plan":
        found = find_saturation(target, asked.out, asked.step, asked.within, asked.first)
        about = {"saturation": found.per_s, "search": found.told()}
    if asked.shape == "none":
        print(json.dumps({"saturation_per_s": about["saturation"], "search": about["search"]}))
        return
    if asked.shape == "plan":
        plan: Plan = read_plan(asked.plan)
    else:
        seconds = asked.seconds or LENGTHS_S[asked.shape]
        plan = SHAPES[asked.shape](about["saturation"], seconds)
    about["visible"] = load(target, plan, asked.out, asked.pid, asked.page)
    (asked.out / "about.json").write_text(json.dumps(about), encoding="utf-8")
    print(json.dumps(make_report(asked.out)))


if __name__ == "__main__":
    main()
