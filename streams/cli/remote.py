"""What commands share that speak to a gateway: the option, the client, and what to do about a refusal.

Invariant: whatever a gateway refuses ends as one sentence, with what to do next.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from streams.client import ApiError, ApiKey, AsyncClient, Client, Signed, UnreachableError
from streams.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streams.client.credentials import Credentials
    from streams.settings import Settings

Url = Annotated[
    str | None, typer.Option(help="Of the gateway; by default KEYLANE_PUBLIC_URL, or the one of this machine.")
]
Through = Annotated[
    str | None, typer.Option("--url", help="Of a gateway to do it through, instead of the servers themselves.")
]
_NEXT = {
    "": "see whether a keylane gateway answers at this address",
    "unauthenticated": "set KEYLANE_API_KEY to a key that 'keylane keys create' has shown",
    "forbidden": "use a key with the scope and the tenant for it; 'keylane keys list' tells what each one may do",
    "internal": "the gateway's log tells more",
    "unavailable": "'keylane doctor' beside the gateway tells what is away",
}


class GatewayError(Exception):
    """A gateway refused, or did not answer; the message says what to do next."""


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """A client of the gateway, by default the settings' own.

    Raises:
        GatewayError: It refuses, or does not answer.
        SettingsError: The credentials are not complete.
    """
    settings = load()
    with _told(), Client(url or _own(settings), credentials(settings)) as client:
        yield client


@asynccontextmanager
async def connecting(url: str) -> AsyncIterator[AsyncClient]:
    """The same with asyncio; errors as ``connected``."""
    with _told():
        async with AsyncClient(url, credentials(load())) as client:
            yield client


def credentials(settings: Settings) -> Credentials | None:
    """What the settings prove who asks with: a signature, a key or a token; None: nothing.

    Raises:
        SettingsError: There is a signing secret, and nothing that tells whose it is.
    """
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    if settings.signing_secret is None:
        return None if key is None else ApiKey(key)
    if key is None:
        raise SettingsError("KEYLANE_SIGNING_SECRET: set KEYLANE_API_KEY to its key, or to the prefix of that")
    return Signed(key.removeprefix("kl_").partition("_")[0], settings.signing_secret.get_secret_value())


def _own(settings: Settings) -> str:
    return settings.public_url or f"http://{settings.gateway_host}:{settings.gateway_port}"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        following = _NEXT.get(error.kind)
        raise GatewayError(f"{str(error).rstrip('.')}; {following}" if following else str(error)) from None
    except UnreachableError as error:
        raise GatewayError(f"no answer from {error}; start 'keylane gateway' there, or name another --url") from None
