"""CloudEvents 1.0.2 over HTTP: which mode a request is in, and the events it holds, each with a way to tell its places.

Invariant: what is wrong with an event is told where its sender wrote it: in the body, or in a header.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from schemas.contract import Problem, pointer
from streams.door import HeaderProblem, ProblemError
from streams.gateway import body
from streams.gateway.models import CloudEvent, EventRequest
from streams.gateway.options import MOST_RECORDS
from streams.gateway.problems import prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
_BATCHES = "application/cloudevents-batch"  # longer than, and so to be told apart before:
_EVENTS = "application/cloudevents"
_PREFIX = "ce-"
_BINARY = ("ce-specversion", "ce-id", "ce-type", "ce-source")
_JSON = re.compile(r"application/([\w.-]+\+)?json|text/json")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NOT_HEADERS = {
    "datacontenttype": "must not be a header: Content-Type says it",
    "data": "must not be a header: the body is the data",
    "data_base64": "must not be a header: the body is the data",
}


class Incoming(NamedTuple):
    """An event as it came: what it says, as what, and how the sender is told of a place in it."""

    value: Any
    model: type[CloudEvent | EventRequest]
    told: Callable[[Problem], Problem | HeaderProblem]

    def parsed(self) -> CloudEvent | EventRequest:
        """The event.

        Raises:
            ProblemError: It is none.
        """
        return body.fitted(self.model, self.value, "event")


class Taken(NamedTuple):
    """The events of a request, and whether they came as a batch."""

    events: list[Incoming]
    batch: bool


async def taken(request: web.Request) -> Taken:
    """The events of a request, whatever its mode.

    Raises:
        ProblemError: The request as a whole cannot be used.
    """
    media_type = request.content_type
    if media_type.startswith(_BATCHES):
        return Taken(_batch(await body.read(request, (BATCH,), most=body.MOST_OF_BATCH)), batch=True)
    if media_type.startswith(_EVENTS):
        return _one(await body.read(request, (STRUCTURED,)), CloudEvent, _same)
    if any(name in request.headers for name in _BINARY):
        attributes = _attributes(request)
        named = (media_type,) if _JSON.fullmatch(media_type) else (body.JSON,)
        return _one(attributes | {"data": await body.read(request, named)}, CloudEvent, _in_headers)
    return _one(await body.read(request, (body.JSON, STRUCTURED, BATCH)), EventRequest, _same)


def _one(value: Any, model: type[CloudEvent | EventRequest], told: Callable[..., Any]) -> Taken:
    return Taken([Incoming(value, model, told)], batch=False)


def _batch(value: Any) -> list[Incoming]:
    if not isinstance(value, list):
        raise _unfit(Problem("", "a batch is an array of CloudEvents"))
    if len(value) > MOST_RECORDS:
        raise ProblemError("too-large", f"A batch holds at most {MOST_RECORDS} events.")
    return [Incoming(each, CloudEvent, _within(number)) for number, each in enumerate(value)]


def _attributes(request: web.Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for header, value in request.headers.items():
        name = header.lower().removeprefix(_PREFIX)
        if name == header.lower():
            continue
        fault = "is given twice" if name in found else _NOT_HEADERS.get(name)
        if fault is not None:
            raise _unfit(HeaderProblem(_PREFIX + name, fault))
        found[name] = _decoded(_PREFIX + name, value)
    return found


def _decoded(header: str, value: str) -> str:
    """The value, its quotes taken off and its percent-encoding decoded once (HTTP binding, section 3.1.3.2)."""
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return unquote_to_bytes(value.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        raise _unfit(HeaderProblem(header, "is not UTF-8 when its percent-encoding is decoded")) from None


def _same(problem: Problem) -> Problem:
    return problem


def _within(number: int) -> Callable[[Problem], Problem]:
    return lambda problem: prefixed(pointer(number), [problem])[0]


def _in_headers(problem: Problem) -> Problem | HeaderProblem:
    """In binary mode the body is the data, and what stands beside it are headers."""
    _, name, *rest = (problem.pointer or "/").split("/")
    if name == "data":
        return problem._replace(pointer="".join("/" + part for part in rest))
    return HeaderProblem(_PREFIX + name, problem.detail)


def _unfit(problem: Problem | HeaderProblem) -> ProblemError:
    return ProblemError("invalid-request", "The event does not fit.", errors=(problem,))
