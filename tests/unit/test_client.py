"""The client of the gateway: what it sends, what it makes of answers, and when it sends again."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from streams import signing
from streams.client import ApiError, ApiKey, AsyncClient, Client, Retries, Signed, Token, UnreachableError
from streams.client.errors import refusal
from streams.client.sse import Event, Reader
from streams.dev import ports
from streams.gateway.jobs import detail
from streams.history import row
from tests.gateway_doubles import HELD, PAYLOAD, Bench
from tests.unit.test_gateway_jobs import stored_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

AT_ONCE = Retries(first=0.0)
Answer = tuple[int, dict[str, Any], dict[str, str]]
BUSY: Answer = (503, {"title": "later"}, {})
ACCEPTED = {"id": "j", "location": "/api/v1/jobs/j", "topic": "jobs.emails", "partition": 0, "offset": 1}
JOB = json.loads(detail(row(stored_status("j"))).model_dump_json())


class Scripted:
    """A server that gives these answers one after the other and notes what it was asked."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = list(answers)
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.bodies.append(await request.read())
        status, body, headers = self.answers.pop(0)
        return web.json_response(body, status=status, headers=headers)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")


async def through(kind: str, url: str, use: Callable[[Any], Any], credentials: Any = None) -> Any:
    """Use one of the two clients; both have the same methods."""
    if kind == "async":
        async with AsyncClient(url, credentials, retries=AT_ONCE) as client:
            return await use(client)
    with Client(url, credentials, retries=AT_ONCE) as client:
        return await asyncio.to_thread(use, client)


both = pytest.mark.parametrize("kind", ["async", "sync"])


@both
async def test_a_job_is_submitted_to_a_gateway_and_its_refusal_tells_the_places(kind: str) -> None:
    bench = Bench()
    async with bench.client() as served:
        url = str(served.make_url("")).rstrip("/")
        accepted = await through(
            kind, url, lambda client: client.submit("notification.signin", PAYLOAD, tenant="steppe")
        )
        assert accepted.topic == "jobs.emails"
        with pytest.raises(ApiError, match="/payload/email") as refused:
            await through(kind, url, lambda client: client.submit("notification.signin", {}, tenant="steppe"))
    assert (refused.value.status, refused.value.kind) == (400, "invalid-request")
    assert refused.value.request_id
    assert len(bench.log.of("jobs.emails")) == 1


@both
async def test_a_client_may_wait_for_the_end_of_its_job(kind: str) -> None:
    server = Scripted([(200, JOB, {}), (202, ACCEPTED, {})])
    async with server.served() as url:
        ended = await through(kind, url, lambda client: client.submit("any", {}, wait=10))
        accepted = await through(kind, url, lambda client: client.submit("any", {}, wait=10))
    assert (ended.status, accepted.status) == ("completed", "pending")
    assert [request.query["wait"] for request in server.asked] == ["10", "10"]


@both
async def test_many_jobs_are_submitted_in_one_request_and_each_has_its_result(kind: str) -> None:
    bench = Bench()
    wrong = {"type": "notification.signin", "tenant": "steppe", "payload": {}}
    right = {"type": "notification.signin", "tenant": "steppe", "payload": PAYLOAD}
    async with bench.client() as served:
        url = str(served.make_url("")).rstrip("/")
        answer = await through(kind, url, lambda client: client.submit_many([right, wrong]))
    assert [result.status for result in answer.results] == [202, 400]


@both
async def test_many_events_are_published_in_one_request_and_each_has_its_result(kind: str) -> None:
    bench = Bench()
    right = {"specversion": "1.0", "id": "e", "source": "/shop", "type": "reservation.held", "data": HELD}
    events = [right | {"tenant": "steppe", "subject": "r-1"}, {"type": "reservation.held"}]
    async with bench.client() as served:
        url = str(served.make_url("")).rstrip("/")
        answer = await through(kind, url, lambda client: client.publish_many(events))
    assert [result.status for result in answer.results] == [202, 400]
    assert [record.key for record in bench.log.of("events.reservation")] == [b"steppe/r-1"]


@both
async def test_what_fails_for_a_while_is_sent_again_under_the_same_key(kind: str) -> None:
    server = Scripted([BUSY, (429, {}, {"Retry-After": "0"}), (202, ACCEPTED, {})])
    async with server.served() as url:
        assert (await through(kind, url, lambda client: client.submit("any", {}))).id == "j"
    assert len({request.headers["Idempotency-Key"] for request in server.asked}) == 1
    assert len(set(server.bodies)) == 1


@both
async def test_what_is_refused_for_good_is_not_sent_again(kind: str) -> None:
    server = Scripted([(422, {"title": "no"}, {})])
    async with server.served() as url:
        with pytest.raises(ApiError, match="422 no"):
            await through(kind, url, lambda client: client.publish("any", {}))


