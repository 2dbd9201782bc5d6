"""Which schema can read what another one wrote, by Avro's own rules, and the levels a registry may ask for.

Invariant: ``FULL_TRANSITIVE`` is what the contracts of this package keep: any version reads any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.avsc import Parsed

Level = Literal["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"]
LEVELS: tuple[Level, ...] = get_args(Level)


def incompatibilities(*, reader: Parsed, writer: Parsed) -> tuple[str, ...]:
    """Why the reader schema cannot read what the writer schema wrote; empty if it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call] # avro left it unannotated
    result = checker.get_compatibility(reader.avro, writer.avro)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return ()
    places = ", ".join(sorted(result.locations))
    kinds = {str(kind.value).replace("_", " ") for kind in result.incompatibilities}
    return tuple(f"{' and '.join(sorted(kinds))} at {places}: {message}" for message in sorted(result.messages))


def violations(level: Level, new: Parsed, earlier: Sequence[Parsed]) -> tuple[str, ...]:
    """Why a new version may not follow the earlier ones (oldest first) at this level; empty if it may."""
    if level == "NONE":
        return ()
    against = earlier if level.endswith("_TRANSITIVE") else earlier[-1:]
    found: list[str] = []
    for old in reversed(against):
        if not level.startswith("FORWARD"):
            found += [
                f"the new schema cannot read data of an earlier one: {why}"
                for why in incompatibilities(reader=new, writer=old)
            ]
        if not level.startswith("BACKWARD"):
            found += [
                f"an earlier schema cannot read data of the new one: {why}"
                for why in incompatibilities(reader=old, writer=new)
            ]
    return tuple(dict.fromkeys(found))
