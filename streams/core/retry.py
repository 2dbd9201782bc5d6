"""When a failed record is tried again, and where: the policy of a handler and the decision as a value.

Invariant: a decision is a pure function of the policy, the attempts made and one random draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OnDead = Literal["skip", "hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how a handler is tried again.

    Attributes:
        attempts: Runs in all before the record is given up, >= 1.
        in_place: Waits in seconds that are spent in the worker's memory, before any tier; only that key waits.
            They suit waits below about a second: a crash forgets how many of them were used.
        jitter: Share by which an in-place wait is spread, 0 to 1 (a tier's delay is fixed, so that due times ascend).
        final: Exception types that are never retried.
        on_dead: ``skip``: the key goes on behind a dead letter. ``hold``: its later records wait behind it.
    """

    attempts: int = 5
    in_place: tuple[float, ...] = ()
    jitter: float = 0.2
    final: tuple[type[BaseException], ...] = ()
    on_dead: OnDead = "skip"

    def __post_init__(self) -> None:
        """Refuse a policy that cannot be carried out."""
        if self.attempts < 1:
            raise ValueError(f"retry: attempts must be at least 1, got {self.attempts}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"retry: jitter must be between 0 and 1, got {self.jitter}")
        if any(wait < 0 for wait in self.in_place):
            raise ValueError(f"retry: waits must not be negative, got {self.in_place}")


@dataclass(frozen=True, slots=True)
class WaitInPlace:
    """Try again after ``seconds``, without leaving the lane."""

    seconds: float


@dataclass(frozen=True, slots=True)
class MoveOn:
    """Go on to a higher level whose tier waits at least ``at_least`` seconds (0: the next level)."""

    at_least: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """To the dead letters."""


Decision = WaitInPlace | MoveOn | GiveUp

# Above this a wait asked for by a handler is spent in a tier: memory is for short waits.
LONGEST_IN_PLACE = 1.0
# Where a group has no tiers and its policy names no waits.
FALLBACK_WAIT = 1.0


def decide(policy: RetryPolicy, attempts: int, *, tiers: bool, after: float | None, draw: float) -> Decision:
    """What becomes of a record whose attempt number ``attempts`` failed and may be tried again.

    Args:
        policy: The handler's.
        attempts: Runs so far, the failed one included.
        tiers: Whether the group has retry tiers.
        after: Seconds the handler asked to wait, if it did.
        draw: A random number in [0, 1), for the jitter.
    """
    if attempts >= policy.attempts:
        return GiveUp()
    if after is not None and (after <= LONGEST_IN_PLACE or not tiers):
        return WaitInPlace(after)
    if after is not None:
        return MoveOn(after)
    if attempts <= len(policy.in_place):
        return WaitInPlace(_spread(policy.in_place[attempts - 1], policy.jitter, draw))
    if not tiers:
        return WaitInPlace(_spread((FALLBACK_WAIT, *policy.in_place)[-1], policy.jitter, draw))
    return MoveOn()


def _spread(wait: float, jitter: float, draw: float) -> float:
    return wait * (1 + jitter * (2 * draw - 1))
