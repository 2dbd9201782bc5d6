"""Requests with an Idempotency-Key in Redis: the ``Requests`` port of the gateway.

A key's hash holds the request's fingerprint, who carries it out, and in the end its answer. Steps that come while an
answer is awaited share the next call: one script, however many of them there are. Invariant: of any number of requests
with one key and fingerprint one is ``NEW`` at a time; the mark of a gateway that died ends by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from streams.adapters.redis import RedisAwayError, transient
from streams.adapters.together import Together
from streams.ports import Found, RequestState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

_STATISTICS = "keylane:idempotency:statistics"
_PATIENCE = 1.0  # seconds; then the request goes on without
_MOST = 200  # steps of one call

# KEYS: the statistics, then each step's request. ARGV, for each: its name, fingerprint, owner, milliseconds, answer.
_STEPS = """
local function begin(key, fingerprint, owner, ms)
  local known = redis.call('HMGET', key, 'fingerprint', 'owner', 'answer')
  local state, answer, left = 'new', '', 0
  if not known[1] then
    redis.call('HSET', key, 'fingerprint', fingerprint, 'owner', owner)
    redis.call('PEXPIRE', key, ms)
  elseif known[1] ~= fingerprint then
    state = 'reused'
  elseif known[3] then
    state, answer = 'replayed', known[3]
  elseif known[2] == owner then
    return {'new', '', 0}
  else
    state, left = 'in-flight', redis.call('PTTL', key)
  end
  redis.call('HINCRBY', KEYS[1], state, 1)
  return {state, answer, left}
end

local function finish(key, fingerprint, owner, ms, answer)
  local known = redis.call('HGET', key, 'owner')
  if not known or known == owner then
    redis.call('HSET', key, 'fingerprint', fingerprint, 'owner', owner, 'answer', answer)
    redis.call('PEXPIRE', key, ms)
  end
end

local function release(key, owner)
  local known = redis.call('HMGET', key, 'owner', 'answer')
  if known[1] == owner and not known[2] then
    redis.call('HINCRBY', KEYS[1], 'released', 1)
    redis.call('DEL', key)
  end
end

local found = {}
for i = 2, #KEYS do
  local at = 5 * (i - 2)
  local step, fingerprint, owner, ms = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local answer = {'new', '', 0}
  if step == 'begin' then
    answer = begin(KEYS[i], fingerprint, owner, ms)
  elseif step == 'finish' then
    finish(KEYS[i], fingerprint, owner, ms, ARGV[at + 5])
  else
    release(KEYS[i], owner)
  end
  found[#found + 1] = answer
end
return found
"""


class _Step(NamedTuple):
    name: str
    key: str
    fingerprint: str
    owner: str
    seconds: float
    answer: str


class RedisRequests:
    """The ``Requests`` port; its errors are ``RedisAwayError``."""

    def __init__(self, redis: Redis, *, patience: float = _PATIENCE) -> None:
        self._redis = redis
        self._patience = patience
        self._script = redis.register_script(_STEPS)
        self._together = Together(self._call, most=_MOST)

    async def begin(self, key: str, fingerprint: str, owner: str, seconds: float) -> Found:
        """See the port."""
        return await self._step("begin", key, fingerprint, owner, seconds)

    async def finish(self, key: str, fingerprint: str, owner: str, answer: str, seconds: float) -> None:
        """See the port."""
        await self._step("finish", key, fingerprint, owner, seconds, answer)

    async def release(self, key: str, owner: str) -> None:
        """See the port."""
        await self._step("release", key, "", owner, 0)

    async def statistics(self) -> dict[str, int]:
        """See the port."""
        with transient():
            found = await self._redis.hgetall(_STATISTICS)
        return {str(name): int(count) for name, count in found.items()}

    async def _step(self, name: str, key: str, fingerprint: str, owner: str, seconds: float, answer: str = "") -> Found:
        return await self._together.ask(_Step(name, key, fingerprint, owner, seconds, answer))

    async def _call(self, steps: Sequence[_Step]) -> list[Found]:
        args: list[str | int] = []
        for name, _, fingerprint, owner, seconds, answer in steps:
            args += [name, fingerprint, owner, round(seconds * 1000), answer]
        keys = [_STATISTICS, *(f"keylane:request:{step.key}" for step in steps)]
        try:
            async with asyncio.timeout(self._patience):
                with transient():
                    found = await self._script(keys=keys, args=args)
        except TimeoutError as error:
            raise RedisAwayError(f"redis did not answer within {self._patience} s; see KEYLANE_REDIS_URL") from error
        return [Found(RequestState(state), answer, int(left) / 1000) for state, answer, left in found]
