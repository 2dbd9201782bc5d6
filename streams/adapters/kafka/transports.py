"""Makes aiokafka's connections understand uvloop, whose closed transports raise RuntimeError where asyncio's do not.

Without it a connection that breaks in the very moment of a request ends aiokafka's background tasks (fetcher,
coordinator, metadata) instead of being opened again (aiokafka #1038). Invariant: applied once, however often asked.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def heed_closed_transports() -> None:
    """Let every connection of this process treat a closed transport as broken."""
    AIOKafkaConnection.send = _heeding


def _heeding(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        if not connection._writer.transport.is_closing():  # noqa: SLF001 - there is no public way to ask
            raise
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"connection to {connection.host}:{connection.port} broken: {error}") from error
