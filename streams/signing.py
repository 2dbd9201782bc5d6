"""Signed requests: what is signed, and how. Clients and the gateway use the same functions.

The signature is HMAC-SHA256, keyed with the signing secret as it is written, over seven lines joined by LF: ``v1``,
the method, the path as sent, the query's parts (split at ``&``) in byte order joined by ``&``, the timestamp, the
nonce, and the SHA-256 of the body as sent, in hexadecimal.

Invariant: two different requests never have the same signed text: no part of it can hold a line break.
"""

from __future__ import annotations

import hashlib
import hmac
import re

KEY = "X-Keylane-Key"
TIMESTAMP = "X-Keylane-Timestamp"
NONCE = "X-Keylane-Nonce"
SIGNATURE = "X-Keylane-Signature"
NONCES = re.compile(r"[A-Za-z0-9_-]{16,64}")
_VERSION = "v1"


def signature(secret: str, method: str, target: str, body: bytes, *, timestamp: str, nonce: str) -> str:
    """The value of the signature header; ``target`` is path and query as they stand in the request line."""
    path, _, query = target.partition("?")
    lines = (
        _VERSION,
        method,
        path,
        "&".join(sorted(query.split("&"))),
        timestamp,
        nonce,
        hashlib.sha256(body).hexdigest(),
    )
    digest = hmac.digest(secret.encode(), "\n".join(lines).encode("utf-8", "surrogateescape"), "sha256")
    return f"{_VERSION}={digest.hex()}"


def headers(
    key: str, secret: str, method: str, target: str, body: bytes = b"", *, timestamp: int, nonce: str
) -> dict[str, str]:
    """The headers of a signed request; ``key`` is the prefix of the API key, ``timestamp`` in seconds."""
    signed = signature(secret, method, target, body, timestamp=str(timestamp), nonce=nonce)
    return {KEY: key, TIMESTAMP: str(timestamp), NONCE: nonce, SIGNATURE: signed}
