"""``Idempotency-Key`` (IETF draft -07): the same request with the same key is carried out once, and answered the same.

Redis remembers requests for ``KEEP`` seconds. What it forgets, workers recognise: the ids of all that is taken in under
a key are made of the caller, the tenant and the key. Invariant: a request is refused as reused or in flight only on the
word of Redis; without Redis it is carried out, under the same ids.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from pydantic_core import to_json

from streams.door import HeaderProblem, ProblemError, RouteSpec
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.batches import FINAL
from streams.gateway.ids import uuid8
from streams.gateway.models import Answer
from streams.job import TransientError
from streams.ports import Found, RequestState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.door import Door
    from streams.metrics import Metrics
    from streams.ports import Requests

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
HEADERS = {
    HEADER: {
        "description": "Makes the request safe to repeat: a string of your choice, quoted or bare.",
        "schema": {"type": "string", "pattern": r'^([!#-~]{1,255}|"[ !#-\[\]-~]{1,255}")$'},
        "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    }
}
STATUSES = {
    409: "A request with this Idempotency-Key is under way; Retry-After says when to ask again.",
    422: "The Idempotency-Key was given with another request.",
}
KEEP = 172_800.0  # seconds an answer is kept
IN_FLIGHT = 10.0  # seconds a request may be under way: more than encoding and acknowledging may take
LARGEST = 1_048_576  # characters of an answer that is kept
_AGAIN = 1  # seconds after which to ask for a request that is under way
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')
_BARE = re.compile(r"[!#-~]{1,255}")
_SUCCESS = range(200, 300)
_log = structlog.get_logger(__name__)


class Statistics(Answer):
    """Requests with an ``Idempotency-Key``, counted by what became of them.

    ``new`` were carried out; ``replayed`` answered as before; ``in_flight`` and ``reused`` refused. ``released`` of the
    new ones took nothing in, or not all: their keys are free again. An answer is kept for ``keep_seconds``; the mark of
    a request whose gateway died lasts ``in_flight_seconds``.
    """

    new: int
    replayed: int
    in_flight: int
    reused: int
    released: int
    keep_seconds: float
    in_flight_seconds: float


@dataclass(frozen=True, slots=True)
class Given:
    """A request with a key; ``place`` is made of the key and of whose it is, and is where the request is remembered."""

    place: str
    fingerprint: str
    owner: str = field(default_factory=lambda: os.urandom(16).hex())

    def id(self, number: int = 0) -> str:
        """The id of the request's record of this number: the same whenever it is sent."""
        return uuid8(self.place, str(number))


