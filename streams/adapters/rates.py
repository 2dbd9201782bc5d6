"""Rates counted in Redis, on its clock, for all processes together.

Requests that come while an answer is awaited share the next call: one script, however many of them there are.
Invariant: what was let in by all processes together is what one of them alone would have let in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING

from streams.adapters.redis import RedisAwayError, transient
from streams.adapters.together import Together
from streams.rates import Left, Taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis.asyncio import Redis

    from streams.rates import Bucket

_SECOND = 1_000_000  # Redis counts in microseconds
_PATIENCE = 0.25  # seconds: a limit must not cost more than what it protects
_MOST = 1_000  # requests of one call

# ARGV: for each group how many want in, and how many of KEYS are its buckets; for each of these interval and burst.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer, key, arg = {}, 1, 1
while arg <= #ARGV do
  local wanted, count = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local taken, full, intervals, bursts = wanted, {}, {}, {}
  for i = 1, count do
    intervals[i], bursts[i] = tonumber(ARGV[arg + 2 * i]), tonumber(ARGV[arg + 2 * i + 1])
    full[i] = math.max(tonumber(redis.call('GET', KEYS[key + i - 1]) or now), now)
    taken = math.min(taken, math.max(0, math.floor(bursts[i] - (full[i] - now) / intervals[i] + 1e-6)))
  end
  answer[#answer + 1] = taken
  for i = 1, count do
    if taken > 0 then
      full[i] = full[i] + taken * intervals[i]
      redis.call('SET', KEYS[key + i - 1], string.format('%.3f', full[i]), 'PX', math.ceil((full[i] - now) / 1000) + 1)
    end
    local places = math.max(0, math.floor(bursts[i] - (full[i] - now) / intervals[i] + 1e-6))
    answer[#answer + 1] = places
    answer[#answer + 1] = math.ceil(full[i] - now)
    answer[#answer + 1] = places > 0 and 0 or math.ceil(full[i] - now - (bursts[i] - 1) * intervals[i])
  end
  key, arg = key + count, arg + 2 + 2 * count
end
return answer
"""


class RedisRates:
    """The ``Rates`` of all processes."""

    def __init__(self, redis: Redis, *, patience: float = _PATIENCE) -> None:
        self._script = redis.register_script(_TAKE)
        self._patience = patience
        self._together = Together(self._ask, most=_MOST)

    async def take(self, buckets: tuple[Bucket, ...]) -> Taken:
        """See ``streams.rates.Rates``.

        Raises:
            RedisAwayError: Redis did not answer in time; the places may be taken.
        """
        return await self._together.ask(buckets)

    async def _ask(self, wanted: Sequence[tuple[Bucket, ...]]) -> list[Taken]:
        groups = Counter(wanted)
        keys = [bucket.key for buckets in groups for bucket in buckets]
        args: list[float] = []
        for buckets, count in groups.items():
            args += [count, len(buckets)]
            for _, rate in buckets:
                args += [rate.interval * _SECOND, rate.burst]
        try:
            async with asyncio.timeout(self._patience):
                with transient():
                    found: list[int] = await self._script(keys=keys, args=args)
        except TimeoutError as error:
            raise RedisAwayError(f"redis did not answer within {self._patience} s; see KEYLANE_REDIS_URL") from error
        answers = _answers(groups, found)
        return [next(answers[buckets]) for buckets in wanted]


def _answers(groups: Iterable[tuple[Bucket, ...]], found: Sequence[int]) -> dict[tuple[Bucket, ...], Iterator[Taken]]:
    """For each group the answers to those of it, in their order: places are given to the first."""
    numbers = iter(found)
    answers: dict[tuple[Bucket, ...], Iterator[Taken]] = {}
    for buckets in groups:
        taken = next(numbers)
        left = tuple(Left(next(numbers), next(numbers) / _SECOND, next(numbers) / _SECOND) for _ in buckets)
        answers[buckets] = chain(repeat(Taken(True, left), taken), repeat(Taken(False, left)))
    return answers
