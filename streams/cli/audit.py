"""``keylane audit``: show the acts of administrators, and check that nobody has changed what is told of them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from streams.app import tools
from streams.app.audit import verify
from streams.cli.mistakes import explained
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.job import TransientError
from streams.settings import load

if TYPE_CHECKING:
    from streams.app.audit import Verdict
    from streams.audit import Entry

app = typer.Typer(no_args_is_help=True)


class BrokenTrailError(Exception):
    """The trail is not whole."""


@app.command("list")
def list_command(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON Lines.")] = False,
) -> None:
    """List acts, the newest first, as they are told; 'verify' says whether that can be believed."""
    with explained(StackError, TransientError):
        entries = asyncio.run(_newest(limit))
    if as_json:
        typer.echo("\n".join(entry.record for entry in entries))
        return
    table = Table(
        "no.", "at", Column("who", overflow="fold"), "what", Column("target", overflow="fold"), "tenant", "from"
    )
    for entry in entries:
        table.add_row(*_row(entry))
    Console().print(table)


@app.command("verify")
def verify_command() -> None:
    """Check the whole trail, in the database and in the topic; exit code 1 names the first record that is broken."""
    with explained(BrokenTrailError, StackError, TransientError):
        verdict = asyncio.run(_verify())
        if verdict.fault is not None:
            raise BrokenTrailError(f"{verdict.fault}; {verdict.whole} records in the database are whole")
    waiting = f", {verdict.waiting} of them wait for a gateway to publish them" if verdict.waiting else ""
    typer.echo(f"all {verdict.whole} records are whole{waiting}")


async def _newest(limit: int) -> list[Entry]:
    async with tools.keyring(attach(load())) as (_, audit, _vault):
        return await audit.newest(limit)


async def _verify() -> Verdict:
    settings = attach(load())
    async with tools.keyring(settings) as (_, audit, vault):
        return await verify(audit, tools.log_reader(settings), vault)


def _row(entry: Entry) -> tuple[str, ...]:
    said = json.loads(entry.record)
    at = datetime.fromtimestamp(said["at"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    told = (said["who"], said["what"], said["target"], said["tenant"] or "", said["source"])
    return (str(entry.sequence), at, *told)
