"""What the gateway's own routes take, and what they answer to it: validation and ``/openapi.json`` use the same models.

Invariant: an option that is not carried out is refused by its name, never ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter

from schemas.contract import Problem, pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

_JSON_TYPE = re.compile(r"(?i)[\w.+-]+/([\w.-]+\+)?json(;.*)?")
_EXTENSION = re.compile(r"[a-z0-9]{1,64}")
_VALUE = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]*")
_LINE = r"^[^\x00-\x1f\x7f]+$"
_TIME = TypeAdapter(AwareDatetime)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)?")


def date_time(value: Any) -> Any:
    """Text that is written as a date-time; pydantic alone also takes numbers and dates for one.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value):
        raise ValueError("must be a date-time as RFC 3339 writes it")
    return value


Tenant = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^/\x00-\x20\x7f]+$")]
"""Whose it is: the part of the record key before the slash."""

Key = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_LINE)]
"""What must stay in order: the part of the record key behind the slash."""

Id = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._~:@-]*$")]
"""An id chosen by the client; it makes a repetition recognisable."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_LINE)]
"""Text of one line."""

Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(date_time)]
"""A date-time with its offset."""


class Request(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def faults(self) -> tuple[Problem, ...]:
        """What is wrong beyond single fields, at its place."""
        return ()


class Answer(BaseModel):
    """What the gateway answers."""

    model_config = ConfigDict(frozen=True)


class JobAccepted(Answer):
    """The broker has the job; ``location`` tells how it goes on."""

    id: str
    status: Literal["pending"] = "pending"
    location: str
    topic: str
    partition: int
    offset: int


class EventRequest(Request):
    """An event that has happened; without ``key`` its ``subject`` is the key."""

    type: Name
    tenant: Tenant | None = None
    data: Any
    id: Id | None = None
    key: Key | None = None
    source: Name | None = None
    subject: Name | None = None
    time: str | None = None

    def faults(self) -> tuple[Problem, ...]:
        """See ``Request``."""
        return tuple(_common_faults(self.time, self.key or self.subject, "", "key or subject"))

    @property
    def entity(self) -> str:
        """The entity part of the record key."""
        return self.key or self.subject or ""

    @property
    def extensions(self) -> dict[str, str]:
        """Further attributes."""
        return {}


class CloudEvent(Request):
    """A CloudEvent 1.0 in JSON, with the extensions ``tenant`` and ``partitionkey`` (else ``subject`` is the key)."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: Name
    tenant: Tenant | None = None
    data: Any
    partitionkey: Key | None = None
    subject: Name | None = None
    time: str | None = None
    datacontenttype: str | None = None

    def faults(self) -> tuple[Problem, ...]:
        """See ``Request``."""
        entity = self.partitionkey or self.subject
        found = [*_common_faults(self.time, entity, "/subject", "subject or partitionkey")]
        if self.datacontenttype is not None and not _JSON_TYPE.fullmatch(self.datacontenttype):
            found.append(Problem("/datacontenttype", "must be a JSON media type"))
        for name, value in (self.model_extra or {}).items():
            fault = _extension_fault(name, value)
            if fault is not None:
                found.append(Problem(pointer(name), fault))
        return tuple(found)

    @property
    def entity(self) -> str:
        """The entity part of the record key."""
        return self.partitionkey or self.subject or ""

    @property
    def extensions(self) -> dict[str, str]:
        """Further attributes, as CloudEvents writes them in text."""
        return {name: _as_text(value) for name, value in (self.model_extra or {}).items()}


class EventAccepted(Answer):
    """The broker has the event: ``all`` of its replicas in sync, or (where that is set) the ``leader`` alone."""

    id: str
    topic: str
    partition: int
    offset: int
    acks: Literal["all", "leader"] = "all"


def _common_faults(time: str | None, key: str | None, place: str, names: str) -> Iterator[Problem]:
    if time is not None:
        try:
            _TIME.validate_json(f'"{time}"', strict=True)
        except ValueError:
            yield Problem("/time", "must be an RFC 3339 date-time with an offset")
    if key is None:
        yield Problem(place, f"give {names}: events of one key stay in order")


def _extension_fault(name: str, value: Any) -> str | None:
    if name in {"data_base64", "dataschema"}:
        return "is not supported: send JSON data that fits the type's own schema"
    if not _EXTENSION.fullmatch(name):
        return "extension names consist of a-z and 0-9"
    if not isinstance(value, str | bool | int) or (isinstance(value, str) and not _VALUE.fullmatch(value)):
        return "must be text of one line, a whole number or a boolean"
    return None


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
