"""`kairos benchmark gowalla | movielens_small`: how good the answers are, by HTTP, on public data.

Each imports into a home of its own, trains with `kairos train`, serves with `kairos up`, and judges
what `POST /v1/recommend` answers. The peers beside it are fitted to the same data in this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import typer

from cli import (
    benchmark_context,
    benchmark_diversity,
    benchmark_estimators,
    benchmark_load,
    benchmark_motion,
    benchmark_pages,
    benchmark_push,
    benchmark_push_speed,
    benchmark_pushes,
    benchmark_situations,
    benchmark_speed,
    benchmark_world,
)
from cli.asking import Service, answering, ask_all, item_ids
from cli.benchmark import Figures, Json, Out, report
from cli.homes import Home, home_at, kairos, release_of, served, temporary_home
from cli.terminal import console

if TYPE_CHECKING:
    from training.gowalla import Split
    from training.prequential import Contender, Trial
    from training.recorded import Event, Recorded

THREADS = 4
# Of quality, not of speed: a busy machine is not a dead store.
UNHURRIED = {
    "KAIROS_READ_TIMEOUT_MS": "5000",
    "KAIROS_STORE_TIMEOUT_MS": "10000",
    "KAIROS_DEADLINE_MS": "10000",
    "KAIROS_BATCH_DEADLINE_MS": "20000",
}
# Recall@20 and NDCG@20 at 64 dimensions: https://openbenchmark.github.io/BARS/, gowalla_m1.
PUBLISHED = {
    "ItemCF": (0.1570, 0.1214),
    "MF-BPR": (0.1627, 0.1378),
    "SLIM": (0.1699, 0.1382),
    "EASE": (0.1765, 0.1467),
    "LightGCN": (0.1824, 0.1554),
    "GF-CF": (0.1849, 0.1518),
    "UltraGCN": (0.1862, 0.1580),
    "SimpleX": (0.1872, 0.1557),
}
PAST = 0.8  # of the ratings, by time: imported and trained on
COLD = 0.05  # of the items
OF_USER = 40  # moments of each user that are predicted, at most, drawn by chance
SEED = 1
RESAMPLES = 1000


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command("gowalla")(gowalla)
    app.command("movielens_small")(movielens_small)
    benchmark_load.register(app)
    benchmark_motion.register(app)
    benchmark_context.register(app)
    benchmark_pages.register(app)
    benchmark_push.register(app)
    benchmark_push_speed.register(app)
    benchmark_pushes.register(app)
    benchmark_diversity.register(app)
    benchmark_speed.register(app)
    benchmark_world.register(app)
    benchmark_situations.register(app)
    benchmark_estimators.register(app)


def gowalla(home: Home = None, as_json: Json = False, out: Out = None) -> None:
    """Recall@20 and NDCG@20 on the published split, all users, as served."""
    from training import gowalla as data
    from training.gowalla_peers import peers
    from training.movielens import data_folder

    split = data.read_split(data_folder())
    with home_at(home) as place:
        if not (place / "models" / "current").exists():
            with console().status("writing the events"):
                data.write(data_folder(), place / "events.jsonl")
            kairos(place, "import", place / "events.jsonl")
            kairos(place, "train", "factors")
        with served(place, UNHURRIED) as (url, _):
            figures = ask_everybody(answering(url), split)
        figures |= release_of(place)
    figures["published [recall, ndcg], 64 dimensions"] = PUBLISHED
    for name, peer in peers(split):
        console().print(f"{name}: {peer}")
        figures[f"offline: {name}"] = msgspec.to_builtins(peer)
    report("gowalla", figures, as_json, out)


def ask_everybody(service: Service, split: Split) -> Figures:
    """The measure of the answers to all users of a split, and how fast they came."""
    from training.gowalla import AT, evaluate

    users = range(split.test.shape[0])
    release = service.recommend("nobody", 1)["release"]
    with console().status("asking") as status:

        def ask(user: int) -> list[int]:
            if user % 1000 == 0:
                status.update(f"asked for {user:,} of {len(users):,} users")
            answer = service.recommend(str(user), AT)
            assert answer["release"] == release, "the release changed under way"
            return [int(item_id) for item_id in item_ids(answer)]

        answers, speed = ask_all(ask, users, THREADS)
    quality = evaluate(answers.__getitem__, split.test)
    return {
        "recall@20": round(quality.recall, 4),
        "ndcg@20": round(quality.ndcg, 4),
        "users": quality.users,
        f"asking, {THREADS} connections": speed,
        "asked again": len(service.asked_again),
    }


def movielens_small(as_json: Json = False, out: Out = None) -> None:
    """Each rating predicted from all earlier ones; then items that nobody has touched."""
    from training.movielens import data_folder, events
    from training.recorded import record

    recorded = record(events(data_folder()), PAST)
    figures: Figures = {
        "protocol": "prequential, ties of a user together; the earliest "
        f"{PAST:.0%} imported and trained on, the rest told live; asked at most {OF_USER} "
        f"moments of a user, drawn by chance (seed {SEED})",
        "ratings imported": recorded.past,
        "ratings live": len(recorded.acts) - recorded.past,
    }
    with trained_on(recorded, ()) as (service, home):
        figures |= predict_all(service, recorded)
        figures["release"] = release_of(home)
    cold = draw_cold(recorded)
    with trained_on(recorded, cold) as (service, home):
        figures["cold items"] = predict_cold(service, recorded, cold)
        figures["cold items"]["release"] = release_of(home)
    report("movielens_small", figures, as_json, out)


@contextmanager
def trained_on(recorded: Recorded, without: Sequence[int]) -> Iterator[tuple[Service, Path]]:
    """The past imported, but for these items, trained and served."""
    with temporary_home() as home:
        write_lines(home / "past.jsonl", recorded.past_events(time.time(), without))
        kairos(home, "import", home / "past.jsonl")
        kairos(home, "train")
        with served(home, UNHURRIED) as (url, _):
            yield answering(url), home


def write_lines(file: Path, events: Iterator[Event]) -> None:
    """Events as JSON Lines."""
    with file.open("wb") as lines:
        for event in events:
            lines.write(msgspec.json.encode(event) + b"\n")


def predict_all(service: Service, recorded: Recorded) -> Figures:
    """The full road against popularity, ALS and item-item, on the same moments."""
    from cli.full_road import FullRoad
    from training.prequential import draw_cases
    from training.prequential_peers import peers

    acts = recorded.groups(live=True)
    contenders: dict[str, Contender] = {"full road": FullRoad(service, recorded)}
    contenders |= peers(recorded.matrix(), recorded.groups(live=False))
    trials = _walk(recorded, draw_cases(acts, OF_USER, SEED), contenders)
    return _compared(trials)


def draw_cold(recorded: Recorded) -> list[int]:
    """Rows of the items that nobody has touched when the release is made."""
    count = round(len(recorded.items) * COLD)
    drawn = np.random.default_rng(SEED).choice(len(recorded.items), count, replace=False)
    return sorted(drawn.tolist())


def predict_cold(service: Service, recorded: Recorded, cold: Sequence[int]) -> Figures:
    """Cold items, ranked among each other for those who rated one, and never told of."""
    from cli.full_road import FullRoad, bring_items
    from training.prequential import draw_cases
    from training.prequential_peers import Chance, Constant, attribute_popularity

    bring_items(service, [recorded.items[row] for row in cold])
    known = np.ones(len(recorded.items), np.bool_)
    known[cold] = False
    counts = np.bincount(recorded.item[: recorded.past], minlength=len(known))
    genres = [item["attributes"]["categories"] for item in recorded.items]
    worth = attribute_popularity(counts, genres, known)
    items = np.array(cold, np.int64)
    contenders: dict[str, Contender] = {
        "full road": FullRoad(service, recorded, cold),
        "popularity of genres": Constant(items, worth[items]),
        "random": Chance(items, SEED),
    }
    acts = recorded.groups(live=True)
    trials = _walk(recorded, draw_cases(acts, OF_USER, SEED, cold), contenders, cold)
    return {"items": len(cold)} | _compared(trials)


def _walk(
    recorded: Recorded,
    predicted: Sequence[bool],
    contenders: Mapping[str, Contender],
    hidden: Sequence[int] = (),
) -> dict[str, Trial]:
    from training.prequential import walk

    acts = recorded.groups(live=True)
    with console().status("predicting") as status:

        def done(count: int) -> None:
            if count % 200 == 0:
                status.update(f"{count:,} of {len(acts):,} moments")

        return walk(acts, predicted, contenders, hidden, done)


def _compared(trials: Mapping[str, Trial]) -> Figures:
    """The first trial, the others, and the differences with their intervals."""
    from training.prequential import compare

    (first, road), *others = trials.items()
    found: Figures = {"moments": len(road.users), "users": len(np.unique(road.users))}
    found |= {name: trial.means() for name, trial in trials.items()}
    for name, trial in others:
        found[f"{first} − {name} [difference, 2.5 %, 97.5 %]"] = {
            metric: [round(x or 0.0, 4) for x in (d.value, d.low, d.high)]
            for metric, d in compare(road, trial, RESAMPLES).items()
        }
    return found
