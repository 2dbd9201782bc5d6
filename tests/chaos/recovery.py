"""How long it takes until work goes on after a fault that no process may need a restart for.

Invariant: the workers of such a run have one life each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.scenario import Outcome

if TYPE_CHECKING:
    from tests.chaos.run import Run

MOST = 30.0  # seconds


class Recovery:
    """Watches one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._took: list[float] = []

    async def watch(self, began: float, *pids: int, fresh: bool = True) -> None:
        """A fault that began then (and hit these workers; all, where none is named) is over: wait for progress."""
        await self.progressed(*pids, fresh=fresh)
        self._run.hit(began, *pids)

    async def progressed(self, *pids: int, fresh: bool = True) -> None:
        """As :meth:`watch`, of a fault that is no reason for anything to run twice."""
        self._took.append(await self._run.progress(*pids, fresh=fresh))

    async def outcome(self, done: str, seen: float) -> Outcome:
        """End the run; see ``Outcome`` for what it is told."""
        await self._run.enough()
        proof = await self._run.finish()
        late = [took for took in self._took if took > MOST]
        problems = [f"{len(late)} times no progress within {MOST:.0f} s"] if late else []
        restarted = [worker.name for worker in self._run.workers if len(worker.pids) > 1]
        problems += [f"restarted: {restarted}"] if restarted else []
        slowest = f"progress again within {max(self._took, default=0.0):.1f} s"
        return Outcome(done, proof, seen, problems, [slowest])
