"""Who a record is: id, type, tenant, key, whatever its headers leave out.

Invariant: the id is the same for every run of a record, wherever it has moved.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from streams.core import headers
from streams.event import tenant_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.ports import Record

_LONGEST_KEY = 200  # characters; providers take 255 or 256


class Identity(NamedTuple):
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
    # One look at all headers, as there is one for each job told of; of a repeated one the last counts.
    found = {name: value for name, value in record.headers if value is not None}
    origin = _origin(record, found)
    named, kind, replays = found.get("ce_id"), found.get("ce_type"), found.get(headers.REPLAYS)
    return Identity(
        id=named.decode(errors="replace") if named else "/".join(map(str, origin)),
        type=None if kind is None else kind.decode(errors="replace"),
        tenant=tenant_of(record.key),
        key=None if record.key is None else record.key.decode(errors="replace"),
        replays=0 if replays is None else headers.parse_number(replays) or 0,
        origin=origin,
    )


def _origin(record: Record, found: Mapping[str, bytes]) -> tuple[str, int, int]:
    topic = found.get(headers.ORIGIN_TOPIC)
    if topic is None:
        return record.topic, record.partition, record.offset
    partition = headers.parse_number(found.get(headers.ORIGIN_PARTITION))
    offset = headers.parse_number(found.get(headers.ORIGIN_OFFSET))
    if partition is None or offset is None:
        return record.topic, record.partition, record.offset
    return topic.decode(errors="replace"), partition, offset
