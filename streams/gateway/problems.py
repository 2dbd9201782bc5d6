"""The only map from errors to HTTP: RFC 9457 problems, their kinds, and what each error becomes.

Invariant: an answer from 400 up says nothing about internals; the request id leads to the log.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from aiohttp import web

from schemas.contract import InvalidPayloadError
from schemas.errors import RegistryUnavailableError
from streams.door import ProblemError
from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.contract import Problem

_log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
KIND = web.ResponseKey("problem", str)
"""Of a problem's response: its kind, for the metrics."""


class Kind(NamedTuple):
    """A kind of problem: its status, its title, and what a client can do about it."""

    status: int
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    "malformed-body": Kind(400, "The body is broken", "Send it whole, and packed as Content-Encoding says."),
    "malformed-json": Kind(400, "The body is not JSON", "Send one JSON value in UTF-8, at most 32 levels deep."),
    "invalid-request": Kind(400, "The request does not fit", "Correct the places that errors points to."),
    "unknown-type": Kind(400, "The type is not known", "Use one of the types listed in known."),
    "unauthenticated": Kind(401, "Who asks is not known", "Send valid credentials; see WWW-Authenticate."),
    "forbidden": Kind(403, "This is not allowed", "Ask the operator for the scope, or use your own tenant."),
    "not-found": Kind(404, "There is nothing here", "Check the path and the id."),
    "method-not-allowed": Kind(405, "The method is not allowed", "Use one of the methods in the Allow header."),
    "request-timeout": Kind(408, "The body came too slowly", "Send the request again."),
    "duplicate": Kind(409, "It was accepted before", "Nothing is to be done, or use another id."),
    "wrong-state": Kind(409, "It is not in a state for this", "Look at it again, or at what the detail names."),
    "in-flight": Kind(409, "The first such request is under way", "Send it again after Retry-After, with its key."),
    "too-large": Kind(413, "The body is too large", "Send less at a time."),
    "unsupported-media-type": Kind(415, "The media type is not supported", "Send one the description names."),
    "key-reused": Kind(422, "The Idempotency-Key is taken", "Use a new key for another request."),
    "behind-a-refused-one": Kind(424, "An earlier record of the key was refused", "Send both again, in their order."),
    "upgrade-required": Kind(426, "This is a WebSocket", "Send the headers of RFC 6455, or use the event stream."),
    "rate-limited": Kind(429, "Too many requests", "Wait as long as the Retry-After header says."),
    "internal": Kind(500, "Something went wrong on our side", "Tell the operator the request_id."),
    "unavailable": Kind(503, "Not available for now", "Send the same request, with the same id, again later."),
    "overloaded": Kind(503, "Too much at once", "Send the same request again after Retry-After."),
}
# What aiohttp itself refuses.
_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 408: "request-timeout", 413: "too-large"}
_BY_STATUS |= {415: "unsupported-media-type"}
_RETRY_AFTER = 1  # seconds
_MOST_ERRORS = 100


class Problems:
    """Makes the answers.

    Args:
        base_url: Where the gateway's own pages are, for the absolute ``type`` of a problem.
    """

    def __init__(self, base_url: str) -> None:
        self._base = base_url.rstrip("/")

    def answer(self, error: Exception, request: web.Request, request_id: str) -> web.Response:
        """The answer to a request that ended with this error; errors nobody expected are logged."""
        if isinstance(error, web.HTTPException) and error.status not in _BY_STATUS:
            return self._plain(error, request, request_id)
        problem = understood(error)
        members = self.members(problem, _occurrence(request, request_id))
        return _json(members, members["status"], _headers(error, problem), problem.kind)

    def members(
        self, problem: ProblemError, occurrence: Mapping[str, str] | None = None, most: int = _MOST_ERRORS
    ) -> dict[str, Any]:
        """The problem as RFC 9457 writes it; ``occurrence`` names the request, where it has one of its own."""
        kind = KINDS[problem.kind]
        members: dict[str, Any] = {
            "type": f"{self._base}/problems/{problem.kind}",
            "title": kind.title,
            "status": kind.status,
            "detail": problem.detail,
            **(occurrence or {}),
            **problem.extra,
        }
        if problem.errors:
            shown = problem.errors[:most]
            members["errors"] = [each._asdict() for each in shown]
        return members

    def _plain(self, error: web.HTTPException, request: web.Request, request_id: str) -> web.Response:
        """A status without a kind of its own: its meaning is HTTP's (RFC 9457, section 4.2.1)."""
        status = HTTPStatus(error.status)
        members = {"type": "about:blank", "title": status.phrase, "status": error.status}
        return _json(members | _occurrence(request, request_id), error.status, {}, "about:blank")


def prefixed(pointer: str, errors: Iterable[Problem]) -> tuple[Problem, ...]:
    """The same problems of a value that stands at ``pointer`` in the body."""
    return tuple(each._replace(pointer=pointer + each.pointer) for each in errors)


def understood(error: BaseException) -> ProblemError:
    """The problem an error is; one that nobody expected is logged."""
    problem = _known(error)
    if problem is None:
        _log.error("request failed", exc_info=error)
        problem = ProblemError("internal", "The request could not be carried out.")
    return problem


def _known(error: BaseException) -> ProblemError | None:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, InvalidPayloadError):
        return ProblemError("invalid-request", "The body does not fit.", errors=error.problems)
    if isinstance(error, RecordRefusedError):
        return ProblemError("too-large", "The broker does not take a record of this size.")
    if isinstance(error, TransientError | RegistryUnavailableError):
        _log.warning("dependency away", error=str(error))
        detail = "Something this request needs does not answer; try again in a moment."
        return ProblemError("unavailable", detail, retry_after=_RETRY_AFTER)
    if isinstance(error, web.HTTPException):
        kind = _BY_STATUS[error.status]
        return ProblemError(kind, KINDS[kind].advice)
    return None


def _headers(error: Exception, problem: ProblemError) -> dict[str, str]:
    headers = dict(problem.headers)
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return headers


def _occurrence(request: web.Request, request_id: str) -> dict[str, str]:
    return {"instance": request.rel_url.raw_path, "request_id": request_id}


def _json(members: dict[str, Any], status: int, headers: dict[str, str], kind: str) -> web.Response:
    response = web.Response(text=json.dumps(members), status=status, content_type=MEDIA_TYPE, headers=headers)
    response[KIND] = kind
    return response
