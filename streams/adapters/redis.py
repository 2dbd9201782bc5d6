"""Redis: the connection, and the atomic steps (Lua, on the server's clock) that limits, marks and locks are made of.

Invariant: every step can be repeated by its owner without a further effect, so the client may retry it. Redis is never
the authority for an effect: without it work is slower or stricter. One primary is meant, not cluster mode.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

_LOG = structlog.get_logger(__name__)

_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member, limit, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if KEYS[2] then
  local owner = redis.call('GET', KEYS[2])
  if owner and owner ~= ARGV[4] then return {'duplicate', 0} end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if not redis.call('ZSCORE', KEYS[1], member) and redis.call('ZCARD', KEYS[1]) >= limit then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  return {'full', (oldest or now) + window - now}
end
redis.call('ZADD', KEYS[1], now, member)
redis.call('PEXPIRE', KEYS[1], window)
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5]) end
return {'taken', 0}
"""

_KEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_GIVE_BACK = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
"""

_CLAIM = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 'done' end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 'busy' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'mine'
"""

_FINISH = """
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisAwayError(TransientError):
    """Redis did not answer, or does not take writes just now."""


class RedisFacts(NamedTuple):
    """The server's version, its memory limit in bytes (0 for none), and what it does at the limit."""

    version: str
    maxmemory: int
    policy: str


async def facts(redis: Redis) -> RedisFacts:
    """Look at the server.

    Raises:
        TransientError: Redis did not answer.
    """
    with transient():
        server, memory = await redis.info("server"), await redis.info("memory")
    return RedisFacts(server["redis_version"], int(memory["maxmemory"]), memory["maxmemory_policy"])


async def now(redis: Redis) -> float:
    """The server's clock, seconds since the epoch.

    Raises:
        TransientError: Redis did not answer.
    """
    with transient():
        seconds, microseconds = await redis.time()
    return float(seconds) + float(microseconds) / 1e6


@contextmanager
def transient() -> Iterator[None]:
    """Turn the client's errors about an absent server into ``RedisAwayError``."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError) as error:
        raise RedisAwayError(f"redis is away ({type(error).__name__}: {error}); see KEYLANE_REDIS_URL") from error


def connect(url: str, *, cafile: Path | None = None, timeout: float = 2.0, connections: int = 64) -> Redis:
    """A client with its own pool; it connects on first use.

    Args:
        url: ``redis://``, ``rediss://`` (TLS, the server's certificate is verified) or ``unix://``.
        cafile: The authority that signed the server's certificate, where it is not one the system trusts.
        timeout: Seconds for connecting, for each answer, and for waiting for a free connection.
        connections: At most so many at once.
    """
    tls = {"ssl_ca_certs": str(cafile)} if cafile and url.startswith("rediss://") else {}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=2),
        decode_responses=True,
        **tls,
    )
    pool.connection_class = _heeding(pool.connection_class)
    return Redis.from_pool(pool)


def _heeding(base: Any) -> Any:
    """The connection class, with uvloop's word for a transport the server has closed made one that is retried."""

    class Heeding(base):  # type: ignore[misc]  # TCP, TLS or a Unix socket, as the URL says
        async def _send_packed_command(self, command: Iterable[bytes]) -> None:
            try:
                await super()._send_packed_command(command)
            except RuntimeError as error:
                if self._writer is None or not self._writer.transport.is_closing():
                    raise
                raise ConnectionResetError(f"the transport is closed: {error}") from error

    return Heeding


class Verdict(StrEnum):
    """What a limiter says."""

    TAKEN = "taken"
    FULL = "full"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Admission:
    """A limiter's answer; ``retry_after`` is the seconds until a place is free, 0 where that is not the matter."""

    verdict: Verdict
    retry_after: float = 0.0


