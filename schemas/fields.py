"""The base of every payload model and the field types they share.

Invariant: a model holds only what its Avro schema carries unchanged, so ``model -> Avro -> model`` changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, WrapValidator

if TYPE_CHECKING:
    from collections.abc import Callable

_LINE = r"^[^\x00-\x1f\x7f]+$"
_EMAIL = r"^[^@\s\x00-\x1f\x7f,;<>]+@[^@\s\x00-\x1f\x7f,;<>]+\.[^@\s\x00-\x1f\x7f,;<>.]+$"


class PayloadModel(BaseModel):
    """Frozen, strict about types, and closed: an unknown field is an error. Errors never repeat the input."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


def _instant(value: object, validate: Callable[[object], datetime]) -> datetime:
    # UTC and whole milliseconds are what ``timestamp-millis`` keeps, and what is decoded from it.
    if type(value) is datetime and value.tzinfo is UTC and not value.microsecond % 1000:
        return value
    return validate(_in_utc(value))


def _in_utc(value: object) -> object:
    if isinstance(value, str):
        value = _rfc3339(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        return value
    try:
        moment = value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000) if moment.microsecond % 1000 else moment


def _rfc3339(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date-time with an offset, such as 2026-01-31T10:00:00+08:00") from None


Instant = Annotated[AwareDatetime, WrapValidator(_instant, json_schema_input_type=AwareDatetime)]
"""A moment in UTC with whole milliseconds (Avro ``timestamp-millis``); JSON: RFC 3339 text with an offset."""

Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_LINE)]
"""Text of one line, not empty, without control characters: safe in an e-mail header."""

Text = Annotated[str, StringConstraints(max_length=2_000)]
"""Text that may be empty."""

Email = Annotated[str, StringConstraints(max_length=320, pattern=_EMAIL)]
"""An e-mail address of one recipient."""

Locale = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]
"""A language tag such as ``mn`` or ``en-GB``."""

Count = Annotated[int, Field(ge=1, le=2_147_483_647)]
"""A number of things (Avro ``int``), at least one."""

Int = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""Any Avro ``int``."""

Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""Any Avro ``long``."""
