"""The CloudEvents 1.0.2 Kafka binding, binary mode: attributes in ``ce_*`` headers, Avro in the value.

Invariant: ``from_headers(to_headers(attributes)) == attributes``; a record without ``ce_*`` headers has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "application/avro"
SPEC_VERSION = "1.0"
_SPEC_VERSION = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_TYPE = ("content-type", CONTENT_TYPE.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """The context attributes of an event or job; ``time`` is RFC 3339, extensions are strings."""

    id: str
    type: str
    source: str = "/keylane"
    time: str | None = None
    subject: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)


def to_headers(attributes: Attributes) -> list[tuple[str, bytes]]:
    """The record headers of an event; strings are UTF-8 (Kafka binding §3.2.4)."""
    headers = [
        _SPEC_VERSION,
        ("ce_id", attributes.id.encode()),
        ("ce_type", attributes.type.encode()),
        ("ce_source", attributes.source.encode()),
    ]
    if attributes.time is not None:
        headers.append(("ce_time", attributes.time.encode()))
    if attributes.subject is not None:
        headers.append(("ce_subject", attributes.subject.encode()))
    for name, value in attributes.extensions.items():
        headers.append((f"ce_{name}", value.encode()))
    headers.append(_CONTENT_TYPE)
    return headers


def from_headers(headers: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """The attributes found, by name without the ``ce_`` prefix; bytes that are not UTF-8 are replaced."""
    return {name[3:]: value.decode(errors="replace") for name, value in _present(headers) if name.startswith("ce_")}


def _present(headers: Sequence[tuple[str, bytes]]) -> Iterable[tuple[str, bytes]]:
    # A foreign client may write a header with a null value.
    return ((name, value) for name, value in headers if value is not None)


def record_key(tenant: str, entity: str) -> bytes:
    """The record key ``<tenant>/<entity>``.

    Raises:
        ValueError: The tenant is empty or holds a slash, or the entity is empty.
    """
    if not tenant or "/" in tenant:
        raise ValueError(f"tenant must be a non-empty name without '/', got {tenant!r}")
    if not entity:
        raise ValueError("the entity part of a record key must not be empty")
    return f"{tenant}/{entity}".encode()


def tenant_of(key: bytes | None) -> str:
    """The tenant part of a record key, or ``""`` where there is none."""
    tenant, slash, _ = (key or b"").decode(errors="replace").partition("/")
    return tenant if slash else ""
