"""Gowalla's published split: as Kairos events, and the measure that everyone reports on it.

`python -m training.gowalla OUT` writes the training part as JSON Lines that `kairos import` reads
(gzip when OUT ends in .gz). The data set is read where it lies and never copied into the
repository. Source: Cho, Myers and Leskovec, KDD 2011; the split is that of He et al., "LightGCN",
SIGIR 2020, `gowalla_m1` of https://openbenchmark.github.io/BARS/.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.errors import NotFound
from training.movielens import data_folder

NAME = "gowalla"
AT = 20
FIRST_MS = 1_262_304_000_000  # 2010: the split has no times
ORDER_SEED = 2010


@dataclass(frozen=True, slots=True)
class Split:
    """Check-ins as float32 CSR [users, items] of ones."""

    train: sp.csr_matrix
    test: sp.csr_matrix


class Quality(msgspec.Struct, frozen=True):
    """Means over the users that have a test item."""

    recall: float  # hits among the first 20 / the user's test items
    ndcg: float  # with the ideal over min(20, test items)
    users: int


def read_split(folder: Path) -> Split:
    """The split from `gowalla/gowalla.npz` in the folder of all data sets; raises NotFound."""
    path = folder / NAME / f"{NAME}.npz"
    if not path.is_file():
        raise NotFound(
            f"no {path.name} in {path.parent}: set KAIROS_DATA to the folder that holds {NAME}. "
            "The split is published as gowalla_m1 at https://openbenchmark.github.io/BARS/; "
            "gowalla.npz holds n_users, n_items and {train,test}_{indptr,indices}"
        )
    with np.load(path, allow_pickle=False) as arrays:
        shape = (int(arrays["n_users"]), int(arrays["n_items"]))
        parts = []
        for part in ("train", "test"):
            indices = arrays[f"{part}_indices"]
            ones = np.ones(len(indices), np.float32)
            parts.append(sp.csr_matrix((ones, indices, arrays[f"{part}_indptr"]), shape=shape))
    return Split(*parts)


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Item events of all places, then the training check-ins as views, a millisecond apart.

    Their order is drawn by chance, so that a split by time is a split by chance, and all lie
    within a quarter of an hour, so that none weighs more for being newer. Raises NotFound when
    called.
    """
    return _events(read_split(folder).train)


def write(folder: Path, out: Path) -> int:
    """Write `events` to `out` as JSON Lines, gzip for .gz, and return how many there were.

    The same data gives the same bytes. Raises NotFound, before `out` is touched.
    """
    stream = events(folder)
    encode = msgspec.json.Encoder().encode
    count = 0
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(out.open("wb"))
        if out.suffix == ".gz":
            # Without a fixed name and time two runs would differ in the header.
            gz = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
            file = cast(IO[bytes], stack.enter_context(gz))
        for event in stream:
            file.write(encode(event) + b"\n")
            count += 1
    return count


def evaluate(
    recommend: Callable[[int], Sequence[int] | NDArray[np.int32]],
    test: sp.csr_matrix,
    users: Iterable[int] | None = None,
) -> Quality:
    """How well `recommend` (user -> items, best first, without what they trained on) does.

    Users are all of `test` [users, items], or those given; one without a test item is left out.
    """
    discount = 1 / np.log2(np.arange(2, AT + 2))
    recalls, gains = [], []
    for user in range(test.shape[0]) if users is None else users:
        wanted = test.indices[test.indptr[user] : test.indptr[user + 1]]
        if not len(wanted):
            continue
        hits = np.isin(np.asarray(recommend(user), np.int64)[:AT], wanted)
        recalls.append(hits.sum() / len(wanted))
        gains.append(discount[: len(hits)][hits].sum() / discount[: len(wanted)].sum())
    return Quality(float(np.mean(recalls)), float(np.mean(gains)), len(recalls))


def hold_out(train: sp.csr_matrix, share: float = 0.2, seed: int = 1) -> Split:
    """A part of train to choose settings on: `share` of each user's items, rounded down."""
    coo = train.tocoo()
    by_user = np.lexsort((np.random.default_rng(seed).random(coo.nnz), coo.row))
    rows, columns = coo.row[by_user], coo.col[by_user]
    place = np.arange(coo.nnz) - train.indptr[rows]
    held = place < np.floor(np.diff(train.indptr)[rows] * share)
    learn, choose = (
        sp.csr_matrix(
            (np.ones(part.sum(), np.float32), (rows[part], columns[part])), shape=train.shape
        )
        for part in (~held, held)
    )
    return Split(learn, choose)


def _events(train: sp.csr_matrix) -> Iterator[dict[str, Any]]:
    users, items = train.shape
    for item in range(items):
        attributes = {"title": f"place {item}"}
        yield {"type": "item", "item_id": str(item), "ts": FIRST_MS, "attributes": attributes}
    user_of = np.repeat(np.arange(users), np.diff(train.indptr))
    order = np.random.default_rng(ORDER_SEED).permutation(train.nnz)
    for n, (user, item) in enumerate(
        zip(user_of[order].tolist(), train.indices[order].tolist(), strict=True)
    ):
        yield {
            "type": "interaction",
            "event_id": f"g-{user}-{item}",
            "user_id": str(user),
            "action": "view",
            "item_id": str(item),
            "ts": FIRST_MS + n,
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.gowalla", description=__doc__)
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
