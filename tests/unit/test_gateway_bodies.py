"""Bodies from slow, broken and greedy clients."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import cramjam
import pytest
from aiohttp import ClientSession, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from streams.door import ProblemError
from streams.gateway import body
from streams.gateway.serving import Runner
from tests.eventually import eventually
from tests.gateway_doubles import JOB, Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HEAD = b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("zstd", lambda body: bytes(cramjam.zstd.compress(body))),
        ("identity", bytes),
    ],
)
async def test_packed_bodies_are_unpacked(bench: Bench, coding: str, pack: Callable[[bytes], bytes]) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs", data=pack(json.dumps(JOB).encode()), headers=headers)

    assert response.status == 202


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_bomb_costs_no_more_than_the_cap(bench: Bench, coding: str) -> None:
    size = 500_000_000
    bomb = zeros(size) if coding == "gzip" else bytes(cramjam.zstd.compress(bytes(size)))
    assert len(bomb) < 600_000
    bench.changes = {"max_body_bytes": 1_000_000}
    async with bench.client() as client:
        before = peak()
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        response = await client.post("/api/v1/jobs", data=bomb, headers=headers)

    assert response.status == 413
    assert peak() - before < 50_000_000


def zeros(size: int) -> bytes:
    part = gzip.compress(bytes(size // 50))
    return part * 50


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_a_client_that_sends_too_slowly_is_given_up(bench: Bench) -> None:
    bench.changes = {"body_patience": 0.3}
    async with bench.client() as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.05)
        writer.close()
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202


async def test_headers_that_come_too_slowly_end_the_connection_and_an_idle_one_stays(bench: Bench) -> None:
    bench.changes = {"body_patience": 0.3}
    whole = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    async with bench.client() as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        for _ in range(2):
            for part in (whole[:9], whole[9:]):
                writer.write(part)
                await writer.drain()
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            idle = asyncio.create_task(reader.read())
            _, waiting = await asyncio.wait([idle], timeout=0.6)
            assert waiting, "a connection that is kept for the next request was closed"
            idle.cancel()
            await asyncio.gather(idle, return_exceptions=True)
        writer.write(whole[:-2] + b"X-Slow: ")
        end = asyncio.create_task(reader.read())
        while not end.done():
            writer.write(b"x")
            await asyncio.wait([end], timeout=0.05)
        writer.close()
        assert await end == b""
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"])
async def test_a_client_that_breaks_off_leaves_nothing_behind(bench: Bench, framing: bytes, capsys: Any) -> None:
    async with served(bench) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + framing + b'{"ty')
        await writer.drain()
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/health/live")).status == 200  # what was sent before has been read
            writer.close()

            async def told() -> bool:
                return b'keylane_refused_total{problem="malformed-body"} 1.0' in bench.metrics.text()

            await eventually(told)
            assert (await client.post("/api/v1/jobs", json=JOB)).status == 202
    assert "request failed" not in capsys.readouterr().out
    assert len(bench.log.of("jobs.emails")) == 1


@asynccontextmanager
async def served(bench: Bench) -> AsyncIterator[int]:
    """The gateway as it is served: the tests' own server would end the handlers of clients that leave."""
    runner = Runner(bench.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/v1/jobs?x=" + b"s3cret" * 2_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nAuthorization: Bearer s3cret\x00\r\n\r\n",
        b"GET /health HTTP/1.1\r\nX-Long: " + b"s3cret" * 2_000 + b"\r\n\r\n",
        b"\x16\x03\x01s3cret\r\n\r\n",
    ],
    ids=["a line too long", "a header that is none", "a header too long", "no HTTP"],
)
async def test_what_is_no_request_is_a_problem_that_repeats_nothing(bench: Bench, sent: bytes, caplog: Any) -> None:
    with capture_logs() as logs:
        async with bench.client() as client:
            reader, writer = await asyncio.open_connection(client.host, client.port)
            writer.write(sent)
            head, _, said = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
    problem = json.loads(said)
    assert b" 400 " in head.splitlines()[0]
    assert (problem["title"], problem["status"]) == ("Bad Request", 400)
    for header in (b"Content-Type: application/problem+json", b"X-Content-Type-Options: nosniff", b"X-Request-Id: "):
        assert header in head
    (line,) = [line for line in logs if line["event"] == "no request"]
    assert line["request_id"] == problem["request_id"]
    assert "s3cret" not in f"{said!r}{head!r}{logs}{caplog.text}"


async def test_a_chunk_that_is_none_is_no_error_of_ours(bench: Bench) -> None:
    async with bench.client() as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        answer = await reader.read(12)
        writer.close()

    assert answer.endswith(b" 400")


async def test_a_connection_that_broke_behind_a_whole_body_is_no_error_of_ours() -> None:
    payload = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
    payload.feed_data(b"{}")
    payload.feed_eof()
    payload.set_exception(ConnectionResetError("Connection lost"))
    with pytest.raises(ProblemError, match="ended before its end"):
        await body.raw(make_mocked_request("POST", "/api/v1/jobs", payload=payload))
