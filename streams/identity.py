"""Who a record is: id, type, tenant, key, whatever its headers leave out.

Invariant: the id is the same for every run of a record, wherever it has moved.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.core import headers
from streams.event import from_headers, tenant_of

if TYPE_CHECKING:
    from streams.ports import Record

_LONGEST_KEY = 200  # characters; providers take 255 or 256


@dataclass(frozen=True, slots=True)
class Identity:
    """``type`` is None where no ``ce_type`` header names it: the value's schema does then."""

    id: str
    type: str | None
    tenant: str
    key: str | None
    replays: int
    origin: tuple[str, int, int]

    def idempotency_key(self, group: str) -> str:
        """The same for every run of the record in this group, at most ``_LONGEST_KEY`` characters."""
        key = f"{group}/{self.tenant}/{self.id}"  # clients choose ids: another tenant's is another one
        return key if len(key) <= _LONGEST_KEY else f"{group[:100]}/{hashlib.sha256(key.encode()).hexdigest()}"


def identify(record: Record) -> Identity:
    """Read the headers; the origin stands for an id that is missing."""
    attributes = from_headers(record.headers)
    origin = _origin(record)
    return Identity(
        id=attributes.get("id") or "/".join(map(str, origin)),
        type=attributes.get("type"),
        tenant=tenant_of(record.key),
        key=None if record.key is None else record.key.decode(errors="replace"),
        replays=headers.number(record.headers, headers.REPLAYS) or 0,
        origin=origin,
    )


def _origin(record: Record) -> tuple[str, int, int]:
    topic = headers.text(record.headers, headers.ORIGIN_TOPIC)
    partition = headers.number(record.headers, headers.ORIGIN_PARTITION)
    offset = headers.number(record.headers, headers.ORIGIN_OFFSET)
    if topic is None or partition is None or offset is None:
        return record.topic, record.partition, record.offset
    return topic, partition, offset
