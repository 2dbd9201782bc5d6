"""How a client proves who it is; each of them makes the headers of one request."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from streams import signing

if TYPE_CHECKING:
    from collections.abc import Callable


class Credentials(Protocol):
    """Makes headers."""

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """For a request; ``target`` is path and query as they are sent."""


class Nobody:
    """For a gateway that authenticates nobody."""

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """None."""
        del method, target, body
        return {}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, as ``keylane keys create`` showed it."""

    key: str = field(repr=False)

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """The key."""
        del method, target, body
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True, slots=True)
class Token:
    """A JSON Web Token; ``get`` is asked for each request, since tokens expire."""

    get: Callable[[], str]

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """The token."""
        del method, target, body
        return {"Authorization": f"Bearer {self.get()}"}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature of each request; nothing secret is sent.

    Attributes:
        prefix: Names the API key.
        secret: Its signing secret, as ``keylane keys create`` showed it.
    """

    prefix: str
    secret: str = field(repr=False)

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Key, timestamp, nonce and signature."""
        nonce = secrets.token_urlsafe(24)
        return signing.headers(self.prefix, self.secret, method, target, body, timestamp=int(time.time()), nonce=nonce)
