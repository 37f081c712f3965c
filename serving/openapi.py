"""The API described by its own routes: OpenAPI 3.1 from their structs, and a page to try them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec

from serving.http import PROBLEM_TYPE, Handler, Request, Response, Role, Route, json_response

REF_TEMPLATE = "#/components/schemas/{name}"
# The page is one file: nothing is loaded from elsewhere, and only this server is called.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Schema = dict[str, Any]


class Problem(msgspec.Struct, omit_defaults=True):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    retry_after_s: int | None = None


def documentation(routes: Sequence[Route], title: str, version: str) -> list[Route]:
    """`GET /openapi.json` and `GET /docs`, which describe `routes`, be they of several apps."""
    described = json_response(200, openapi(routes, title, version))
    page = Response(
        200,
        files("serving").joinpath("docs.html").read_bytes(),
        "text/html; charset=utf-8",
        (("content-security-policy", CONTENT_POLICY), ("x-content-type-options", "nosniff")),
    )
    return [
        Route("GET", "/openapi.json", _always(described), None, summary="This description"),
        Route("GET", "/docs", _always(page), None, summary="A page to read and try the API"),
    ]


def _always(response: Response) -> Handler:
    async def handler(request: Request) -> Response:
        return response

    return handler


def openapi(routes: Sequence[Route], title: str, version: str) -> Schema:
    """The OpenAPI 3.1 document of `routes`."""
    schemas = _Schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        # Relative to this document, so that it holds under any mount prefix.
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The schema of each type that a route names, and the components they share."""

    def __init__(self, routes: Sequence[Route]) -> None:
        types: list[Any] = [Problem]
        for route in routes:
            types += [t for t in (route.request_type, route.response_type) if t is not None]
        schemas, self.components = msgspec.json.schema_components(types, ref_template=REF_TEMPLATE)
        self._by_type = list(zip(types, schemas, strict=True))

    def of(self, type_: Any) -> Schema:
        # A list, not a dict: Annotated types with metadata may not be hashable.
        return next(schema for known, schema in self._by_type if known is type_)


def _operation(route: Route, schemas: _Schemas) -> Schema:
    operation: Schema = {"summary": route.summary, "responses": _responses(route, schemas)}
    parameters = _parameters(route)
    if parameters:
        operation["parameters"] = parameters
    if route.request_type is not None:
        content = {"application/json": {"schema": schemas.of(route.request_type)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.roles is not None:
        roles = sorted(route.roles | {Role.ADMIN})
        operation |= {"security": [{"key": []}], "x-roles": roles}
        operation["description"] = f"Roles: {', '.join(roles)}."
    return operation


def _responses(route: Route, schemas: _Schemas) -> Schema:
    done: Schema = {"description": "Done"}
    if route.response_type is not None:
        done["content"] = {"application/json": {"schema": schemas.of(route.response_type)}}
    refused = {
        "description": "Refused",
        "content": {PROBLEM_TYPE: {"schema": schemas.of(Problem)}},
    }
    return {"2XX": done, "default": refused}


def _parameters(route: Route) -> list[Schema]:
    path: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{([^}/]+)\}", route.template)
    ]
    query: list[Schema] = [
        {"name": name, "in": "query", "description": says, "schema": {"type": "string"}}
        for name, says in route.query.items()
    ]
    return path + query
