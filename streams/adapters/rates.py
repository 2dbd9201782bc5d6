"""Rates counted in Redis, on its clock, for all processes together.

Requests that come while an answer is awaited share the next call: one script, however many of them there are.
Invariant: what was let in by all processes together is what one of them alone would have let in.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streams.adapters.redis import RedisAwayError, transient
from streams.rates import Left, Taken

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from streams.rates import Bucket

    Waiting = dict[tuple[Bucket, ...], list[asyncio.Future[Taken]]]

_SECOND = 1_000_000  # Redis counts in microseconds
_PATIENCE = 0.25  # seconds: a limit must not cost more than what it protects

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
        self._waiting: Waiting = {}
        self._calls: asyncio.Task[None] | None = None

    async def take(self, buckets: tuple[Bucket, ...]) -> Taken:
        """See ``streams.rates.Rates``.

        Raises:
            RedisAwayError: Redis did not answer in time; the places may be taken.
        """
        answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(buckets, []).append(answer)
        if self._calls is None:
            self._calls = asyncio.create_task(self._call_on())
        return await answer

    async def _call_on(self) -> None:
        while self._waiting:
            groups, self._waiting = self._waiting, {}
            try:
                _tell(groups, await self._ask(groups))
            except Exception as error:  # noqa: BLE001 - it is for those who wait
                for answer in (each for answers in groups.values() for each in answers):
                    if not answer.done():
                        answer.set_exception(error)
        self._calls = None

    async def _ask(self, groups: Waiting) -> list[int]:
        keys = [bucket.key for buckets in groups for bucket in buckets]
        args: list[float] = []
        for buckets, answers in groups.items():
            args += [len(answers), len(buckets)]
            for _, rate in buckets:
                args += [rate.interval * _SECOND, rate.burst]
        try:
            async with asyncio.timeout(self._patience):
                with transient():
                    found: list[int] = await self._script(keys=keys, args=args)
        except TimeoutError as error:
            raise RedisAwayError(f"redis did not answer within {self._patience} s; see KEYLANE_REDIS_URL") from error
        return found


def _tell(groups: Waiting, found: list[int]) -> None:
    numbers = iter(found)
    for buckets, answers in groups.items():
        taken = next(numbers)
        left = tuple(Left(next(numbers), next(numbers) / _SECOND, next(numbers) / _SECOND) for _ in buckets)
        for place, answer in enumerate(answers):
            if not answer.done():  # its request may have been given up
                answer.set_result(Taken(place < taken, left))
