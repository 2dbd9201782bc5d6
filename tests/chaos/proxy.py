"""A TCP proxy that breaks the network between workers and one server, in the ways networks break.

Invariant: bytes are never lost, changed or reordered within a connection that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

_CHUNK = 65_536
_HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends a reset


class Link:
    """One connection of a client and the one behind it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.silent = False

    def reset(self) -> None:
        """Break both sides off."""
        for side in (self.client, self.server):
            found: socket.socket | None = side.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it may have been closed by its peer
                if found is not None:
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.transport.abort()

    def half_open(self) -> None:
        """The server's side is gone, and the client is not told."""
        self.silent = True
        self.server.transport.abort()


class Proxy:
    """Listens on ``port`` and passes on to ``target``.

    Attributes:
        flowing: While it is not set nothing passes; connections wait, as while packets are lost.
        delay: Seconds the server's answers take longer.
        links: The connections there are.
    """

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.delay = 0.0

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, _HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Break everything off."""
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Break every connection off; new ones are served."""
        for link in list(self.links):
            link.reset()

    def half_open(self) -> None:
        """Leave every client with a dead connection; new ones are served."""
        for link in list(self.links):
            link.half_open()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except ConnectionError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.flowing.wait()
        answers, server = await asyncio.open_connection(_HOST, self._target)
        link = Link(writer, server)
        self.links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._asked(reader, link))
                group.create_task(self._answered(answers, link))
        except* ConnectionError:
            link.reset()
        finally:
            self.links.discard(link)

    async def _asked(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(_CHUNK):
            await self.flowing.wait()
            if not link.silent:
                link.server.write(data)
                await link.server.drain()
        link.server.close()

    async def _answered(self, reader: asyncio.StreamReader, link: Link) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self.flowing.wait()
                if not data:
                    break
                link.client.write(data)
                await link.client.drain()
            if not link.silent:
                link.client.close()

        delivering = asyncio.create_task(deliver())
        try:
            while data := await reader.read(_CHUNK):
                await waiting.put((loop.time() + self.delay, data))
            await waiting.put((0.0, b""))
            await delivering
        finally:
            delivering.cancel()
