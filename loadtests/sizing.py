"""What a size would take, on paper: prints the table of docs/sizing.md.

Every cost is a measured figure; where each is from stands in docs/sizing.md. What people do is
assumed, and stands first, to be replaced by your own.
"""

from __future__ import annotations

# One user on one day, on average: a fifth comes, and does five times of this.
EVENTS, LISTS, PAGES, PUSHES = 4.0, 1.0, 0.6, 0.4
PEAK = 3.0  # the busiest hour against the mean
BUSY = 0.6  # of a core that is given, at the peak

# Microseconds of processor time.
EDGE, FOLD, ARCHIVE, PROXY, STORE = 32.5, 31.7, 6.7, 2.8, 11.4  # an event, in batches of 100
LIST, PAGE, PUSH = 2000.0, 4500.0, 640.0  # a decision, in its replica
DECISION_FOLD, DECISION_ARCHIVE, DECISION_PROXY, DECISION_STORE = 200.0, 90.0, 120.0, 170.0

# Bytes.
STATE, STATE_WITH_DEVICES, EVENT_ID = 1157, 3049, 8
ARCHIVED_EVENT, ARCHIVED_DECISION = 95, 2300
ROW, ROWS_OF_LIST, ROWS_OF_PAGE = 49.4, 25, 101
ID_DAYS, ROWS_DAYS = 8, 90

DAY_S = 86_400
GIB = 2**30


def per_second(users: float, each_day: float) -> float:
    """Of something that a user does so often a day, at the peak."""
    return users * each_day * PEAK / DAY_S


def cores(users: float, event_us: float, decision_us: float, own_us: float = 0) -> float:
    """Cores to give a part, at the peak; `own_us` is spent on a user's decisions of a day."""
    busy = per_second(users, EVENTS * event_us + (LISTS + PAGES) * decision_us + own_us)
    return busy / 1e6 / BUSY


def training(interactions: float) -> tuple[float, float]:
    """GiB and hours: a line through 1 M and 4 M interactions, 100,000 items, two cores."""
    millions = interactions / 1e6
    return (2196 + 420 * millions) / 1024, (132 + 77 * millions) / 3600


def rows(users: float) -> list[tuple[str, str]]:
    """Lines of the table for so many users: what, how much."""
    decisions = LIST * LISTS + PAGE * PAGES + PUSH * PUSHES
    archived = EVENTS * ARCHIVED_EVENT + (LISTS + PAGES) * ARCHIVED_DECISION
    frozen = (LISTS * ROWS_OF_LIST + PAGES * ROWS_OF_PAGE) * ROW
    week_gib, week_h = training(users * EVENTS * 7)
    return [
        ("events · lists · pages · pushes a second, at the peak",
         " · ".join(_short(per_second(users, n)) for n in (EVENTS, LISTS, PAGES, PUSHES))),
        ("cores: `decide`", _short(cores(users, 0, 0, decisions))),
        ("cores: `ingest` · folders · archiver",
         " · ".join(_short(cores(users, *us)) for us in
                    ((EDGE, 0), (FOLD, DECISION_FOLD), (ARCHIVE, DECISION_ARCHIVE)))),
        ("cores: store · HAProxy",
         f"{_short(cores(users, STORE, DECISION_STORE))} · "
         f"{_short(cores(users, PROXY, DECISION_PROXY))}"),
        ("store, GiB: states of 50 events · with devices and pushes",
         f"{_gib(users * STATE)} · {_gib(users * STATE_WITH_DEVICES)}"),
        ("store, GiB: event ids", _gib(users * EVENTS * EVENT_ID * ID_DAYS)),
        ("archive, GiB a day · training rows, GiB a day",
         f"{_gib(users * archived)} · {_gib(users * frozen)}"),
        ("training rows kept (90 days), GiB", _gib(users * frozen * ROWS_DAYS)),
        ("training on a week: GiB of memory · hours", f"{_short(week_gib)} · {_short(week_h)}"),
        ("rebuild of a year, hours of one core", _short(users * EVENTS * 365 / 55_797 / 3600)),
    ]  # fmt: skip


def table() -> str:
    """The table of docs/sizing.md."""
    sizes = (1e5, 1e6, 1e7, 1e8)
    lines = [
        "| users | 100 thousand | 1 million | 10 million | 100 million |",
        "|---|---|---|---|---|",
    ]
    for cells in zip(*map(rows, sizes), strict=True):
        lines.append(f"| {cells[0][0]} | " + " | ".join(value for _, value in cells) + " |")
    return "\n".join(lines)


def _gib(amount: float) -> str:
    return _short(amount / GIB)


def _short(number: float) -> str:
    """Two figures that count."""
    if number >= 100:
        digits = len(str(int(number))) - 2
        return f"{round(number / 10**digits) * 10**digits:,}"
    return f"{number:.2g}" if number >= 0.01 else "< 0.01"


if __name__ == "__main__":
    print(table())
