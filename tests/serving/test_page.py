"""`POST /v1/page` as a running service answers it, before any model is published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.http import Role
from serving.keys import create_key
from tests.serving.conftest import Service, running

Ask = Callable[..., httpx.Response]
Fresh = Callable[[str], str]
Make = Callable[..., dict[str, Any]]
Eventually = Callable[..., Any]

SOUPS = [f"soup-{n}" for n in range(12)]
CAKES = [f"cake-{n}" for n in range(12)]
MODULES = """
segments: {plants: {diet: vegan}}
modules:
  soups:
    title: {en: Soups, de: Suppen}
    items: {from: for_you, where: {categories: soup}, least: 2, most: 4}
  cakes:
    title: {en: Cakes, de: Kuchen}
    items: {from: for_you, where: {categories: cake}, least: 2, most: 4}
  go_on:
    title: Go on
    items: {from: continue, actions: [view], unless: [cook]}
  television:
    title: For the big screen
    items: {from: popular}
    surfaces: [tv]
  for_plants:
    title: Of plants
    items: {from: fresh, where: {vegan: true}}
    when: {segments: [plants]}
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's file."""
    path = tmp_path_factory.mktemp("configuration") / "modules.yaml"
    path.write_text(MODULES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> Iterator[Service]:
    """A service of its own: what its people do with modules is learned over all of them."""
    home = tmp_path_factory.mktemp("kitchen") / "home"
    with running(home, {"KAIROS_MODULES": str(modules)}) as started:
        with started.client() as client:
            tell_items(client)
        yield started
    log = started.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-6000:]


def tell_items(client: httpx.Client) -> None:
    items = [
        {"type": "item", "item_id": item_id, "attributes": {
            "title": item_id.title(), "categories": [item_id.partition("-")[0]],
            "minutes": 10 * n, "vegan": n % 2 == 0}}
        for n, item_id in enumerate([*SOUPS, *CAKES])
    ]  # fmt: skip
    assert client.post("/v1/events?wait=folded", json=items).status_code == 202
    deadline = time.monotonic() + 60
    while not knows_all(client):  # new items are in the lists within two seconds
        assert time.monotonic() < deadline
        time.sleep(0.1)


def knows_all(client: httpx.Client) -> bool:
    body: dict[str, Any] = {"user_id": "x", "dry_run": True}
    listed = client.post("/v1/recommend", json=body | {"size": 100}).json().get("items", ())
    both = [module["module_id"] for module in client.post("/v1/page", json=body).json()["modules"]]
    return len(listed) == 24 and sorted(both) == ["cakes", "soups"]


@pytest.fixture(scope="module")
def app(kitchen: Service) -> Iterator[httpx.Client]:
    with kitchen.client() as opened:
        yield opened


@pytest.fixture
def ask(app: httpx.Client) -> Ask:
    def post(user_id: str, **fields: Any) -> httpx.Response:
        return app.post("/v1/page", json={"user_id": user_id} | fields)

    return post


@pytest.fixture
def tell(app: httpx.Client) -> Callable[..., None]:
    def post(*events: dict[str, Any]) -> None:
        assert app.post("/v1/events?wait=folded", json=list(events)).status_code == 202

    return post


@pytest.fixture
def ask_logged(ask: Ask, app: httpx.Client, eventually: Eventually) -> Ask:
    """The same, once the decision is in the log: nobody acts on a page within milliseconds."""

    def post(user_id: str, **fields: Any) -> httpx.Response:
        answer = ask(user_id, **fields)
        path = f"/v1/decisions/{answer.json()['decision_id']}"
        eventually(lambda: app.get(path).status_code == 200)
        return answer

    return post


def shown(answer: httpx.Response) -> dict[str, list[str]]:
    """Module -> its items, from the top."""
    assert answer.status_code == 200, answer.text
    return {
        module["module_id"]: [item["item_id"] for item in module["items"]]
        for module in answer.json()["modules"]
    }


