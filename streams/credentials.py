"""What proves who sent a request, as far as the gateway asks others for it: nonces, and JSON Web Tokens."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class RefusedError(Exception):
    """Credentials that prove nothing.

    Args:
        reason: A word for metrics and the log.
        detail: What the client is told; by default no more than that the credentials are not valid.
    """

    def __init__(self, reason: str, detail: str = "The credentials are not valid.") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Nonces(Protocol):
    """Remembers which nonces were used."""

    async def take(self, key: str, nonce: str, seconds: float) -> bool:
        """Take the nonce for so long; False: somebody had taken it before.

        Raises:
            TransientError: Nobody can tell.
        """


class Claims(NamedTuple):
    """What a verified token says."""

    issuer: str
    subject: str
    tenant: str
    scopes: frozenset[str]


class Tokens(Protocol):
    """Verifies JSON Web Tokens."""

    async def verify(self, token: str) -> Claims:
        """What the token says.

        Raises:
            RefusedError: It is not valid.
            TransientError: The issuer's keys are not known and cannot be fetched.
        """
