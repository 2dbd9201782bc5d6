"""What a system under test is asked to do, and how it answers: a task as its argument, counts on its standard output
while it works, a report in a file at the end. It ends when it has done its count, or when its standard input closes.

Invariant: imports nothing of keylane, so that a peer's environment can load it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.meter import Meter
from tests.bench.records import entity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_TELL = 0.1  # seconds between two counts on standard output


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Read ``count`` records of ``topic`` as a member of ``group``.

    Attributes:
        wait: Seconds a handler sleeps on the average; 0 is a no-op.
        concurrency: Handlers at once.
        latencies: Whether to keep the time from publication to the handler.
        aside: Numbers of the keys that are not counted.
        options: What only some systems understand.
    """

    servers: str
    topic: str
    group: str
    count: int
    result: str
    wait: float = 0.0
    concurrency: int = 100
    batch: bool = False
    latencies: bool = False
    aside: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As the argument of a program."""
        return json.dumps(asdict(self))


def pause(wait: float, sequence: int) -> float:
    """Seconds a handler sleeps: of two records of a key that run at the same time, the later one ends first."""
    return wait * (0.5 if sequence % 2 else 1.5)


class Work:
    """The handler's part of a task, the same for every system."""

    def __init__(self, task: Task) -> None:
        self.done = asyncio.Event()
        self.aside = frozenset(entity(number) for number in task.aside)
        self.meter = Meter(task.count, self.done.set, aside=self.aside)
        self.wait = task.wait
        self.latencies = task.latencies

    async def one(self, fields: dict[str, Any]) -> None:
        """Handle a decoded record."""
        if self.latencies:
            self.meter.began(fields["order_id"], fields["sent_us"])
        if self.wait:
            await asyncio.sleep(pause(self.wait, fields["sequence"]))
        self.meter.saw(fields["order_id"], fields["sequence"])

    def many(self, batch: list[dict[str, Any]]) -> None:
        """Handle decoded records without waiting."""
        saw = self.meter.saw
        for fields in batch:
            saw(fields["order_id"], fields["sequence"])

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Tell the parent the count, and end when it closes our standard input."""
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), self.done.set)
        telling = loop.create_task(self._tell())
        try:
            yield
        finally:
            loop.remove_reader(sys.stdin.fileno())
            telling.cancel()

    async def _tell(self) -> None:
        while True:
            print(self.meter.count, flush=True)
            await asyncio.sleep(_TELL)


def task_of_process() -> Task:
    """The task this process was started with."""
    return Task(**json.loads(sys.argv[1]))


def main(program: Callable[[Task, Work], Awaitable[None]], run: Callable[..., Any]) -> None:
    """Run a system's program on this process's task and leave its report; ``run`` is a loop's ``run``."""
    task = task_of_process()

    async def measured() -> dict[str, Any]:
        work = Work(task)
        with work.watched():
            await program(task, work)
        return work.meter.report()

    report(task, run(measured()))


def report(task: Task, found: dict[str, Any]) -> None:
    """Leave a report for the parent."""
    Path(task.result).write_text(json.dumps(found))
