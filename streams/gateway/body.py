"""Reads JSON bodies from strangers: size, media type, encoding and nesting are checked before anybody looks inside.

Invariant: what ``parse`` returns is plain JSON (no NaN, no repeated names), at most ``DEEPEST`` levels deep and of at
most ``MOST`` items (``MOST_OF_BATCH``, where a record of it has no more than ``MOST``), so that no body keeps the event
loop longer than 200 ms.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import ClientError, web
from pydantic import BaseModel, ValidationError

from schemas.contract import json_text, problems
from streams.door import ProblemError
from streams.gateway.models import Request
from streams.gateway.packed import unpacking

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

JSON = "application/json"
PATIENCE = web.AppKey("body_patience", float)
"""Of an application: the seconds a whole body may take."""
_CONTENT = web.RequestKey("content", bytes)
DEEPEST = 32
MOST = 20_000  # items, counted as commas, colons and opening brackets
MOST_OF_BATCH = 100_000
# A string to its end, or the end of the text: every character is looked at once.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
_M = TypeVar("_M", bound=BaseModel)


async def read(request: web.Request, media_types: Sequence[str] = (JSON,), *, most: int = MOST) -> Any:
    """The JSON body of a request.

    Raises:
        ProblemError: It is of another media type, too slow, cut off, not JSON or too deep.
        web.HTTPRequestEntityTooLarge: It is too long.
    """
    _check_type(request, media_types)
    return parse(await content(request), most)


async def content(request: web.Request) -> bytes:
    """The body, unpacked; read once, whoever asks.

    Raises:
        ProblemError: It is too slow, cut off, or packed in a way that cannot be used.
        web.HTTPRequestEntityTooLarge: It is too long.
    """
    found = request.get(_CONTENT)
    if found is None:
        unpack = unpacking(request.headers.get("Content-Encoding", "identity"))
        found = request[_CONTENT] = unpack(await raw(request), request.client_max_size)
    return found


async def raw(request: web.Request) -> bytes:
    """The body as it was sent; it can be asked for more than once.

    Raises:
        ProblemError: It is too slow, or cut off.
        web.HTTPRequestEntityTooLarge: It is too long.
    """
    try:
        if request.content.is_eof():
            return await request.read()
        async with asyncio.timeout(request.config_dict[PATIENCE]):
            return await request.read()
    except TimeoutError:
        patience = request.config_dict[PATIENCE]
        raise ProblemError("request-timeout", f"The body did not arrive within {patience:g} s.") from None
    except (ClientError, ConnectionError):
        raise ProblemError("malformed-body", "The body ended before its end.") from None


def parse(text: bytes, most: int = MOST) -> Any:
    """The value a JSON text holds.

    Raises:
        ProblemError: It is not JSON in UTF-8, names a member twice, has too many items, or is too deep.
    """
    if _has_more(text, most):
        raise ProblemError("too-large", f"The body has more than {most} items.")
    try:
        value = _DECODER.decode(text.decode())
    except UnicodeDecodeError:
        raise ProblemError("malformed-json", "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ProblemError("malformed-json", f"The body is not JSON: {error.msg} at {where}.") from None
    except ValueError as error:
        raise ProblemError("malformed-json", f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise _too_deep() from None
    if text.count(b"[") + text.count(b"{") > DEEPEST:
        _check_depth(value)
    return value


def check_record(value: Any) -> None:
    """Let one record of a batch be as large as a body of its own, and no larger.

    Raises:
        ProblemError: It has too many items.
    """
    text = json_text(value)
    if _has_more(text.encode() if isinstance(text, str) else text, MOST):
        raise ProblemError("too-large", f"The record has more than {MOST} items.")


def fitted(model: type[_M], value: Any, what: str = "body") -> _M:
    """The value as a model.

    Raises:
        ProblemError: It does not fit.
    """
    try:
        found = model.model_validate(value)
    except ValidationError as error:
        raise ProblemError("invalid-request", f"The {what} does not fit.", errors=problems(error)) from None
    if isinstance(found, Request) and (faults := found.faults()):
        raise ProblemError("invalid-request", f"The {what} does not fit.", errors=faults)
    return found


def _check_type(request: web.Request, media_types: Sequence[str]) -> None:
    if request.content_type not in media_types:
        raise ProblemError("unsupported-media-type", f"Send the body as {' or '.join(media_types)}.")
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise ProblemError("unsupported-media-type", "Send the body in UTF-8.")


def _has_more(text: bytes, most: int) -> bool:
    return _items(text) > most and _items(_STRING.sub(b"", text)) > most


def _items(text: bytes) -> int:
    return sum(map(text.count, (b",", b":", b"[", b"{")))


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each) if type(inner) is dict or type(inner) is list]
        if not level:
            return
    raise _too_deep()


def _inside(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def _too_deep() -> ProblemError:
    return ProblemError("malformed-json", f"The body is nested more than {DEEPEST} levels deep.")


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


# Made once: json.loads would make one for each body.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_twins)
