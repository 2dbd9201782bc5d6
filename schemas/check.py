"""Proves that a contract keeps its word: its model and newest schema agree, and all its versions read each other.

Both sides are compared as types: the Avro schema on one side, the model's own JSON schema on the other. Whatever the
schema can carry the model must take, and whatever the model allows the schema must carry.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

from schemas.avsc import Parsed, kind_of, parse
from schemas.compatibility import incompatibilities
from schemas.errors import SchemaRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.contract import Contract

# What the JSON schema of a field says where the Avro schema says this: its type and format.
_SCALARS = {
    "null": ("null", None),
    "boolean": ("boolean", None),
    "int": ("integer", None),
    "long": ("integer", None),
    "float": ("number", None),
    "double": ("number", None),
    "string": ("string", None),
    "bytes": ("string", "binary"),
    "fixed": ("string", "binary"),
    "enum": ("string", None),
    "date": ("string", "date"),
    "time-millis": ("string", "time"),
    "time-micros": ("string", "time"),
    "timestamp-millis": ("string", "date-time"),
    "timestamp-micros": ("string", "date-time"),
    "uuid": ("string", "uuid"),
}
_RANGES = {"int": 31, "long": 63}
_MISSING = object()


def check(contract: Contract) -> tuple[str, ...]:
    """Every disagreement as one sentence; empty if the contract is sound."""
    try:
        versions = [parse(text) for text in contract.schemas]
    except SchemaRefusedError as error:
        return (f"{contract.name}: {error}",)
    found = [*_names(contract, versions), *_versions(versions), *_Comparison(contract, versions[-1]).findings()]
    return tuple(f"{contract.name}: {finding}" for finding in found)


def _names(contract: Contract, versions: list[Parsed]) -> Iterator[str]:
    domain, _, rest = contract.name.partition(".")
    expected = f"keylane.{domain}." + "".join(word.capitalize() for word in rest.replace(".", "_").split("_"))
    for number, version in enumerate(versions, 1):
        if version.fullname != expected:
            yield f"v{number} is called {version.fullname} instead of {expected}."


def _versions(versions: list[Parsed]) -> Iterator[str]:
    for (reading, reader), (written, writer) in permutations(enumerate(versions, 1), 2):
        for why in incompatibilities(reader=reader, writer=writer):
            yield f"v{reading} cannot read what v{written} wrote: {why}."


class _Comparison:
    """The newest schema against the model."""

    def __init__(self, contract: Contract, newest: Parsed) -> None:
        self._newest = newest
        self._model = contract.model.model_json_schema()
        self._definitions = self._model.get("$defs", {})

    def findings(self) -> Iterator[str]:
        """The disagreements, field by field."""
        if kind_of(self._newest.schema) != "record":
            yield f"the schema is of type {kind_of(self._newest.schema)} instead of record."
            return
        yield from self._record(self._newest.schema, self._model, "")

    def _record(self, schema: Any, model: Any, place: str) -> Iterator[str]:
        fields = {field["name"]: field for field in schema["fields"]}
        properties = model.get("properties", {})
        for name in sorted(fields.keys() - properties.keys()):
            yield f"field '{place}{name}' is in the schema but not in the model."
        for name in sorted(properties.keys() - fields.keys()):
            yield f"field '{place}{name}' is in the model but not in the schema."
        for name in sorted(fields.keys() & properties.keys()):
            yield from self._type(fields[name]["type"], properties[name], f"{place}{name}")
            yield from self._default(
                fields[name], properties[name], name in model.get("required", []), f"{place}{name}"
            )

    def _default(self, field: Any, model: Any, required: bool, place: str) -> Iterator[str]:
        ours, theirs = field.get("default", _MISSING), model.get("default", _MISSING)
        if required and ours is not _MISSING:
            yield f"field '{place}' has the default {ours!r} in the schema but none in the model."
        elif not required and ours is _MISSING:
            yield f"field '{place}' has a default in the model but none in the schema."
        elif not required and (ours != theirs or type(ours) is not type(theirs)):
            shown = "a computed one" if theirs is _MISSING else repr(theirs)
            yield f"field '{place}' has the default {ours!r} in the schema but {shown} in the model."

    def _type(self, schema: Any, model: Any, place: str) -> Iterator[str]:
        schema, model = (
            self._newest.named.get(schema, schema) if isinstance(schema, str) else schema,
            self._followed(model),
        )
        kind = kind_of(schema)
        if kind == "union" or "anyOf" in model:
            yield from self._union(schema if kind == "union" else [schema], model.get("anyOf", [model]), place)
        elif kind == "record" and model.get("type") == "object":
            yield from self._record(schema, model, f"{place}.")
        elif kind == "array" and model.get("type") == "array":
            yield from self._type(schema["items"], model.get("items", {}), f"{place}[]")
        elif kind == "map" and model.get("type") == "object":
            yield from self._type(schema["values"], model.get("additionalProperties") or {}, f"{place}{{}}")
        else:
            yield from _scalar(schema, kind, model, place)

    def _union(self, branches: list[Any], choices: list[Any], place: str) -> Iterator[str]:
        for branch in branches:
            if not any(self._fits(branch, choice) for choice in choices):
                yield f"field '{place}' may be {_shown(branch)} in the schema but not in the model."
        for choice in choices:
            if not any(self._fits(branch, choice) for branch in branches):
                yield f"field '{place}' may be {_named(self._followed(choice))} in the model but not in the schema."

    def _fits(self, schema: Any, model: Any) -> bool:
        return next(self._type(schema, model, ""), None) is None

    def _followed(self, model: Any) -> Any:
        reference = model.get("$ref")
        return self._definitions[reference.rpartition("/")[2]] if reference else model


def _scalar(schema: Any, kind: str, model: Any, place: str) -> Iterator[str]:
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    if _SCALARS.get(logical or kind) != (model.get("type"), model.get("format")):
        yield f"field '{place}' is {_shown(schema)} in the schema but {_named(model)} in the model."
    elif kind == "enum" and set(schema["symbols"]) != set(model.get("enum", [model.get("const")])):
        yield f"field '{place}' has other symbols in the schema than values in the model."
    elif kind in _RANGES and logical is None and not _within(model, 2 ** _RANGES[kind]):
        yield f"field '{place}' is Avro {kind} in the schema but the model sets no bounds within it."


def _within(model: Any, size: int) -> bool:
    low: int = model.get("minimum", model.get("exclusiveMinimum", -size - 2) + 1)
    high: int = model.get("maximum", model.get("exclusiveMaximum", size + 1) - 1)
    return -size <= low and high < size


def _shown(schema: Any) -> str:
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    return f"Avro {kind_of(schema)}" + (f" ({logical})" if logical else "")


def _named(model: Any) -> str:
    return str(model.get("format") or model.get("type") or "anything")
