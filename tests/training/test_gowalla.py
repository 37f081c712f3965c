"""Gowalla's split: its events, its measure, and the bar on the real files where they are."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.sparse as sp

from engine.errors import NotFound
from models import spectral
from training import gowalla
from training.gowalla_tuning import measure

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("KAIROS_DATA") or ROOT / "../shared/data")
needs_data = pytest.mark.skipif(
    not (DATA / "gowalla").is_dir(),
    reason=f"no gowalla in {DATA}: set KAIROS_DATA to the folder that holds it",
)


def small() -> gowalla.Split:
    """Three people, five places; the second person has nothing in the test part."""
    train = sp.csr_matrix(np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]], np.float32))
    test = sp.csr_matrix(np.array([[0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], np.float32))
    return gowalla.Split(train, test)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small split as a file."""
    split = small()
    (tmp_path / "gowalla").mkdir()
    arrays: dict[str, Any] = {"n_users": 3, "n_items": 5}
    for name, part in (("train", split.train), ("test", split.test)):
        arrays |= {f"{name}_indptr": part.indptr, f"{name}_indices": part.indices}
    np.savez(tmp_path / "gowalla" / "gowalla.npz", **arrays)
    return tmp_path


def test_items_come_first_then_every_check_in_of_train_once(folder: Path) -> None:
    events = list(gowalla.events(folder))
    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in events)]
    assert kinds == ["item", "interaction"]
    assert [event["item_id"] for event in events[:5]] == ["0", "1", "2", "3", "4"]
    pairs = {(int(event["user_id"]), int(event["item_id"])) for event in events[5:]}
    assert pairs == {(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (2, 4)}
    assert len({event["event_id"] for event in events[5:]}) == len(events[5:]) == 6
    times = [event["ts"] for event in events]
    assert times == sorted(times)


def test_what_is_written_is_what_was_read(folder: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.gz")]
    assert [gowalla.write(folder, out) for out in outs] == [11] * 3
    lines = [msgspec.json.decode(line) for line in outs[0].read_bytes().splitlines()]
    assert lines == list(gowalla.events(folder))
    assert outs[1].read_bytes() == outs[2].read_bytes()


def test_the_measure_by_hand() -> None:
    answers = {0: [4, 2], 1: [0], 2: [1, 2, 0]}
    quality = gowalla.evaluate(answers.__getitem__, small().test)
    # Person 0: one of two, in second place; person 2: the only one, in third.
    assert quality.users == 2
    assert quality.recall == pytest.approx((1 / 2 + 1) / 2)
    ideal = 1 + 1 / np.log2(3)
    assert quality.ndcg == pytest.approx((1 / np.log2(3) / ideal + 1 / np.log2(4)) / 2)


def test_only_the_first_twenty_count_and_the_ideal_is_no_longer() -> None:
    test = sp.csr_matrix(np.ones((1, 40), np.float32))
    quality = gowalla.evaluate(lambda user: list(range(40)), test)
    assert quality.recall == pytest.approx(0.5)
    assert quality.ndcg == pytest.approx(1)


def test_held_out_is_a_fifth_of_each_users_and_nothing_is_lost() -> None:
    train = sp.csr_matrix(np.tri(30, 30, dtype=np.float32))
    split = gowalla.hold_out(train)
    held = np.diff(split.test.indptr)
    assert held.tolist() == [n // 5 for n in range(1, 31)]
    assert (split.train + split.test != train).nnz == 0
    again = gowalla.hold_out(train)
    assert (again.test != split.test).nnz == 0


def test_a_missing_file_says_what_to_set(tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    with pytest.raises(NotFound) as raised:
        gowalla.write(tmp_path, out)
    for part in (str(tmp_path / "gowalla"), "KAIROS_DATA", "openbenchmark.github.io"):
        assert part in str(raised.value)
    assert not out.exists()


def test_the_command_ends_with_one_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIROS_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["gowalla", str(tmp_path / "out.jsonl")])
    assert gowalla.main() == 1
    assert "KAIROS_DATA" in capsys.readouterr().err


@needs_data
def test_the_published_counts() -> None:
    split = gowalla.read_split(DATA)
    assert split.train.shape == split.test.shape == (29_858, 40_981)
    assert (split.train.nnz, split.test.nnz) == (810_128, 217_242)
    assert split.train.multiply(split.test).nnz == 0


@needs_data
@pytest.mark.slow
def test_the_bar_as_served() -> None:
    split = gowalla.read_split(DATA)
    model = spectral.fit(split.train, spectral.SpectralSettings())
    quality, _ = measure(model, split, None)
    assert quality.users == 29_858
    assert quality.recall >= 0.188
    assert quality.ndcg >= 0.155
