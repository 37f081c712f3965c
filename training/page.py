"""`kairos train page`: pages of the log → what a look at each module is worth → a release.

A model is fitted to the earlier part of the time and published only where, on the later part,
giving each slot to the best module by the model is worth more than giving it to the best by the
counts (training.page_value): the lower limit of the gain above 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from engine.times import to_rfc3339
from models.boosting import Worth, Worths, WorthSettings, fit_worth
from models.export import export_modules
from models.loading import MODULES
from models.modules import ModuleMeta, ModuleModel
from models.registry import Registry
from models.release import Card, Metric, Span
from training.page_log import PageLog, SeenPage
from training.page_value import COUNTED, LEARNED, Judged, drawn_slots, judge
from training.publishing import commit

EARLIER = 0.8  # of the time; the rest judges
HELD_OUT = 0.2  # of the earlier pages: these say when there are enough trees
FEWEST_LOOKS = 1_000  # to learn from …
FEWEST_OF_MODULE = 50  # … of a module; one with fewer goes by the counts
FEWEST_PAGES = 200  # to judge by …
FEWEST_EFFECTIVE = 50.0  # … and looks at what the model would have chosen
LEAST_ACTS = 1e-4  # that a look is expected to bring


class PageReport(msgspec.Struct, frozen=True):
    """What came of it."""

    pages: int  # of which something was looked at, all outcomes known
    looks: int
    modules: list[str] = []  # that were learned
    trees: int = 0
    judged: Judged | None = None
    judged_from: str = ""
    parity: float = 0.0
    better: bool = False
    reason: str = ""
    release_id: str | None = None


def learn_modules(
    log: PageLog,
    situations: Sequence[str],
    registry: Registry,
    publish: bool,
    settings: WorthSettings | None = None,
) -> PageReport:
    """Fit, judge and publish; raises NotEqual where the exported model is not the fitted one."""
    settings, pages = settings or WorthSettings(), log.pages()
    report = PageReport(len(pages), sum(len(page.worth) for page in pages))
    earlier, later, cut_ms = _cut(pages, log.longest_ms)
    looks = sum(len(page.worth) for page in earlier)
    worth = sum(float(np.maximum(page.worth, 0).sum()) for page in earlier)
    if looks < FEWEST_LOOKS or not worth:
        reason = (
            f"expected {FEWEST_LOOKS:,} looks at modules at least in the earlier part of the log, "
            f"it holds {looks:,}, worth {worth:.4g}"
        )
        return msgspec.structs.replace(report, reason=reason)
    meta = meta_of(earlier, situations)
    fitted = _fit_held_out(earlier, meta, settings)
    model, parity = export_modules(fitted, meta, examples(earlier, meta).rows)
    judged = judge(drawn_slots(later, model))
    better, reason = verdict(judged)
    report = msgspec.structs.replace(
        report,
        modules=meta.modules,
        trees=model.meta.trees,
        judged=judged,
        judged_from=to_rfc3339(cut_ms),
        parity=parity,
        better=better,
        reason=reason,
    )
    if not better:
        return report
    final = _fit_all(pages, situations, settings, model.meta.trees)
    version = registry.add(MODULES, final.to_artifact().files(), _card(pages, final, report))
    if not publish:
        return report
    release = registry.publish({MODULES: version.version}, reason)
    return msgspec.structs.replace(report, release_id=release.release_id)


def _cut(pages: Sequence[SeenPage], longest_ms: int) -> tuple[list[SeenPage], list[SeenPage], int]:
    """The pages whose outcomes were known before the later part, those of it, and its beginning."""
    if not pages:
        return [], [], 0
    first, last = pages[0].at_ms, pages[-1].at_ms
    cut_ms = first + round(EARLIER * (last - first))
    earlier = [page for page in pages if page.at_ms + longest_ms <= cut_ms]
    return earlier, [page for page in pages if page.at_ms >= cut_ms], cut_ms


def meta_of(pages: Sequence[SeenPage], situations: Sequence[str]) -> ModuleMeta:
    """What there is to learn of: modules that were looked at often enough."""
    looks = Counter(page.decided.modules[number] for page in pages for number in page.looked)
    segments = {page.decided.segment for page in pages} - {""}
    return ModuleMeta(
        modules=sorted(name for name, count in looks.items() if count >= FEWEST_OF_MODULE),
        situations=list(situations),
        segments=sorted(segments),
    )


def examples(pages: Sequence[SeenPage], meta: ModuleMeta) -> Worths:
    """A row for each look at a module that the model may know; worths in typical acts."""
    tables, worths, expected = [], [], []
    for page in pages:
        looked, names = page.looked, page.decided.modules
        known = [place for place, number in enumerate(looked) if names[number] in meta.modules]
        numbers = [looked[place] for place in known]
        counted = page.counted[numbers]
        modules, segment = [names[number] for number in numbers], page.decided.segment
        tables.append(meta.rows(modules, counted, page.moment, segment, known))
        worths.append(page.worth[known])
        expected.append(counted)
    worth = np.concatenate(worths)
    # As engine.module_choice has it: strengths count acts.
    act = float((worth**2).sum() / max(float(np.maximum(worth, 0).sum()), 1e-12))
    return Worths(
        np.concatenate(tables), worth / act, np.maximum(np.concatenate(expected) / act, LEAST_ACTS)
    )


def _fit_held_out(pages: Sequence[SeenPage], meta: ModuleMeta, settings: WorthSettings) -> Worth:
    """Fitted to the earlier pages, as many trees as the latest of them bear out."""
    looks = examples(pages, meta)
    held_out = np.arange(len(looks.rows)) >= (1 - HELD_OUT) * len(looks.rows)
    return fit_worth(looks.some(~held_out), settings, looks.some(held_out))


def _fit_all(
    pages: Sequence[SeenPage], situations: Sequence[str], settings: WorthSettings, trees: int
) -> ModuleModel:
    meta = meta_of(pages, situations)
    looks = examples(pages, meta)
    model, _ = export_modules(fit_worth(looks, settings, trees=trees), meta, looks.rows)
    return model


def verdict(judged: Judged) -> tuple[bool, str]:
    """Whether the model is proved better, and why or why not, in a sentence."""
    if judged.pages < FEWEST_PAGES or judged.effective < FEWEST_EFFECTIVE:
        return False, (
            f"nothing can be proved on {judged.pages:,} pages and {judged.effective:.0f} effective "
            f"looks of the later part: expected {FEWEST_PAGES} and {FEWEST_EFFECTIVE:.0f}"
        )
    gain = judged.gain
    better = gain.low is not None and gain.low > 0
    told = f"{gain.value:+.4g}, interval {gain.low:+.4g} to {gain.high:+.4g}"
    return better, (
        f"a look where the model chooses is worth {told}, against the counts: "
        f"{'better' if better else 'not proved better'}"
    )


def _card(pages: Sequence[SeenPage], model: ModuleModel, report: PageReport) -> Card:
    judged = report.judged
    assert judged is not None
    return Card(
        data=Span("pages in the log", to_rfc3339(pages[0].at_ms), to_rfc3339(pages[-1].at_ms)),
        rows=report.looks,
        metrics={"worth_of_a_look": Metric(judged.value[LEARNED]), "gain": judged.gain},
        baselines={COUNTED: {"worth_of_a_look": Metric(judged.value[COUNTED])}},
        settings={"trees": model.meta.trees, "modules": model.meta.modules},
        commit=commit(),
        notes=[
            report.reason,
            f"judged on {judged.pages:,} pages of {judged.users:,} users from "
            f"{report.judged_from}; effective sample {judged.effective:,.0f}, "
            f"{judged.clipped:,} weights clipped",
        ],
    )
