"""The motion model from its two teachers: a made-up gait it must learn, and HAPT where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from engine.device import Motion
from engine.errors import NotFound
from engine.motion import read_window
from models.artifact import BadArtifact, read_artifact
from models.boosting import ClassSettings
from models.export import PARITY
from models.motion import ACTIVITIES, CARRIER_COLUMNS, CARRIERS, GAITS, MotionModel
from training import carried, motion
from training.carried import LACKS, Minutes, area, read_minutes
from training.hapt import NAME, Windows, random_turns, read_windows
from training.motion import Fitted, check_parity, film, fit_motion, gait_rows
from training.motion_figures import evaluate_mounted
from training.movielens import data_folder

PEOPLE, EACH = 6, 8
FAST = ClassSettings(rounds=15, leaves=4, rows_in_leaf=5, columns=0.5)
needs_data = pytest.mark.skipif(
    not (data_folder() / NAME / "raw.parquet").is_file(),
    reason=f"needs {NAME}: set KAIROS_DATA to the folder of the data sets",
)


def walkers() -> Windows:
    """People of four gaits: up is slow, down is fast and jolting, at rest nothing moves."""
    rng = np.random.default_rng(1)
    time = np.arange(128) / 50
    acc, gyro, gaits, people = [], [], [], []
    for person in range(PEOPLE):
        for gait in np.repeat(np.arange(4), EACH):
            step = 2 * np.pi * (1.9, 1.5, 2.3, 0.0)[gait] * time + rng.uniform(0, 6)
            bounce = np.sin(step) + (0.5 * np.sin(2 * step) if gait == 2 else 0)
            moving = 0.0 if gait == 3 else rng.uniform(0.25, 0.35)
            push = np.outer(moving * bounce, [0.2, 0.1, 1])
            acc.append(push + np.array([0, 0, 1]) + rng.normal(0, 0.01, (128, 3)))
            gyro.append(np.outer(moving * np.cos(step), [2, 1, 0]) + rng.normal(0, 0.01, (128, 3)))
            gaits.append(int(gait))
            people.append(person)
    return Windows(
        np.array(acc, np.float32),
        np.array(gyro, np.float32),
        np.array(gaits),
        np.array(people),
        np.array(people) >= PEOPLE // 2,
    )


def minutes(count: int = 600) -> Minutes:
    """Minutes whose bands give away what carries the person."""
    rng = np.random.default_rng(2)
    carrier = rng.integers(0, len(CARRIERS), count)
    rows = rng.normal(0, 0.3, (count, len(CARRIER_COLUMNS)))
    rows[:, CARRIER_COLUMNS.index("raw_acc:magnitude_spectrum:log_energy_band2")] += carrier
    person = np.arange(count) % 8
    return Minutes(rows.astype(np.float32), carrier, person, person % 4, np.ones(count, np.bool_))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    patch = pytest.MonkeyPatch()
    patch.setattr(motion, "SETTINGS", FAST)
    patch.setattr(carried, "SETTINGS", FAST)
    windows, said = walkers(), minutes()
    found = fit_motion(windows, said, ~windows.test)
    patch.undo()
    return found


@pytest.fixture(scope="module")
def model(fitted: Fitted) -> MotionModel:
    return fitted.export()


@pytest.mark.parametrize("gyro", [True, False])
@pytest.mark.parametrize("rate_hz", [50.0, 25.0])
def test_learns_gait_of_people_it_has_not_met_however_turned(
    model: MotionModel, gyro: bool, rate_hz: float
) -> None:
    windows = walkers()
    rows = gait_rows(windows, rate_hz, gyro, random_turns(len(windows.person), 3))

    said = (model.gait_of if gyro else model.gait_without_gyro_of)(rows).argmax(axis=1)

    assert (said == windows.gait)[windows.test].mean() > 0.95


def test_serves_what_was_fitted(fitted: Fitted, model: MotionModel) -> None:
    rows = gait_rows(walkers(), 50.0)

    assert check_parity(fitted, model, rows, minutes()) <= PARITY
    for lack in LACKS:
        told = minutes().lacking(lack)
        np.testing.assert_allclose(
            model.carrier_of(told), fitted.carrier.chances(told), atol=PARITY
        )


def test_film_is_in_the_columns_of_minutes() -> None:
    windows = walkers()
    filmed = film(windows)

    assert filmed.rows.shape == (len(windows.person), len(CARRIER_COLUMNS))
    assert {CARRIERS[k] for k in filmed.carrier[windows.gait < 3]} == {"feet"}
    assert {CARRIERS[k] for k in filmed.carrier[windows.gait == 3]} == {"nothing"}
    deviation = filmed.rows[:, CARRIER_COLUMNS.index("raw_acc:magnitude_stats:std")]
    assert deviation[windows.gait < 3].min() > deviation[windows.gait == 3].max()


def test_a_reading_names_everything_once_and_survives_its_files(model: MotionModel) -> None:
    again = MotionModel.from_artifact(read_artifact(model.to_artifact().files()))
    windows = walkers()

    for number in (0, EACH, 2 * EACH, 3 * EACH):
        for gyro in (True, False):
            window = read_window(windows.motion(number, gyro=gyro))
            assert window is not None
            reading = model.read(window)
            assert tuple(reading.activity) == ACTIVITIES
            assert tuple(reading.gait) == GAITS
            for chances in (reading.activity, reading.gait, reading.carrier):
                assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
                assert min(chances.values()) >= 0
            assert again.read(window) == reading


def test_a_model_of_other_columns_is_refused(model: MotionModel) -> None:
    artifact = model.to_artifact()
    artifact.meta.settings["features"] = artifact.meta.settings["features"][::-1]

    with pytest.raises(BadArtifact, match="columns"):
        MotionModel.from_artifact(artifact)


def test_an_hour_of_gravityless_or_short_data_is_still_answered(model: MotionModel) -> None:
    rng = np.random.default_rng(4)
    shaken = rng.normal(0, 0.1, (70, 3)).tolist()
    for told in (
        Motion(50, shaken, unit="g", gravity="removed"),
        Motion(50, shaken, shaken, unit="g", gravity="removed"),
        Motion(50, [(0.0, 0.0, 9.81)] * 70),
    ):
        window = read_window(told)
        assert window is not None
        assert sum(model.activity(window).values()) == pytest.approx(1, abs=1e-5)


def test_rotations_are_rotations() -> None:
    turns = random_turns(200, 1).astype(np.float64)

    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-6)
    assert np.abs(turns.mean(axis=0)).max() < 0.15  # no direction is preferred


def test_folds_leave_whole_people_out() -> None:
    windows = walkers()
    folds = windows.folds()

    np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
    for tested in folds:
        assert not set(windows.person[tested]) & set(windows.person[~tested])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"FIX_walking": 1, "OR_standing": 1}, "feet"),
        ({"FIX_running": 1}, "running"),
        ({"BICYCLING": 1, "SITTING": 1}, "bicycle"),
        ({"ON_A_BUS": 1, "SITTING": 1}, "vehicle"),
        ({"IN_A_CAR": 1, "DRIVE_-_I_M_THE_DRIVER": 1}, "vehicle"),
        ({"LYING_DOWN": 1}, "nothing"),
        ({"FIX_walking": 1, "ON_A_BUS": 1}, None),
        ({"FIX_walking": -1, "SITTING": 0}, None),
    ],
)
def test_minutes_name_what_carries_a_person(
    tmp_path: Path, labels: dict[str, int], expected: str | None
) -> None:
    every = ["FIX_walking", "FIX_running", "BICYCLING", *carried.VEHICLES, *carried.AT_REST]
    row = dict.fromkeys(CARRIER_COLUMNS, 0.6) | {"user": "p01", "cv_fold": 1}
    row |= {f"label:{name}": labels.get(name, -1) for name in every}
    (tmp_path / "extrasensory").mkdir()
    pl.DataFrame([row]).write_parquet(tmp_path / "extrasensory" / "phone.parquet")

    found = read_minutes(tmp_path)

    assert [CARRIERS[number] for number in found.carrier] == ([expected] if expected else [])


def test_absent_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="KAIROS_DATA"):
        read_windows(tmp_path)
    with pytest.raises(NotFound, match="KAIROS_DATA"):
        read_minutes(tmp_path)


def test_the_area_under_the_curve() -> None:
    true = np.array([True, True, False, False])

    assert area(np.array([0.9, 0.8, 0.2, 0.1]), true) == 1
    assert area(np.array([0.9, 0.1, 0.5, 0.1]), true) == pytest.approx(0.625)
    assert area(np.zeros(4), true) == 0.5


@needs_data
def test_hapt_is_read_as_it_was_cut() -> None:
    windows = read_windows(data_folder())

    assert len(windows.person) == 10411
    assert len(np.unique(windows.person)) == 30
    assert set(np.unique(windows.person[windows.test])) == {2, 4, 9, 10, 12, 13, 18, 20, 24}
    assert np.linalg.norm(windows.acc.mean(axis=1), axis=1).mean() == pytest.approx(1.02, abs=0.02)
    window = read_window(windows.motion(0, 25.0, turn=random_turns(1, 1)[0]))
    assert window is not None


@needs_data
@pytest.mark.slow
def test_the_mounted_reference_falls_when_turned() -> None:
    figures = evaluate_mounted(read_windows(data_folder()))

    assert figures["official split, as recorded"]["accuracy"] > 0.95
    assert figures["official split, turned"]["accuracy"] < 0.5
