"""Limits on requests: which apply to a route, what is counted together, and what happens while Redis is away.

Invariant: a request takes a place in every limit that applies to it, or in none; who is refused is told when to come
again.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams.door import ProblemError
from streams.job import TransientError
from streams.rates import Bucket, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.door import RouteSpec
    from streams.gateway.access import Caller
    from streams.rates import Left, Rates

Away = Literal["open", "closed", "local"]

RATE_HEADERS: web.RequestKey[Mapping[str, str]] = web.RequestKey("rate_headers", dict)
"""What the answer tells of the limits."""

_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AWAY = 1.0  # seconds in which Redis is not asked again after it did not answer
_log = structlog.get_logger(__name__)


class Limit(BaseModel):
    """One limit, as the settings name it.

    Attributes:
        name: For the answers and the metrics.
        per: What is counted together: requests of one address (``ip``, of IPv6 the /64 network), tenant, caller
            (``user``), or all of a route.
        rate: ``600/m``: a number per s, m, h or d.
        burst: How many may come at once; by default the number of ``rate``.
        routes: Beginnings of paths, with or without a method before them; all guarded routes unless given.
        away: Without Redis: ``open`` lets everybody in, ``closed`` nobody, ``local`` counts in each process alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
    per: Literal["ip", "tenant", "user", "route"]
    rate: Annotated[str, Field(pattern=f"^{_RATE.pattern}$")]
    burst: Annotated[int, Field(ge=1)] | None = None
    routes: tuple[Annotated[str, Field(pattern=r"^([A-Z]+ )?/")], ...] = ("/",)
    away: Away = "local"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.as_rate()
        return self

    def as_rate(self) -> Rate:
        """As arithmetic."""
        count, unit = self.rate.split("/")
        return Rate(int(count), _SECONDS[unit], self.burst or int(count))

    def covers(self, spec: RouteSpec) -> bool:
        """Whether it applies to the route."""
        places = (spec.path, f"{spec.method} {spec.path}")
        return any(place.startswith(self.routes) for place in places)


@dataclass(frozen=True, slots=True)
class _Applied:
    """A limit at a route; ``subject`` gives what is counted together, None: the request is not counted."""

    name: str
    rate: Rate
    away: Away
    prefix: str
    subject: Callable[[web.Request, Caller | None], str | None]

    def bucket(self, request: web.Request, caller: Caller | None) -> Bucket | None:
        subject = self.subject(request, caller)
        return None if subject is None else Bucket(self.prefix + subject, self.rate)


class Limits:
    """The limits of a gateway.

    Args:
        shared: Counts for all gateways.
        local: Counts for this process, where a limit says so and the other is away.
        address: Gives the client's address of a request.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        shared: Rates,
        local: Rates,
        *,
        address: Callable[[web.Request], str],
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._shared = shared
        self._local = local
        self._clock = clock
        self._away_until = 0.0
        self._subjects: dict[str, Callable[[web.Request, Caller | None], str | None]] = {
            "ip": lambda request, _: network(address(request)),
            "tenant": lambda _, caller: caller.tenant if caller else None,
            "user": lambda _, caller: caller.name if caller else None,
            "route": lambda _, caller: "" if caller else None,
        }

    def at(self, spec: RouteSpec) -> tuple[_Applied, ...]:
        """Those of a route; nothing has to be looked up when a request comes."""
        return tuple(self._applied(limit, spec) for limit in self._limits if limit.covers(spec))

    def _applied(self, limit: Limit, spec: RouteSpec) -> _Applied:
        route = f"{spec.method} {spec.path}:" if limit.per == "route" else ""
        prefix = f"keylane:rate:{limit.name}:{route}"
        return _Applied(limit.name, limit.as_rate(), limit.away, prefix, self._subjects[limit.per])

    async def admit(self, request: web.Request, caller: Caller | None, applied: Sequence[_Applied]) -> None:
        """Take a place in each of the limits; without a caller (who could not prove who asks) in those per address.

        Raises:
            ProblemError: One of them is used up (``rate-limited``), or cannot be counted and is ``closed``.
        """
        counted = [(each, bucket) for each in applied if (bucket := each.bucket(request, caller)) is not None]
        if not counted:
            return
        taken, told = await self._counted(counted)
        if told:
            request[RATE_HEADERS] = _headers(*min(told, key=_tightness))
        if not taken:
            raise _refusal(*max(told, key=lambda each: each[1].retry_after))

    async def _counted(self, counted: Sequence[tuple[_Applied, Bucket]]) -> tuple[bool, list[tuple[_Applied, Left]]]:
        if self._clock() >= self._away_until:
            try:
                return await _taken(self._shared, counted)
            except TransientError as error:
                self._away_until = self._clock() + _AWAY
                _log.warning("limits cannot be counted together", reason=str(error))
        closed = [each.name for each, _ in counted if each.away == "closed"]
        if closed:
            detail = f"The limit {closed[0]} cannot be checked just now; try again in a moment."
            raise ProblemError("unavailable", detail, retry_after=1)
        return await _taken(self._local, [each for each in counted if each[0].away == "local"])


async def _taken(rates: Rates, counted: Sequence[tuple[_Applied, Bucket]]) -> tuple[bool, list[tuple[_Applied, Left]]]:
    taken, left = await rates.take(tuple(bucket for _, bucket in counted))
    return taken, [(each, known) for (each, _), known in zip(counted, left, strict=True)]


def network(address: str) -> str:
    """What is counted as one address: of IPv6 the /64 network, since that is what one customer has."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address.split('%', maxsplit=1)[0]}/64", strict=False))


def _tightness(each: tuple[_Applied, Left]) -> float:
    return each[1].remaining / each[0].rate.burst


def _headers(applied: _Applied, left: Left) -> dict[str, str]:
    rate = applied.rate
    return {
        "RateLimit-Limit": str(rate.count),
        "RateLimit-Remaining": str(left.remaining),
        "RateLimit-Reset": str(math.ceil(left.reset)),
        "RateLimit-Policy": f"{rate.count};w={rate.seconds:g};burst={rate.burst}",
    }


def _refusal(applied: _Applied, left: Left) -> ProblemError:
    wait = max(1, math.ceil(left.retry_after))
    detail = f"The limit {applied.name} is used up; try again in {wait} s."
    return ProblemError("rate-limited", detail, retry_after=wait, extra={"limit": applied.name})
