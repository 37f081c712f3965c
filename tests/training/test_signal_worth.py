"""Ablations: every column belongs to a signal, and what tells nothing is worth nothing."""

from __future__ import annotations

import numpy as np

from engine import signals
from models.context import LABELS
from training.signal_worth import SIGNALS, _means


def test_every_column_belongs_to_a_signal() -> None:
    begins = tuple(begin for of in SIGNALS.values() for begin in of)

    assert [name for name in signals.NAMES if not name.startswith(begins)] == []
    for name, of in SIGNALS.items():
        for begin in of:
            assert any(column.startswith(begin) for column in signals.NAMES), (name, begin)


def test_means_leave_out_what_a_draw_lacks() -> None:
    losses = np.full((3, len(LABELS)), 0.1)
    losses[2, 0] = np.nan

    found = _means(losses)

    assert found["all labels"] == [0.1, 0.1, 0.1]
    assert found["by label"]["lying"] == 0.1
