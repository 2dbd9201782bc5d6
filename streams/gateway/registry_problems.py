"""What the registry answers when it says no: Confluent's error codes, whose first three digits are the HTTP status."""

from __future__ import annotations

from schemas.errors import SchemaRefusedError, UnknownSchemaError


class RegistryError(Exception):
    """A refusal with its Confluent error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(str(self.code)[:3])


class RefusedError(RegistryError, SchemaRefusedError):
    """The schema is not accepted."""


class NotThereError(RegistryError, UnknownSchemaError):
    """There is no such thing."""


def subject_unknown(subject: str) -> NotThereError:
    """Nothing was ever registered under the subject, or it is deleted."""
    return NotThereError(40401, f"Subject '{subject}' not found.")


def version_unknown(version: int) -> NotThereError:
    """The subject has no such version."""
    return NotThereError(40402, f"Version {version} not found.")


def schema_unknown(detail: str = "") -> NotThereError:
    """No such schema id, or the schema is not registered under the subject."""
    return NotThereError(40403, f"Schema not found{f': {detail}' if detail else '.'}")


def soft_deleted_already(what: str) -> NotThereError:
    """Deleted once already; what remains can be deleted permanently."""
    code = 40406 if " version " in what else 40404
    return NotThereError(code, f"{what} was soft deleted. Set permanent=true to delete permanently.")


def not_deleted_first(what: str) -> NotThereError:
    """Only what is soft deleted can be deleted permanently."""
    code = 40407 if " version " in what else 40405
    return NotThereError(code, f"{what} was not deleted first before being permanently deleted.")


def no_subject_config(subject: str) -> NotThereError:
    """The global level holds for the subject."""
    return NotThereError(40408, f"Subject '{subject}' does not have subject-level compatibility configured.")


def invalid_schema(detail: str) -> RefusedError:
    """The schema cannot be accepted, whatever is registered."""
    return RefusedError(42201, f"Invalid schema: {detail}")


def incompatible(subject: str, details: tuple[str, ...]) -> RefusedError:
    """The schema breaks the subject's compatibility level."""
    why = "; ".join(details)
    return RefusedError(
        409, f"Schema being registered is incompatible with an earlier schema for subject '{subject}': {why}"
    )


def invalid_version(version: str) -> RegistryError:
    """Neither a number from 1 on nor 'latest'."""
    return RegistryError(42202, f"The specified version '{version}' is not a valid version id: from 1 on, or 'latest'.")


def invalid_level(level: object, levels: tuple[str, ...]) -> RegistryError:
    """Not a compatibility level."""
    return RegistryError(42203, f"Invalid compatibility level {level!r}. Valid values are {', '.join(levels)}.")