class SlidingWindow:
    """At most ``limit`` members per subject within any ``seconds``; a member that comes again counts once."""

    def __init__(self, redis: Redis, *, name: str, limit: int, seconds: float) -> None:
        self._name = name
        self._limit = limit
        self._window = round(seconds * 1000)
        self._take = redis.register_script(_TAKE)
        self._keep = redis.register_script(_KEEP)
        self._give_back = redis.register_script(_GIVE_BACK)

    async def take(self, subject: str, member: str) -> Admission:
        """Count ``member`` from now on: ``TAKEN``, or ``FULL`` and nothing is counted.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        return await self._run([self._places(subject)], [member, self._limit, self._window])

    async def reserve(self, subject: str, member: str, *, token: str, seconds: float) -> Admission:
        """As ``take``, and mark the member as known for ``seconds``, in one step.

        A member that another ``token`` has marked, for whatever subject, is a ``DUPLICATE`` and is not counted.
        Reserve for as long as the work at hand may take, then ``keep`` or ``give_back``: the mark of a process that
        died in between ends by itself.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        keys = [self._places(subject), self._mark(member)]
        return await self._run(keys, [member, self._limit, self._window, token, round(seconds * 1000)])

    async def keep(self, member: str, *, token: str, seconds: float) -> None:
        """Keep the mark of ``reserve`` for ``seconds`` from now, if it was made with this token.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        with transient():
            await self._keep(keys=[self._mark(member)], args=[token, round(seconds * 1000)])

    async def give_back(self, subject: str, member: str, *, token: str) -> None:
        """Undo ``reserve``, if it was made with this token.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        with transient():
            await self._give_back(keys=[self._places(subject), self._mark(member)], args=[member, token])

    async def _run(self, keys: list[str], args: list[str | int]) -> Admission:
        with transient():
            verdict, wait = await self._take(keys=keys, args=args)
        return Admission(Verdict(verdict), int(wait) / 1000)

    def _places(self, subject: str) -> str:
        return f"keylane:limit:{self._name}:{subject}"

    def _mark(self, member: str) -> str:
        return f"keylane:known:{self._name}:{member}"


@dataclass(slots=True)
class Run:
    """A run that holds the lock of its work."""

    _once: Once
    _work: str
    _token: str
    finished: bool = False

    async def finish(self) -> None:
        """Mark the work as done and let the lock go.

        Raises:
            RedisAwayError: Redis did not answer: the mark may be missing.
        """
        self.finished = True
        await self._once.finish(self._work, self._token)


class Once:
    """Marks what is done, and locks what is being done, for one kind of work.

    The lock has an owner and ends by itself after ``lock_seconds``, which must be more than a run may take.
    """

    def __init__(self, redis: Redis, *, name: str, lock_seconds: float, mark_seconds: float) -> None:
        self._name = name
        self._lock_ms = round(lock_seconds * 1000)
        self._mark_ms = round(mark_seconds * 1000)
        self._claim = redis.register_script(_CLAIM)
        self._finish = redis.register_script(_FINISH)
        self._release = redis.register_script(_RELEASE)

    @asynccontextmanager
    async def run(self, work: str) -> AsyncIterator[Run | None]:
        """Hold the lock of ``work``; None where it is marked as done. A run that is not finished lets the lock go.

        Raises:
            TransientError: Another run holds the lock, or Redis did not answer.
        """
        token = uuid4().hex
        with transient():
            claim = await self._claim(keys=self._keys(work), args=[token, self._lock_ms])
        if claim == "busy":
            raise TransientError(f"{self._name} {work}: another worker is running it")
        if claim == "done":
            yield None
            return
        mine = Run(self, work, token)
        try:
            yield mine
        finally:
            if not mine.finished:
                await self._let_go(work, token)

    async def finish(self, work: str, token: str) -> None:
        """Mark ``work`` as done, whoever holds the lock by now."""
        with transient():
            await self._finish(keys=self._keys(work), args=[token, self._mark_ms])

    async def _let_go(self, work: str, token: str) -> None:
        try:
            with transient():
                await self._release(keys=self._keys(work), args=[token])
        except RedisAwayError as error:
            # What went wrong inside the run matters more; the lock ends by itself.
            _LOG.warning("lock not released", name=self._name, work=work, error=str(error))

    def _keys(self, work: str) -> list[str]:
        return [f"keylane:lock:{self._name}:{work}", f"keylane:done:{self._name}:{work}"]
