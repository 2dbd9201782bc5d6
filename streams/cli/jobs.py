"""``keylane jobs``: list jobs, look at one, cancel or retry it, through the gateway."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from streams.cli.mistakes import explained
from streams.cli.remote import GatewayError, Url, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.client import Client

app = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="Of the job.")]


@app.command("list")
def list_command(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    type_name: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only of this queue.")] = None,
    status: Annotated[str | None, typer.Option(help="Only in this status.")] = None,
    key: Annotated[str | None, typer.Option(help="Only of this key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    url: Url = None,
) -> None:
    """List jobs, newest first."""
    with _client(url) as client:
        filters = {"tenant": tenant, "type": type_name, "queue": queue, "status": status, "key": key}
        found = list(islice(client.jobs(**filters, limit=min(limit, 1_000)), limit))
    if as_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in found], indent=2))
        return
    table = Table("id", "type", Column("key", overflow="fold"), "status", "attempt", "created", "updated")
    for job in found:
        table.add_row(job.id, job.type, job.key, job.status, str(job.attempt), job.created_at, job.updated_at)
    Console().print(table)


@app.command("show")
def show(job_id: JobId, url: Url = None) -> None:
    """Print a job with its attempts as JSON."""
    with _client(url) as client:
        typer.echo(client.job(job_id).model_dump_json(indent=2))


@app.command("cancel")
def cancel(job_id: JobId, url: Url = None) -> None:
    """Cancel a job that has not ended; its worker carries it out."""
    with _client(url) as client:
        found = client.cancel(job_id)
    typer.echo(f"{job_id} was {found.status}; it is to be cancelled ('keylane jobs show {job_id}' tells when it is)")


@app.command("retry")
def retry(job_id: JobId, url: Url = None) -> None:
    """Run a dead job again, as the replay of its dead letter."""
    with _client(url) as client:
        found = client.retry(job_id)
    typer.echo(f"{job_id} was {found.status} after attempt {found.attempt}; it is replayed")


@contextmanager
def _client(url: str | None) -> Iterator[Client]:
    with explained(GatewayError), connected(url) as client:
        yield client
