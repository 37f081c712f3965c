"""Every setting, its default and its unit. Read once, from `kairos.toml` and `KAIROS_*`."""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from engine.addresses import with_login
from engine.errors import SettingsError

log = logging.getLogger("kairos.settings")

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Set `name` in kairos.toml, or KAIROS_NAME in the environment, which wins."""

    home: str = ".kairos"  # log, models, the embedded store's files
    models_url: str = ""  # a folder or object store of models; empty: KAIROS_HOME/models
    data: str = "../shared/data"  # public data sets for tests and benchmarks
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8300
    proxy: Literal["haproxy", "python"] = "haproxy"  # Ray Serve's edge

    redis_url: str = ""  # empty: the embedded Valkey under `home`
    log_url: str = ""  # empty: the log lives where the states do
    ingest_login: str = ""  # user:password at both, of the processes that take events …
    serve_login: str = ""  # … that decide …
    fold_login: str = ""  # … that fold and archive; empty: as the addresses have it
    appendfsync: Literal["everysec", "always", "no"] = "everysec"  # of the embedded Valkey
    store_max_bytes: NotNegative = 0  # of the embedded Valkey; 0: half of the machine's memory
    wait_replicas: NotNegative = 0  # replicas that must hold an append before its 202
    store_timeout_ms: Positive = 1000  # folding and ingest; reads have read_timeout_ms
    read_timeout_ms: Positive = 50  # the serving path

    deadline_ms: Positive = 200  # recommend and page: answered by then, or given up with 503
    batch_deadline_ms: Positive = 500  # the same of push/score and events
    in_flight: Positive = 48  # decisions under way at once in a replica; one more is turned away
    at_once: Positive = 8  # requests HAProxy gives a replica that decides; the rest waits 35 ms

    replicas: Positive = 1  # that decide; each holds the catalogue and the release's models

    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16  # fixed for the life of a log
    folders: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1  # folder processes
    lease_ms: Annotated[int, msgspec.Meta(ge=200)] = 3000  # a silent folder is replaced after it
    late_days: Annotated[int, msgspec.Meta(ge=1, le=60)] = 7  # how old a live event may be
    idle_days: NotNegative = 0  # forget a user after so long without events; 0: never
    rows_days: Positive = 90  # of training rows as serving saw them; older ones are removed
    archive_interval_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    max_backlog: Positive = 2_000_000  # events waiting for fold or archive before 503
    memory_high: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9  # of maxmemory, before 503

    push_webhook_url: str = ""  # held messages go there; empty: they wait to be claimed
    push_webhook_secret: str = ""  # whsec_…; two, parted by a comma, while it is being changed
    push_webhook_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 15.0  # of one try

    actions: str = ""  # a file of your own in place of the shipped actions.yaml
    objective: str = ""  # … of objective.yaml
    recommend: str = ""  # … of recommend.yaml
    situations: str = ""  # … of situations.yaml
    modules: str = ""  # … of modules.yaml
    rules: str = ""  # … of rules.yaml
    push: str = ""  # … of push.yaml
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def home_path(self) -> Path:
        """KAIROS_HOME as an absolute path."""
        return Path(self.home).expanduser().absolute()

    @property
    def archive_path(self) -> Path:
        """The archived log: a Delta table, by arrival day."""
        return self.home_path / "log"

    @property
    def rows_path(self) -> Path:
        """Training rows as serving saw them: Parquet, by day."""
        return self.home_path / "rows"

    @property
    def models_at(self) -> str:
        """The model registry: a folder, or the address of an object store."""
        return self.models_url or str(self.home_path / "models")


def as_role(settings: Settings, role: Literal["ingest", "serve", "fold"]) -> Settings:
    """Settings that know the stores under this role's login alone, where it has one."""
    login = getattr(settings, f"{role}_login")
    if not login:
        return settings
    return msgspec.structs.replace(
        settings,
        redis_url=with_login(settings.redis_url, login),
        log_url=with_login(settings.log_url, login) if settings.log_url else "",
        **dict.fromkeys(("ingest_login", "serve_login", "fold_login"), ""),
    )


def load_settings(
    environ: Mapping[str, str] | None = None, file: Path = Path("kairos.toml")
) -> Settings:
    """Read the file, where there is one, and the environment; raises SettingsError."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    if file.exists():
        values |= _read_toml(file)
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    for variable, text in environ.items():
        if not variable.startswith("KAIROS_"):
            continue
        name = variable.removeprefix("KAIROS_").lower()
        if name in fields:
            values[name] = text
        else:  # not refused: Kubernetes sets KAIROS_SERVICE_HOST and the like for a service's name
            log.warning("%s: no such setting%s", variable, _nearest(name, fields, "KAIROS_"))
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: {error}") from error


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from error
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    for name in values:
        if name not in fields:
            raise SettingsError(f"{file}: {name}: no such setting{_nearest(name, fields)}")
    return values


def _nearest(name: str, fields: set[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, sorted(fields), n=1)
    if not near:
        return ""
    return f"; did you mean {prefix}{near[0].upper() if prefix else near[0]}?"
