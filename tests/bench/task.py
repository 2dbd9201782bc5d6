"""What a system under test is asked to do, and how it answers: one JSON argument, one JSON file.

Invariant: imports nothing of keylane, so that a peer's environment can load it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Read ``count`` records of ``topic`` as a member of ``group``.

    Attributes:
        wait: Seconds a handler sleeps; 0 is a no-op.
        concurrency: Handlers at once.
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
    options: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As the argument of a program."""
        return json.dumps(asdict(self))


class Work:
    """The handler's part of a task, the same for every system."""

    def __init__(self, task: Task) -> None:
        self.done = asyncio.Event()
        self.meter = Meter(task.count, self.done.set, latencies=task.latencies)
        self.wait = task.wait

    async def one(self, fields: dict[str, Any]) -> None:
        """Handle a decoded record."""
        if self.wait:
            await asyncio.sleep(self.wait)
        self.meter.saw(fields["order_id"], fields["sequence"], fields["sent_us"])


def main(program: Callable[[Task, Work], Awaitable[None]], run: Callable[..., Any]) -> None:
    """Run a system's program on the task in ``sys.argv`` and leave its report; ``run`` is a loop's ``run``."""
    task = Task(**json.loads(sys.argv[1]))

    async def measured() -> dict[str, Any]:
        work = Work(task)
        await program(task, work)
        return work.meter.report()

    report(task, run(measured()))


def report(task: Task, found: dict[str, Any]) -> None:
    """Leave a report for the parent."""
    Path(task.result).write_text(json.dumps(found))
