"""``keylane schemas``: check the contracts and register their schemas."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from schemas.catalogue import contracts
from schemas.check import check as findings_in
from schemas.errors import RegistryUnavailableError, SchemaRefusedError
from schemas.registry import RegistryClient
from streams.cli.mistakes import explained
from streams.settings import load

app = typer.Typer(no_args_is_help=True)


@app.command()
def check() -> None:
    """Prove that models and schemas agree and all versions read each other; exit code 1 names what does not."""
    declared = contracts()
    findings = [finding for contract in declared for finding in findings_in(contract)]
    for finding in findings:
        typer.echo(finding, err=True)
    if findings:
        raise typer.Exit(1)
    typer.echo(f"{len(declared)} contracts are sound")


@app.command()
def register(
    url: Annotated[
        str | None, typer.Option(help="The registry; else KEYLANE_SCHEMA_REGISTRY_URL, else the gateway's.")
    ] = None,
) -> None:
    """Register every version of every contract, oldest first, and print the ids."""
    with explained(RegistryUnavailableError, SchemaRefusedError):
        asyncio.run(_register(url or load().registry_url))


async def _register(url: str) -> None:
    client = RegistryClient(url)
    try:
        for contract in contracts():
            for number, schema in enumerate(contract.schemas, 1):
                typer.echo(f"{contract.fullname} v{number}: id {await client.register(contract.fullname, schema)}")
    finally:
        await client.close()
