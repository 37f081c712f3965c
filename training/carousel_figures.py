"""How much each policy loses on the carousel: worlds, rounds, and what is told of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from engine.errors import KairosError
from training.carousel import Carousel, Doubles, Size, generate
from training.carousel_policies import POLICIES, regrets
from training.over_worlds import SURE, interval
from training.report import plot

TOLD = (1, 5, 10, 20, 50, 100)  # rounds whose regret is written down


@dataclass(frozen=True, slots=True)
class Course:
    """How a comparison runs."""

    onwards: float
    rounds: int
    visits: int
    seeds: int


def evaluate(
    course: Course, only: Collection[str], workers: int = 1, size: Size | None = None
) -> dict[str, Any]:
    """Figures of the policies named in `only`, or of all; every one meets the same people."""
    unknown = set(only) - set(POLICIES)
    if unknown:
        raise KairosError(f"no policy {sorted(unknown)[0]!r}; there are {', '.join(POLICIES)}")
    names = [name for name in POLICIES if not only or name in only or name == "random"]
    live = partial(_live, course, names, size or Size())
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            lived = list(pool.map(live, range(course.seeds)))
    else:
        lived = [live(seed) for seed in range(course.seeds)]
    worlds = [world for world, _ in lived]
    lost = {name: np.stack([by_name[name] for _, by_name in lived]) for name in names}
    return {
        "protocol": (
            "cumulative expected regret against the best order for each person; mean over worlds, "
            f"[value, low, high] with Student's {SURE:.0%} interval over {course.seeds} worlds"
        ),
        **asdict(course),
        **asdict(size or Size()),
        "world": {key: float(np.mean([of[key] for of in worlds])) for key in worlds[0]},
        "of_random": {name: interval(lost[name][:, -1] / lost["random"][:, -1]) for name in names},
        "last_tenth_of_random": {
            name: interval(recent(lost[name]) / recent(lost["random"])) for name in names
        },
        "regret": {
            name: {
                str(n): interval(lost[name][:, n - 1])
                for n in sorted({n for n in TOLD if n < course.rounds} | {course.rounds})
            }
            for name in names
        },
    }


def _live(
    course: Course, names: Sequence[str], size: Size, seed: int
) -> tuple[dict[str, float], dict[str, Doubles]]:
    """What a world is like, and each policy's cumulative regret in it, float64 [rounds]."""
    world = generate(size, np.random.default_rng(seed), course.onwards)
    lost = {
        name: regrets(world, POLICIES[name](world), course.rounds, course.visits, seed).cumsum()
        for name in names
    }
    return described(world), lost


def described(world: Carousel) -> dict[str, float]:
    """What clicks are like, and what the best order of each segment still loses, of random's."""
    chances, segments = world.chances, world.segments
    count, slots = world.size.segments, world.size.slots
    order = np.argsort(segments, kind="stable")
    sizes = np.bincount(segments, minlength=count)
    taken = sizes > 0
    starts = (np.cumsum(sizes) - sizes)[taken]
    of = np.zeros((count, chances.shape[1]))
    of[taken] = np.add.reduceat(chances[order], starts) / sizes[taken, None]
    people = np.arange(len(segments))
    told = world.value(people, np.argsort(-of, axis=1)[segments, :slots]).mean()
    for_all = np.broadcast_to(np.argsort(-chances.mean(axis=0))[:slots], (len(people), slots))
    best = world.best().mean()
    loss = best - chances.mean(axis=1).mean() * world.seen.sum()
    return {
        "chance": float(chances.mean()),
        "chance_of_the_best": float(chances.max(axis=1).mean()),
        "best_by_segment_of_random": float((best - told) / loss),
        "one_order_for_all_of_random": float((best - world.value(people, for_all).mean()) / loss),
    }


def recent(lost: Doubles) -> Doubles:
    """float64 [worlds]: what the last tenth of the rounds cost."""
    rounds = lost.shape[1]
    before = rounds - max(rounds // 10, 1)
    made: Doubles = lost[:, -1] - (lost[:, before - 1] if before > 0 else 0.0)
    return made


def draw(regret: Mapping[str, Mapping[str, list[float]]]) -> str:
    """An SVG of cumulative regret by round."""

    def curves(axes: Any) -> None:
        for name, by_round in regret.items():
            rounds = [int(n) for n in by_round]
            axes.plot(rounds, [told[0] for told in by_round.values()], label=name)
        axes.set_xlabel("rounds")
        axes.set_ylabel("cumulative regret, clicks")
        axes.legend(fontsize=7)

    return plot(curves)
