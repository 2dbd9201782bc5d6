"""The registry's HTTP manners: media types, flags, bodies, and every refusal as ``{"error_code", "message"}``.

Invariant: nothing leaves the registry's routes but JSON in one of Confluent's media types.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from schemas.errors import RegistryUnavailableError, SchemaRefusedError
from streams.door import ProblemError
from streams.gateway import registry_problems as problems
from streams.gateway.problems import KINDS
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Middleware

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Admit = Callable[[web.Request], Awaitable[None]]

MEDIA_TYPES = (
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
)
MAX_BODY_BYTES = 1_048_576  # a schema of the largest size allowed, escaped as JSON
_BODY_TYPES = (*MEDIA_TYPES, "application/octet-stream")
_ANY = ("*/*", "application/*", "")
_log = structlog.get_logger(__name__)


def answer(request: web.Request, value: Any, *, status: int = 200) -> web.Response:
    """A JSON answer in the media type the client prefers."""
    return text_answer(request, json.dumps(value), status=status)


def text_answer(request: web.Request, text: str, *, status: int = 200) -> web.Response:
    """An answer that is JSON text already."""
    return web.Response(text=text, status=status, content_type=_media_type(request) or MEDIA_TYPES[0])


def flag(request: web.Request, *names: str) -> bool:
    """Whether a query parameter (under any of its names) is true."""
    return any(request.query.get(name, "").lower() == "true" for name in names)


def page(request: web.Request, values: list[Any]) -> list[Any]:
    """The part of a list that ``offset`` and ``limit`` (-1: no limit) ask for."""
    offset, limit = _number(request, "offset", 0), _number(request, "limit", -1)
    return values[max(offset, 0) :][: limit if limit >= 0 else None]


def version_number(text: str) -> int | None:
    """A version in a path; None is the latest.

    Raises:
        RegistryError: Neither a number from 1 on nor ``latest`` (42202).
    """
    if text in ("latest", "-1"):
        return None
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:20]) < 2**31:
        raise problems.invalid_version(text)
    return int(text)


async def body(request: web.Request) -> dict[str, Any]:
    """The JSON object a client sent.

    Raises:
        HTTPException: Too large (413), another media type (415).
        RegistryError: Not a JSON object (42200).
    """
    if request.can_read_body and request.content_type not in _BODY_TYPES:
        raise web.HTTPUnsupportedMediaType(text=f"use one of {', '.join(MEDIA_TYPES)}")
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(raw))
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise problems.RegistryError(42200, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise problems.RegistryError(42200, "the body must be a JSON object")
    return value


async def schema_in(request: web.Request) -> str:
    """The schema text of a body.

    Raises:
        HTTPException, RegistryError: As ``body``; a missing schema, another type than AVRO, references (42201).
    """
    sent = await body(request)
    if sent.get("schemaType") not in (None, "AVRO"):
        raise problems.invalid_schema(f"the type {sent['schemaType']!r} is not supported, only AVRO")
    if sent.get("references"):
        raise problems.invalid_schema("references are not supported: put the referenced types into the schema itself")
    if not isinstance(sent.get("schema"), str):
        raise problems.invalid_schema("the body has no string 'schema'")
    return str(sent["schema"])


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into Confluent's form."""
    headers: Mapping[str, str] = {}
    if _media_type(request) is None:
        return _refusal(request, 406, f"HTTP 406 Not Acceptable: use one of {', '.join(MEDIA_TYPES)}")
    try:
        return await handler(request)
    except problems.RegistryError as error:
        code, message = error.code, str(error)
    except SchemaRefusedError as error:  # a schema in the log that this registry itself would not have taken
        code, message = 42201, f"Invalid schema: {error}"
    except ProblemError as error:  # who asks is not known, or may not do it
        code, message, headers = KINDS[error.kind].status * 100 + 1, error.detail, error.headers
    except TransientError as error:
        _log.warning("schema registry cannot tell who asks", error=str(error))
        code, message = 50301, "Who asks cannot be told now; try again."
    except RegistryUnavailableError as error:
        _log.warning("schema registry unavailable", error=str(error))
        return _refusal(request, 50003, f"The registry cannot reach its storage; try again. {error}", status=503)
    except web.HTTPException as error:
        code, message = error.status, f"HTTP {error.status} {error.reason}. {error.text or ''}".strip()
    refusal = _refusal(request, code, message)
    refusal.headers.update(headers)
    return refusal


def admitted(admit: Admit) -> Middleware:
    """Ask before anything is deleted or set; what registers a schema asks by itself."""

    @web.middleware
    async def asked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in {"PUT", "DELETE"}:
            await admit(request)
        return await handler(request)

    return asked


def _refusal(request: web.Request, code: int, message: str, *, status: int | None = None) -> web.Response:
    return answer(request, {"error_code": code, "message": message}, status=status or int(str(code)[:3]))


def _media_type(request: web.Request) -> str | None:
    for part in request.headers.get("Accept", "*/*").split(","):
        accepted = part.partition(";")[0].strip()
        if accepted in MEDIA_TYPES:
            return accepted
        if accepted in _ANY:
            return MEDIA_TYPES[0]
    return None


def _number(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise problems.RegistryError(42200, f"the query parameter {name!r} must be a number") from None
