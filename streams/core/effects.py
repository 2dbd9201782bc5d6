"""What to do with an effect that must happen once: decisions from what the ledger and the provider say.

A run may make its effect only under a token it took in the ledger; taking it fences whoever held it. Invariant: after
a run that may have sent something, nothing is sent again before it is *settled* (whatever it sent would show by now)
and the provider said since that it was not done, or an operator replayed the record after that run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

Answer = Literal["done", "not-done", "unknown"]


class Step(Enum):
    """What a run does next."""

    RUN = auto()  # call the handler
    RECOGNISE = auto()  # done before: the stored result is the result
    REFUSE = auto()  # the key stands for another record
    ASK = auto()  # ask the provider what became of the run before
    WAIT = auto()  # what that run sent may still show; decide when it has settled
    FINISH = auto()  # the provider has it: store that
    GIVE_UP = auto()  # nobody knows; not to be sent again without a human's word


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An effect as it stands in the ledger, its token just taken by us.

    Attributes:
        token: Ours now, unless the effect is finished or another record's. Later ones are greater.
        new: No run came before this one.
        same: It stands for this very record, not for another one that bears its id.
        finished: Its outcome is stored.
        result: JSON text; of a finished one.
        unsettled: Seconds until what an earlier run sent shows at the provider for certain, negative when that is
            past; None when no run can have sent anything.
        replays: How often the record had been replayed when it was last allowed to send.
    """

    token: int
    new: bool
    same: bool
    finished: bool
    result: str | None
    unsettled: float | None
    replays: int


def begun(standing: Standing, *, replays: int, can_ask: bool) -> Step:
    """What a run does that has just taken the token.

    Args:
        standing: As the ledger says.
        replays: How often the record of this run was replayed.
        can_ask: Whether the provider has a look-up.
    """
    if standing.new:
        return Step.RUN
    if not standing.same:
        return Step.REFUSE
    if standing.finished:
        return Step.RECOGNISE
    if standing.unsettled is None:
        return Step.RUN
    return Step.ASK if can_ask else answered(standing, "unknown", replays=replays)


def answered(standing: Standing, answer: Answer, *, replays: int) -> Step:
    """What a run does that has asked the provider (or cannot) about the one before it.

    Args:
        standing: As the ledger said before the question.
        answer: The provider's.
        replays: How often the record of this run was replayed.
    """
    if answer == "done":
        return Step.FINISH
    if standing.unsettled is not None and standing.unsettled > 0:
        return Step.WAIT
    if answer == "not-done" or replays > standing.replays:
        return Step.RUN
    return Step.GIVE_UP
