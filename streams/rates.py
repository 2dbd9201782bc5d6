"""How often something may happen: the generic cell rate algorithm (GCRA), as arithmetic and as a port.

A bucket of ``burst`` places fills with one place every ``seconds / count``. All there is to remember of it is one time:
when it will be full again. ``streams/adapters/rates.py`` does the same arithmetic in Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_SWEEP = 10_000  # buckets after which those that are full again are forgotten


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` in ``seconds``, at most ``burst`` of them at once.

    Raises:
        ValueError: One of them is not positive.
    """

    count: int
    seconds: float
    burst: int

    def __post_init__(self) -> None:
        """Refuse what lets nothing in."""
        if self.count < 1 or self.seconds <= 0 or self.burst < 1:
            raise ValueError(f"a rate needs positive numbers, got {self.count}/{self.seconds}s, burst {self.burst}")

    @property
    def interval(self) -> float:
        """Seconds until one place is free again."""
        return self.seconds / self.count


class Bucket(NamedTuple):
    """What is counted together, by its key."""

    key: str
    rate: Rate


class Left(NamedTuple):
    """What is left in a bucket; ``reset`` seconds until it is full, ``retry_after`` until there is a place (0: now)."""

    remaining: int
    reset: float
    retry_after: float


class Taken(NamedTuple):
    """Whether a place was taken in every bucket (else in none), and what is left in each of them."""

    taken: bool
    left: tuple[Left, ...]


class Rates(Protocol):
    """Counts."""

    async def take(self, buckets: tuple[Bucket, ...]) -> Taken:
        """Take a place in each of the buckets, or in none.

        Raises:
            TransientError: Whoever counts is away; nothing is known of the places.
        """


def free(full_at: float, rate: Rate, now: float) -> int:
    """The places in a bucket that is full at that time."""
    return floor(rate.burst - max(full_at - now, 0.0) / rate.interval + 1e-6)


def left(full_at: float, rate: Rate, now: float) -> Left:
    """What to tell of such a bucket."""
    until_full = max(full_at - now, 0.0)
    places = free(full_at, rate, now)
    wait = 0.0 if places else until_full - (rate.burst - 1) * rate.interval
    return Left(max(places, 0), until_full, wait)


class LocalRates:
    """The ``Rates`` of one process; bounded, since full buckets are forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    async def take(self, buckets: tuple[Bucket, ...]) -> Taken:
        """See ``Rates``."""
        now = self._clock()
        if len(self._full_at) > _SWEEP:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        taken = all(free(self._full_at.get(key, now), rate, now) > 0 for key, rate in buckets)
        if taken:
            for key, rate in buckets:
                self._full_at[key] = max(self._full_at.get(key, now), now) + rate.interval
        return Taken(taken, tuple(left(self._full_at.get(key, now), rate, now) for key, rate in buckets))
