"""Weeks of pushes: alike for every policy, told as events, and expected as luck has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest

from engine.events import decode_line
from training.push_policies import Still
from training.world import Line, World, encode
from training.world.arrays import Ints
from training.world.lines import DeviceState, Interaction, Push
from training.world.people import IOS, PLATFORMS, SLEEPING_DOG, WEB
from training.world.push_course import Outcome, live
from training.world.push_oracle import Openness, PushOracle
from training.world.push_policy import DROP, Looks, Policy, Verdicts
from training.world.push_weeks import EXPIRES_S, TICK_S, WEEK, PushWeeks, push_weeks

SEND_ALL, NOTHING = Still(None), Still(None, 0.0)


@cache
def weeks_of(law: str, users: int = 150, weeks: int = 2) -> PushWeeks:
    return push_weeks(World(law, users=users, items=20, seed=5), weeks)


def lived(weeks: PushWeeks, policy: Policy) -> Outcome:
    return live(weeks, policy, weeks.begin(), range(weeks.ticks))


def visits(outcome: Outcome) -> Counter[tuple[int, float]]:
    at = zip(np.concatenate(outcome.account), np.concatenate(outcome.visit_s), strict=True)
    return Counter((int(account), float(at_s)) for account, at_s in at)


@dataclass
class Recorder:
    """Sends every other message at once, holds the others for five hours, drops them then."""

    reads_events: bool = True
    told: list[Line] = field(default_factory=list)
    looks: list[tuple[float, Ints]] = field(default_factory=list)
    devices: list[dict[str, object]] = field(default_factory=list)
    weeks_over: int = 0

    def decide(self, looks: Looks) -> Verdicts:
        assert (looks.expires_s > looks.at_s).all()
        if self.told:
            assert self.told[-1].ts <= looks.at_s * 1000
        self.looks.append((looks.at_s, looks.message))
        self.devices += [looks.device(row) for row in range(len(looks))]
        new = looks.created_s == looks.at_s
        until_s = np.where(new, looks.at_s + 5 * TICK_S, DROP)
        return Verdicts(new & (looks.message % 2 == 0), until_s)

    def observe(self, lines: Sequence[Line]) -> None:
        self.told += lines

    def week_over(self, at_s: float) -> None:
        self.weeks_over += 1


def test_in_the_null_world_sending_all_is_as_good_as_sending_nothing() -> None:
    weeks = weeks_of("null_push")
    every, none = lived(weeks, SEND_ALL), lived(weeks, NOTHING)
    assert every.sends > 1500
    assert every.opted_out == 0
    assert none.sends == every.net(2.0) == none.net(2.0) == 0
    assert visits(every) == visits(none)
    assert every.goals == none.goals > 0.5 * none.messages


@pytest.mark.parametrize("law", ["amber", "birch"])
def test_what_sends_bring_is_what_is_expected_of_them(law: str) -> None:
    weeks = weeks_of(law, users=500)
    every, none = lived(weeks, SEND_ALL), lived(weeks, NOTHING)
    happened, before = visits(every), visits(none)
    assert none.organic == before.total()
    brought, lost = (happened - before).total(), (before - happened).total()
    assert brought == pytest.approx(every.brought, abs=4 * np.sqrt(every.brought) + 1)
    # Sleeping dogs lose their visits of a day together.
    assert lost == pytest.approx(every.lost, abs=8 * np.sqrt(every.lost))
    assert every.opted_out == pytest.approx(every.opt_outs, abs=4 * np.sqrt(every.opt_outs))
    assert min(every.brought, every.lost, every.opt_outs) > 20


def test_events_tell_what_an_app_would_know_and_no_more() -> None:
    weeks, policy = weeks_of("amber"), Recorder()
    state = weeks.begin()
    outcome = live(weeks, policy, state, range(weeks.ticks))
    assert policy.weeks_over == 1
    assert [line.ts for line in policy.told] == sorted(line.ts for line in policy.told)
    opens = [line for line in policy.told if isinstance(line, Interaction)]
    pushes = Counter(line.status for line in policy.told if isinstance(line, Push))
    assert len(opens) == pytest.approx(visits(outcome).total(), rel=0.01)  # the last tick's are not
    assert pushes.keys() >= {"sent", "delivered", "opened", "dismissed", "disabled", "failed"}
    assert pushes["sent"] + pushes["failed"] == pytest.approx(outcome.sends, rel=0.01)
    people = weeks.core.people
    for line in policy.told:
        if isinstance(line, Push) and line.status in ("delivered", "dismissed"):
            assert people.platform[int(line.user_id.split("-")[1])] != IOS
    glances = [line for line in policy.told
               if isinstance(line, DeviceState) and line.device["screen"] == "off"]  # fmt: skip
    assert len(glances) == pytest.approx(0.3 * weeks.days * (people.platform != WEB).sum(), rel=0.2)
    assert len({decode_line(line) and line for line in encode(policy.told).splitlines()}) == len(
        policy.told
    )
    assert all(device["platform"] in PLATFORMS[:WEB] for device in policy.devices)
    assert not any({"situation", "label"} & device.keys() for device in policy.devices)


def test_events_are_read_without_changing_anything() -> None:
    weeks = weeks_of("amber")
    heard, deaf = lived(weeks, Recorder()), lived(weeks, Recorder(reads_events=False))
    assert visits(heard) == visits(deaf)
    assert (heard.sends, heard.brought, heard.opt_outs) == (deaf.sends, deaf.brought, deaf.opt_outs)


def test_held_messages_are_looked_at_again_when_they_are_due() -> None:
    weeks, policy = weeks_of("amber"), Recorder()
    lived(weeks, policy)
    seen: dict[int, list[float]] = {}
    for at_s, messages in policy.looks:
        for number in messages.tolist():
            seen.setdefault(number, []).append(at_s - weeks.messages.created_s[number])
    assert {tuple(times) for number, times in seen.items() if number % 2 == 0} == {(0.0,)}
    # Those whose person switches pushes off meanwhile, or whose weeks end, are not asked about.
    held = Counter(tuple(times) for number, times in seen.items() if number % 2)
    assert held.keys() == {(0.0,), (0.0, 5 * TICK_S)}
    assert held[(0.0,)] < 0.05 * held.total()


def test_nobody_is_asked_about_whoever_switched_pushes_off() -> None:
    weeks, state = weeks_of("amber"), weeks_of("amber").begin()
    state.lives.push_off[::2] = True
    policy = Recorder()
    live(weeks, policy, state, range(1))
    [(_, messages)] = policy.looks
    assert len(messages)
    assert (weeks.messages.account[messages] % 2 == 1).all()


def test_holding_into_the_past_is_refused() -> None:
    class Late(Recorder):
        def decide(self, looks: Looks) -> Verdicts:
            return Verdicts.of([looks.at_s - 1.0] * len(looks))

    with pytest.raises(ValueError, match="held until a time that has passed"):
        lived(weeks_of("amber"), Late())
    verdicts = Verdicts.of([True, False, 12.5])
    assert verdicts.send.tolist() == [True, False, False]
    assert np.isnan(verdicts.until_s[1])
    assert verdicts.until_s[2] == 12.5


def test_a_copied_state_goes_its_own_way() -> None:
    weeks = weeks_of("amber")
    state = weeks.begin()
    live(weeks, SEND_ALL, state, range(WEEK))
    rest = range(WEEK, weeks.ticks)
    first = live(weeks, SEND_ALL, state.copy(), rest)
    again = live(weeks, SEND_ALL, state.copy(), rest)
    assert visits(first) == visits(again)
    assert (first.sends, first.brought, first.lost) == (again.sends, again.brought, again.lost)
    whole = lived(weeks, SEND_ALL)
    assert whole.sends > first.sends
    assert (weeks.messages.created_s >= weeks.start_s).all()
    assert (np.diff(weeks.messages.created_s) >= 0).all()
    assert (weeks.messages.created_s + EXPIRES_S <= weeks.at_s(weeks.ticks) + EXPIRES_S).all()


@pytest.mark.parametrize("law", ["birch", "null_push"])
def test_the_oracle_knows_better_than_still_policies(law: str) -> None:
    weeks = weeks_of(law, weeks=1)
    state = weeks.begin()
    oracle = PushOracle(weeks, Openness.of(weeks), state.lives, opt_out_cost=2.0, tiring=0.75)
    best = live(weeks, oracle, state, range(weeks.ticks))
    kinds = weeks.core.people.push_kind[np.flatnonzero(np.isfinite(state.lives.pushed_s[:, 0]))]
    if law == "null_push":
        assert best.sends == 0
        return
    still = [lived(weeks, Still(None, share)).net(2.0) for share in (0.05, 0.2, 1.0)]
    hour = np.full(weeks.core.people.accounts, 19)
    still += [lived(weeks, Still(hour, share)).net(2.0) for share in (0.05, 0.2, 1.0)]
    assert best.net(2.0) > max(*still, 0.0) + 10
    assert len(kinds)
    assert (kinds != SLEEPING_DOG).all()
    dear = PushOracle(weeks, oracle.openness, weeks.begin().lives, 2.0, 0.75, price=0.3)
    assert 0 < lived(weeks, dear).sends < 0.5 * best.sends
