from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import cramjam
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Problem
from streams.door import ProblemError, RouteSpec
from streams.gateway.body import DEEPEST, parse
from streams.gateway.problems import KINDS
from streams.job import Catalogue
from tests.gateway_doubles import JOB, Bench

BASE = "https://keylane.example/problems/"


def bench_with(error: Exception) -> Bench:
    async def fail(_request: web.Request) -> web.StreamResponse:
        raise error

    route = RouteSpec(
        method="GET", path="/fails/{id}", summary="Fails", build=lambda _: fail, statuses={500: "Always."}
    )
    return Bench(catalogue=Catalogue(routes=(route,)))


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/api/v1/jobs", 405, "method-not-allowed"),
        ("PATCH", "/health", 405, "method-not-allowed"),
        ("GET", "/problems/none", 404, "not-found"),
        ("GET", "/api/admin/dlq?nothing=1", 400, "invalid-request"),
        ("GET", "/api/admin/dlq?limit=0", 400, "invalid-request"),
    ],
)
async def test_every_refusal_is_a_problem(method: str, path: str, status: int, kind: str) -> None:
    async with Bench().client() as client:
        response = await client.request(method, path)
        found = await response.json(content_type="application/problem+json")

    assert (response.status, found["status"], found["type"]) == (status, status, BASE + kind)
    assert found["title"] == KINDS[kind].title
    assert found["instance"] == path.partition("?")[0]
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        (b"{", {}, 400, "malformed-json"),
        (b"", {}, 400, "malformed-json"),
        (b"\xff\xfe{\x00}\x00", {}, 400, "malformed-json"),
        (b"\xef\xbb\xbf{}", {}, 400, "malformed-json"),
        (b'{"a": NaN}', {}, 400, "malformed-json"),
        (b'{"a": 1, "a": 2}', {}, 400, "malformed-json"),
        (b'{"a": %s}' % (b"9" * 5_000), {}, 400, "malformed-json"),
        (b"[" * 33 + b"]" * 33, {}, 400, "malformed-json"),
        (b"[" * 15_000, {}, 400, "malformed-json"),
        (b"[" + b"1," * 30_000 + b"1]", {}, 413, "too-large"),
        (b"[]", {}, 400, "invalid-request"),
        (b"null", {}, 400, "invalid-request"),
        (b'"' + b"x" * 100_000 + b'"', {}, 413, "too-large"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Encoding": "gzip, gzip"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Encoding": "gzip"}, 400, "malformed-body"),
        (b"{}", {"Content-Encoding": "zstd"}, 400, "malformed-body"),
        (gzip.compress(b"{}", mtime=0)[:-4], {"Content-Encoding": "gzip"}, 400, "malformed-body"),
        (gzip.compress(b"0" * 100_001, mtime=0), {"Content-Encoding": "gzip"}, 413, "too-large"),
        (gzip.compress(b"0" * 60_000, mtime=0) * 2, {"Content-Encoding": "gzip"}, 413, "too-large"),
        (bytes(cramjam.zstd.compress(b"0" * 100_001)), {"Content-Encoding": "zstd"}, 413, "too-large"),
    ],
)
async def test_bodies_nobody_can_use_are_refused(body: bytes, headers: dict[str, str], status: int, kind: str) -> None:
    async with Bench().client() as client:
        response = await client.post("/api/v1/jobs", data=body, headers={"Content-Type": "application/json"} | headers)
        assert response.status == status
        found = await response.json(content_type="application/problem+json")
        assert found["type"] == BASE + kind
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202


async def test_an_unexpected_error_tells_nothing_about_the_inside(capsys: pytest.CaptureFixture[str]) -> None:
    async with bench_with(RuntimeError("password=hunter2 at db:5432")).client() as client:
        response = await client.get("/fails/1")
        text = await response.text()

    assert response.status == 500
    assert "hunter2" not in text
    assert "RuntimeError" not in text
    assert json.loads(text)["request_id"] == response.headers["X-Request-Id"]
    assert "RuntimeError" in capsys.readouterr().out


async def test_a_consumers_problem_keeps_its_members() -> None:
    error = ProblemError("rate-limited", "Later.", errors=[Problem("/a", "bad")], retry_after=7, extra={"known": [1]})
    async with bench_with(error).client() as client:
        response = await client.get("/fails/1")
        found = await response.json(content_type="application/problem+json")

    assert (response.status, response.headers["Retry-After"]) == (429, "7")
    assert found["detail"] == "Later."
    assert found["errors"] == [{"detail": "bad", "pointer": "/a"}]
    assert found["known"] == [1]


async def test_an_answer_that_was_raised_is_an_answer() -> None:
    async with bench_with(web.HTTPSeeOther("/health")).client() as client:
        response = await client.get("/fails/1", allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (303, "/health")
    assert response.headers["X-Request-Id"]


async def test_a_status_without_a_kind_keeps_its_meaning() -> None:
    async with Bench().client() as client:
        response = await client.post("/api/v1/jobs", data=b"{}", headers={"Expect": "magic"})

    assert response.status == 417


async def test_every_type_of_problem_has_its_page() -> None:
    async with Bench().client() as client:
        for kind in KINDS:
            response = await client.get(f"/problems/{kind}")
            assert response.status == 200
            assert f'id="{kind}"' in await response.text()


HOSTILE = {
    "nested": b"[" + b",".join([b"[" * 30 + b"]" * 30] * 17_000) + b"]",
    "objects": b"[" + b",".join([b"{}"] * 340_000) + b"]",
    "members": json.dumps({f"k{number}": 1 for number in range(9_900)}).encode(),
    "numbers": b"[" + b",".join([b"9" * 4_300] * 240) + b"]",
    "text": b'{"a": "' + b",:[{" * 250_000 + b'"}',
    "quotes": b"," * 30_000 + b'"' + b'\\"' * 500_000,
    "backslash": b"," * 30_000 + b'"' * 30_001 + b'\\"' * 450_000 + b"\\",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_refused_with_few_errors(name: str) -> None:
    body, longest = HOSTILE[name], 0.0
    bench = Bench(changes={"max_body_bytes": 1_048_576})

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    async with bench.client() as client:
        watching = asyncio.create_task(watch())
        headers = {"Content-Type": "application/json"}
        for wrapped in (body, b'{"type": "notification.signin", "tenant": "t", "payload": %s}' % body):
            response = await client.post("/api/v1/jobs", data=wrapped, headers=headers)
            assert 400 <= response.status < 500
            assert len((await response.json(content_type=None)).get("errors", ())) <= 100
        watching.cancel()
    print(f"\n{name}: the loop stood still for {1000 * longest:.0f} ms at most")


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@given(st.integers(0, 40))
def test_nesting_is_bounded_exactly(depth: int) -> None:
    text = json.dumps(nested(depth)).encode()
    if depth <= DEEPEST:
        assert parse(text) == nested(depth)
    else:
        with pytest.raises(ProblemError, match="levels deep"):
            parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_what_is_json_is_parsed(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=50))
def test_any_bytes_give_a_value_or_a_problem(text: bytes) -> None:
    try:
        value = parse(text)
    except ProblemError as error:
        value = error.kind
    json.dumps(value, allow_nan=False)
