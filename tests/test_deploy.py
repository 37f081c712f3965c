"""deploy/ says what the code says: ports, settings, module paths, pinned packages."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from engine.settings import Settings
from serving import embedded, up

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
PORT = Settings().port
SETTINGS = {f"KAIROS_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def manifest() -> dict[str, dict[str, Any]]:
    parts = yaml.safe_load_all((DEPLOY / "rayservice.yaml").read_text())
    return {part["kind"]: part for part in parts}


@pytest.fixture(scope="module")
def serve_config(manifest: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(manifest["RayService"]["spec"]["serveConfigV2"])
    return loaded


def stages() -> list[list[tuple[str, str]]]:
    """Instructions of the Dockerfile, by stage; continued lines are one."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    lines = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line]
    found: list[list[tuple[str, str]]] = []
    for name, rest in lines:
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def pins(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> version and hashes of a lock."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", file.read_text()):
        if pin := re.match(r"([a-z0-9-]+)==(\S+)", block):
            found[pin[1]] = pin[2], frozenset(re.findall(r"sha256:[0-9a-f]{64}", block))
    return found


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod specs of the head and of the workers."""
    cluster = manifest["RayService"]["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_image_takes_what_is_tested() -> None:
    tested, taken = pins(ROOT / "requirements.lock"), pins(DEPLOY / "run.lock")
    assert all(hashes for _, hashes in taken.values())
    assert {name: tested.get(name) for name in taken} == taken
    assert pins(DEPLOY / "build.lock") == {"setuptools": tested["setuptools"]}
    wanted = {re.match(r"[a-z0-9-]+", line)[0] for line in PROJECT["project"]["dependencies"]}  # type: ignore[index]
    assert wanted <= set(taken)
    assert not {"pytest", "mypy", "pip", "setuptools"} & set(taken)


def test_the_build_context_holds_the_packages_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert rules[0] == "*", "what is not named stays out"
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert packages <= named
    copied = [rest.split()[:-1] for name, rest in stages()[0] if name == "COPY"]
    for source in (source for sources in copied for source in sources if source != "."):
        assert any(fnmatch.fnmatch(source, name) for name in named), source


def test_the_image_runs_the_command_as_nobody_special() -> None:
    build, final = stages()
    said = {name: rest for name, rest in final if name != "RUN"}
    assert said["USER"] == "10001:10001"
    assert said["EXPOSE"] == str(PORT)
    assert said["ENTRYPOINT"] == '["tini", "--", "kairos"]'
    assert PROJECT["project"]["scripts"]["kairos"] == "cli.main:main"
    assert (ROOT / said["HEALTHCHECK"].split('"')[3].removeprefix("/opt/kairos/")).exists()
    assert "gcc" in str(build)
    assert not re.search(r"gcc|build-essential|pip install", str(final))
    told = dict(re.findall(r"(\w+)=(\S+)", said["ENV"]))
    assert {name for name in told if name.startswith("KAIROS_")} <= SETTINGS
    assert f'"KAIROS_PORT", "{PORT}"' in (DEPLOY / "healthy.py").read_text().replace("'", '"')


def test_compose_starts_the_image_with_settings_that_exist(compose: dict[str, Any]) -> None:
    service = compose["services"]["kairos"]
    assert set(service["environment"]) <= SETTINGS
    assert service["ports"] == [f"127.0.0.1:{PORT}:{PORT}"], "not beyond this machine: no TLS"
    context = DEPLOY / service["build"]["context"]
    assert (context / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert int(service["stop_grace_period"].removesuffix("s")) > 60, "two stops of 30 s"
    told = dict(stages()[1])
    assert service["secrets"] == [
        {"source": "kairos.toml", "target": f"{told['WORKDIR']}/kairos.toml"}
    ]
    for kind in ("networks", "volumes", "secrets"):
        for part in compose["services"].values():
            for use in part.get(kind, []):
                name = use["source"] if isinstance(use, dict) else use.partition(":")[0]
                assert name in compose[kind] or name.startswith("."), name
    assert "ports" not in compose["services"]["valkey"]
    assert compose["networks"]["store"]["internal"] is True


def test_the_store_of_compose_keeps_what_the_embedded_one_keeps(tmp_path: Path) -> None:
    def lines(text: str) -> dict[str, str]:
        pairs = (line.split(maxsplit=1) for line in text.splitlines() if line[:1].isalpha())
        return dict(pairs)  # type: ignore[arg-type]

    ours = lines(embedded._config(Settings(), 1, "secret", tmp_path))
    theirs = lines((DEPLOY / "valkey.conf").read_text())
    for name in ("appendonly", "appendfsync", "save", "maxmemory-policy", "set-max-intset-entries"):
        assert theirs[name] == ours[name], name


def test_the_manifest_names_builders_that_exist(serve_config: dict[str, Any]) -> None:
    routes = {}
    for application in serve_config["applications"]:
        module, _, name = application["import_path"].partition(":")
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        (builder,) = (f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == name)
        assert len(builder.args.args) == 1, "Serve gives a builder its `args`"
        (deployment,) = application["deployments"]
        routes[deployment["name"]] = application["route_prefix"]
    # As `kairos up` deploys them, in serving/ray_app.py; folders and archiver have no route.
    assert routes == {"ingest": "/v1/events", "decide": "/", "work": None}


def test_the_manifest_agrees_with_itself_and_the_lock(
    manifest: dict[str, Any], serve_config: dict[str, Any]
) -> None:
    head, worker = pods(manifest)
    (container,) = worker["containers"]
    assert container["ports"] == [{"name": "serve", "containerPort": PORT}]
    assert serve_config["http_options"]["port"] == PORT
    assert {"port": PORT} in manifest["NetworkPolicy"]["spec"]["ingress"][-1]["ports"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "serve"}
    cluster = manifest["RayService"]["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == pins(DEPLOY / "run.lock")["ray"][0]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "no replica on the head"
    told = {v["name"]: v.get("value") for v in container["env"]}
    assert told["KAIROS_PORT"] == str(PORT)
    assert {name for name in told if name.startswith("KAIROS_")} <= SETTINGS
    for pod in (head, worker):
        assert pod["securityContext"]["runAsUser"] == 10001
        # Mode Always would open the signing key to the group, and models/signing.py refuse it.
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        assert pod["containers"][0]["image"] == container["image"]
        assert {v["name"]: v.get("value") for v in pod["containers"][0]["env"]} == told


def test_what_is_asked_for_fits_on_the_workers(
    manifest: dict[str, Any], serve_config: dict[str, Any]
) -> None:
    (group,) = manifest["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    told = {v["name"]: v.get("value") for v in container["env"]}
    deployments = [d for a in serve_config["applications"] for d in a["deployments"]]
    asked = sum(d["num_replicas"] * d["ray_actor_options"]["num_cpus"] for d in deployments)
    loops = 0.5 * (int(told["KAIROS_FOLDERS"]) + 1)  # WORKER_CPUS each; one archives
    has = group["replicas"] * int(group["rayStartParams"]["num-cpus"])
    assert asked + loops <= has
    assert container["resources"]["requests"]["cpu"] == group["rayStartParams"]["num-cpus"]


def test_ray_has_the_same_switches_as_under_kairos_up(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    up.prepare_environment(Settings(home=str(tmp_path)), tmp_path, range(29_901, 30_000))

    for pod in pods(manifest):
        told = {v["name"]: v.get("value") for v in pod["containers"][0]["env"]}
        switches = {name: value for name, value in told.items() if name.startswith("RAY_")}
        assert switches, "Ray's defaults are the slow ones"
        assert {name: os.environ.get(name) for name in switches} == switches
