"""How the retrieval settings were chosen on Gowalla, and what each dial costs.

`python -m training.gowalla_tuning choose` compares settings on a fifth of *train*, held out;
`… test` measures the chosen ones once on the published test part, as served: folded in, through
the index, rescored; `… speed` times them with 100,000 items. Times are of one thread's processor
for user() and search(k=200).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.candidates import Retriever
from engine.taste import Taste
from models import factors, item_item, spectral
from models.index import IndexSettings, build_index
from training.gowalla import Quality, Split, evaluate, hold_out, read_split
from training.movielens import data_folder

CANDIDATES = 200
MANY = 100_000
POWERS = ((0.5, 0.5), (0.3, 0.5), (0.3, 0.4), (0.35, 0.4), (0.35, 0.3), (0.4, 0.4), (0.45, 0.4))
DIMENSIONS = (64, 128, 256, 384, 512, 768, 1024)
DIALS = [
    IndexSettings(search_dimensions=search, rescore=rescore, probes=probes)
    for search in (192, 288, 384)
    for rescore, probes in ((200, 64), (300, 32), (300, 64), (300, 128), (500, 64))
]
EVERYTHING = IndexSettings(search_dimensions=4096, exact_below=10**9)


@dataclass(frozen=True, slots=True)
class Served:
    """A model that answers as it would a request: from the items touched, without these."""

    model: Retriever
    train: sp.csr_matrix
    cpu_us: list[float] = field(default_factory=list)

    def recommend(self, user: int) -> NDArray[np.int32]:
        """The best items, best first; the time goes into `cpu_us`."""
        touched = self.train.indices[self.train.indptr[user] : self.train.indptr[user + 1]]
        taste = Taste(touched.astype(np.int32), np.ones(len(touched), np.float32), {})
        allowed = np.ones(MANY, np.bool_)
        allowed[touched] = False
        start = time.thread_time_ns()
        vector = self.model.user(taste)
        items, _ = self.model.search(vector, CANDIDATES, allowed)
        self.cpu_us.append((time.thread_time_ns() - start) / 1e3)
        return items


def measure(model: Retriever, split: Split, users: NDArray[np.int64] | None) -> tuple[Quality, str]:
    """The quality of a model as served, and its row of the table."""
    served = Served(model, split.train)
    quality = evaluate(served.recommend, split.test, users)
    middle, late = np.percentile(served.cpu_us, [50, 99])
    return quality, f"{quality.recall:.4f} {quality.ndcg:.4f} {middle:6.0f} {late:6.0f}"


def choose(split: Split, users: NDArray[np.int64]) -> Iterator[str]:
    """Rows of the tables on the held-out part of train, each as it is measured."""
    widest = spectral.SpectralSettings(dimensions=max(DIMENSIONS), index=EVERYTHING)
    yield "a b dimensions: Recall@20 NDCG@20 µs p50 p99, all items compared"
    for user_power, item_power in POWERS:
        settings = msgspec.structs.replace(widest, user_power=user_power, item_power=item_power)
        model = spectral.fit(split.train, settings)
        for dimensions in DIMENSIONS:
            _, row = measure(_narrowed(model, dimensions, EVERYTHING), split, users)
            yield f"{user_power} {item_power} {dimensions}: {row}"
    model = spectral.fit(split.train, spectral.SpectralSettings())
    yield "search_dimensions rescore probes: Recall@20 NDCG@20 µs p50 p99"
    for dials in DIALS:
        narrowed = _narrowed(model, spectral.SpectralSettings().dimensions, dials)
        _, row = measure(narrowed, split, users)
        yield f"{dials.search_dimensions} {dials.rescore} {dials.probes}: {row}"


def test(split: Split) -> Iterator[str]:
    """The table on the published test part, all users."""
    yield "model: Recall@20 NDCG@20 µs p50 p99, bytes"
    chosen = spectral.SpectralSettings()
    fits: dict[str, Any] = {
        f"spectral, {d} dimensions": lambda d=d: spectral.fit(
            split.train, msgspec.structs.replace(chosen, dimensions=d)
        )
        for d in (chosen.dimensions, 64)
    }
    fits["als"] = lambda: factors.fit_als(split.train, factors.AlsSettings())
    fits["bpr"] = lambda: factors.fit_bpr(split.train, factors.BprSettings())
    fits["item_item"] = lambda: item_item.fit(split.train, item_item.ItemItemSettings())
    for name, fit in fits.items():
        start = time.perf_counter()
        model = fit()
        took = time.perf_counter() - start
        size = sum(array.nbytes for array in model.to_artifact([]).arrays.values())
        _, row = measure(model, split, None)
        yield f"{name}: {row} {size:,} bytes, fitted in {took:.0f} s"


def speed(split: Split) -> Iterator[str]:
    """Times with the chosen settings and 100,000 items: Gowalla's, then noisy copies of them."""
    model = spectral.fit(split.train, spectral.SpectralSettings())
    rng = np.random.default_rng(1)
    like = rng.integers(0, model.index.size, MANY - model.index.size)
    noise = rng.standard_normal((len(like), model.index.dimensions), np.float32)
    rows = model.index.rows
    vectors = np.vstack([rows.floats(), rows.floats(like) * (1 + 0.3 * noise)])
    inward = np.concatenate([model.inward, model.inward[like]])
    index = build_index(vectors, model.settings.index)
    served = Served(spectral.Spectral(model.settings, index, inward), split.train)
    for user in rng.permutation(split.train.shape[0])[:5_000]:
        served.recommend(user)
    middle, late = np.percentile(served.cpu_us, [50, 99])
    yield f"{MANY:,} items: µs p50 {middle:.0f}, p99 {late:.0f}"


def _narrowed(model: spectral.Spectral, dimensions: int, dials: IndexSettings) -> spectral.Spectral:
    """The same model with its first dimensions alone, and other dials."""
    index = build_index(model.index.rows.floats()[:, :dimensions], dials)
    settings = msgspec.structs.replace(model.settings, dimensions=dimensions, index=dials)
    return spectral.Spectral(settings, index, model.inward)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.gowalla_tuning", description=__doc__)
    parser.add_argument("what", choices=("choose", "test", "speed"))
    parser.add_argument("--users", type=int, default=3_000, help="to choose on, drawn by chance")
    told = parser.parse_args()
    split = read_split(data_folder())
    if told.what == "choose":
        users = np.random.default_rng(1).permutation(split.train.shape[0])[: told.users]
        rows = choose(hold_out(split.train), users)
    else:
        rows = test(split) if told.what == "test" else speed(split)
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
