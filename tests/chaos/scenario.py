"""What a scenario is, and what comes out of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.chaos.proof import Proof
    from tests.chaos.run import Size
    from tests.chaos.stage import Stage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, and what came of it.

    Attributes:
        done: The fault and how often, in a few words.
        proof: The jobs' figures.
        seen: How often the fault was seen to hit, by what it leaves behind.
        problems: Promises of this scenario alone that were broken, one sentence each.
        notes: Figures worth reading.
    """

    done: str
    proof: Proof
    seen: float
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()

    def with_(self, problems: Sequence[str], notes: Sequence[str]) -> Outcome:
        """With these further problems and notes."""
        return replace(self, problems=[*self.problems, *problems], notes=[*self.notes, *notes])

    @property
    def findings(self) -> list[str]:
        """Everything that was broken."""
        idle = [] if self.seen else ["the fault was never seen to hit"]
        return [*self.proof.findings, *idle, *self.problems]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of fault.

    Attributes:
        long: Of ``make chaos``.
        short: Of ``make test``.
        play: Does it; both forms run the same code.
        breaks_broker: No other run can share the broker with it.
    """

    name: str
    play: Callable[[Stage, Size], Awaitable[Outcome]]
    long: Size
    short: Size
    brokers: int = 1
    breaks_broker: bool = False
