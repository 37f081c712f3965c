"""What policies are measured by: worth of a visit, who comes back, how much of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from training.world.arrays import DAY_S, Bools, Floats, Ints

MONTH = 28  # days


@dataclass
class Ledger:
    """Every visit so far, in the order of answers."""

    start_s: float
    items: int
    _account: list[Ints] = field(default_factory=list)
    _at_s: list[Floats] = field(default_factory=list)
    _value: list[Floats] = field(default_factory=list)
    _expected: list[Floats] = field(default_factory=list)
    _shown: list[tuple[Floats, Ints]] = field(default_factory=list)  # (when, what)

    def enter(
        self,
        account: Ints,
        at_s: Floats,
        value: Floats,
        expected: Floats,
        items: Ints,
        seen: Bools,
    ) -> None:
        """Visits [n]: worth as it came and to be expected, and what of items [n, k] was seen."""
        self._account.append(account)
        self._at_s.append(at_s)
        self._value.append(value)
        self._expected.append(expected)
        rows, _ = np.nonzero(seen)
        self._shown.append((at_s[rows], items[seen]))

    def visits(self) -> tuple[Ints, Floats, Floats]:
        """Account, unix seconds and worth of each visit: [n] each, by time."""
        if not self._at_s:
            return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
        at_s = np.concatenate(self._at_s)
        order = np.argsort(at_s, kind="stable")
        return np.concatenate(self._account)[order], at_s[order], np.concatenate(self._value)[order]

    def value_per_visit(self, from_day: int = 0, to_day: int | None = None) -> float:
        """Mean worth of the visits of these days; NaN where there were none."""
        _, at_s, value = self.visits()
        chosen = value[self._within(at_s, from_day, to_day)]
        return float(chosen.mean()) if len(chosen) else float("nan")

    def expected_per_visit(self, from_day: int = 0, to_day: int | None = None) -> float:
        """The same without the luck: what such lists come to on the mean."""
        if not self._at_s:
            return float("nan")
        chosen = self._within(np.concatenate(self._at_s), from_day, to_day)
        expected = np.concatenate(self._expected)[chosen]
        return float(expected.mean()) if len(expected) else float("nan")

    def return_rate(
        self, within_days: int = 28, from_day: int = 0, to_day: int | None = None
    ) -> float:
        """Share of visits whose account visits again on a later day, within so many days.

        Choose days that lie `within_days` before the end, or the end looks like leaving.
        """
        pairs, visits = np.unique(self._account_days(), axis=0, return_counts=True)
        account, day = pairs[:, 0], pairs[:, 1]
        again = (account[1:] == account[:-1]) & (day[1:] - day[:-1] <= within_days)
        chosen = (day >= from_day) & (day < (np.inf if to_day is None else to_day))
        if not chosen.any():
            return float("nan")
        return float(np.average(np.append(again, False)[chosen], weights=visits[chosen]))

    def by_account(self, accounts: int, from_day: int, to_day: int) -> dict[str, Floats]:
        """Sums over the visits of these days, each float [accounts].

        `worth` is the expected one, `returned` counts visits as `return_rate(28)` does.
        """
        if not self._at_s:
            return {name: np.zeros(accounts) for name in ("visits", "worth", "returned")}
        account, at_s = np.concatenate(self._account), np.concatenate(self._at_s)
        chosen = self._within(at_s, from_day, to_day)
        worth = np.concatenate(self._expected)[chosen]
        pairs, visits = np.unique(self._account_days(), axis=0, return_counts=True)
        again = (pairs[1:, 0] == pairs[:-1, 0]) & (np.diff(pairs[:, 1]) <= MONTH)
        counted = (pairs[:, 1] >= from_day) & (pairs[:, 1] < to_day) & np.append(again, False)
        return {
            "visits": np.bincount(account[chosen], minlength=accounts).astype(np.float64),
            "worth": np.bincount(account[chosen], worth, accounts).astype(np.float64),
            "returned": np.bincount(pairs[counted, 0], visits[counted], accounts).astype(
                np.float64
            ),
        }

    def active_days(self, from_day: int, to_day: int, accounts: int) -> float:
        """Days with a visit, per account."""
        pairs = np.unique(self._account_days(), axis=0)
        chosen = (pairs[:, 1] >= from_day) & (pairs[:, 1] < to_day)
        return float(chosen.sum()) / accounts

    def coverage(self, from_day: int = 0, to_day: int | None = None) -> float:
        """Share of the catalogue that came into view."""
        shown = [items[self._within(at_s, from_day, to_day)] for at_s, items in self._shown]
        return len(np.unique(np.concatenate(shown))) / self.items if shown else 0.0

    def _account_days(self) -> Ints:
        """Account and day of each visit: int [n, 2]."""
        account, at_s, _ = self.visits()
        return np.stack([account, ((at_s - self.start_s) // DAY_S).astype(np.int64)], axis=1)

    def _within(self, at_s: Floats, from_day: int, to_day: int | None) -> Bools:
        day = (at_s - self.start_s) / DAY_S
        return np.asarray((day >= from_day) & (day < (np.inf if to_day is None else to_day)))
