"""A contract: the name of a payload, its pydantic model and its Avro schemas, oldest first.

Invariant: the newest schema and the model describe the same fields (``keylane schemas check`` proves it).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

if TYPE_CHECKING:
    from pydantic import BaseModel

_MOST = 100  # places that are named of one payload
Kind = Literal["event", "job", "internal"]


class Problem(NamedTuple):
    """What is wrong with one place of a payload; ``pointer`` is a JSON pointer (RFC 6901), "" the whole."""

    pointer: str
    detail: str

    def __str__(self) -> str:
        """The place and what is wrong there."""
        return f"{self.pointer or 'payload'}: {self.detail}"


class InvalidPayloadError(ValueError):
    """A payload does not fit its contract; ``problems`` names every place, and repeats none of the input."""

    def __init__(self, contract: str, found: tuple[Problem, ...]) -> None:
        super().__init__(f"{contract}: {'; '.join(map(str, found))}")
        self.problems = found


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One payload type.

    Attributes:
        name: The ``ce_type``, for example ``reservation.held``.
        kind: Events go to ``events.<domain>``; a job's topic is its queue's.
        schemas: Avro schemas as JSON text, v1 first. Compatibility is FULL_TRANSITIVE.
    """

    name: str
    kind: Kind
    model: type[BaseModel]
    schemas: tuple[str, ...]

    @property
    def domain(self) -> str:
        """The part of the name before the first dot."""
        return self.name.partition(".")[0]

    @property
    def topic(self) -> str:
        """Where events of this contract are published."""
        return f"events.{self.domain}"

    @property
    def newest(self) -> str:
        """The newest Avro schema as JSON text."""
        return self.schemas[-1]

    @property
    def fullname(self) -> str:
        """The Avro full name of the newest schema, which is also its registry subject (RecordNameStrategy)."""
        schema: dict[str, Any] = json.loads(self.newest)
        namespace = schema.get("namespace")
        return f"{namespace}.{schema['name']}" if namespace else str(schema["name"])

    def from_json(self, text: str | bytes) -> BaseModel:
        """The payload a JSON text holds.

        Raises:
            InvalidPayloadError: It does not fit, or is not JSON.
        """
        try:
            return self.model.model_validate_json(text)
        except ValidationError as error:
            raise InvalidPayloadError(self.name, problems(error)) from None

    def from_value(self, value: Any) -> BaseModel:
        """The payload a decoded JSON value holds; the same rules as for the text (date-times are strings).

        Raises:
            InvalidPayloadError: It does not fit.
        """
        return self.from_json(json_text(value))


def json_text(value: Any) -> str | bytes:
    """A decoded JSON value as text again."""
    try:
        return to_json(value)
    except ValueError:  # half of a surrogate pair, which JSON can name and UTF-8 cannot
        return json.dumps(value)


def problems(error: ValidationError) -> tuple[Problem, ...]:
    """The places a model refused, as JSON pointers; of very many the first ones."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST]
    return tuple(Problem(pointer(*each["loc"]), each["msg"]) for each in found)


def pointer(*location: int | str) -> str:
    """The JSON pointer (RFC 6901) of a place."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def load(folder: str, *, name: str, kind: Kind, model: type[BaseModel]) -> Contract:
    """The contract of a folder that holds ``v1.avsc``, ``v2.avsc`` and so on.

    Args:
        name: The ``ce_type``.
        kind: What the payload is for.
        model: The pydantic model of the newest version.
        folder: The ``__file__`` of the folder's ``model.py``.

    Raises:
        FileNotFoundError: There is no ``v1.avsc``, or a version is missing in between.
    """
    here = Path(folder).parent
    files = sorted(here.glob("v*.avsc"), key=lambda path: int(path.stem[1:]))
    if not files or [path.name for path in files] != [f"v{number}.avsc" for number in range(1, len(files) + 1)]:
        raise FileNotFoundError(f"{here}: a contract needs v1.avsc, v2.avsc and so on without a gap")
    return Contract(name=name, kind=kind, model=model, schemas=tuple(path.read_text() for path in files))
