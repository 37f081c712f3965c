"""From fitted models to a published release: cards, versions, the pointer."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from engine.candidates import Sources
from engine.catalog import Catalog
from engine.features import NAMES
from engine.state import FOLD_VERSION
from engine.times import to_ms
from models.artifact import Artifact
from models.index import dimensions_of
from models.loading import MODULES, PUSH, RANKER, SITUATION_MODELS, load
from models.onnx_scorer import OnnxRanker
from models.registry import Registry
from models.release import Card, Span
from training.contest import Published
from training.findings import Report
from training.material import Material

ROOT = Path(__file__).resolve().parents[1]


def artifacts_of(
    sources: Sources, ranker: OnnxRanker | None, catalog: Catalog
) -> dict[str, Artifact]:
    """Every model as files, by its name in a release."""
    item_ids = [None if state is None else state.item_id for state in catalog.items]
    models: dict[str, Any] = {field.name: getattr(sources, field.name) for field in fields(sources)}
    found: dict[str, Artifact] = {
        name: model.to_artifact(item_ids) for name, model in models.items() if model is not None
    }
    if ranker is not None:
        found[RANKER] = ranker.to_artifact()
    return found


def read_published(registry: Registry, catalog: Catalog) -> Published | None:
    """The release that serves now; None where nothing is published."""
    release = registry.current()
    if release is None:
        return None
    artifacts = {v.model: registry.artifact(v).aligned(catalog.by_id) for v in release.versions()}
    # What situations, modules and pushes are like was judged elsewhere, on other things.
    apart = (*SITUATION_MODELS, MODULES, PUSH)
    judged = [version for version in release.versions() if version.model not in apart]
    cards = [registry.card(version) for version in judged]
    ends = [card.data.end for card in cards if card.data is not None and card.data.end]
    saw_until_ms = max((to_ms(end, "data.end") for end in ends), default=0)
    return Published(release.release_id, load(artifacts), saw_until_ms)


def add_versions(
    registry: Registry, artifacts: Mapping[str, Artifact], material: Material, report: Report
) -> dict[str, str]:
    """Write each model with its card; model -> version."""
    return {
        name: registry.add(
            name, artifact.files(), card_of(name, artifact, material, report)
        ).version
        for name, artifact in artifacts.items()
    }


def card_of(name: str, artifact: Artifact, material: Material, report: Report) -> Card:
    """The model card: what it learned from, and how the release did on the test part."""
    is_ranker = name == RANKER
    return Card(
        data=Span("the log", report.start, report.end),
        rows=report.rows.count if is_ranker and report.rows else report.acts,
        metrics=dict(report.scores[report.candidate].metrics),
        baselines={
            other: dict(scored.metrics)
            for other, scored in report.scores.items()
            if other != report.candidate
        },
        settings={"kind": artifact.meta.kind} | artifact.meta.settings,
        dimensions=dimensions_of(artifact),
        features=list(NAMES) if is_ranker else [],
        fold_version=FOLD_VERSION if is_ranker else None,
        commit=commit(),
        notes=[report.reason, *report.notes],
    )


def commit() -> str:
    """The commit of this code, where it is a checkout."""
    try:
        told = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip()
