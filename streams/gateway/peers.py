"""Where a request comes from, and which pages of other origins may send one.

Invariant: what a client writes into ``X-Forwarded-For`` is believed only as far as trusted proxies vouch for it.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import web

from streams.signing import KEY, NONCE, SIGNATURE, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNKNOWN = "unknown"  # a Unix socket's peer has no address
_METHODS = "GET, POST, PUT, DELETE, OPTIONS"
# The wildcard is for the attributes of CloudEvents, ce-*, which have any names; it never stands for Authorization, and
# older browsers do not know it.
_ASKED = (
    "Authorization, Content-Type, Content-Encoding, Idempotency-Key, Last-Event-ID, Prefer, traceparent, tracestate, "
    f"X-API-Key, {KEY}, {TIMESTAMP}, {NONCE}, {SIGNATURE}, X-Request-Id, *"
)
_SHOWN = (
    "Allow, Location, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, "
    "Idempotency-Replayed, Preference-Applied, WWW-Authenticate, X-Request-Id"
)
_FRESH = "600"  # seconds a browser may remember the answer to its question


class Peers:
    """Tells addresses; ``proxies`` are the networks whose ``X-Forwarded-For`` is believed."""

    def __init__(self, proxies: Sequence[Network]) -> None:
        self._proxies = tuple(proxies)
        self._trusts = lru_cache(maxsize=1024)(self._is_proxy)

    def address(self, request: web.Request) -> str:
        """The client's address: the nearest one that is no trusted proxy."""
        nearest = request.remote or _UNKNOWN
        if not self._proxies or not self._trusts(nearest):
            return nearest
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", ())).split(",")):
            found = hop.strip()
            if not _is_address(found):
                break
            nearest = found
            if not self._trusts(found):
                break
        return nearest

    def _is_proxy(self, address: str) -> bool:
        if not _is_address(address):
            return False
        known = ipaddress.ip_address(address)
        return any(known in proxy for proxy in self._proxies)


PEERS = web.AppKey("peers", Peers)
"""The application's ``Peers``, for whoever has to know where a request comes from."""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Origins:
    """Cross-origin requests (Fetch standard, CORS): allowed for the origins named, without cookies.

    Args:
        allowed: ``https://console.example`` and the like; ``*`` for every one.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(allowed)

    def headers(self, request: web.Request) -> Mapping[str, str]:
        """What an answer to the request has to say."""
        origin = request.headers.get("Origin")
        if origin is None or not self._allowed:
            return {}
        if not self._allowed & {origin, "*"}:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": _SHOWN,
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Vary": "Origin",
        }

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks before it sends; None: it is another request."""
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        allowed = self._allowed & {request.headers.get("Origin", ""), "*"}
        if not asks or not allowed:
            return None
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _ASKED,
            "Access-Control-Max-Age": _FRESH,
        }
        return web.Response(status=204, headers=headers)
