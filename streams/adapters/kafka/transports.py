"""Makes aiokafka's connections notice in time that they are broken.

- uvloop's closed transports raise RuntimeError where asyncio's do not. Without it a connection that breaks in the very
  moment of a request ends aiokafka's background tasks (fetcher, coordinator, metadata) instead of being opened again
  (aiokafka #1038).
- A request to join a group is answered when the rebalance ends, every other one soon. aiokafka has one time-out for
  both, so that it would take as long as a rebalance may until a silent connection is given up.

Invariant: applied once, however often asked.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.group import JoinGroupRequest

_send = AIOKafkaConnection.send


def heed_broken_connections() -> None:
    """Let every connection of this process heed closed transports, and wait longer only for rebalances."""
    AIOKafkaConnection.send = _heeding


def _heeding(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    usual = connection._request_timeout  # noqa: SLF001 - there is no public way to ask
    if isinstance(request, JoinGroupRequest):
        connection._request_timeout = usual + request._rebalance_timeout / 1000  # noqa: SLF001 - see above
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        if not connection._writer.transport.is_closing():  # noqa: SLF001 - see above
            raise
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"connection to {connection.host}:{connection.port} broken: {error}") from error
    finally:
        connection._request_timeout = usual  # noqa: SLF001 - see above
