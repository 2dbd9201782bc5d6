"""Schema texts, parsed under suspicion: whatever passes here is valid Avro, not recursive and of bounded size.

Invariant: walking a parsed schema ends, at most ``MAX_DEPTH`` types deep and after at most ``MAX_NODES`` types, with a
named type counted wherever it is used (twenty records that hold each other twice would be a million types).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import avro.errors
import avro.schema
from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from schemas.errors import SchemaRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT = 524_288  # escaped inside a record of the schema log, still below Kafka's usual megabyte
MAX_DEPTH = 32
MAX_NODES = 5_000
MAX_PRECISION = 1_000
_JSON_DEPTH = 4 * MAX_DEPTH


@dataclass(frozen=True, slots=True)
class Parsed:
    """A sound schema.

    Attributes:
        text: The JSON text it came from.
        schema: As fastavro's functions take it.
        named: The named types in it by full name.
        avro: As the rules of ``avro.compatibility`` take it.
    """

    text: str
    schema: Any
    named: dict[str, Any]
    avro: avro.schema.Schema

    @property
    def fullname(self) -> str:
        """The full name of a named type; of an unnamed one, its Avro type."""
        kind = kind_of(self.schema)
        return str(self.schema["name"]) if kind in ("record", "enum", "fixed") else kind


def parse(text: str) -> Parsed:
    """Parse a schema text that may come from anybody.

    Raises:
        SchemaRefusedError: It is not valid Avro, or recursive, or too large.
    """
    if len(text) > MAX_TEXT:
        raise SchemaRefusedError(f"the schema has {len(text)} characters, more than {MAX_TEXT}")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaRefusedError(f"the schema is not JSON: {error}") from None
    _check_json(raw)
    named: dict[str, Any] = {}
    try:
        strict = avro.schema.make_avsc_object(_without_logical_types(raw))
        schema = parse_schema(raw, named)
    except (avro.errors.AvroException, SchemaParseException, UnknownType) as error:
        raise SchemaRefusedError(f"the schema is not valid Avro: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # The parsers stumble over some malformed schemas in their own ways.
        raise SchemaRefusedError(f"the schema is not valid Avro: {type(error).__name__} {error}") from None
    _Measure(named).nodes(schema, 1)
    return Parsed(text, schema, named, strict)


def kind_of(schema: Any) -> str:
    """The Avro type of a parsed schema; for a reference, the full name it refers to."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def children(schema: Any) -> Iterator[Any]:
    """The schemas directly inside a parsed schema."""
    match kind_of(schema):
        case "union":
            yield from schema
        case "array":
            yield schema["items"]
        case "map":
            yield schema["values"]
        case "record":
            for each in schema["fields"]:
                yield each["type"]


def kinds(parsed: Parsed) -> set[str]:
    """The Avro types a schema is made of, references followed; a decimal is a ``decimal``, whatever is beneath it."""
    return set(_kinds(parsed.schema, parsed.named))


def _kinds(schema: Any, named: dict[str, Any]) -> Iterator[str]:
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    yield "decimal" if isinstance(schema, dict) and schema.get("logicalType") == "decimal" else kind_of(schema)
    for child in children(schema):
        yield from _kinds(child, named)


def _check_json(raw: Any) -> None:
    # Level by level, so that a deep document costs no stack here or in the parsers.
    level, depth, objects = [raw], 0, 0
    while level:
        depth += 1
        objects += sum(isinstance(value, dict) for value in level)
        if objects > 2 * MAX_NODES:  # a field is an object, and so may its type be
            raise SchemaRefusedError(f"the schema has more than {MAX_NODES} types")
        if depth > _JSON_DEPTH:
            raise SchemaRefusedError(f"the schema is nested deeper than {MAX_DEPTH} types")
        level = [inner for value in level for inner in _inside(value)]


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        if any(key.startswith("__") for key in value):  # fastavro trusts its own markers blindly
            raise SchemaRefusedError("the schema has a property that starts with '__'")
        if value.get("type") in ("error", "request", "error_union"):
            raise SchemaRefusedError(f"the type {value['type']} belongs to Avro protocols, not to payloads")
        return list(value.values())
    return value if isinstance(value, list) else []


def _without_logical_types(value: Any) -> Any:
    # The rules know only the types beneath, and avro warns of every logical type it does not know.
    if isinstance(value, dict):
        return {key: _without_logical_types(inner) for key, inner in value.items() if key != "logicalType"}
    return [_without_logical_types(inner) for inner in value] if isinstance(value, list) else value


@dataclass(slots=True)
class _Measure:
    """Counts the types of a schema with every reference followed."""

    named: dict[str, Any]
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def nodes(self, schema: Any, depth: int) -> tuple[int, int]:
        """The number of types and how deep they go."""
        name = schema if isinstance(schema, str) else schema.get("name") if isinstance(schema, dict) else None
        if name is None or name not in self.named:
            return self._count(schema, depth)
        if name in self.open:
            raise SchemaRefusedError(f"the schema is recursive: {name} contains itself")
        if name not in self.known:
            self.open.add(name)
            self.known[name] = self._count(self.named[name], 1)
            self.open.remove(name)
        return self._within(*self.known[name], depth)

    def _count(self, schema: Any, depth: int) -> tuple[int, int]:
        _check_decimal(schema)
        below = [self.nodes(child, 1) for child in children(schema)]
        return self._within(1 + sum(n for n, _ in below), 1 + max((d for _, d in below), default=0), depth)

    def _within(self, nodes: int, height: int, depth: int) -> tuple[int, int]:
        if nodes > MAX_NODES:
            raise SchemaRefusedError(f"the schema has more than {MAX_NODES} types")
        if depth + height - 1 > MAX_DEPTH:
            raise SchemaRefusedError(f"the schema is nested deeper than {MAX_DEPTH} types")
        return nodes, height


def _check_decimal(schema: Any) -> None:
    if isinstance(schema, dict) and schema.get("logicalType") == "decimal":
        precision = schema.get("precision")
        if not isinstance(precision, int) or not 0 < precision <= MAX_PRECISION:
            raise SchemaRefusedError(f"a decimal needs a precision from 1 to {MAX_PRECISION}, not {precision!r}")


def normal_form(parsed: Parsed) -> str:
    """One text for all the ways to write a schema: full names, no blanks, sorted properties, plain primitives."""
    return json.dumps(_normal(parsed.schema), separators=(",", ":"), sort_keys=True)


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return [_normal(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _normal(each) for key, each in value.items() if not key.startswith("__")}
    return kept["type"] if kept.keys() == {"type"} else kept
