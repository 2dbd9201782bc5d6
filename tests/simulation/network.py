"""The wire between one process and the broker: requests arrive late, answers later, some never.

What was sent arrives even if its sender is paused, has given up, or is dead: that makes the late writes of zombies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.loop import StepLoop
    from tests.simulation.world import World

PATIENCE = 2.0  # seconds until a client gives up


class Wire:
    def __init__(self, world: World, loop: StepLoop) -> None:
        self.world = world
        self.loop = loop
        self.cut = False
        self._last = 0.0

    async def ask(self, kind: str, action: Callable[[], Any]) -> Any:
        """The broker's answer to a request; ``kind`` names its faults."""
        faults, answer = self.world.faults, self.loop.create_future()
        lost = faults.strikes(f"{kind}-lost", 0.01)
        silent = faults.strikes(f"{kind}-unanswered", 0.01)
        late = self.world.random.uniform(0.5, 12.0) if faults.strikes(f"{kind}-late", 0.01) else 0.0
        if not lost:
            self._send(late, action, None if silent else answer)
        timer = self.loop.call_later(PATIENCE, _give_up, answer, kind)
        try:
            return await answer
        finally:
            timer.cancel()

    def tell(self, action: Callable[[], Any]) -> None:
        """A request nobody waits for."""
        self._send(0.0, action, None)

    def _send(self, late: float, action: Callable[[], Any], answer: Any) -> None:
        # One connection: what was sent first arrives first.
        self._last = max(self._last, self.world.now + late + self.world.latency())
        self.world.later(self._last, self._arrive, action, answer)

    def _arrive(self, action: Callable[[], Any], answer: Any) -> None:
        if self.cut and self.world.random.random() < 0.3:
            return  # it had not left the dead process
        try:
            found, error = action(), None
        except Exception as refusal:  # noqa: BLE001 - an answer as any other
            found, error = None, refusal
        if answer is not None:
            self.world.later(self.world.now + self.world.latency(), self._return, answer, found, error)

    def answering(self, answer: Any) -> Callable[[Any], None]:
        """What the broker calls to answer a request it has kept."""
        return lambda found: self.world.later(self.world.now + self.world.latency(), self._return, answer, found, None)

    def hand(self, receiver: Callable[[Any], None], found: Any) -> None:
        """Give a process what it fetched."""
        if not self.cut:
            self.loop.call_soon(receiver, found)

    def _return(self, answer: Any, found: Any, error: Exception | None) -> None:
        if self.cut or answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)


def _give_up(answer: Any, kind: str) -> None:
    if not answer.done():
        answer.set_exception(TransientError(f"{kind}: no answer in time"))
