"""Child processes that a fault may hit: plain ones of ours, and the real process behind a server's guard.

Invariant: no child outlives this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.dev.server import Server

ROOT = Path(__file__).parents[2]
KEYLANE = (sys.executable, "-c", "from streams.cli import main; main()")
_PR_SET_PDEATHSIG = 1
_START = 60.0  # seconds


class Child:
    """One of our own programs; it can be started again after its end.

    Args:
        log: Its output, of all its lives.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.pids: list[int] = []

    def start(self) -> None:
        """Begin a new life."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.log.parent,  # the working directory comes first among the places of packages
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads are needed where children are started
            )
        self.pids.append(self._process.pid)

    @property
    def pid(self) -> int:
        """Of the present life, or the last one."""
        return self.pids[-1]

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def status(self) -> str:
        """As the operating system tells it, see psutil."""
        return psutil.Process(self.pid).status()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does, and wait until it is gone; nothing happens where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def ended(self, within: float) -> int:
        """Wait for its end; its exit code.

        Raises:
            TimeoutError: It goes on.
        """
        assert self._process is not None
        async with asyncio.timeout(within):
            while (code := self._process.poll()) is None:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)
        return code

    async def said(self, words: bytes) -> None:
        """Wait until its log holds these words.

        Raises:
            AssertionError: It ended before.
        """
        async with asyncio.timeout(_START):
            while words not in self.log.read_bytes():
                assert self.alive(), f"{self._command[-1]} ended by itself: see {self.log}"
                await asyncio.sleep(0.02)


async def started(server: Server) -> None:
    """Start a server of the embedded stack and wait until it serves."""
    server.start()
    await asyncio.to_thread(server.wait_ready, _START, threading.Event())


def behind_guard(server: Server) -> psutil.Process:
    """The server's own process, whose parent is the guard."""
    assert server._process is not None
    (child,) = psutil.Process(server._process.pid).children()
    return child


def kill(server: Server) -> None:
    """``kill -9``, and wait until the process and its guard are gone."""
    behind_guard(server).kill()
    assert server._process is not None
    server._process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
