"""The stack as a whole: starts what settings do not name, in parallel, or joins what runs already.

    stack = Stack.of(settings)              # or Stack(folder, parts=("kafka", "redis"), asked={"kafka": 9092})
    addresses = stack.start()               # also: await stack.astart() / await stack.astop()
    settings = stack.settings(settings)     # the settings with the addresses of what is embedded filled in
    stack.stop()                            # a stack that was joined goes on: its owner stops it

Invariant: of one data folder at most one stack runs, and none of its servers outlives the owner.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self

from streams.dev import ports, postgres, redis, state
from streams.dev.addresses import Addresses
from streams.dev.errors import CancelledError, PortTakenError, StackError
from streams.dev.kafka import KafkaBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streams.dev.server import Server
    from streams.settings import Settings

PARTS = {"kafka": 9092, "redis": 6379, "postgres": 5432}  # each with its customary port
_NEEDED = 300 * 1024 * 1024  # bytes on the disk of the data folder
_START = 60.0  # seconds
_TRIES = 3  # a free port may be taken between looking and using it


class Stack:
    """The embedded servers of one data folder.

    Args:
        folder: Data, logs, lock and state; relative paths are taken from the working directory.
        parts: Names out of ``PARTS``.
        asked: Ports by name that must be used.
        report: Is told what takes time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        parts: Sequence[str] = tuple(PARTS),
        asked: Mapping[str, int] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder.absolute()
        self._parts = parts
        self._asked = asked or {}
        self._report = report
        self._servers: list[Server] = []
        self._state: state.State | None = None
        self._lock: int | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        asked: Mapping[str, int] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """The stack of what these settings do not name; it may have no parts at all."""
        named = {
            "kafka": settings.kafka_bootstrap_servers,
            "redis": settings.redis_url,
            "postgres": settings.database_url,
        }
        parts = [name for name, address in named.items() if not address]
        return cls(settings.data_dir, parts=parts, asked=asked, report=report)

    @property
    def joined(self) -> bool:
        """Whether the running stack belongs to another process."""
        return self._state is not None and self._lock is None

    @property
    def running(self) -> state.State | None:
        """The owner's process id and the ports while the stack runs."""
        return self._state

    @property
    def addresses(self) -> Addresses:
        """Where the servers answer; all None before the start."""
        listening = self._state.ports if self._state else {}
        return Addresses.of({name: port for name, port in listening.items() if name in self._parts})

    def settings(self, settings: Settings) -> Settings:
        """The settings with the addresses of the embedded servers where they name none of their own."""
        return self.addresses.fill(settings)

    def start(self) -> Addresses:
        """Start the servers, or join the running ones, and return when all of them serve.

        Raises:
            StackError: Something is missing, taken, full or damaged; nothing is left running.
        """
        if not self._parts:
            return Addresses()
        try:
            self._lock = self._own_or_join()
            if self._lock is not None:
                self._start_own(self._lock)
        except OSError as error:
            raise StackError(f"the stack cannot use {self.folder}: {error.strerror or error}") from error
        return self.addresses

    def stop(self) -> None:
        """Stop the servers this process started, all at once, and wait until they are gone."""
        with ThreadPoolExecutor(len(PARTS)) as pool:
            list(pool.map(lambda server: server.stop(), self._servers))
        self._servers = []
        self._state = None
        if self._lock is not None:
            state.clear(self.folder)
            os.close(self._lock)
            self._lock = None

    async def astart(self) -> Addresses:
        """``start`` without blocking the event loop."""
        return await asyncio.to_thread(self.start)

    async def astop(self) -> None:
        """``stop`` without blocking the event loop."""
        await asyncio.to_thread(self.stop)

    def dead(self) -> list[str]:
        """The names of the servers that have ended by themselves."""
        return [server.name for server in self._servers if not server.alive()]

    def _own_or_join(self) -> int | None:
        deadline = time.monotonic() + _START
        while (lock := state.try_lock(self.folder)) is None:
            if self._join():
                return None
            if time.monotonic() > deadline:
                raise StackError(f"another process holds {self.folder} and does not get ready; see its logs folder")
            time.sleep(0.1)  # the owner is starting, or its last servers are ending
        return lock

    def _join(self) -> bool:
        found = state.read(self.folder)
        if found is None or not found.owner_alive() or not all(map(ports.answers, found.ports.values())):
            return False
        missing = [name for name in self._parts if name not in found.ports]
        if missing:
            raise StackError(
                f"the running stack has no {', '.join(missing)}: stop it (keylane dev down) and start again"
            )
        for name, port in self._asked.items():
            if found.ports.get(name) != port:
                raise StackError(f"the running stack has {name} on port {found.ports.get(name)}, not on {port}")
        self._state = found
        return True

    def _start_own(self, lock: int) -> None:
        try:
            state.clear(self.folder)
            self._require_space()
            classpath = _classpath(self._report) if "kafka" in self._parts else []
            chosen = self._start_on_free_ports(classpath, lock)
            self._state = state.State(pid=os.getpid(), ports=chosen)
            state.write(self.folder, self._state)
        except BaseException:
            self.stop()
            raise

    def _start_on_free_ports(self, classpath: Sequence[Path], lock: int) -> dict[str, int]:
        for left in reversed(range(_TRIES)):
            chosen = {name: ports.choose(PARTS[name], self._asked.get(name), name) for name in self._parts}
            try:
                self._start_all(chosen, classpath, lock)
            except PortTakenError:
                if not left:
                    raise
                for server in self._servers:
                    server.stop()
                self._servers = []
            else:
                break
        return chosen

    def _start_all(self, chosen: Mapping[str, int], classpath: Sequence[Path], lock: int) -> None:
        cancelled = threading.Event()
        with ThreadPoolExecutor(len(PARTS)) as pool:
            try:
                starts = [pool.submit(self._start_one, name, chosen, classpath, lock, cancelled) for name in chosen]
                wait(starts, return_when=FIRST_EXCEPTION)
            finally:
                cancelled.set()  # the pool's end waits for the other starts
        errors = [error for start in starts if (error := start.exception())]
        if errors:
            raise next((error for error in errors if not isinstance(error, CancelledError)), errors[0])

    def _start_one(
        self, name: str, chosen: Mapping[str, int], classpath: Sequence[Path], lock: int, cancelled: threading.Event
    ) -> None:
        server = self._prepare(name, chosen[name], classpath)
        if cancelled.is_set():
            raise CancelledError(f"{name}: start given up")
        self._servers.append(server)
        server.start(lock)
        server.wait_ready(_START, cancelled)

    def _prepare(self, name: str, port: int, classpath: Sequence[Path]) -> Server:
        folder, log = self.folder / name, self.folder / "logs" / f"{name}.log"
        if name == "redis":
            return redis.prepare(folder, log, port=port)
        if name == "postgres":
            return postgres.prepare(folder, log, port=port)
        return KafkaBroker(classpath, folder, log, port=port, controller_port=ports.any_free()).prepare()

    def _require_space(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < _NEEDED:
            raise StackError(
                f"the disk is full: {self.folder} has {free >> 20} MB free, the stack needs {_NEEDED >> 20} MB"
            )


def _classpath(report: Callable[[str], None]) -> list[Path]:
    try:
        jars = importlib.import_module("streams.dev.jars")  # needs the dev extra, which a deployment does without
    except ImportError as error:
        raise StackError(f"the embedded Kafka needs {error.name}: install keylane with its 'dev' extra") from error
    found: list[Path] = jars.fetch(jars.cache_dir(), report)
    return found