class Idempotency:
    """Carries requests out once per key.

    Args:
        keep: Seconds an answer is kept.
        in_flight: Seconds until the mark of a gateway that died ends.
    """

    def __init__(
        self, requests: Requests, metrics: Metrics, *, keep: float = KEEP, in_flight: float = IN_FLIGHT
    ) -> None:
        self._requests = requests
        self._metrics = metrics
        self._keep = keep
        self._in_flight = in_flight

    async def run(self, given: Given | None, work: Callable[[], Awaitable[web.Response]]) -> web.Response:
        """The answer of ``work``, or the one it gave before.

        Raises:
            ProblemError: The key stands for another request, or the first such request is under way.
        """
        if given is None:
            return await work()
        found = await self._begin(given)
        if found is not None and found.state is not RequestState.NEW:
            return _known(found)
        try:
            answer = await work()
        except BaseException:
            await self._noted(self._requests.release(given.place, given.owner))
            raise
        await self._noted(self._end(given, answer))
        return answer

    async def _begin(self, given: Given) -> Found | None:
        try:
            found = await self._requests.begin(given.place, given.fingerprint, given.owner, self._in_flight)
        except TransientError as error:
            _log.warning("carried out without a look whether it was before", reason=str(error))
            self._metrics.inc("keylane_idempotency_total", outcome="unchecked")
            return None
        self._metrics.inc("keylane_idempotency_total", outcome=found.state)
        return found

    def _end(self, given: Given, answer: web.Response) -> Awaitable[None]:
        text = _stored(answer)
        if text is None:
            return self._requests.release(given.place, given.owner)
        return self._requests.finish(given.place, given.fingerprint, given.owner, text, self._keep)

    async def _noted(self, step: Awaitable[None]) -> None:
        try:
            await step
        except TransientError as error:
            # What the broker said is what the client has to know; workers recognise what comes again.
            _log.warning("the end of a request is not noted", reason=str(error))

    def specs(self) -> tuple[RouteSpec, ...]:
        """The route of the statistics."""
        return (
            RouteSpec(
                method="GET",
                path="/api/v1/idempotency/stats",
                summary="How many requests came with an Idempotency-Key, by what became of them",
                scope=Scope.ADMIN,
                build=lambda _: self.get,
                answer=Statistics,
                statuses={
                    200: "Counted over all gateways since Redis was empty.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing, or the caller belongs to one tenant.",
                    503: "Redis is away.",
                },
            ),
        )

    def around(self, spec: RouteSpec) -> RouteSpec:
        """The route, carried out once per key if it is ``repeatable``."""
        if not spec.repeatable:
            return spec

        def build(door: Door) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
            handler: Callable[[web.Request], Awaitable[Any]] = spec.build(door)

            async def once(request: web.Request) -> web.StreamResponse:
                value = await body.read(request) if HEADER in request.headers else None
                return await self.run(await given(request, named_tenant(value)), lambda: handler(request))

            return once

        statuses = {**STATUSES, **spec.statuses}
        return replace(spec, build=build, headers={**spec.headers, **HEADERS}, statuses=statuses)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The statistics.

        Raises:
            ProblemError: The caller belongs to one tenant.
        """
        if request[CALLER].tenant is not None:
            raise ProblemError("forbidden", "These are counts of all tenants; they are for callers without one.")
        found = await self._requests.statistics()
        counted = {name.replace("-", "_"): found.get(name, 0) for name in (*RequestState, "released")}
        text = Statistics(**counted, keep_seconds=self._keep, in_flight_seconds=self._in_flight).model_dump_json()
        return web.Response(text=text, content_type=body.JSON)


async def given(request: web.Request, tenant: str | None) -> Given | None:
    """The request as its key makes it known, None where it has none; ``tenant`` is the one the body names, if any.

    Raises:
        ProblemError: The header is not what it should be.
    """
    values = request.headers.getall(HEADER, [])
    if not values:
        return None
    caller = request[CALLER]
    tenant = tenant if caller.tenant is None else caller.tenant
    place = uuid8(caller.name, "" if tenant is None else f"/{tenant}", _key(values))
    return Given(place, await _fingerprint(request))


def named_tenant(value: Any) -> str | None:
    """The tenant a body names, of a batch the first one; whatever it is, the body is still to be checked."""
    first = value[0] if isinstance(value, list) and value else value
    tenant = first.get("tenant") if isinstance(first, dict) else None
    return tenant if isinstance(tenant, str) else None


def _key(values: list[str]) -> str:
    quoted = _STRING.fullmatch(values[0].strip())
    if len(values) == 1 and quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if len(values) == 1 and _BARE.fullmatch(values[0]):
        return values[0]
    fault = HeaderProblem(HEADER, 'must be one string of 1 to 255 printable ASCII characters, as in "8e03978e"')
    raise ProblemError("invalid-request", f"The {HEADER} cannot be used.", errors=(fault,))


async def _fingerprint(request: web.Request) -> str:
    """Of what makes the request this one: its path, what its body is and says, and a CloudEvent's headers."""
    digest = blake2b(f"{request.method} {request.path}\n{request.content_type}\n".encode(), digest_size=20)
    attributes = [(name.lower(), value) for name, value in request.headers.items() if name[:3].lower() == "ce-"]
    for name, value in sorted(attributes):
        digest.update(f"{name}: {value}\n".encode("utf-8", "surrogateescape"))
    digest.update(b"\n" + await body.content(request))
    return digest.hexdigest()


def _stored(answer: web.Response) -> str | None:
    """The answer as text, None where it is not to be kept: nothing was taken, or sending it again may take more."""
    if answer.status not in _SUCCESS or not answer.get(FINAL, True):
        return None
    text = to_json([answer.status, answer.headers.get("Location"), answer.text]).decode()
    return text if len(text) <= LARGEST else None


def _known(found: Found) -> web.Response:
    if found.state is RequestState.REUSED:
        fault = HeaderProblem(HEADER, "stands for another request of yours: another path, or another body")
        raise ProblemError("key-reused", f"The {HEADER} was given with another request.", errors=(fault,))
    if found.state is RequestState.IN_FLIGHT:
        detail = "A request with this key is under way; its answer is there in a moment."
        raise ProblemError("in-flight", detail, retry_after=_AGAIN)
    status, location, text = json.loads(found.answer)
    headers = {REPLAYED: "true"} | ({"Location": location} if location else {})
    return web.Response(text=text, status=HTTPStatus(status), content_type=body.JSON, headers=headers)
