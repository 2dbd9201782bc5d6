"""``keylane publish``: events and jobs from JSON Lines, a JSON array, or CloudEvents in either.

Exit codes: 0 all published; 1 stopped, in one sentence; 2 published, but bad values were passed over.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from schemas.catalogue import contracts
from schemas.errors import RegistryUnavailableError, SchemaRefusedError
from streams.app import tools
from streams.catalogue import load_catalogue
from streams.cli.mistakes import explained
from streams.cli.publish_gateway import GatewayPublication
from streams.cli.remote import GatewayError, Through, connecting
from streams.client import ApiError, UnreachableError
from streams.core.jsonfeed import JsonFeed
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.ports import RecordRefusedError
from streams.publishing import Bad, Checker, Publication, RecordEncoder
from streams.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.core.jsonfeed import Value
    from streams.publishing import Report
    from streams.settings import Settings

app = typer.Typer(
    invoke_without_command=True, subcommand_metavar="", context_settings={"allow_interspersed_args": True}
)

_PIECE = 65_536
_PASSED_OVER = 2
_INTERRUPTED = 130


class PublishError(Exception):
    """Publishing stopped; the message says where, why, and what was published."""


@app.callback()
def publish(
    file: Annotated[str, typer.Argument(help="A file, or - for standard input.", show_default=False)],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on behind bad values, and count them.")] = False,
    url: Through = None,
) -> None:
    """Publish events and jobs in the order of the file.

    Each value is {"type", "tenant", "entity", "data", "id"?} or a CloudEvent with the extension "tenant";
    one per line, or all in one JSON array.
    """
    with explained(CatalogueError, GatewayError, PublishError, StackError, TransientError):
        with ExitStack() as stack:
            source = _opened(file, stack)
            try:
                report = asyncio.run(_publish(source, skip_bad=skip_bad, url=url))
            except KeyboardInterrupt:
                raise typer.Exit(_INTERRUPTED) from None
        if report.stopped_at is not None:
            line, reason = report.stopped_at
            before = f"{report.published - report.behind} records were published before it"
            raise PublishError(f"line {line}: {reason}; {before}, {report.behind or 'none'} after it")
    _say(f"published {report.published} records" + (f"; bad values passed over: {report.bad}" if report.bad else ""))
    raise typer.Exit(_PASSED_OVER if report.bad else 0)


def _opened(file: str, stack: ExitStack) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(file).open("rb"))
    except OSError as error:
        raise PublishError(f"{file}: {error.strerror}") from None


async def _publish(source: BinaryIO, *, skip_bad: bool, url: str | None) -> Report:
    settings, on_bad = load(), _print_bad if skip_bad else _ignore
    checker = Checker(contracts(), load_catalogue(settings).jobs)
    if url is not None:
        async with connecting(url) as client:
            through = GatewayPublication(client, checker, _new_id, skip_bad=skip_bad, on_bad=on_bad)
            return await _run(through, settings, source)
    settings = attach(settings)
    async with tools.codec(settings) as codec, tools.publisher(settings) as publisher:
        encoder = RecordEncoder(codec, checker, _new_id)
        return await _run(Publication(encoder, publisher, skip_bad=skip_bad, on_bad=on_bad), settings, source)


async def _run(run: Publication | GatewayPublication, settings: Settings, source: BinaryIO) -> Report:
    try:
        with _progress() as progress:
            bar = progress.add_task("publish", total=_size(source))
            return await run.run(_values(source, settings, lambda read: progress.advance(bar, read)))
    except RegistryUnavailableError as error:
        where = settings.registry_url
        raise PublishError(
            f"no schema registry at {where}: {error}; start 'keylane gateway', or set KEYLANE_SCHEMA_REGISTRY_URL"
        ) from error
    except (TransientError, RecordRefusedError, SchemaRefusedError) as error:
        raise PublishError(f"{error}; {_certain(run.published)}") from error
    except (ApiError, UnreachableError):
        _say(_certain(run.published))
        raise


def _certain(count: int) -> str:
    return f"the first {count} records were published for certain"


def _new_id() -> str:
    return uuid.uuid4().hex


async def _values(source: BinaryIO, settings: Settings, read: Callable[[int], None]) -> AsyncIterator[Value]:
    feed = JsonFeed(settings.max_body_bytes)
    # In a thread: while standard input has nothing to say, acknowledgements still arrive.
    while piece := await asyncio.to_thread(os.read, source.fileno(), _PIECE):
        read(len(piece))
        for value in feed.feed(piece):
            yield value
    for value in feed.close():
        yield value


def _size(source: BinaryIO) -> int | None:
    return os.fstat(source.fileno()).st_size or None


def _progress() -> Progress:
    columns = (TextColumn("publish"), BarColumn(), DownloadColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _print_bad(bad: Bad) -> None:
    _say(f"line {bad.line}: {bad.reason}")


def _ignore(bad: Bad) -> None:
    """The one that stops is told of at the end."""


def _say(text: str) -> None:
    typer.echo(text, err=True)
