"""What the scenarios are written with: topics filled once, systems run in alternation, each with a fresh group.

Invariant: systems that are compared read the same records, one after the other within a round.
"""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench.broker import drop_topics, family_topics, make_topics
from tests.bench.fill import fill
from tests.bench.launch import run
from tests.bench.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.bench.fill import Filling
    from tests.bench.result import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way to do the work.

    Attributes:
        label: As the tables name it.
        module: Of ``tests.bench.systems``.
        processes: Of one group.
        share: Of the records it reads; less than 1 for what would take too long.
        task: What it is told beside what all are told.
    """

    label: str
    module: str = "keylane"
    processes: int = 1
    share: float = 1.0
    task: Mapping[str, Any] = field(default_factory=dict)


class Bench:
    """The surroundings of all scenarios.

    Args:
        servers: The broker's address.
        peers: The interpreter of the peers' environment.
        rounds: How often each system runs.
        count: Records of a run, where a scenario has no reason to use others.
    """

    def __init__(self, servers: str, peers: Path, *, rounds: int, count: int) -> None:
        self.servers = servers
        self.rounds = rounds
        self.count = count
        self._peers = peers
        self._topics: dict[Filling, str] = {}

    def topic(self, filling: Filling) -> str:
        """A topic that is filled so."""
        if filling not in self._topics:
            name = f"bench-{uuid.uuid4().hex[:6]}"
            self.tell(f"filling a topic with {filling.count:,} records")
            make_topics(self.servers, [name], filling.partitions)
            fill(self.servers, name, filling)
            self._topics[filling] = name
        return self._topics[filling]

    def forget(self) -> None:
        """Delete the topics."""
        drop_topics(self.servers, self._topics.values())
        self._topics.clear()

    def alternate(self, systems: Sequence[System], filling: Filling, **task: Any) -> dict[str, list[Result]]:
        """Run each system once a round; gives the results by label, one per round."""
        topic = self.topic(filling)
        found: dict[str, list[Result]] = {system.label: [] for system in systems}
        for number in range(self.rounds):
            order = systems if number % 2 == 0 else list(reversed(systems))
            for system in order:
                result, _ = self.once(system, topic, filling.partitions, count=filling.count, **task)
                self.tell(f"  {system.label}: {result.line}")
                found[system.label].append(result)
        return found

    def once(
        self,
        system: System,
        topic: str,
        partitions: int,
        *,
        seconds: float | None = None,
        during: Callable[[], None] = lambda: None,
        **task: Any,
    ) -> tuple[Result, int]:
        """Run a system in a fresh group; gives its result and the most memory it had."""
        group = f"g{uuid.uuid4().hex[:6]}"
        told = {**task, **system.task}
        told["count"] = int(told["count"] * system.share)
        ours = system.module == "keylane"
        family = family_topics(topic, group) if ours else []
        make_topics(self.servers, family, partitions)
        command = [sys.executable if ours else self._peers, "-m", f"tests.bench.systems.{system.module}"]
        try:
            asked = Task(servers=self.servers, topic=topic, group=group, result="", **told)
            return run(command, asked, processes=system.processes, seconds=seconds, during=during)
        finally:
            drop_topics(self.servers, family)

    def tell(self, line: str) -> None:
        """How far it is."""
        print(line, file=sys.stderr, flush=True)
