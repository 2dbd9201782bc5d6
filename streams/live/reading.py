"""Makes notices of records: what is known before a value is decoded decides whether it is decoded at all.

Invariant: a record that cannot be read is passed over and counted; it never stops the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import RegistryUnavailableError, UndecodableError
from streams.event import from_headers, tenant_of
from streams.history import TOPIC
from streams.job import TransientError
from streams.live.notice import Event, Interest, Notice

if TYPE_CHECKING:
    from typing import Any

    from schemas.codec import Codec
    from streams.live.notice import Index
    from streams.metrics import Metrics
    from streams.ports import Record


class Reading:
    """Reads job statuses and events.

    Args:
        codec: Decodes both.
    """

    def __init__(self, codec: Codec, metrics: Metrics) -> None:
        self._codec = codec
        self._metrics = metrics

    async def notice(self, record: Record, wanted: Index[Any]) -> Notice | None:
        """The notice of a record; None if nobody in the index wants it, or nobody can read it.

        Raises:
            TransientError: The registry is away.
        """
        return await (self._status(record, wanted) if record.topic == TOPIC else self._event(record, wanted))

    async def _status(self, record: Record, wanted: Index[Any]) -> Notice | None:
        if record.value is None or not any(map(wanted.may_want, _jobs(record.key or b""))):
            return None
        status = await self._payload(record)
        if status is None:
            return None
        return Notice("job", Interest(status.tenant, status.type, status.job_id, status.key), status)

    async def _event(self, record: Record, wanted: Index[Any]) -> Notice | None:
        attributes = from_headers(record.headers)
        key = None if record.key is None else record.key.decode(errors="replace")
        about = Interest(tenant_of(record.key), attributes.get("type"), None, key)
        if record.value is None or not wanted.find(about):
            return None
        data = await self._payload(record)
        return None if data is None else Notice("event", about, Event(attributes, data))

    async def _payload(self, record: Record) -> Any:
        value = record.value or b""
        try:
            reader = self._codec.reader(value)
            if reader is None:
                await self._codec.load(value)
                reader = self._codec.reader(value)
            return None if reader is None else reader.read(value)
        except UndecodableError:
            self._metrics.inc("keylane_live_unreadable_total", topic=record.topic)
            return None
        except RegistryUnavailableError as error:
            raise TransientError(f"the schema registry does not answer: {error}") from error


def _jobs(key: bytes) -> tuple[str, str]:
    """The ids a status with this key may be of: written by this version, or by one that wrote the id alone."""
    text = key.decode(errors="replace")
    return text.partition("/")[2], text
