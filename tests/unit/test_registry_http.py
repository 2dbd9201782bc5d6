from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestClient, TestServer
from typer.testing import CliRunner

from schemas.catalogue import contracts
from schemas.errors import RegistryUnavailableError, SchemaRefusedError, UnknownSchemaError
from schemas.registry import RegistryClient
from streams.cli import schemas as command
from streams.gateway.acts import registrar
from streams.gateway.registry import registry_app
from tests.access_doubles import Acts, Gate, bearer
from tests.unit.registry_memory import MemoryLog, anyone, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

V1 = "application/vnd.schemaregistry.v1+json"
INT, LONG, TEXT = '"int"', '"long"', '"string"'


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def server(log: MemoryLog) -> AsyncIterator[TestServer]:
    app = web.Application(client_max_size=1000)
    app.add_subapp("/registry", registry_app(opened(log), anyone))
    async with TestServer(app) as server:
        yield server


class Caller:
    """Calls the registry; remembers the last answer's media type."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client
        self.media_type = ""

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = ({"Content-Type": V1} if data else {}) | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self.client.request(method, "/registry" + path, data=data, headers=given) as response:
            self.media_type = response.content_type
            return response.status, await response.json(content_type=None)


@pytest.fixture
async def call(server: TestServer) -> AsyncIterator[Caller]:
    async with TestClient(server) as client:
        yield Caller(client)


async def registered(call: Caller, subject: str, *schemas: str) -> None:
    await call("PUT", f"/config/{subject}", {"compatibility": "NONE"})
    for schema in schemas:
        status, _ = await call("POST", f"/subjects/{subject}/versions", {"schema": schema})
        assert status == 200


async def test_registering_and_reading(call: Caller) -> None:
    assert await call("GET", "/") == (200, {})
    assert await call("GET", "/subjects") == (200, [])
    assert await call("POST", "/subjects/a/versions", {"schema": INT}) == (200, {"id": 1})
    assert await call("POST", "/subjects/b%2Fc/versions", {"schema": LONG, "schemaType": "AVRO"}) == (200, {"id": 2})
    assert await call("POST", "/subjects/a/versions", {"schema": LONG}) == (200, {"id": 2})
    assert call.media_type == V1
    assert await call("GET", "/subjects") == (200, ["a", "b/c"])
    assert await call("GET", "/subjects?subjectPrefix=b") == (200, ["b/c"])
    assert await call("GET", "/subjects?offset=1&limit=1") == (200, ["b/c"])
    assert await call("GET", "/subjects/a/versions") == (200, [1, 2])
    described = {"subject": "a", "id": 2, "version": 2, "schema": LONG}
    for version in ("2", "latest", "-1"):
        assert await call("GET", f"/subjects/a/versions/{version}") == (200, described)
    assert await call("POST", "/subjects/a", {"schema": LONG}) == (200, described)
    assert await call("GET", "/subjects/a/versions/1/schema") == (200, "int")
    assert await call("GET", "/subjects/a/versions/1/referencedby") == (200, [])
    assert await call("GET", "/schemas/ids/2") == (200, {"schema": LONG})
    assert await call("GET", "/schemas/ids/1?fetchMaxId=true") == (200, {"schema": INT, "maxId": 2})
    assert await call("GET", "/schemas/ids/2/schema") == (200, "long")
    assert await call("GET", "/schemas/ids/2/subjects") == (200, ["a", "b/c"])
    uses = [{"subject": "a", "version": 2}, {"subject": "b/c", "version": 1}]
    assert await call("GET", "/schemas/ids/2/versions") == (200, uses)
    assert await call("GET", "/schemas/ids/2/versions?subject=a") == (200, uses[:1])
    assert await call("GET", "/schemas/types") == (200, ["AVRO"])
    assert await call("GET", "/mode") == (200, {"mode": "READWRITE"})


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/subjects/x/versions", None, 40401),
        ("GET", "/subjects/x/versions/1", None, 40401),
        ("GET", "/subjects/a/versions/9", None, 40402),
        ("GET", "/subjects/a/versions/0", None, 42202),
        ("GET", "/subjects/a/versions/first", None, 42202),
        ("GET", "/subjects/a/versions/99999999999999999999999", None, 42202),
        ("POST", "/subjects/x", {"schema": INT}, 40401),
        ("POST", "/subjects/a", {"schema": TEXT}, 40403),
        ("POST", "/subjects/a/versions", {"schema": TEXT}, 409),
        ("POST", "/subjects/a/versions", {"schema": '"nothing"'}, 42201),
        ("POST", "/subjects/a/versions", {"schema": 7}, 42201),
        ("POST", "/subjects/a/versions", {}, 42201),
        ("POST", "/subjects/a/versions", {"schema": "{}", "schemaType": "JSON"}, 42201),
        ("POST", "/subjects/a/versions", {"schema": INT, "references": [{"name": "x"}]}, 42201),
        ("POST", "/subjects/a/versions", [], 42200),
        ("POST", "/subjects/a/versions", b"{", 42200),
        ("POST", "/subjects/a/versions", b"[" * 50_000, 42200),
        ("POST", "/subjects/a/versions", b" " * 1_100_000, 413),
        ("DELETE", "/subjects/x", None, 40401),
        ("DELETE", "/subjects/a?permanent=true", None, 40405),
        ("DELETE", "/subjects/a/versions/1?permanent=true", None, 40407),
        ("DELETE", "/subjects/a/versions/9", None, 40402),
        ("GET", "/schemas/ids/9", None, 40403),
        ("GET", "/schemas/ids/x", None, 40403),
        ("GET", "/schemas/ids/9/versions", None, 40403),
        ("PUT", "/config", {"compatibility": "SOME"}, 42203),
        ("PUT", "/config/a", {}, 42203),
        ("GET", "/config/a", None, 40408),
        ("DELETE", "/config/a", None, 40408),
        ("POST", "/compatibility/subjects/x/versions/latest", {"schema": INT}, 40401),
        ("POST", "/compatibility/subjects/a/versions/9", {"schema": INT}, 40402),
        ("POST", "/compatibility/subjects/a/versions/1", {"schema": "{"}, 42201),
        ("GET", "/subjects?limit=many", None, 42200),
        ("GET", "/nowhere", None, 404),
        ("PATCH", "/subjects", None, 405),
    ],
)
async def test_refusals_carry_confluents_codes(call: Caller, method: str, path: str, body: Any, code: int) -> None:
    await call("POST", "/subjects/a/versions", {"schema": INT})
    status, answer = await call(method, path, body)
    assert (status, answer["error_code"]) == (int(str(code)[:3]), code)
    assert answer["message"]
    assert call.media_type == V1


async def test_a_refused_schema_is_named_with_its_fault(call: Caller) -> None:
    recursive = '{"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}'
    _, answer = await call("POST", "/subjects/a/versions", {"schema": recursive})
    assert "recursive" in answer["message"]
    _, answer = await call("POST", "/subjects/a/versions", {"schema": INT, "references": [{"name": "x"}]})
    assert "references are not supported" in answer["message"]


async def test_deleting_softly_and_for_good(call: Caller) -> None:
    await registered(call, "a", INT, LONG, TEXT)
    assert await call("DELETE", "/subjects/a/versions/latest") == (200, 3)
    assert await call("GET", "/subjects/a/versions?deleted=true") == (200, [1, 2, 3])
    assert await call("GET", "/subjects/a/versions?deletedOnly=true") == (200, [3])
    assert (await call("GET", "/subjects/a/versions/3"))[1]["error_code"] == 40402
    assert (await call("GET", "/subjects/a/versions/3?deleted=true"))[0] == 200
    assert (await call("DELETE", "/subjects/a/versions/3"))[1]["error_code"] == 40406
    assert await call("DELETE", "/subjects/a/versions/3?permanent=true") == (200, 3)
    assert await call("DELETE", "/subjects/a") == (200, [1, 2])
    assert await call("GET", "/subjects") == (200, [])
    assert await call("GET", "/subjects?deleted=true") == (200, ["a"])
    assert await call("GET", "/subjects?deletedOnly=true") == (200, ["a"])
    assert (await call("POST", "/subjects/a", {"schema": INT}))[1]["error_code"] == 40401
    assert (await call("POST", "/subjects/a?deleted=true", {"schema": INT}))[0] == 200
    assert (await call("DELETE", "/subjects/a"))[1]["error_code"] == 40404
    assert await call("GET", "/schemas/ids/1") == (200, {"schema": INT})
    assert await call("DELETE", "/subjects/a?permanent=true") == (200, [1, 2])
    assert (await call("GET", "/schemas/ids/1"))[0] == 404


async def test_levels(call: Caller) -> None:
    assert await call("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})
    assert await call("PUT", "/config", {"compatibility": "FULL"}) == (200, {"compatibility": "FULL"})
    assert await call("PUT", "/config/a", {"compatibility": "NONE"}) == (200, {"compatibility": "NONE"})
    assert await call("GET", "/config/a") == (200, {"compatibilityLevel": "NONE"})
    assert await call("GET", "/config/b?defaultToGlobal=true") == (200, {"compatibilityLevel": "FULL"})
    assert await call("DELETE", "/config/a") == (200, {"compatibilityLevel": "NONE"})
    assert await call("DELETE", "/config") == (200, {"compatibilityLevel": "FULL"})
    assert await call("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})


async def test_verdicts_say_why_when_asked(call: Caller) -> None:
    await call("POST", "/subjects/a/versions", {"schema": LONG})
    path = "/compatibility/subjects/a/versions"
    assert await call("POST", path + "/latest", {"schema": LONG}) == (200, {"is_compatible": True})
    assert await call("POST", path + "/1", {"schema": TEXT}) == (200, {"is_compatible": False})
    _, answer = await call("POST", path + "?verbose=true", {"schema": TEXT})
    assert answer["is_compatible"] is False
    assert "string" in answer["messages"][0]
    assert await call("POST", "/compatibility/subjects/x/versions", {"schema": TEXT}) == (200, {"is_compatible": True})


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/vnd.schemaregistry+json", "application/vnd.schemaregistry+json"),
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.5", "application/json"),
        ("*/*", V1),
        ("application/vnd.schemaregistry.v1+json,application/vnd.schemaregistry+json,application/json", V1),
    ],
)
async def test_the_client_chooses_the_media_type(call: Caller, accept: str, media_type: str) -> None:
    assert await call("GET", "/subjects", Accept=accept) == (200, [])
    assert call.media_type == media_type


async def test_media_types_nobody_speaks_are_refused(call: Caller) -> None:
    assert (await call("GET", "/subjects", Accept="text/html"))[0] == 406
    assert (await call("POST", "/subjects/a/versions", {"schema": INT}, Content_Type="text/plain"))[0] == 415
    assert (await call("POST", "/subjects/a/versions", {"schema": INT}, Content_Type="application/json"))[0] == 200


async def test_a_log_that_is_away_answers_503(call: Caller, log: MemoryLog) -> None:
    log.away = True
    status, answer = await call("GET", "/subjects")
    assert (status, answer["error_code"]) == (503, 50003)


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[RegistryClient]:
    client = RegistryClient(str(server.make_url("/registry/")))
    yield client
    await client.close()


async def test_the_client_registers_and_reads(client: RegistryClient, log: MemoryLog) -> None:
    assert await client.register("a/b c", INT) == 1
    assert await client.lookup("a/b c", INT) == 1
    assert await client.schema(1) == INT
    written = len(log.records)
    log.away = True  # what is known needs no further question
    assert (await client.register("a/b c", INT), await client.lookup("a/b c", INT), await client.schema(1)) == (
        1,
        1,
        INT,
    )
    assert len(log.records) == written


async def test_the_register_command_registers_every_version_once(server: TestServer, log: MemoryLog) -> None:
    outputs = []
    for _ in range(2):
        arguments = ["register", "--url", str(server.make_url("/registry"))]
        result = await asyncio.to_thread(CliRunner().invoke, command.app, arguments)
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert outputs[0] == outputs[1]
    assert "keylane.reservation.Held v1: id " in outputs[0]
    assert len(log.records) == sum(len(contract.schemas) for contract in contracts())


async def test_the_client_tells_final_from_transient(client: RegistryClient, log: MemoryLog) -> None:
    await client.register("a", INT)
    with pytest.raises(UnknownSchemaError):
        await client.schema(9)
    with pytest.raises(UnknownSchemaError):
        await client.lookup("a", TEXT)
    for refused in (TEXT, "{"):
        with pytest.raises(SchemaRefusedError):
            await client.register("a", refused)
    log.away = True
    with pytest.raises(RegistryUnavailableError):
        await client.schema(10)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500, text="oops"),
        web.Response(status=503, text='{"error_code": 50003, "message": "later"}'),
        web.Response(status=404, text="<html>a proxy's page</html>", content_type="text/html"),
        web.Response(status=404, text='{"detail": "some other server"}'),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(status=200, text="[]"),
        web.Response(status=200, text='{"schema": 7}'),
        web.Response(status=401, text='{"error_code": 401, "message": "who are you"}'),
        web.Response(status=429, text="{}"),
    ],
    ids=lambda answer: f"{answer.status} {answer.text}"[:30],
)
async def test_whatever_else_is_wrong_with_a_registry_is_transient(answer: web.Response) -> None:
    async def handler(_: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    async with TestServer(app) as server:
        client = RegistryClient(str(server.make_url("/")))
        with pytest.raises(RegistryUnavailableError):
            await client.schema(1)
        await client.close()


@pytest.mark.parametrize(
    "answer", [{"schema": "{}", "schemaType": "JSON"}, {"schema": '"x.Y"', "references": [{"name": "x.Y"}]}]
)
async def test_a_schema_of_another_type_or_in_pieces_is_unknown_to_the_client(answer: dict[str, Any]) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get("/schemas/ids/1", handler)
    async with TestServer(app) as server:
        client = RegistryClient(str(server.make_url("/")))
        with pytest.raises(UnknownSchemaError):
            await client.schema(1)
        await client.close()


async def test_a_registry_that_is_silent_or_gone_is_transient() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0)
    client = RegistryClient(str(server.make_url("/")), timeout=0.05)
    with pytest.raises(RegistryUnavailableError):
        await client.schema(1)
    await server.close()
    with pytest.raises(RegistryUnavailableError):
        await client.schema(1)
    await client.close()


async def test_user_and_password_of_the_url_are_sent_and_not_shown() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(status=500)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    async with TestServer(app) as server:
        client = RegistryClient(str(server.make_url("/").with_user("user").with_password("pa:ss")))
        with pytest.raises(RegistryUnavailableError) as caught:
            await client.schema(1)
        await client.close()
    assert seen == [encode_basic_auth("user", "pa:ss")]
    assert "pa:ss" not in str(caught.value)


async def test_where_callers_prove_who_they_are_only_admins_of_all_tenants_change_the_registry(log: MemoryLog) -> None:
    gate = Gate("key,hmac")
    acts = Acts()
    bench = gate.bench()
    bench.changes["registry"] = registry_app(opened(log), registrar(bench.changes["access"], acts))
    keys = {
        "nobody": {},
        "a writer": bearer(gate.key("events:write")),
        "a tenant's admin": bearer(gate.key("admin")),
    }
    admin = gate.key("admin", tenant=None)
    changing = (
        ("POST", "/subjects/s-value/versions", {"schema": TEXT}),
        ("DELETE", "/subjects/s-value", None),
        ("DELETE", "/subjects/s-value/versions/1", None),
        ("PUT", "/config", {"compatibility": "NONE"}),
        ("PUT", "/config/s-value", {"compatibility": "NONE"}),
        ("DELETE", "/config/s-value", None),
    )
    async with bench.client() as client:
        call = Caller(client)
        password = {"Authorization": encode_basic_auth("any", admin.text)}
        assert await call("POST", "/subjects/s-value/versions", {"schema": INT}, **password) == (200, {"id": 1})
        written = list(log.records)
        for who, headers in keys.items():
            for method, path, body in changing:
                status, said = await call(method, path, body, **headers)
                assert (status, said["error_code"]) == ((401, 40101) if who == "nobody" else (403, 40301)), (who, path)
                assert call.media_type == V1
            assert await call("POST", "/subjects/s-value/versions", {"schema": INT}, **headers) == (200, {"id": 1})
            assert (await call("GET", "/schemas/ids/1", **headers))[0] == 200
        assert log.records == written
        wrong = {"Authorization": encode_basic_auth("any", "kl_wrong")}
        assert (await call("DELETE", "/subjects/s-value", **wrong))[0] == 401
        assert (await call("DELETE", "/subjects/s-value", **password))[0] == 200
    told = [(act.what, act.target, act.who) for act in acts.told]
    assert told == [
        ("schemas.change", "POST /registry/subjects/s-value/versions", f"key:{admin.key.prefix}"),
        ("schemas.change", "DELETE /registry/subjects/s-value", f"key:{admin.key.prefix}"),
    ]
