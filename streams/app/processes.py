"""Several processes that do the same work: each is started again when it dies, and all end together.

Between the parent and each child is a pair of sockets: the child says once that it serves, and notices by its end of it
when the parent is gone. Invariant: when :meth:`Processes.run` returns or raises, none of its children lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Sequence

_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a child that keeps dying young is started again
_YOUNG = 10.0  # seconds
_log = structlog.get_logger(__name__)


class StartError(Exception):
    """A process cannot start; what it said itself stands before this in the log."""


class Processes:
    """The parent.

    Args:
        command: Makes the command line of a child from its number and its end of the socket.
        count: How many there are.
        grace: Seconds a child is given to end before it is killed.
        pauses: Seconds before a child that has died is started again, by how often it has died young; one that has not
            once come to serve by then cannot start.
    """

    def __init__(
        self,
        command: Callable[[int, int], Sequence[str]],
        count: int,
        *,
        grace: float,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self._command = command
        self._count = count
        self._grace = grace
        self._pauses = pauses
        self._serving: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep all of them running until told to stop.

        Raises:
            StartError: One cannot start: again and again, or while no other one serves either.
        """
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
        told = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([told, *keepers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (told, *keepers):
                task.cancel()
            ended = await asyncio.gather(*keepers, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _keep(self, number: int) -> None:
        young, failures = 0, 0
        while True:
            started = time.monotonic()
            served, code = await self._life(number)
            young = young + 1 if time.monotonic() - started < _YOUNG else 1
            failures = 0 if served else failures + 1
            if failures > len(self._pauses) or (failures and not self._serving):
                raise StartError(f"process {number} cannot start (exit code {code}): see what it said in the log")
            pause = self._pauses[min(young, len(self._pauses)) - 1]
            _log.error("process died; it is started again", process=number, code=code, served=served, after=pause)
            await asyncio.sleep(pause)

    async def _life(self, number: int) -> tuple[bool, int]:
        """Start a child and wait for its end; whether it came to serve, and its exit code."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            command = self._command(number, theirs.fileno())
            child = await asyncio.create_subprocess_exec(*command, pass_fds=(theirs.fileno(),))
        try:
            served = await _says_it_serves(ours)
            if served:
                self._serving.add(number)
                _log.info("process serves", process=number, pid=child.pid)
            return served, await child.wait()
        finally:
            self._serving.discard(number)
            await self._end(child)
            ours.close()

    async def _end(self, child: Process) -> None:
        if child.returncode is None:
            child.terminate()
            try:
                async with asyncio.timeout(self._grace):
                    await child.wait()
            except TimeoutError:
                _log.warning("process did not end in time and is killed", pid=child.pid)
                child.kill()
                await child.wait()


async def _says_it_serves(ours: socket.socket) -> bool:
    try:
        return bool(await asyncio.get_running_loop().sock_recv(ours, 1))
    except ConnectionError:
        return False


async def follow(link: int, stop: asyncio.Event) -> None:
    """In a child that serves now: tell the parent, and stop once it is gone."""
    loop = asyncio.get_running_loop()
    with socket.socket(fileno=link) as theirs:
        theirs.setblocking(False)
        with contextlib.suppress(ConnectionError):  # as good as an end
            await loop.sock_sendall(theirs, b"1")
            await loop.sock_recv(theirs, 1)
    stop.set()
