"""``keylane keys``: make, list and revoke API keys, in the database or through a gateway; and make master keys."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from streams.adapters.vault import new_master
from streams.app import tools
from streams.audit import Act
from streams.cli.mistakes import explained
from streams.cli.remote import GatewayError, Through, connected
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.gateway.access import Scope  # noqa: TC001 - typer reads the annotation
from streams.gateway.intake import rfc3339
from streams.gateway.keys import created, shown
from streams.job import TransientError
from streams.keys import Issued, Order, issue
from streams.settings import load

if TYPE_CHECKING:
    from streams.keys import ApiKey

app = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
_DAY = 86_400_000  # milliseconds


class KeyCommandError(Exception):
    """A key that cannot be made, or is not there."""


_MISTAKES = (GatewayError, KeyCommandError, StackError, TransientError)


@app.command("secret")
def secret(
    key_id: Annotated[str | None, typer.Option("--id", help="What the key is called; by default the date.")] = None,
) -> None:
    """Make a new master key, for KEYLANE_SECRET_KEYS: put it in front of the others."""
    typer.echo(new_master(key_id or datetime.now(UTC).strftime("%Y-%m-%d")))


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who uses it, for people.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do (repeatable).")],
    tenant: Annotated[str | None, typer.Option(help="For which tenant; needed unless it has the scope admin.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Valid for so many days; by default without end.")] = None,
    as_json: AsJson = False,
    url: Through = None,
) -> None:
    """Make a key; it and its signing secret are shown this once."""
    expires_at = None if days is None else time.time_ns() // 1_000_000 + days * _DAY
    with explained(*_MISTAKES):
        if url is None:
            made = created(asyncio.run(_create(name, frozenset(scope), tenant, expires_at)))
        else:
            with connected(url) as client:
                until = None if expires_at is None else rfc3339(expires_at)
                made = client.create_key(name, scope, tenant=tenant, expires_at=until)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
        return
    typer.echo(f"prefix:         {made.prefix}\nkey:            {made.key}")
    typer.echo(f"signing secret: {made.signing_secret}")
    typer.echo("they are shown this once: keep them where your secrets are", err=True)


@app.command("list")
def list_command(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: AsJson = False,
    url: Through = None,
) -> None:
    """List keys, the newest first, without their secrets."""
    with explained(*_MISTAKES):
        if url is None:
            keys = list(map(shown, asyncio.run(_all(tenant))))
        else:
            with connected(url) as client:
                keys = client.keys(tenant=tenant)
    if as_json:
        typer.echo(json.dumps([key.model_dump() for key in keys], indent=2))
        return
    table = Table("prefix", Column("name", overflow="fold"), "tenant", "scopes", "created", "expires", "revoked")
    for key in keys:
        times = map(_minute, (key.created_at, key.expires_at, key.revoked_at))
        table.add_row(key.prefix, key.name, key.tenant or "all", " ".join(key.scopes), *times)
    Console().print(table)


@app.command("revoke")
def revoke(
    prefix: Annotated[str, typer.Argument(help="The part between 'kl_' and the next '_'.")], url: Through = None
) -> None:
    """Revoke a key; no gateway accepts it 5 seconds later."""
    with explained(*_MISTAKES):
        if url is None:
            revoked = shown(asyncio.run(_revoke(prefix)))
        else:
            with connected(url) as client:
                revoked = client.revoke_key(prefix)
    typer.echo(f"{prefix} is revoked since {_minute(revoked.revoked_at)}")


async def _create(name: str, scopes: frozenset[str], tenant: str | None, expires_at: int | None) -> Issued:
    async with tools.keyring(attach(load())) as (keys, _, vault):
        try:
            order = Order(name=name, scopes=scopes, tenant=tenant, expires_at=expires_at)
        except ValueError as error:
            raise KeyCommandError(f"{error}: see --scope and --tenant") from None
        issued = issue(order, vault, by=tools.operator(), now=time.time_ns() // 1_000_000)
        await keys.add(issued.key, _act("keys.create", issued.key, None, issued.key))
    return issued


async def _all(tenant: str | None) -> list[ApiKey]:
    async with tools.keyring(attach(load())) as (keys, _, _vault):
        return await keys.all(tenant)


async def _revoke(prefix: str) -> ApiKey:
    async with tools.keyring(attach(load())) as (keys, _, _vault):
        key = (await keys.find([prefix])).get(prefix)
        if key is None:
            raise KeyCommandError(f"no key has the prefix {prefix}; 'keylane keys list' shows those there are")
        revoked = key.revoked(time.time_ns() // 1_000_000)
        return await keys.revoke(revoked, _act("keys.revoke", key, key, revoked))


def _act(what: str, key: ApiKey, before: ApiKey | None, after: ApiKey) -> Act:
    return Act(
        who=tools.operator(),
        what=what,
        target=key.row,
        tenant=key.tenant,
        source="cli",
        before=None if before is None else before.described(),
        after=after.described(),
    )


def _minute(at: str | None) -> str:
    """A time in UTC for people."""
    return "" if at is None else at[:16].replace("T", " ")
