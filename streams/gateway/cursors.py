"""Where a list goes on: opaque text, which fits only the list it came from.

Invariant: a cursor chooses where to begin, never what is shown: filters and tenant come from each request anew.
"""

from __future__ import annotations

import base64
import binascii
import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from schemas.contract import Problem
from streams.door import ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 4_000  # characters
_MARK = 8  # bytes


def encode(place: Any, filters: Mapping[str, Any]) -> str:
    """The cursor of a place (JSON) in the list of these filters."""
    text = json.dumps(place, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mark(filters) + text).decode().rstrip("=")


def decode(cursor: str, filters: Mapping[str, Any]) -> Any:
    """The place.

    Raises:
        ProblemError: It is no cursor, or one of another list.
    """
    try:
        found = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = json.loads(found[_MARK:])
    except (binascii.Error, ValueError):
        raise misfit() from None
    if found[:_MARK] != _mark(filters):
        raise misfit("The cursor is of a list with other filters: begin that list without one.")
    return place


def misfit(detail: str = "The cursor is none of this list's: take it from the answer before.") -> ProblemError:
    """The problem of a cursor that does not fit."""
    return ProblemError("invalid-request", detail, errors=(Problem(detail=detail, pointer="/cursor"),))


def _mark(filters: Mapping[str, Any]) -> bytes:
    text = json.dumps(filters, sort_keys=True, default=str).encode()
    return blake2b(text, digest_size=_MARK).digest()
