"""A simulated recipe app: people, what they are shown, what they do, and what an app sees of it.

For demos, and for questions that no public data can answer, because here the right answer is
known. Nothing in this package imports the engine or the models, nor is it shaped like them.

    world = World("amber", users=2000, items=3000, seed=1)
    log = world.item_events() + world.user_events() + list(world.history(days=28))
    for visit in world.sessions(day=28):            # then days that answer to what is shown
        events = world.respond(visit, shown=[...])  # or ask world.oracle_value(visit, item_ids)
        # or world.respond_page(visit, [("for_you", [...]), ...]), world.oracle_modules(visit, ...)
    world.ledger.value_per_visit(), world.ledger.return_rate(28), world.ledger.coverage()

The way of a day, a file a step (docs/world.md lists what the world contains, and the laws):

    laws.py        which rules and numbers hold; arrays.py names the array types
    recipes.py, people.py     what there is, drawn once; core.py puts it together
    lives.py       what changes in people; drift.py: how tastes do, overnight
    calendar.py    who opens the app today, and whom the old campaigns write to
    moments.py     where they are and how they feel; sensors.py: what the phone tells of it
    pushes.py      who comes by a push and who stays away; fatigue.py: how they recover
    policies.py    the list that the old policy, or chance, puts on the screen
    appeal.py      how a recipe suits the moment; attention.py: which ones are looked at
    reaction.py    what is opened, cooked, regretted, and what that leaves behind
    modules.py     headings of a home screen, and whom they draw in
    page.py        how far people go down a page of modules, and along each
    diary.py       the events of it, as lines.py spells them; history.py goes through all days
    oracle.py      the best that could have been known; ledger.py: what visits were worth
    simulation.py  World: all of this behind one door
    page_days.py   days of pages as columns, for many policies; shelves.py: what is on them
    push_weeks.py  weeks of messages, alike for every policy; push_course.py: one lives through them
    push_policy.py what a push policy is asked and answers; push_oracle.py: the best that can be
"""

from training.world.laws import HELD_OUT, LAWS, TUNING
from training.world.lines import Line, encode
from training.world.modules import MODULES
from training.world.page_days import PageDay, Walk, page_days
from training.world.policies import POLICIES, PolicyName
from training.world.sensors import Sensors, real_sensors, synthetic_sensors
from training.world.simulation import START, Visit, World

__all__ = [
    "HELD_OUT",
    "LAWS",
    "MODULES",
    "POLICIES",
    "START",
    "TUNING",
    "Line",
    "PageDay",
    "PolicyName",
    "Sensors",
    "Visit",
    "Walk",
    "World",
    "encode",
    "page_days",
    "real_sensors",
    "synthetic_sensors",
]
