"""What may be written down in JSON for an event or a job: one of two forms of envelope around the payload.

``{"type", "tenant", "entity", "data", "id"?}`` (``key`` is another name of ``entity``), or a CloudEvent with the
extension ``tenant``, whose entity is its ``partitionkey`` or else its ``subject``.
Invariant: what is refused is refused with a sentence that names the place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from schemas.contract import problems
from streams.event import Attributes

if TYPE_CHECKING:
    from collections.abc import Callable

_Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,20}$")]
_Json = Annotated[str, StringConstraints(pattern=r"^application/([\w.+-]+\+)?json\s*(;.*)?$")]


class UnpublishableError(ValueError):
    """The value cannot become a record; the message says what is wrong and where."""


class Plain(BaseModel):
    """The short form."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    type: _Text
    tenant: _Text
    entity: _Text | None = None
    key: _Text | None = None
    data: Any
    id: _Text | None = None

    def attributes(self, new_id: Callable[[], str]) -> Attributes:
        """The attributes of the record."""
        return Attributes(id=self.id or new_id(), type=self.type, extensions={"tenant": self.tenant})

    def named_entity(self) -> str | None:
        """The entity part of the key, where it is named."""
        if self.entity is not None and self.key is not None:
            raise UnpublishableError("/key: name the entity once, as entity or as key")
        return self.entity or self.key


class CloudEvent(BaseModel):
    """CloudEvents 1.0 in JSON; attributes it does not know are kept as extensions."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[_Name, str | bool | int]

    specversion: Literal["1.0"]
    id: _Text
    type: _Text
    source: _Text
    tenant: _Text
    subject: _Text | None = None
    time: _Text | None = None
    partitionkey: _Text | None = None
    datacontenttype: _Json | None = None
    dataschema: str | None = None
    data: Any

    def attributes(self, new_id: Callable[[], str]) -> Attributes:
        """The attributes of the record."""
        del new_id  # it has one
        own = {"tenant": self.tenant} | ({"partitionkey": self.partitionkey} if self.partitionkey else {})
        others = {name: _text(value) for name, value in self.__pydantic_extra__.items()}
        return Attributes(
            id=self.id,
            type=self.type,
            source=self.source,
            time=self.time,
            subject=self.subject,
            extensions=own | others,
        )

    def named_entity(self) -> str | None:
        """The entity part of the key, where it is named."""
        if self.partitionkey is None:
            return self.subject
        return self.partitionkey.removeprefix(f"{self.tenant}/")


def envelope(value: Any) -> Plain | CloudEvent:
    """The envelope a JSON value is.

    Raises:
        UnpublishableError: It is none.
    """
    if not isinstance(value, dict):
        raise UnpublishableError("must be a JSON object")
    form: type[Plain | CloudEvent] = CloudEvent if "specversion" in value else Plain
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise UnpublishableError("; ".join(map(str, problems(error)))) from None


def _text(value: str | bool | int) -> str:
    return value if isinstance(value, str) else json.dumps(value)
