"""``/openapi.json``: OpenAPI 3.1 made from the routes and their models, so that it cannot tell anything else.

Invariant: every route that is served and has a ``RouteSpec`` is described, with all its statuses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from streams.gateway.problems import KINDS, MEDIA_TYPE
from streams.signing import KEY, NONCE, SIGNATURE, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel

    from streams.door import RouteSpec

_REFERENCE = "#/components/schemas/{model}"
_FIRST_ERROR = 400
_SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a JSON Web Token, as the gateway's settings have it.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": SIGNATURE,
        "description": f"HMAC-SHA256 of the request, with {KEY}, {TIMESTAMP} and {NONCE}.",
    },
}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": f"Ends with one of {', '.join(KINDS)}."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string", "format": "json-pointer", "description": "A place in the body."},
                    "header": {"type": "string", "description": "A header, where that is at fault."},
                },
            },
        },
    },
}


def document(routes: Sequence[RouteSpec], *, title: str, version: str, server: str) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    bodies = {model for route in routes for model in (*_bodies(route).values(), route.query) if model is not None}
    answers = {model for route in routes for model in (route.answer, *route.answers.values()) if model is not None}
    schemas, definitions = models_json_schema(
        [
            *((model, "validation") for model in _sorted(bodies)),
            *((model, "serialization") for model in _sorted(answers)),
        ],
        ref_template=_REFERENCE,
    )
    named: dict[Any, Any] = {model: schema for (model, _), schema in schemas.items()}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Problem": _PROBLEM},
            "securitySchemes": _SCHEMES,
        },
    }


def _sorted(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(models, key=lambda model: model.__name__)


def _path(route: RouteSpec) -> str:
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)


def _operation(route: RouteSpec, schemas: dict[Any, Any]) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{route.method.lower()} {_path(route)}").strip("_")
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": name,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": {str(status): _response(route, status, text, schemas) for status, text in _statuses(route)},
    }
    if route.scope is not None:
        operation["description"] = f"Needs the scope {route.scope}."
        operation["security"] = [{scheme: []} for scheme in _SCHEMES]
    content = {media_type: {"schema": schemas[model]} for media_type, model in _bodies(route).items()}
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _bodies(route: RouteSpec) -> dict[str, type[BaseModel]]:
    return {**({"application/json": route.body} if route.body else {}), **route.other_bodies}


def _path_parameters(route: RouteSpec) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", _path(route))
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: RouteSpec) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=_REFERENCE)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]


def _header_parameters(route: RouteSpec) -> list[dict[str, Any]]:
    return [{"name": name, "in": "header", "required": False, **what} for name, what in route.headers.items()]


def _statuses(route: RouteSpec) -> list[tuple[int, str]]:
    """Those of the route, and those that stand before it."""
    limited = {} if route.scope is None else {429: "A limit is used up; Retry-After says when to come again."}
    slow = {408: "The body came too slowly."} if _bodies(route) else {}
    return sorted({**limited, **slow, **route.statuses}.items())


def _response(route: RouteSpec, status: int, text: str, schemas: dict[Any, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": text}
    if status >= _FIRST_ERROR and not route.answers_errors:
        response["content"] = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}
    elif (answer := route.answers.get(status, route.answer)) is not None:
        media_type = "application/json" if status in route.answers else route.answer_type
        response["content"] = {media_type: {"schema": schemas[answer]}}
    return response
