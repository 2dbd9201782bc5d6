"""What the scenarios are written with: topics filled once, systems run in alternation, each with a fresh group.

Invariant: systems that are compared read the same records, one after the other within a round.
"""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.bench.broker import drop_topics, family_topics, make_topics
from tests.bench.fill import fill
from tests.bench.launch import run
from tests.bench.load import Pacer
from tests.bench.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streams.settings import Settings
    from tests.bench.fill import Filling
    from tests.bench.launch import Run
    from tests.bench.load import Load
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
        settings: With the addresses of the servers.
        peers: The interpreter of the peers' environment.
        rounds: How often each system runs.
        count: Records of a run, where a scenario has no reason to use others.
    """

    def __init__(self, settings: Settings, peers: Path, *, rounds: int, count: int) -> None:
        self.settings = settings
        self.servers = str(settings.kafka_bootstrap_servers)
        self.rounds = rounds
        self.count = count
        self._peers = peers
        self._topics: dict[Filling, str] = {}

    def topic(self, filling: Filling) -> str:
        """A topic that is filled so."""
        if filling not in self._topics:
            self.tell(f"filling a topic with {filling.count:,} records")
            self._topics[filling] = self.fresh_topic(filling.partitions)
            fill(self.servers, self._topics[filling], filling)
        return self._topics[filling]

    def forget(self) -> None:
        """Delete the topics."""
        drop_topics(self.servers, self._topics.values())
        self._topics.clear()

    def alternate(self, systems: Sequence[System], filling: Filling, **task: Any) -> dict[str, list[Result]]:
        """Run each system once a round; gives the results by label, one per round."""
        topic = self.topic(filling)

        def run_one(system: System) -> Result:
            return self.once(system, topic, filling.partitions, **{"count": filling.count, **task}).result

        return self.rounded({system.label: partial(run_one, system) for system in systems})

    def rounded(self, runs: Mapping[str, Callable[[], Result]]) -> dict[str, list[Result]]:
        """Make each run once a round, there and back again; gives the results by label, one per round."""
        found: dict[str, list[Result]] = {label: [] for label in runs}
        for number in range(self.rounds):
            for label in runs if number % 2 == 0 else reversed(list(runs)):
                found[label].append(runs[label]())
                self.tell(f"  {label}: {found[label][-1].line}")
        return found

    def paced(self, system: System, load: Load, **task: Any) -> Result:
        """Run a system on a load that is published meanwhile."""
        topic = self.fresh_topic(load.partitions)
        pacer = Pacer(self.servers, topic, load)
        told = {"count": load.counted(task.get("aside", ())), "latencies": True, **task}
        try:
            return self.once(system, topic, load.partitions, started=pacer.start, first=pacer.go, **told).result
        finally:
            pacer.stop()
            drop_topics(self.servers, [topic])

    def fresh_topic(self, partitions: int = 8) -> str:
        """An empty topic; the caller deletes it."""
        name = f"bench-{uuid.uuid4().hex[:6]}"
        make_topics(self.servers, [name], partitions)
        return name

    def once(self, system: System, topic: str, partitions: int, **more: Any) -> Run:
        """As :meth:`run_as`, in a fresh group with topics of its own."""
        group = f"g{uuid.uuid4().hex[:6]}"
        family = family_topics(topic, group) if system.module == "keylane" else []
        make_topics(self.servers, family, partitions)
        try:
            return self.run_as(system, topic, group, **more)
        finally:
            drop_topics(self.servers, family)

    def run_as(
        self,
        system: System,
        topic: str,
        group: str,
        *,
        seconds: float | None = None,
        started: Callable[[], object] = lambda: None,
        first: Callable[[], object] = lambda: None,
        **task: Any,
    ) -> Run:
        """Run a system in a group.

        Args:
            system: Which.
            topic: What it reads.
            group: As what it reads.
            seconds: As for ``launch.run``, as are ``started`` and ``first``.
            started: See there.
            first: See there.
            task: Further fields of its task, ``count`` at least; those of the system go before them.
        """
        told = {**task, **system.task}
        told["count"] = int(told["count"] * system.share)
        asked = Task(servers=self.servers, topic=topic, group=group, result="", **told)
        python = sys.executable if system.module == "keylane" else self._peers
        command = [python, "-m", f"tests.bench.systems.{system.module}"]
        return run(command, asked, processes=system.processes, seconds=seconds, started=started, first=first)

    def tell(self, line: str) -> None:
        """How far it is."""
        print(line, file=sys.stderr, flush=True)
