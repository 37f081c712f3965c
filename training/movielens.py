"""MovieLens latest-small as Kairos events: real ratings in time order, for end-to-end runs.

`python -m training.movielens OUT` writes JSON Lines that `kairos import` reads (gzip when OUT
ends in .gz). The data set is read where it lies and never copied into the repository.
Source: Harper and Konstan 2015, https://doi.org/10.1145/2827872.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import polars as pl

from engine.errors import NotFound

NAME = "movielens_small"
# The year ends the title; a series carries a span, "(2006–2007)", of which the first counts.
YEAR = re.compile(r"\((\d{4})(?:[–-]\s*\d{0,4})?\)$")


def data_folder() -> Path:
    """The folder of the public data sets: KAIROS_DATA, or ../shared/data."""
    return Path(os.environ.get("KAIROS_DATA") or "../shared/data")


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Item events of all movies, then their ratings as interactions by (time, row of the file).

    `folder` holds all data sets, this one in its `movielens_small`. Tags are those of the whole
    period, so an evaluation on them sees a little of the future. Raises NotFound when called,
    not when first read, if a file is missing.
    """
    return _events(*(_table(folder, name) for name in ("movies", "tags", "ratings")))


def write(folder: Path, out: Path) -> int:
    """Write `events` to `out` as JSON Lines, gzip for .gz, and return how many there were.

    The same data gives the same bytes. Raises NotFound, before `out` is touched.
    """
    stream = events(folder)
    encoder = msgspec.json.Encoder()
    count = 0
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(out.open("wb"))
        if out.suffix == ".gz":
            # Without a fixed name and time two runs would differ in the header.
            gz = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
            file = cast(IO[bytes], stack.enter_context(gz))
        for event in stream:
            file.write(encoder.encode(event) + b"\n")
            count += 1
    return count


def _table(folder: Path, name: str) -> pl.DataFrame:
    path = folder / NAME / f"{name}.parquet"
    if not path.is_file():
        raise NotFound(
            f"no {name}.parquet in {folder / NAME}: set KAIROS_DATA to the folder that holds "
            f"{NAME} (the data set is published as ml-latest-small at "
            "https://grouplens.org/datasets/movielens/)"
        )
    return pl.read_parquet(path)


def _events(
    movies: pl.DataFrame, tags: pl.DataFrame, ratings: pl.DataFrame
) -> Iterator[dict[str, Any]]:
    tags_of: dict[int, set[str]] = {}
    for movie_id, tag in tags.select("movieId", "tag").iter_rows():
        tags_of.setdefault(movie_id, set()).add(tag.strip().lower())

    for movie_id, raw_title, genres in movies.select("movieId", "title", "genres").iter_rows():
        title = raw_title.strip()
        attributes: dict[str, Any] = {
            "title": title,
            "categories": [] if genres == "(no genres listed)" else genres.split("|"),
            "tags": sorted(tags_of.get(movie_id, ())),
        }
        if year := YEAR.search(title):
            attributes["year"] = int(year[1])
        yield {"type": "item", "item_id": str(movie_id), "attributes": attributes}

    # 23 % of the times tie: only a stable sort keeps two runs equal.
    in_time = ratings.sort("timestamp", maintain_order=True)
    columns = ("userId", "movieId", "rating", "timestamp")
    for user_id, movie_id, rating, ts in in_time.select(columns).iter_rows():
        yield {
            "type": "interaction",
            "event_id": f"r-{user_id}-{movie_id}",
            "user_id": str(user_id),
            "action": "rate",
            "item_id": str(movie_id),
            "value": rating,
            "ts": ts,
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.movielens", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="events.jsonl or events.jsonl.gz")
    out = parser.parse_args().out
    try:
        count = write(data_folder(), out)
    except NotFound as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{count:,} events written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
