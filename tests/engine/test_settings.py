"""kairos.toml and the environment."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from engine.errors import SettingsError
from engine.settings import Settings, load_settings


def load(tmp_path: Path, toml: str, **environ: str) -> Settings:
    file = tmp_path / "kairos.toml"
    file.write_text(toml)
    return load_settings(environ, file)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path / "none.toml") == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    found = load(tmp_path, 'port = 1\nlate_days = 3\nhost = "h"', KAIROS_PORT="2", HOST="other")

    assert (found.port, found.late_days, found.host) == (2, 3, "h")


def test_types_of_the_environment(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "",
        KAIROS_PARTITIONS="32",
        KAIROS_MEMORY_HIGH="0.5",
        KAIROS_APPENDFSYNC="always",
        KAIROS_REDIS_URL="redis://h/0",
    )

    assert (found.partitions, found.memory_high) == (32, 0.5)
    assert (found.appendfsync, found.redis_url) == ("always", "redis://h/0")


@pytest.mark.parametrize(
    ("key", "nearest"), [("partition", "partitions"), ("late_day", "late_days"), ("xyzzy", "")]
)
def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path, key: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"{key} = 1")

    assert f"kairos.toml: {key}: no such setting" in str(caught.value)
    assert ("did you mean " + nearest + "?" in str(caught.value)) == bool(nearest)


def test_an_unknown_variable_is_only_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = load(tmp_path, "", KAIROS_PARTITION="32", KAIROS_SERVICE_HOST="10.0.0.1")

    assert found == Settings()
    assert "KAIROS_PARTITION: no such setting; did you mean KAIROS_PARTITIONS?" in caplog.text
    assert "KAIROS_SERVICE_HOST" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "0"),
        ("port", "eighty"),
        ("partitions", "0"),
        ("partitions", "1025"),
        ("partitions", ""),
        ("late_days", "-1"),
        ("lease_ms", "199"),
        ("memory_high", "1.5"),
        ("memory_high", "nan"),
        ("archive_interval_s", "0"),
        ("appendfsync", "sometimes"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(tmp_path, "", **{f"KAIROS_{name.upper()}": value})


@pytest.mark.parametrize("toml", ["port =", "[port]\nx = 1", "port = [1]", "port = 1.5"])
def test_a_wrong_file_is_refused(tmp_path: Path, toml: str) -> None:
    with pytest.raises(SettingsError):
        load(tmp_path, toml)


def test_a_file_of_wrong_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kairos.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"kairos\.toml"):
        load_settings({}, tmp_path / "kairos.toml")


def test_paths_are_absolute() -> None:
    found = Settings(home="somewhere")

    assert found.home_path.is_absolute()
    assert found.archive_path == found.home_path / "log"