@both
async def test_what_may_have_had_an_effect_is_not_repeated_without_a_key(kind: str) -> None:
    server = Scripted([BUSY])
    async with server.served() as url:
        with pytest.raises(ApiError):
            await through(kind, url, lambda client: client.create_key("k", ["admin"]))
    assert "Idempotency-Key" not in server.asked[0].headers


@both
async def test_a_gateway_that_is_not_there_is_an_error_with_its_address(kind: str) -> None:
    url = f"http://127.0.0.1:{ports.any_free()}"
    with pytest.raises(UnreachableError, match=url):
        await through(kind, url, lambda client: client.job("j"))


@both
async def test_lists_go_on_over_their_pages(kind: str) -> None:
    server = Scripted([(200, {"jobs": [JOB | {"id": n}], "cursor": c}, {}) for n, c in (("1", "c/1"), ("2", None))])

    async def every(client: Any) -> list[str]:
        return [job.id async for job in client.jobs(status="dead")]

    async with server.served() as url:
        use = every if kind == "async" else lambda client: [job.id for job in client.jobs(status="dead")]
        assert await through(kind, url, use) == ["1", "2"]
    assert [dict(request.query) for request in server.asked] == [
        {"status": "dead"},
        {"status": "dead", "cursor": "c/1"},
    ]


@both
async def test_each_kind_of_credentials_is_sent_as_the_gateway_wants_it(kind: str) -> None:
    server = Scripted([(200, JOB, {})] * 3)
    async with server.served() as url:
        for credentials in (ApiKey("kl_a_b"), Token(lambda: "x.y.z"), Signed("k_1", "secret")):
            await through(kind, url, lambda client: client.job("a/b c"), credentials)
    key, token, signed = (request.headers for request in server.asked)
    assert (key["Authorization"], token["Authorization"]) == ("Bearer kl_a_b", "Bearer x.y.z")
    made = signing.signature(
        "secret",
        "GET",
        server.asked[2].raw_path,
        b"",
        timestamp=signed[signing.TIMESTAMP],
        nonce=signed[signing.NONCE],
    )
    assert signed[signing.SIGNATURE] == made
    assert server.asked[2].raw_path == "/api/v1/jobs/a%2Fb%20c"


def test_credentials_do_not_show_their_secrets() -> None:
    assert "s3cret" not in repr(ApiKey("s3cret")) + repr(Signed("k", "s3cret"))


async def test_a_stream_goes_on_where_it_stood_when_the_connection_breaks() -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"id: {len(seen)}\ndata: {{}}\n\n".encode())
        assert request.transport
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_get("/api/v1/stream", answer)
    async with TestServer(app) as server, AsyncClient(str(server.make_url("")), retries=AT_ONCE) as client:
        stream = client.stream(type="any")
        found = [await anext(stream) for _ in range(3)]
        await stream.aclose()  # type: ignore[attr-defined]
    assert [event.id for event in found] == ["1", "2", "3"]
    assert seen[:3] == [None, "1", "2"]


@given(st.integers(1, 10), st.sampled_from([429, 503, 400, 409, 500]), st.booleans(), st.floats(0, 1))
def test_the_wait_grows_and_is_never_longer_than_allowed_or_shorter_than_asked(
    attempt: int, status: int, repeatable: bool, drawn: float
) -> None:
    retries, error = Retries(), ApiError(status, {}, 3.0)
    wait = retries.wait(attempt, error, repeatable=repeatable, drawn=drawn)
    again = repeatable and attempt < retries.attempts and status in {429, 503, 409}
    assert (wait is not None) == again
    if wait is not None:
        assert 3.0 <= wait <= max(3.0, retries.longest)
    assert retries.wait(1, ApiError(503, {}, 3_600.0), repeatable=True, drawn=drawn) is None
    assert retries.wait(1, ApiError(409, {}, None), repeatable=True, drawn=drawn) is None, "a real conflict"


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[1]", b"\xff", b"null"])
def test_an_answer_that_is_no_problem_is_still_an_error_with_its_status(body: bytes) -> None:
    error = refusal(502, {}, body)
    assert (error.status, error.kind, error.errors) == (502, "", [])


def test_events_are_read_as_the_standard_says() -> None:
    lines = [": hello", "id: 7", "event: job", "data: a", "data:b", "", "data: c", "", "event: none", "", "id: 8", ""]
    reader = Reader()
    assert [event for line in lines for event in reader.read(line)] == [
        Event("7", "job", "a\nb"),
        Event("7", "message", "c"),
    ]
    assert reader.last_id == "8"
