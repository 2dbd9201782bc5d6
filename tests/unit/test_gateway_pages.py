from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from consumers import discover
from schemas.catalogue import contracts
from streams.door import RouteSpec
from streams.gateway.app import ROUTES
from streams.gateway.problems import KINDS
from streams.job import Catalogue
from streams.settings import Settings
from tests.gateway_doubles import CATALOGUE, EVENT, HELD, JOB, Bench
from tests.unit.test_tenants import route_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

HELD_EXAMPLE = {"type": "reservation.held", "tenant": "steppe", "entity": "r-1", "data": HELD}


async def document(bench: Bench) -> dict[str, Any]:
    async with bench.client() as client:
        response = await client.get("/openapi.json")
        found: dict[str, Any] = await response.json()
        return found


def validator(api: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
    return jsonschema.Draft202012Validator(schema)


async def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(await document(Bench())).validate()  # type: ignore[arg-type]  # a plain dict is a schema


async def test_the_document_names_every_route_that_is_served() -> None:
    bench = Bench()
    api = await document(bench)

    served = {
        (route.method, re.sub(r"{(\w+):[^}]*}", r"{\1}", route.resource.canonical))
        for route in bench.app().router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {(method.upper(), path) for path, methods in api["paths"].items() for method in methods}
    pages = {"/openapi.json", "/docs", "/metrics", "/api/v1/metrics", "/problems/", "/problems/{kind}"}
    assert served - described == {("GET", page) for page in pages}
    assert described <= served


async def test_every_job_and_event_type_is_described_with_its_fields() -> None:
    api = await document(Bench())

    names = {
        schema["properties"]["type"].get("const")
        for schema in api["components"]["schemas"].values()
        if "type" in schema.get("properties", {})
    }
    assert {contract.name for contract in contracts() if contract.kind != "internal"} <= names
    bodies = api["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]
    assert bodies["application/cloudevents+json"]["schema"] == {"$ref": "#/components/schemas/CloudEvent"}
    assert {"user_id", "ip_address"} <= set(api["components"]["schemas"]["Signin"]["properties"])


async def test_examples_fit_what_is_described_and_are_accepted() -> None:
    bench = Bench(
        catalogue=Catalogue(queues=CATALOGUE.queues, jobs=CATALOGUE.jobs, examples=(*CATALOGUE.examples, HELD_EXAMPLE))
    )
    api = await document(bench)
    examples = {
        name: example for name, schema in api["components"]["schemas"].items() for example in schema.get("examples", [])
    }

    media_types = {
        "CloudEvent": "application/cloudevents+json",
        "CloudEventBatch": "application/cloudevents-batch+json",
    }
    assert set(media_types) < set(examples)
    async with bench.client() as client:
        for name, example in examples.items():
            validator(api, name).validate(example)
            path = "/api/v1/jobs" if "payload" in example else "/api/v1/events"
            headers = {"Content-Type": media_types.get(name, "application/json")}
            assert (await client.post(path, data=json.dumps(example), headers=headers)).status == 202


async def test_the_consumers_of_this_deployment_are_documented_with_sound_examples() -> None:
    bench = Bench(catalogue=discover(Settings(_env_file=None)))
    api = await document(bench)

    OpenAPIV31SpecValidator(api).validate()  # type: ignore[arg-type]  # a plain dict is a schema
    assert "/api/jobs/signin-notification" in api["paths"]
    found = list(examples_in(api))
    assert {"wait=10"} < {example for example, _ in found if isinstance(example, str)}, "of headers"
    shown = {example["type"] for example, _ in found if isinstance(example, dict) and "type" in example}
    assert {example["type"] for example in bench.catalogue.examples} <= shown
    for example, schema in found:
        checked = jsonschema.Draft202012Validator({**schema, "components": api["components"]})
        checked.validate(example)


def examples_in(node: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every example at any depth, with the schema it is an example of."""
    if isinstance(node, list):
        for each in node:
            yield from examples_in(each)
    if not isinstance(node, dict):
        return
    if "schema" in node and "example" in node:
        yield node["example"], node["schema"]
    if isinstance(node.get("examples"), list):
        yield from ((example, node) for example in node["examples"])
    for name, each in node.items():
        if name not in {"example", "examples"}:
            yield from examples_in(each)


async def test_answers_are_as_described() -> None:
    bench = Bench()
    api = await document(bench)

    async with bench.client() as client:
        validator(api, "JobAccepted").validate(await (await client.post("/api/v1/jobs", json=JOB)).json())
        batch = {"jobs": [JOB, JOB | {"type": "nothing.known"}]}
        validator(api, "JobBatchBody").validate({"jobs": [JOB]})
        validator(api, "BatchAnswer").validate(await (await client.post("/api/v1/jobs:batch", json=batch)).json())
        validator(api, "Statistics").validate(await (await client.get("/api/v1/idempotency/stats")).json())
        validator(api, "EventsAccepted").validate(await (await client.post("/api/v1/events", json=EVENT)).json())
        validator(api, "HealthView").validate(await (await client.get("/health")).json())
        validator(api, "Problem").validate(await (await client.get("/nowhere")).json(content_type=None))
        validator(api, "DeadLetterList").validate(await (await client.get("/api/admin/dlq")).json())


async def test_routes_of_consumers_are_served_and_described() -> None:
    async def build_nothing(_request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    route = RouteSpec(
        method="PUT", path="/api/own/{id}", summary="Own", build=lambda _: build_nothing, statuses={200: "Well."}
    )
    api = await document(Bench(catalogue=Catalogue(routes=(route,))))

    operation = api["paths"]["/api/own/{id}"]["put"]
    assert (operation["summary"], operation["parameters"][0]["name"]) == ("Own", "id")
    assert operation["responses"]["200"]["description"] == "Well."


async def test_the_pages_load_nothing_from_elsewhere() -> None:
    async with Bench().client() as client:
        for page in ("/docs", "/problems/"):
            response = await client.get(page)
            text = await response.text()
            assert (response.status, response.content_type) == (200, "text/html")
            assert not re.findall(r"<script|<link|<img|@import|url\(", text)
            assert set(re.findall(r"https?://[^\"'<\s]+", text)) <= {"https://keylane.example"}
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "style-src 'sha256-" in response.headers["Content-Security-Policy"]


async def test_the_docs_show_every_operation_and_schema() -> None:
    bench = Bench()
    api = await document(bench)
    async with bench.client() as client:
        text = await (await client.get("/docs")).text()

    for path, methods in api["paths"].items():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in text
        assert path in text
    for name in api["components"]["schemas"]:
        assert f'id="schema-{name}"' in text


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x>'])
async def test_the_docs_escape_what_they_show(hostile: str) -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    route = RouteSpec(method="GET", path="/x", summary=hostile, build=lambda _: never, statuses={200: hostile})
    async with Bench(catalogue=Catalogue(routes=(route,))).client() as client:
        text = await (await client.get("/docs")).text()

    assert hostile not in text


def test_kinds_of_problems_are_http_errors_with_advice() -> None:
    assert all(400 <= kind.status < 600 and kind.title and kind.advice for kind in KINDS.values())
    assert json.dumps(sorted(KINDS))


async def test_the_document_says_which_routes_need_credentials_and_what_for() -> None:
    bench = Bench()
    api = await document(bench)
    scopes = {(m.lower(), path): scope for (m, path), scope in ((route_of(s), s.scope) for s in bench.app()[ROUTES])}
    for (method, path), scope in scopes.items():
        operation = api["paths"][path][method]
        assert ("security" in operation) == (scope is not None)
        assert scope is None or operation["description"] == f"Needs the scope {scope}."
    assert set(api["components"]["securitySchemes"]) == {"bearer", "apiKey", "signature"}
