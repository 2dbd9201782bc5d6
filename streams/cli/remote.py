"""The options of commands that speak to a gateway, and the client they make."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.client import ApiKey, Client
from streams.settings import load

Url = Annotated[
    str | None, typer.Option(help="Of the gateway; by default KEYLANE_PUBLIC_URL, or the one of this machine.")
]


def connected(url: str | None) -> Client:
    """A client of the gateway, with the key of ``KEYLANE_API_KEY`` where there is one."""
    settings = load()
    own = settings.public_url or f"http://{settings.gateway_host}:{settings.gateway_port}"
    credentials = None if settings.api_key is None else ApiKey(settings.api_key.get_secret_value())
    return Client(url or own, credentials)
