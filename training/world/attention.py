"""What people look at: down a list on a phone, over a grid of three columns on a tablet.

A phone's list is a cascade: the next recipe is looked at only by those who keep looking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from training.world.arrays import Bools, Floats

COLUMNS = 3  # of a tablet's grid of recipes
# (position just looked at, patience [n] 0–1, whether the last one was opened [n]) -> chance [n]
KeepLooking: TypeAlias = Callable[[int, Floats, Bools], Floats]
# (tiles, columns) -> chance that each tile is looked at [tiles]
Grid: TypeAlias = Callable[[int, int], Floats]


def steady(position: int, patience: Floats, opened: Bools) -> Floats:
    """The same chance after every recipe; half of it after opening one."""
    return (0.62 + 0.35 * patience) * np.where(opened, 0.5, 1.0)


def set_depth(position: int, patience: Floats, opened: Bools) -> Floats:
    """Everyone has a depth; before it nearly all go on, after it nearly nobody."""
    return np.where(position + 1 < 2 + 9 * patience, 0.97, 0.08) * np.where(opened, 0.7, 1.0)


def page_by_page(position: int, patience: Floats, opened: Bools) -> Floats:
    """Four to a screen: people stop where they would have to scroll."""
    turn = 0.25 + 0.5 * patience
    return np.where((position + 1) % 4 == 0, turn, 0.97) * np.where(opened, 0.6, 1.0)


def tiring(position: int, patience: Floats, opened: Bools) -> Floats:
    """Slower and slower, and what was opened does not stop anyone."""
    return (1.0 + 6.0 * patience) / (1.2 + 6.0 * patience + 0.35 * position)


def _tiles(count: int, columns: int) -> tuple[Floats, Floats]:
    row, column = np.divmod(np.arange(count), columns)
    return row.astype(np.float64), column.astype(np.float64)


def top_rows(count: int, columns: int) -> Floats:
    """Upper rows first, all columns alike."""
    row, _ = _tiles(count, columns)
    return 0.92 / (1.0 + 0.5 * row)


def left_column(count: int, columns: int) -> Floats:
    """The left column wins, the fold counts little."""
    row, column = _tiles(count, columns)
    return 0.95 * 0.7**column * 0.85**row


def middle_column(count: int, columns: int) -> Floats:
    """The middle column wins, of two the right one."""
    row, column = _tiles(count, columns)
    return np.where(column == 1, 0.95, 0.6) * 0.75**row


def first_row_and_column(count: int, columns: int) -> Floats:
    """The shape of an F: the first row, then down the left side."""
    row, column = _tiles(count, columns)
    return np.where(row == 0, 0.9, np.where(column == 0, 0.7, 0.3))
