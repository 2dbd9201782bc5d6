"""What the codec asks of a schema registry, whoever serves it."""

from __future__ import annotations

from typing import Protocol


class Registry(Protocol):
    """A Confluent-compatible registry; schemas are Avro schemas as JSON text."""

    async def register(self, subject: str, schema: str) -> int:
        """The id of the schema under the subject, registered now if it was not.

        Raises:
            SchemaRefusedError: The schema is invalid or incompatible with the subject's earlier ones.
            RegistryUnavailableError: The registry cannot be reached.
        """

    async def schema(self, schema_id: int) -> str:
        """The schema of the id.

        Raises:
            UnknownSchemaError: The registry knows no such id.
            RegistryUnavailableError: The registry cannot be reached.
        """

    async def lookup(self, subject: str, schema: str) -> int:
        """The id of a schema that is registered under the subject.

        Raises:
            UnknownSchemaError: It is not registered there.
            RegistryUnavailableError: The registry cannot be reached.
        """

    async def close(self) -> None:
        """Give up connections."""
