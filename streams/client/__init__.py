"""A client of the HTTP gateway, for programs without Kafka.

    from streams.client import ApiKey, Client

    with Client("https://keylane.example", ApiKey("kl_…")) as client:
        accepted = client.submit("notification.signin", {"user_id": "u-1", …}, tenant="acme")
        job = client.job(accepted.id)

``AsyncClient`` has the same methods, to be awaited. Both repeat what failed for a while by itself: whatever takes
something in bears an ``Idempotency-Key``, so that a repetition is recognised.
"""

from __future__ import annotations

from streams.client.asynchronous import AsyncClient
from streams.client.credentials import ApiKey, Signed, Token
from streams.client.errors import ApiError, UnreachableError
from streams.client.retries import Retries
from streams.client.synchronous import Client

__all__ = ["ApiError", "ApiKey", "AsyncClient", "Client", "Retries", "Signed", "Token", "UnreachableError"]
