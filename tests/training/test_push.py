"""`kairos train push` in worlds whose right answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from engine.push_features import NAMES
from engine.push_value import PushModel
from engine.settings import Settings
from models.artifact import BadArtifact, read_artifact
from models.boosting import fit_binary
from models.export import NotEqual
from models.loading import load, open_model
from models.push import UPLIFT, LearnedPush, hours_of
from models.push_export import Calibrated, export_push
from models.registry import Registry, open_registry
from models.release import Card, Metric, Span
from training import push_fit
from training.push import PushSettings, is_better, learn_push
from training.push_fit import Parts, Seen, build, find_parts, see
from training.push_judge import OpenScores
from training.push_log import PushLog, read_pushes
from training.push_parts import Priors
from training.push_report import PushReport
from training.push_world import SITUATIONS, PushWorld

PARTITIONS = 4
SETTINGS = PushSettings(learners=("dr",), looks=4)
Known = tuple[PushLog, Seen, Parts]


@pytest.fixture(scope="module")
def known(new_log: Any) -> Known:
    """Five weeks of 350 people, and what is found in them without trees for the effect."""
    world = PushWorld(new_log())
    world.live(350, 35)
    log = read_pushes(world.log, PARTITIONS)
    seen = see(log.pushes(len(SITUATIONS)), SITUATIONS)
    return log, seen, find_parts(seen, Priors())


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(Settings(home=str(tmp_path)))


def test_effects_fatigue_and_moments_are_recovered(known: Known) -> None:
    _, seen, parts = known
    model, parity = build(seen, parts, None)

    assert parity <= 1e-5
    assert parts.fatigue.per_push == pytest.approx(0.3, abs=0.12)
    assert 24 < parts.fatigue.half_life_h < 96
    lift = model.situation_lift
    assert lift["commuting"] / lift["at_work"] == pytest.approx(2.0, rel=0.3)
    assert lift["unknown"] / lift["at_work"] == pytest.approx(1.0, rel=0.4)
    assert np.ptp(model.hour_lift) < 0.5
    assert model.hour_lift.mean() == pytest.approx(1.0, abs=0.05)

    # Every second person is persuaded; the others are driven away.
    effects, likely = model.of(seen.table), seen.pushes.probabilities
    willing = seen.pushes.rows[:, NAMES.index("open_rate")] > 0.2
    for situation, times in ((1, 1.8), (2, 1.1)):
        there = likely[:, situation] > 0.5
        assert effects.uplift[willing & there].mean() == pytest.approx(0.25 * times, rel=0.4)
        assert -0.15 < effects.uplift[~willing & there].mean() < 0.0
    assert effects.p_open[willing].mean() > 3 * effects.p_open[~willing].mean()
    assert 0 < effects.opt_out.mean() < 0.01
    assert sum(model.random_decisions.values()) == seen.pushes.evidence.sum()


def test_judged_published_and_looked_at_again(known: Known, registry: Registry) -> None:
    log, seen, _ = known
    report = learn_push(log, SITUATIONS, registry, True, SETTINGS)

    assert report.better, report.reason
    assert report.opens is not None
    assert report.gate is not None
    assert report.opens.skill.low is not None
    assert report.opens.skill.low > 0.05
    assert report.opens.calibration_error < 0.06  # .03 of it by chance: 75 messages a bin
    assert set(report.by_situation) == set(SITUATIONS)
    assert (report.gate.look, report.gate.opened) == (1, True), report.gate.reason
    values = {name: one.value.value for name, one in report.values.items()}
    assert values["learned"] > max(values["send all"], values["send none"])
    release = registry.current()
    assert release is not None
    assert release.release_id == report.release_id
    card = registry.card(registry.find("push"))
    assert card.settings["effect"] == (
        "trees (dr)" if report.gate.trees else card.settings["effect"]
    )
    assert any("random decisions: " in note for note in card.notes)

    # What is published answers as it was fitted, from rows as requests make them.
    model = load({"push": registry.artifact(registry.find("push"))}).push
    assert isinstance(model, LearnedPush)
    served: PushModel = model
    some = seen.pushes.some(np.arange(50))
    found = served.effects(some.rows.tolist(), list(some.messages), some.probabilities.tolist())
    assert found.uplift == pytest.approx(model.of(seen.table[:50]).uplift, abs=1e-9)
    assert served.version == model.meta.version


def test_where_pushes_do_nothing_the_gate_stays_closed(
    known: Known, new_log: Any, registry: Registry
) -> None:
    # What serves believes in pushes, from another world; it has not seen this one.
    _, seen, parts = known
    serves, _ = build(seen, parts, None)
    old = Card(data=Span("elsewhere", end="2026-01-01T00:00:00Z"))
    registry.publish({"push": registry.add("push", serves.to_artifact().files(), old).version})
    world = PushWorld(new_log(), effect=0.0, repelled=0.0, seed=3)
    world.live(120, 35)
    report = learn_push(read_pushes(world.log, PARTITIONS), SITUATIONS, registry, False, SETTINGS)

    assert report.gate is not None
    assert not report.gate.trees
    assert report.gate.look == 2
    assert report.better, report.reason
    assert report.gain is not None
    assert "no worse" in report.reason
    assert report.values["learned"].sent < report.values["published"].sent
    assert report.release_id is None
    version = registry.versions("push")[-1]
    model = open_model("push", registry.artifact(version))
    assert not model.meta.learned
    assert abs(model.meta.overall) < 0.05
    card = registry.card(version)
    assert card.settings["effect"] == "shrunk by category, situation and person"
    assert any("is shrunk by category" in note for note in card.notes)


def test_a_model_that_does_worse_is_not_published() -> None:
    def scores(skill: float) -> OpenScores:
        return OpenScores(100, 0.1, Metric(skill, skill - 0.1, skill + 0.1), 0.01, 0.7)

    worse, even = Metric(-0.2, -0.3, -0.1), Metric(-0.05, -0.1, 0.01)
    assert [is_better(scores(0.2), one) for one in (None, even, worse)] == [True, True, False]
    assert not is_better(scores(-0.01), None)


def test_too_little_is_said(new_log: Any, registry: Registry) -> None:
    log = new_log()
    assert "there are 0" in learn_push(read_pushes(log, 4), SITUATIONS, registry, True).reason
    PushWorld(log).live(30, 10)
    report = learn_push(read_pushes(log, 4), SITUATIONS, registry, True)
    assert not report.better
    assert "expected at least 1,000 random decisions in the earlier part" in report.reason
    assert registry.versions("push") == []


def test_the_command_says_what_is_lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIROS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAIROS_PARTITIONS", str(PARTITIONS))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "push", "--json"])
    assert result.exit_code == 3, result.output
    report = msgspec.json.decode(result.stdout, type=PushReport)
    assert "too little is known" in report.reason


def test_another_answer_than_the_fitted_one_is_refused(known: Known) -> None:
    _, seen, parts = known
    half = seen.table[:, NAMES.index("open_rate")] > 0.2
    truth, weights = half.astype(np.float32), np.ones(len(half), np.float32)
    other = fit_binary(seen.table, truth, weights, push_fit.OPEN_TREES)

    class Wrong(Calibrated):
        def chances(self, rows: Any) -> Any:
            return super().chances(rows) + 0.01

    with pytest.raises(NotEqual, match="openness differs"):
        export_push(parts.meta, seen.opens, Wrong(other), None, seen.table)


def test_files_that_do_not_fit_are_refused(known: Known) -> None:
    _, seen, parts = known
    model, _ = build(seen, parts, None)
    artifact = model.to_artifact()
    same = open_model("push", read_artifact(artifact.files()))
    assert same.of(seen.table[:9]).uplift == pytest.approx(model.of(seen.table[:9]).uplift)
    for change, message in (
        ({"features": ["other"]}, "other features"),
        ({"learned": True}, UPLIFT),
        ({"hour_lift": [1.0]}, "168 hours"),
    ):
        settings = artifact.meta.settings | change
        bad = msgspec.structs.replace(artifact.meta, settings=settings)
        with pytest.raises(BadArtifact, match=message):
            LearnedPush.from_artifact(type(artifact)(bad, {}, artifact.blobs))


def test_an_unknown_category_and_no_situation_are_answered(known: Known) -> None:
    _, seen, parts = known
    model, _ = build(seen, parts, None)
    rows = seen.pushes.rows[:2].tolist()
    message = msgspec.structs.replace(seen.pushes.messages[0], category="news")
    found = model.effects(rows, [message, message], [[], [0.1, 0.8, 0.1, 0.0]])
    assert np.isfinite(found.uplift).all()
    assert model.effects([], [], []).uplift.shape == (0,)


def test_goals_that_nobody_reaches_have_no_effect(known: Known) -> None:
    _, seen, _ = known
    none = replace(seen.pushes, goal=np.zeros(len(seen.pushes)))
    parts = find_parts(replace(seen, pushes=none), Priors())
    model, _ = build(seen, parts, None)
    assert np.abs(model.of(seen.table).uplift).max() < 1e-6
    # Of opens there is still something to be known.
    assert model.situation_lift["commuting"] > 1.2


def test_the_hour_of_a_row_is_the_hour_it_was_made_at(known: Known) -> None:
    _, seen, _ = known
    assert hours_of(seen.table).tolist() == seen.pushes.hour.tolist()
