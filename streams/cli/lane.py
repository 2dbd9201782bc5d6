"""``keylane lane``: where a key stands in each group. Kafka tells it; what only the key's worker knows, it is asked."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from streams.adapters import workers
from streams.app import standing
from streams.cli import lane_view as view
from streams.cli.dlt_view import dumped
from streams.cli.mistakes import explained
from streams.deadletters.reading import DeadLetterError
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import load
from streams.standing.topics import MissingTopicError

if TYPE_CHECKING:
    from streams.settings import Settings

app = typer.Typer(
    invoke_without_command=True, subcommand_metavar="", context_settings={"allow_interspersed_args": True}
)


@app.callback()
def lane(
    key: Annotated[str, typer.Argument(metavar="TENANT/KEY", help="The whole record key.")],
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="Only in this consumer group; repeatable.")
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(help="Ask the worker that shows its metrics at this URL, too; repeatable."),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="At most so many records of the source are looked at.")] = 100_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show where a key stands: unread, running, waiting in place or in a tier, held, and its dead letters."""
    with explained(CatalogueError, DeadLetterError, MissingTopicError, StackError, TransientError):
        settings = attach(load())
        found = asyncio.run(standing.of_key(settings, group or [], key.encode(), depth))
        answers = asyncio.run(workers.lane(worker or _own_worker(settings), key))
    now = time.time()
    if as_json:
        typer.echo(dumped(view.as_json(key, found, answers, now)))
        return
    Console().print(view.table(key, found, answers, now))
    for line in view.unknown(answers):
        typer.echo(line, err=True)


def _own_worker(settings: Settings) -> list[str]:
    """The worker of these very settings, if it shows itself."""
    return [f"http://{settings.worker_host}:{settings.worker_port}"] if settings.worker_port else []
