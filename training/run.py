"""The training row's way: `run`, from the log to a published release. Read this file first.

Time is cut in three. The retrieval models learn from the earliest part, the ranker from what came
after it, and all of it is judged on the latest part, which nothing else looks at. What has proved
better there is fitted again to everything, and published.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from engine.archive import Archive
from engine.redis_store import RedisStore
from models.loading import Models
from models.registry import Registry
from training.contest import contest, hybrid_verdict
from training.datasets import join
from training.findings import Report, make_report
from training.fitting import RETRIEVAL, fit_sources
from training.history import History, read_history
from training.material import Job, gather_material
from training.publishing import add_versions, artifacts_of, read_published
from training.ranking import calibrate, fit_ranker
from training.replay import WholeLog
from training.search import choose_factors
from training.stages import Say, Stages


def run(job: Job, registry: Registry, say: Say = lambda line: None) -> Report:
    """Train, evaluate, and publish what proved better; raises TooLittle, NotEqual, SettingsError.

    `job.settings` name a running store, or none, where the archive is the whole log.
    """
    stages = Stages(say)
    with stages("read the log"):
        history = read(job)
    with stages("fold up to every moment that is looked at"):
        material = gather_material(job, history)
    cuts, earliest = material.cuts, material.acts_upto(material.cuts.rows)
    with stages("choose the factors"):
        tries, factors = choose_factors(material, job.search, say)
        chosen = msgspec.structs.replace(job.training, factors=[tries[0].settings])
    with stages("fit the retrieval models to the earliest part"):
        others = [name for name in RETRIEVAL if name != "factors"]
        sources = replace(fit_sources(history, earliest, chosen, others), factors=factors)
        hybrid = hybrid_verdict(material, sources)
        kept = RETRIEVAL if hybrid.proved else tuple(name for name in RETRIEVAL if name != "hybrid")
        sources = sources if hybrid.proved else replace(sources, hybrid=None)
    with stages("make the ranker's rows"):
        rows = material.rows(material.train_rows, sources)
    with stages("fit the ranker, check parity"):
        fitted = fit_ranker(material, rows)
    with stages("fit the retrieval models to all before the test"):
        sources = fit_sources(history, material.acts_upto(cuts.test), chosen, kept)
    with stages("evaluate on the test part"):
        published = read_published(registry, history.catalog)
        ranked = None if fitted is None else Models(sources, fitted.ranker)
        outcome = contest(material, sources, ranked, published)
        later = material.rows(material.test_rows, sources)
        calibration = {} if fitted is None else calibrate(material, fitted.ranker, later)
    report = make_report(material, tries, [hybrid], rows, fitted, outcome, calibration)
    versions: dict[str, str] = {}
    release = None
    if outcome.better:
        with stages("fit to everything, write, publish"):
            final = fit_sources(history, history.acts, chosen, kept)
            # Sampled rows of the test part are too few to be worth it.
            if outcome.ranker_earned and material.test_rows.decisions:
                fitted = fit_ranker(material, join([rows, later])) or fitted
            ranker = fitted.ranker if fitted is not None and outcome.ranker_earned else None
            artifacts = artifacts_of(final, ranker, history.catalog)
            wanted = {name: artifacts[name] for name in artifacts if name in job.names}
            versions = add_versions(registry, wanted, material, report)
            # A model that was judged and has not earned its place goes with what it was fitted to.
            dropped = set(job.names) - wanted.keys()
            if job.publish:
                release = registry.publish(versions, report.reason, without=dropped)
    return msgspec.structs.replace(
        report,
        versions=versions,
        release_id=release.release_id if release else None,
        stages=stages.done,
    )


def evaluate_published(job: Job, registry: Registry, say: Say = lambda line: None) -> Report:
    """The published release and what is simple, on the latest part; publishes nothing.

    The release is judged on moments later than what it learned from; there may be none.
    """
    stages = Stages(say)
    with stages("read the log"):
        history = read(job)
    with stages("fold up to every moment that is looked at"):
        material = gather_material(job, history)
    with stages("fit simple models to all before the test"):
        sources = fit_sources(history, material.acts_upto(material.cuts.test), job.training)
    with stages("evaluate on the test part"):
        published = read_published(registry, history.catalog)
        outcome = contest(material, sources, None, published)
    report = make_report(material, [], [], None, None, outcome, {})
    return msgspec.structs.replace(report, stages=stages.done)


def read(job: Job) -> History:
    """The log's acts and decisions of the job's span of time."""
    settings = job.settings
    store = RedisStore.connect(settings) if settings.redis_url else None
    log = WholeLog(Archive(settings.archive_path), store)
    history = read_history(log, settings.partitions)
    return history.between(job.since_ms, job.until_ms)