def scores(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {module["module_id"]: module["score"] for module in answer.json()["modules"]}


def saw(fresh: Fresh, user: str, decision: str, page: dict[str, list[str]]) -> dict[str, Any]:
    """All that stands on a page came into view."""
    rows = [
        {"position": position, "module_id": name, "item_ids": items}
        for position, (name, items) in enumerate(page.items())
    ]
    return {"type": "impression", "event_id": fresh("e"), "user_id": user, "ts": time.time(),
            "decision_id": decision, "shown": rows}  # fmt: skip


def test_an_answer_is_whole(ask: Ask, fresh: Fresh) -> None:
    answer = ask(fresh("u"), items_per_module=3, attributes=["title", "minutes"])
    body = answer.json()

    assert body.keys() == {"decision_id", "release", "config_version", "situation", "modules",
                           "degraded"}  # fmt: skip
    assert (body["release"], body["degraded"]) == (None, "no_release")
    assert body["situation"] == {"name": "unknown", "confidence": 0.0, "age_s": None}
    page = shown(answer)
    assert set(page) == {"soups", "cakes"}
    assert set(page["soups"]) < set(SOUPS)
    assert set(page["cakes"]) < set(CAKES)
    for module in body["modules"]:
        assert module.keys() == {"module_id", "title", "score", "propensity", "items"}
        assert len(module["items"]) == 3
        assert module["score"] > 0
        assert 0 < module["propensity"] <= 1
        for item in module["items"]:
            assert item["attributes"]["title"] == item["item_id"].title()
            assert 0 < item["propensity"] <= 1


def test_titles_are_in_the_language_asked_for(ask: Ask, tell: Any, fresh: Fresh) -> None:
    def titles(**fields: Any) -> list[str]:
        found = ask(fields.pop("user", fresh("u")), explore=False, modules=2, **fields).json()
        return sorted(module["title"] for module in found["modules"])

    assert titles() == titles(locale="fr") == ["Cakes", "Soups"]
    assert titles(locale="de-AT") == ["Kuchen", "Suppen"]
    user = fresh("u")
    tell({"type": "user", "user_id": user, "attributes": {"locale": "de"}})
    assert titles(user=user) == ["Kuchen", "Suppen"]
    assert titles(user=user, locale="en") == ["Cakes", "Soups"]


def test_what_the_request_rules_out_is_in_no_module(
    ask: Ask, tell: Any, act: Make, fresh: Fresh
) -> None:
    user = fresh("u")
    tell(*(act(user, item_id=item) for item in ("soup-1", "cake-2", "cake-4")))

    page = shown(ask(user))
    assert page["go_on"] == ["cake-4", "cake-2", "soup-1"]
    assert {"soup-1", "cake-2", "cake-4"}.isdisjoint(page["soups"] + page["cakes"])
    less = shown(ask(user, exclude=["cake-4", "nobody-knows"], filter={"minutes": {"gte": 20}}))
    assert less["go_on"] == ["cake-2"]
    assert {"soup-0", "soup-1"}.isdisjoint(less["soups"])
    tell(act(user, item_id="cake-2", action="cook"))
    assert shown(ask(user))["go_on"] == ["cake-4", "soup-1"]


def test_without_exploration_a_page_repeats_itself(ask: Ask, fresh: Fresh) -> None:
    user = fresh("u")
    pages = [ask(user, explore=False, dry_run=True).json()["modules"] for _ in range(3)]
    assert pages[0] == pages[1] == pages[2]
    assert {module["propensity"] for module in pages[0]} == {1.0}


def test_a_decision_shows_its_modules_and_a_dry_run_leaves_none(
    ask: Ask, app: httpx.Client, tell: Any, act: Make, fresh: Fresh, eventually: Eventually
) -> None:
    user = fresh("u")
    tell(act(user, item_id="soup-3"))
    dry = ask(user, dry_run=True).json()["decision_id"]
    answer = ask(user, surface="home")
    body = answer.json()

    path = f"/v1/decisions/{body['decision_id']}"
    told = eventually(lambda: app.get(path), lambda found: found.status_code == 200).json()
    items = [item for module in body["modules"] for item in module["items"]]
    slots = [(slot["item_id"], slot["propensity"], slot["source"]) for slot in told["slots"]]
    assert slots == [(item["item_id"], item["propensity"], item["source"]) for item in items]
    assert (told["user_id"], told["surface"]) == (user, "home")
    page = told["page"]
    assert [(one["module_id"], one["items"]) for one in page["modules"]] == [
        (name, len(row)) for name, row in shown(answer).items()
    ]
    assert {one["module_id"]: one["score"] for one in page["modules"]} == scores(answer)
    assert page["scores"].keys() == {"soups", "cakes", "go_on"}
    chance = 1.0
    for one, module in zip(page["modules"], body["modules"], strict=True):
        assert one["propensity"] == module["propensity"]
        assert one["module_id"] in one["eligible"]
        chance *= module["propensity"]
    assert page["propensity"] == pytest.approx(chance)
    assert page["segment"] == ""
    assert app.get(f"/v1/decisions/{dry}").status_code == 404


def test_explaining_says_what_was_left_out_and_why(
    ask: Ask, tell: Any, act: Make, fresh: Fresh
) -> None:
    user = fresh("u")
    tell(act(user, item_id="soup-1"))
    answer = ask(user, explain=True, modules=2, explore=False, exclude=["cake-1"]).json()

    told = answer["explanation"]
    left = {one["module_id"]: one for one in told["left_out"]}
    assert left["television"] == {"module_id": "television", "score": None,
                                  "why": "not for surface none"}  # fmt: skip
    assert left["for_plants"]["why"] == "not for this person's segments"
    names = {module["module_id"] for module in answer["modules"]}
    (full,) = {"soups", "cakes", "go_on"} - names
    assert left[full]["why"] == "the page is full"
    assert left[full]["score"] > 0
    assert left.keys() == {"television", "for_plants", full}
    assert (told["segments"], told["propensity"]) == ([], 1.0)
    assert all(module["reasons"][0]["code"] == "worth" for module in answer["modules"])
    rules = {gone["item_id"]: gone["rule"] for gone in told["items"]["dropped"]}
    assert rules["cake-1"] == "excluded by the request"
    for module in ask(user, explain=True).json()["modules"]:
        for item in module["items"]:
            assert item["reasons"][0]["code"] == item["source"]
        assert module["module_id"] != "go_on" or module["items"][0]["source"] == "continue"


def test_a_shown_item_is_not_told_to_be_dropped(
    ask: Ask, tell: Any, act: Make, fresh: Fresh
) -> None:
    """What one goes on with was acted on, and stands there all the same."""
    user = fresh("u")
    tell(act(user, item_id="soup-1"))
    answer = ask(user, explain=True)

    assert shown(answer)["go_on"] == ["soup-1"]
    dropped = {gone["item_id"] for gone in answer.json()["explanation"]["items"]["dropped"]}
    assert "soup-1" not in dropped


def test_segments_and_surfaces(ask: Ask, tell: Any, fresh: Fresh) -> None:
    user = fresh("u")
    tell({"type": "user", "user_id": user, "attributes": {"diet": "vegan"}})
    answer = ask(user, explain=True)

    assert set(shown(answer)["for_plants"]) <= {*SOUPS[::2], *CAKES[::2]}
    assert answer.json()["explanation"]["segments"] == ["plants"]
    assert "television" in shown(ask(user, surface="tv"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u", "modules": 0}, "modules"),
        ({"user_id": "u", "modules": 21}, "modules"),
        ({"user_id": "u", "items_per_module": 0}, "items_per_module"),
        ({"user_id": "u", "items_per_module": 31}, "items_per_module"),
        ({"user_id": "u", "size": 3}, "size"),
        ({"user_id": "u", "locale": 7}, "locale"),
        ({"user_id": "u", "filter": {"no-such-attribute": 1}}, "filter.no-such-attribute"),
        ({"user_id": "u", "filter": {"minutes": {"gt": 1}}}, "filter.minutes"),
        ({"user_id": "u", "filter": {"minutes": {"gte": "x"}}}, "filter.minutes.gte"),
        ({"user_id": "u", "at": "yesterday"}, "at"),
        ({"user_id": "u", "exclude": [1]}, "exclude[0]"),
        ({"user_id": "u", "attributes": "title"}, "attributes"),
    ],
)
def test_bad_input_names_the_field(app: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = app.post("/v1/page", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_as_if_it_were_another_time_asks_for_an_admin_key(another: Callable[..., Any]) -> None:
    service = another()
    keys = {role: create_key(service.store(), f"{role} app", role) for role in Role}
    body = {"user_id": "u", "at": time.time() + 86_400, "dry_run": True}
    with service.client() as client:

        def sent(key: str | None, **fields: Any) -> httpx.Response:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            found: httpx.Response = client.post("/v1/page", json=body | fields, headers=headers)
            return found

        deadline = time.monotonic() + 30
        while sent(None).status_code != 401:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        refused = sent(keys[Role.SERVE])
        assert (refused.status_code, refused.json()["field"]) == (403, "at")
        assert sent(keys[Role.SERVE], at=None).status_code == 200
        assert sent(keys[Role.INGEST], at=None).status_code == 403
        assert sent(keys[Role.ADMIN]).status_code == 200


def test_the_next_page_knows_what_came_of_the_last(
    ask: Ask, ask_logged: Ask, tell: Any, act: Make, fresh: Fresh, eventually: Eventually
) -> None:
    """Everybody sees all modules and saves cakes: within seconds cakes are worth more to others."""

    def asked() -> dict[str, float]:
        return scores(ask(fresh("u"), explore=False, dry_run=True))

    before = asked()
    for _ in range(12):
        user = fresh("u")
        answer = ask_logged(user)
        page, decision = shown(answer), answer.json()["decision_id"]
        saved = [
            act(user, item_id=item, action="save", decision_id=decision, module_id="cakes")
            for item in page["cakes"]
        ]
        tell(saw(fresh, user, decision, page), *saved)
    after = eventually(asked, lambda now: now["cakes"] > 1.5 * now["soups"])

    assert next(iter(after)) == "cakes"
    assert after["cakes"] / after["soups"] > 1.5 * before["cakes"] / before["soups"]


def test_a_person_who_goes_another_way_gets_another_page(
    ask: Ask, ask_logged: Ask, tell: Any, act: Make, fresh: Fresh
) -> None:
    user = fresh("u")
    for _ in range(6):
        answer = ask_logged(user)
        page, decision = shown(answer), answer.json()["decision_id"]
        acts = [
            act(user, item_id=item, action="save", decision_id=decision, module_id="soups")
            for item in page.get("soups", ())[:1]
        ]
        tell(saw(fresh, user, decision, page), *acts)
    mine = scores(ask(user, explore=False, dry_run=True))
    others = scores(ask(fresh("u"), explore=False, dry_run=True))
    assert mine["soups"] / mine["cakes"] > 1.5 * others["soups"] / others["cakes"]


def test_a_changed_file_serves_and_a_wrong_one_is_refused(
    ask: Ask, app: httpx.Client, kitchen: Service, modules: Path, fresh: Fresh,
    eventually: Eventually,
) -> None:  # fmt: skip
    def version() -> str:
        return str(ask(fresh("u"), dry_run=True).json()["config_version"])

    def refused() -> float:
        name = "kairos_configuration_refused_total "
        lines = app.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name)).removeprefix(name))

    first = version()
    assert refused() == 0
    more = "  extra: {title: Extra, items: {from: popular, most: 2}, pin: 1}\n"
    modules.write_text(MODULES + more, encoding="utf-8")
    second = eventually(version, lambda now: now != first)
    assert next(iter(shown(ask(fresh("u"))))) == "extra"
    assert f"configuration {second} serves" in kitchen.log.read_text()

    modules.write_text(MODULES + more.replace("popular", "popluar"), encoding="utf-8")
    eventually(refused, lambda times: times == 1)
    lines = kitchen.log.read_text().splitlines()
    (told,) = [line for line in lines if "the configuration stays as it was" in line]
    line = len((MODULES + more).splitlines())
    assert f"{modules}:{line}: modules.extra.items.from: Invalid enum value 'popluar'" in told
    assert version() == second
    assert next(iter(shown(ask(fresh("u"))))) == "extra"

    modules.write_text(MODULES, encoding="utf-8")
    assert eventually(version, lambda now: now != second) == first
    assert refused() == 1
    assert "extra" not in shown(ask(fresh("u")))


def test_without_its_store_it_answers_a_plainer_page_and_still_obeys(
    another: Callable[..., Any], modules: Path
) -> None:
    service = another(KAIROS_READ_TIMEOUT_MS="200", KAIROS_MODULES=str(modules))
    with service.client() as client:
        tell_items(client)
        service.kill_store()
        body = {"user_id": "u", "filter": {"vegan": True}, "exclude": ["soup-0"]}
        answer = client.post("/v1/page", json=body)

        assert answer.json()["degraded"] == "store"
        page = shown(answer)
        assert set(page) == {"soups", "cakes"}
        assert set(page["soups"]) <= set(SOUPS[2::2])
        assert set(page["cakes"]) <= set(CAKES[::2])
