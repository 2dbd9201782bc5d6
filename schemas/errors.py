"""What can go wrong between bytes and payloads: final faults of a record, and transient faults of the registry."""

from __future__ import annotations


class UndecodableError(Exception):
    """The bytes can never become a payload: a dead letter. The message says why, without repeating the data."""


class UnknownSchemaError(UndecodableError):
    """The registry does not know the schema (id, or subject and text)."""


class UnknownContractError(UndecodableError):
    """The record's schema is sound, but no contract has its name.

    Attributes:
        fullname: The Avro full name of the record's schema.
    """

    def __init__(self, fullname: str) -> None:
        super().__init__(f"no contract has the Avro name {fullname}")
        self.fullname = fullname


class RegistryUnavailableError(Exception):
    """The registry did not answer, or answered that it cannot for now: pause and try again."""


class SchemaRefusedError(Exception):
    """A schema is malformed, unsafe or incompatible and is not accepted."""
