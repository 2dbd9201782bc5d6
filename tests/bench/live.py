"""``python -m tests.bench.live``: the memory of a gateway with thousands of idle listeners, and one step told to all.

The gateway runs in a process of its own, on stand-ins for its servers: what is measured are its lines. Half of the
listeners are streams, half WebSockets.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from typing import TYPE_CHECKING

import uvloop
from aiohttp import ClientSession

from streams.dev import ports
from streams.gateway.app import HEALTH
from streams.gateway.serving import Runner
from tests.unit.test_live_feed import Live, status

if TYPE_CHECKING:
    from aiohttp import web

_SOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
_MEBIBYTE = 1 << 20


async def serve(port: int) -> None:
    """The gateway; a line on standard input makes a step of a job happen."""
    from aiohttp import web  # noqa: PLC0415 - the parent needs no server

    live = Live()
    app: web.Application = live.app()
    runner = Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4_096).start()
    app[HEALTH].started = True
    while await asyncio.to_thread(sys.stdin.readline):
        gc.collect()
        await live.happens(status(tenant="steppe"))
    await runner.cleanup()


class Listener(asyncio.Protocol):
    """One client: no more than a socket that counts what it is told."""

    def __init__(self, path: str, headers: str) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()
        self.began = asyncio.Event()
        self.told = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP is a stream
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if b"job-status:0" in data:
            self.began.set()
        if b"completed" in data:
            self.told.set()


async def resident(port: int) -> int:
    """What the gateway says of its memory."""
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health") as response:
        return int(json.loads(await response.text())["memory"]["resident_bytes"])


async def measure(listeners: int) -> None:
    """Start it, listen, and tell."""
    port = ports.any_free()
    command = [sys.executable, "-m", "tests.bench.live", "--serve", str(port)]
    child = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-3)
    assert child.stdin is not None
    loop = asyncio.get_running_loop()
    while True:
        try:
            before = await resident(port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            break
    found = []
    for number in range(listeners):
        # All of one tenant, so that one step is everybody's.
        path, headers = ("/api/v1/ws", _SOCKET) if number % 2 else ("/api/v1/stream", "")
        _, listener = await loop.create_connection(lambda p=path, h=headers: Listener(p, h), "127.0.0.1", port)  # type: ignore[misc]
        found.append(listener)
        if number % 200 == 0:
            await asyncio.gather(*(each.began.wait() for each in found))
    await asyncio.gather(*(each.began.wait() for each in found))
    idle = await resident(port)
    started = time.perf_counter()
    child.stdin.write(b"\n")
    await asyncio.gather(*(each.told.wait() for each in found))
    took, after = time.perf_counter() - started, await resident(port)
    child.stdin.close()
    child.kill()
    await child.wait()
    print(f"without listeners      {before / _MEBIBYTE:6.0f} MiB")
    print(
        f"{listeners} idle listeners    {idle / _MEBIBYTE:6.0f} MiB, {(idle - before) / listeners / 1024:.1f} KiB each"
    )
    print(f"one step told to all   {after / _MEBIBYTE:6.0f} MiB, {took:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("--listeners", type=int, default=5_000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.serve) if arguments.serve else measure(arguments.listeners))
