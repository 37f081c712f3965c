"""Points to replay, from a file; and their answers, to one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from engine.catalog import Catalog
from engine.errors import InvalidInput
from engine.profile import profile
from engine.push_look import Person
from engine.state import decode_state
from engine.times import to_ms, to_rfc3339
from training.replay import Point

TIME_COLUMNS = ("time", "ts", "at")


def read_points(file: Path) -> list[Point]:
    """Columns user_id and time (or ts); Parquet, CSV or JSON Lines, by the file's ending."""
    try:
        frame = _read(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(str(file), f"cannot be read: {error}") from error
    time = next((name for name in TIME_COLUMNS if name in frame.columns), None)
    if "user_id" not in frame.columns or time is None:
        raise InvalidInput(
            str(file), f"expected columns user_id and time, got {', '.join(frame.columns)}"
        )
    points = []
    for number, (user_id, at) in enumerate(zip(frame["user_id"], frame[time], strict=True), 1):
        if user_id is None:
            raise InvalidInput(f"line {number}: user_id", "expected an id, got nothing")
        points.append(Point(str(user_id), _time_ms(at, f"line {number}: {time}")))
    return points


def _time_ms(at: object, field: str) -> int:
    """Without a zone it is UTC; CSV, and a column of mixed kinds, bring numbers as text."""
    if isinstance(at, datetime):
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if not isinstance(at, str | int | float):
        raise InvalidInput(field, f"expected a time, got {at if at is not None else 'nothing'}")
    try:
        return to_ms(float(at), field)
    except ValueError:
        return to_ms(at, field)


def _read(file: Path) -> pl.DataFrame:
    if file.suffix == ".parquet":
        return pl.read_parquet(file)
    if file.suffix == ".csv":
        return pl.read_csv(file, infer_schema=False)  # an id such as 007 is no number
    return pl.read_ndjson(file)


def write_answers(
    points: Sequence[Point], answers: dict[Point, bytes], catalog: Catalog, folder: Path
) -> Path:
    """One row per point, in order: user_id, time, known, state (JSON for people), packed."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = [answers.get(point) for point in points]
    shown = [
        None if raw is None else _shown(point, raw, catalog)
        for point, raw in zip(points, packed, strict=True)
    ]
    frame = pl.DataFrame(
        {
            "user_id": [point.user_id for point in points],
            "time": [to_rfc3339(point.at_ms) for point in points],
            "known": [raw is not None for raw in packed],
            "state": shown,
            "packed": packed,
        },
        schema_overrides={"state": pl.String, "packed": pl.Binary},
    )
    file = folder / "states.parquet"
    frame.write_parquet(file)
    return file


def _shown(point: Point, raw: bytes, catalog: Catalog) -> str:
    view = profile(Person(point.user_id, decode_state(raw)), catalog, (), point.at_ms)
    return msgspec.json.encode(view).decode()
