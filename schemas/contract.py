"""A contract: the name of a payload, its pydantic model and its Avro schemas, oldest first.

Invariant: the newest schema and the model describe the same fields (``keylane schemas check`` proves it).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = Literal["event", "job", "internal"]


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


def load(folder: str, *, name: str, kind: Kind, model: type[BaseModel]) -> Contract:
    """The contract of a folder that holds ``v1.avsc``, ``v2.avsc`` and so on.

    Args:
        name: The ``ce_type``.
        kind: What the payload is for.
        model: The pydantic model of the newest version.
        folder: The ``__file__`` of the folder's ``model.py``.

    Raises:
        FileNotFoundError: There is no ``v1.avsc``.
    """
    here = Path(folder).parent
    files = sorted(here.glob("v*.avsc"), key=lambda path: int(path.stem[1:]))
    if not files:
        raise FileNotFoundError(f"{here}: a contract needs at least v1.avsc")
    return Contract(name=name, kind=kind, model=model, schemas=tuple(path.read_text() for path in files))
