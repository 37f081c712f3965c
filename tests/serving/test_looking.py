"""Health, metrics and the API's description, as a running service tells them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

Post = Callable[..., httpx.Response]
Make = Callable[..., dict[str, Any]]

ROUTES = {
    "/v1/events": {"post"},
    "/v1/page": {"post"},
    "/v1/push/score": {"post"},
    "/v1/push/outbox": {"post", "delete"},
    "/v1/push/outbox/claim": {"post"},
    "/v1/push/outbox/ack": {"post"},
    "/v1/push/outbox/{user_id}/{message_id}": {"get", "delete"},
    "/v1/recommend": {"post"},
    "/v1/decisions/{decision_id}": {"get"},
    "/v1/users/{user_id}/decisions": {"get"},
    "/v1/users/{user_id}": {"get", "delete"},
    "/v1/situation/{user_id}": {"get"},
    "/v1/erasures/{receipt_id}": {"get"},
    "/v1/items/{item_id}": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


def test_the_process_lives(client: httpx.Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_replica_is_ready_and_says_how_far_the_fold_is(
    client: httpx.Client, post: Post, act: Make, fresh: Callable[[str], str]
) -> None:
    assert post(act(fresh("u"))).status_code == 202
    told = client.get("/readyz").json()
    assert (told["ready"], told["store"], told["release"]) == (True, "ok", None)
    assert told["fold_lag_events"] >= 0
    assert told["fold_lag_s"] >= 0


@pytest.mark.parametrize(
    "path", ["/v1/users/nobody-ever", "/v1/items/nothing-ever", "/v1/erasures/never-asked"]
)
def test_the_unknown_is_a_problem_document(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["type"], told["status"]) == ("urn:kairos:problem:not-found", 404)
    assert told["detail"]


# Metrics


def families(client: httpx.Client) -> dict[str, Any]:
    text = client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_metrics_are_prometheus_text(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = families(client)
    counters = {
        "requests", "rejected", "duplicates_at_edge", "ignored_device_fields", "decisions_lost",
        "rows_lost", "releases_loaded", "releases_refused", "registry_unavailable",
        "degraded", "configuration_refused", "overloaded", "events_appended", "events_folded",
        "events_duplicate",
        "events_forgotten", "events_dead", "events_archived",
        "outbox_messages", "webhook",
    }  # fmt: skip
    gauges = {"store_up", "store_memory_ratio", "fold_lag_events", "fold_lag_seconds",
              "outbox_waiting", "outbox_ready"}  # fmt: skip
    assert {name: found[name].type for name in found} == {
        **{f"kairos_{name}": "counter" for name in counters},
        **{f"kairos_{name}": "gauge" for name in gauges},
    }
    assert all(family.documentation for family in found.values())
    for name in ("kairos_events_appended_total", "kairos_fold_lag_events",
                 "kairos_fold_lag_seconds", "kairos_events_duplicate_total",
                 "kairos_decisions_lost_total", "kairos_store_up 1.0"):  # fmt: skip
        assert f"\n{name}" in answer.text


def test_metrics_follow_what_happens(
    client: httpx.Client,
    post: Post,
    act: Make,
    fresh: Callable[[str], str],
    metric: Callable[[str], float],
    eventually: Callable[..., Any],
) -> None:
    names = [
        "kairos_events_appended_total",
        "kairos_events_folded_total",
        "kairos_events_archived_total",
        "kairos_duplicates_at_edge_total",
        'kairos_rejected_total{field="ts",type="interaction"}',
        'kairos_rejected_total{field="type",type="unknown"}',
        'kairos_rejected_total{field="other",type="interaction"}',
    ]
    # Counters of a process reach the store within about a second: let earlier tests' settle.
    settled: list[list[float]] = []

    def read() -> list[float]:
        return [metric(name) for name in names]

    def quiet() -> bool:
        time.sleep(0.3)
        settled.append(read())
        return len(settled) > 5 and settled[-6:] == [settled[-1]] * 6

    eventually(quiet)
    user = fresh("u")
    event = act(user)
    batch = [event, event, act(user), act(user, ts="never"), {"type": "x"}, act(user, **{"a|b": 1})]
    assert post(batch).status_code == 202
    # Archived are two events and, perhaps, names that were new.
    eventually(lambda: metric(names[2]) >= settled[-1][2] + 2)
    grown = eventually(
        lambda: [now - then for now, then in zip(read(), settled[-1], strict=True)],
        lambda by: by[:2] + by[3:] == [2, 2, 1, 1, 1, 1],
    )
    assert grown[2] >= 2
    assert metric("kairos_fold_lag_events") == 0
    assert metric("kairos_fold_lag_seconds") == 0


def test_times_are_rfc3339_in_utc(
    client: httpx.Client, post: Post, act: Make, fresh: Callable[[str], str]
) -> None:
    user = fresh("u")
    post(act(user, device={"place": "home"}))
    told = client.get(f"/v1/users/{user}").json()
    times = [told["first_seen"], told["last_seen"], told["touches"][0]["ts"]]
    times.append(told["devices"][""]["ts"])
    for text in times:
        assert text.endswith("Z")
        assert abs(datetime.fromisoformat(text).timestamp() - time.time()) < 300


# The description


@pytest.fixture(scope="module")
def described(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def test_the_description_names_every_route(described: Any) -> None:
    assert described["openapi"].startswith("3.1.")
    assert {path: set(item) for path, item in described["paths"].items()} == ROUTES
    assert set(described) <= {
        "openapi", "info", "jsonSchemaDialect", "servers", "paths", "webhooks", "components",
        "security", "tags", "externalDocs",
    }  # fmt: skip
    assert described["info"]["title"]
    assert described["info"]["version"]


def operations(described: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in described["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_every_operation_is_whole(described: Any) -> None:
    for path, _, operation in operations(described):
        assert operation["summary"]
        declared = [(p["name"], p["in"]) for p in operation.get("parameters", [])]
        assert len(declared) == len(set(declared))
        assert {n for n, where in declared if where == "path"} == set(re.findall(r"{(\w+)}", path))
        for parameter in operation.get("parameters", []):
            assert parameter.get("required", False) == (parameter["in"] == "path")
            assert parameter["schema"]
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)|default", status)
            assert response["description"]
        assert ("security" in operation) == path.startswith("/v1/")


def test_every_reference_resolves(described: Any) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            yield from node.get("discriminator", {}).get("mapping", {}).values()
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    found = set(references(described))
    assert found
    for reference in found:
        node = described
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            node = node[part]
        assert node


def test_every_kind_of_event_is_described(described: Any) -> None:
    schema = described["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    listed = schema["application/json"]["schema"]["items"]
    assert set(listed["discriminator"]["mapping"]) == {
        "item", "user", "alias", "interaction", "impression", "device", "push", "decision",
    }  # fmt: skip


def test_the_page_stands_alone(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "openapi.json" in page.text


def test_head_answers_as_get_does_without_a_body(client: httpx.Client) -> None:
    for path in ("/healthz", "/docs", "/v1/users/nobody-ever"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == get.headers["content-length"]


def test_other_methods_are_told_which_ones_there_are(client: httpx.Client) -> None:
    answer = client.put("/v1/users/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert client.get("/v1/events").headers["allow"] == "POST"
