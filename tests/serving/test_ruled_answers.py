"""What an answer, its explanation and its record say of the operator's rules."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from engine.catalog import Catalog
from engine.decisions import record_of
from engine.pipeline import Parts, Request, Slate, recommend_known
from engine.recommending import Recommending, SlateSettings
from engine.records import ItemRecord
from engine.rules import Rules
from engine.rules_file import RulesFile
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.state import UserState
from serving.decision_views import decision_view
from serving.explain import explain
from serving.recommend import RecommendBody, _answer

NOW = 1_790_000_000_000


def decided(**rules: Any) -> tuple[Slate, Parts]:
    catalog = Catalog()
    catalog.apply(
        ItemRecord(ts=1, arrived=1, item_id=f"i{n}", item=n, attributes={"title": f"t{n}"})
        for n in range(8)
    )
    for n in range(8):
        catalog.count(0, {(n, 0): 10 - n})
    catalog.columns.rank(np.ones(256, np.float32), NOW)
    parts = Parts(
        None,  # type: ignore[arg-type]
        catalog,
        Recommending(slate=SlateSettings(explore=0.0, diversity=0.0)),
        np.ones(256, np.float32),
        Situations(load_situations()),
        rules=Rules(msgspec.convert(rules, RulesFile)),
    )
    return recommend_known(Request("ada", NOW, 4, seed=1), UserState(), parts), parts


RULES: dict[str, Any] = {
    "ban": {"items": ["i1"]},
    "pin": [{"items": ["i7"], "slot": 1}],
    "boost": [{"items": ["i5"], "by": 50}],
    "sponsored": [{"items": ["i0"], "slots": [3]}],
}


def test_an_answer_labels_what_is_sponsored() -> None:
    slate, parts = decided(**RULES)
    answer = _answer(RecommendBody("ada", explain=True), "d1", slate, parts, [])
    items = msgspec.to_builtins(answer)["items"]

    assert [item["item_id"] for item in items] == ["i7", "i5", "i0", "i2"]
    assert [item.get("sponsored") for item in items] == [None, None, True, None]


def test_reasons_name_the_rules() -> None:
    slate, parts = decided(**RULES)
    told = explain(slate, parts)
    codes = [[reason.code for reason in reasons] for reasons in told.reasons]

    assert [set(one) & {"pinned", "boost", "sponsored"} for one in codes] == [
        {"pinned"},
        {"boost"},
        {"sponsored"},
        set(),
    ]
    texts = {reason.text for reasons in told.reasons for reason in reasons}
    assert {
        "boost[0] +50 standard deviations",
        "by pin[0] of rules.yaml",
        "by sponsored[0] of rules.yaml",
    } <= texts
    assert [(one.item_id, one.rule) for one in told.explanation.dropped] == [("i1", "banned: item")]


def test_a_record_keeps_which_rule_placed_an_item() -> None:
    slate, parts = decided(**RULES)
    record = record_of(slate, "d1", NOW)

    assert [slot.rule for slot in record.slots] == ["pin[0]", None, "sponsored[0]", None]
    shown = msgspec.to_builtins(decision_view(record, parts.catalog))["slots"]
    assert [slot.get("rule") for slot in shown] == ["pin[0]", None, "sponsored[0]", None]
    assert all("rule" not in msgspec.to_builtins(slot) for slot in record.slots[1::2])
