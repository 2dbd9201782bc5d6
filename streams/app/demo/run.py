"""Plays the demonstration from the first record to the proof.

Invariant: it waits for what must happen, with a deadline, and says what is missing when the deadline passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

from rich.live import Live

from streams.app.demo.faults import Faults, SampleFaultError, number_of
from streams.app.demo.ledger import Ledger
from streams.app.demo.load import Load
from streams.app.demo.proof import expected, prove
from streams.app.demo.screen import Screen, proof_table
from streams.app.worker import worker
from streams.core.headers import dlt_topic
from streams.deadletters.entry import Filters, families
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.deadletters.writing import Clock
from streams.event import from_headers
from streams.groups import CatalogueError
from streams.history import GROUP as HISTORY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rich.console import Console

    from streams.app.connections import Connections
    from streams.app.demo.load import Published
    from streams.app.demo.proof import GroupProof
    from streams.app.worker import Worker
    from streams.job import Group
    from streams.ports import Record, TopicPartition
    from streams.settings import Settings

_REFRESH = 0.5  # seconds
_PATIENCE = 120.0  # seconds until what has not happened is called lost


class Demo:
    """One run.

    Args:
        gateway: Its URL.
        records: Size of the sample load.
    """

    def __init__(self, settings: Settings, console: Console, gateway: str, records: int) -> None:
        self._settings = settings
        self._console = console
        self._gateway = gateway
        self._records = records
        self._run = f"sample-{uuid.uuid4().hex[:8]}"
        self._began = int(time.time() * 1000)
        self._ledger = Ledger()
        self._faults = Faults(self._run, self._ledger)

    async def play(self, *, stay: bool) -> bool:
        """Send the load, wait, replay, prove; whether the proof holds.

        Args:
            stay: Keep the system up after the proof, until cancelled.
        """
        async with worker(self._settings, adapt=self._faults.adapt) as (made, running):
            await self._ready(made, running)
            self._say("the worker has taken over its partitions")
            rows = await self._prove(made, Load(self._run, made.connections, self._gateway))
            self._console.print(proof_table(rows))
            if stay:
                self._console.print("the system stays up; Ctrl-C ends it")
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(running)
            return all(row.holds and row.done + row.dead == row.expected for row in rows)

    async def _ready(self, made: Worker, running: asyncio.Future[None]) -> None:
        await _first(asyncio.gather(*(engine.ready.wait() for engine in made.engines.values())), running)

    async def _prove(self, made: Worker, load: Load) -> list[GroupProof]:
        samples = made.connections.catalogue.sample_load
        if samples is None:
            raise CatalogueError(f"{self._settings.catalogue} declares no sample_load: a demonstration needs one")
        groups = [group for group in made.groups if group.name != HISTORY]
        screen = Screen(made.engines, {group.name: group.source for group in groups}, self._ledger)
        watch = Watch(self._run, made, groups, self._ledger, load.published, screen)
        with Live(console=self._console, refresh_per_second=4) as live:
            sending = asyncio.create_task(load.send(samples(time.time_ns(), self._records)))
            await watch.until(lambda: sending.done() and watch.settled(), live)
            await sending
            self._say(
                f"{self._records} records of three tenants ({load.published.over_http} over HTTP) are done or dead"
            )
            self._faults.repaired = True
            replayed = await self._replay(made.connections, groups)
            await watch.until(lambda: watch.finished(replayed), live)
        self._say(f"{sum(map(len, replayed.values()))} dead letters are replayed after the repair")
        return prove(groups, load.published, self._ledger, watch.dead, replayed)

    def _say(self, text: str) -> None:
        self._console.print(f"{time.time() - self._began / 1000:5.1f} s  {text}")

    async def _replay(self, found: Connections, groups: Sequence[Group]) -> dict[str, set[str]]:
        """Replay what failed on purpose; the ids, by group."""
        letters = DeadLetters(found.reader, families(groups), max_replays=self._settings.max_replays)
        clock = Clock(time.time, time.monotonic, asyncio.sleep)
        operations = Operations(letters, found.publisher, clock, by="demo")
        name = f"{SampleFaultError.__module__}.{SampleFaultError.__qualname__}"
        filters = Filters(exception=name, since=self._began)
        replayed = await self._failed_ids(letters, filters)
        draft = await operations.draft("replay", filters)
        operation = await operations.start(draft, f"demo-{self._run}", reason="the fault is repaired")
        await operations.run(operation)
        return replayed

    async def _failed_ids(self, letters: DeadLetters, filters: Filters) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        async for entry in letters.entries(filters, await letters.ledger()):
            event_id = _id_of(entry.record)
            if number_of(self._run, event_id) is not None:
                found.setdefault(entry.family.group, set()).add(event_id)
        return found


class Watch:
    """Knows when every record of the load has come to its end, and redraws meanwhile."""

    def __init__(
        self, run: str, made: Worker, groups: Sequence[Group], ledger: Ledger, published: Published, screen: Screen
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._made = made
        self._groups = groups
        self._published = published
        self._screen = screen
        self.dead: dict[str, set[str]] = {group.name: set() for group in groups}
        self._dlts = {dlt_topic(group.source, group.name): group.name for group in groups}
        self._read: dict[TopicPartition, int] = {}

    async def until(self, happened: Callable[[], bool], live: Live) -> None:
        """Draw until it happened or ``_PATIENCE`` is over."""
        with contextlib.suppress(TimeoutError):  # what is missing then shows in the proof
            async with asyncio.timeout(_PATIENCE):
                while True:
                    await self._read_dead_letters()
                    live.update(self._screen.live({name: len(ids) for name, ids in self.dead.items()}))
                    if happened():
                        return
                    await asyncio.sleep(_REFRESH)

    def settled(self) -> bool:
        """Every record is done or dead."""
        return all(
            expected(group, self._published) <= self._done(group) | self.dead[group.name] for group in self._groups
        )

    def finished(self, replayed: dict[str, set[str]]) -> bool:
        """What was replayed is done as well."""
        return all(replayed.get(group.name, set()) <= self._done(group) for group in self._groups)

    def _done(self, group: Group) -> set[str]:
        return set(self._ledger.groups[group.name].counts)

    async def _read_dead_letters(self) -> None:
        reader = self._made.connections.reader
        ends = await reader.ends(list(self._dlts))
        async for records in reader.read(self._read, ends):
            for record in records:
                if number_of(self._run, event_id := _id_of(record)) is not None:
                    self.dead[self._dlts[record.topic]].add(event_id)
        self._read = ends


async def _first(wait: Awaitable[Any], running: asyncio.Future[None]) -> None:
    """Wait, but no longer than the engines run; their error is raised."""
    waiting = asyncio.ensure_future(wait)
    await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        waiting.cancel()
        await running


def _id_of(record: Record) -> str:
    return from_headers(record.headers).get("id", "")
