"""``keylane dlt``: look at dead letters, replay and discard them.

Exit codes: 0 done; 1 an error, in one sentence; 2 something asked for was left alone (refused or expired).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from schemas.errors import RegistryUnavailableError, UndecodableError
from streams.app import tools
from streams.cli import dlt_view as view
from streams.cli.dlt_operate import MISTAKES, Request, operate
from streams.cli.dlt_options import filtered
from streams.cli.mistakes import explained
from streams.core import headers as h
from streams.deadletters.entry import parse_ref
from streams.deadletters.reading import DeadLetterError
from streams.deadletters.story import bytes_shown, headers_shown, story
from streams.dev.addresses import attach
from streams.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.deadletters.entry import Entry, Filters
    from streams.deadletters.ledger import Standing
    from streams.settings import Settings

app = typer.Typer(no_args_is_help=True)

Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to print.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many, the first in their order.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it only what would be done is shown.")]
Resume = Annotated[str | None, typer.Option("--replay-id", help="Resume this one, which was stopped or killed.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Rate = Annotated[float, typer.Option(min=0, help="Entries per second; 0 for no limit.")]


@app.command("ls")
@filtered
def ls(
    filters: Callable[[], Filters],
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    output: Output = "table",
) -> None:
    """List dead letters with their state, the newest first."""
    with explained(*MISTAKES):
        entries = asyncio.run(_entries(attach(load()), filters(), limit))
    if output == "json":
        typer.echo(view.dumped([view.as_json(entry) for entry in entries]))
        return
    Console().print(view.table(entries))
    for name in sorted({entry.operation for entry in entries if entry.unfinished and entry.operation}):
        kind, _, operation_id = name.partition(" ")
        typer.echo(
            f"{name} has not finished: resume it with 'keylane dlt {kind} --replay-id {operation_id} --yes'", err=True
        )


async def _entries(settings: Settings, filters: Filters, limit: int) -> list[Entry]:
    letters = tools.dead_letters(settings)
    found: list[Entry] = []
    async for entry in letters.entries(filters, await letters.ledger()):
        found.append(entry)
        if len(found) == limit:
            break
    return found


@app.command()
def show(
    ref: Annotated[str, typer.Argument(help="<topic>/<partition>/<offset>, as 'ls' prints it.")],
    output: Output = "table",
) -> None:
    """Show one dead letter: headers, reason, stack, payload and what became of it."""
    with explained(*MISTAKES):
        entry, standing, payload = asyncio.run(_shown(attach(load()), ref))
    stack = h.text(entry.record.headers, h.STACK) or ""
    if output == "json":
        details = {"headers": dict(headers_shown(entry)), "stack": stack, "payload": payload}
        typer.echo(view.dumped({**view.as_json(entry), **details, "history": _history(entry, standing)}))
        return
    Console().print(view.table([entry]))
    facts = Table("header", "value", show_lines=False)
    for name, value in headers_shown(entry):
        facts.add_row(view.plain(name), view.plain(value))
    Console().print(facts)
    for title, text in (("stack", stack), ("payload", payload)):
        Console().print(f"[bold]{title}[/bold]", view.plain(text or "none"), sep="\n")
    for step in _history(entry, standing):
        Console().print(view.plain("  ".join(str(part) for part in step.values() if part)))


async def _shown(settings: Settings, ref: str) -> tuple[Entry, Standing, str]:
    place = parse_ref(ref)
    if place is None:
        raise DeadLetterError(f"{ref}: must be <topic>/<partition>/<offset>")
    letters = tools.dead_letters(settings)
    ledger = await letters.ledger()
    entry = await letters.entry(*place, ledger)
    return entry, ledger.standing(*place), await _payload(settings, entry.record.value)


async def _payload(settings: Settings, value: bytes | None) -> str:
    if value is None:
        return "null"
    async with tools.codec(settings) as codec:
        try:
            await codec.load(value)
            decoded = codec.decode_now(value)
        except (UndecodableError, RegistryUnavailableError) as error:
            return f"{bytes_shown(value)}\n({error})"
    return bytes_shown(value) if decoded is None else decoded.model.model_dump_json(indent=2)


def _history(entry: Entry, standing: Standing) -> list[dict[str, Any]]:
    return [{**chapter._asdict(), "at": view.when(chapter.at)} for chapter in story(entry, standing)]


@app.command()
@filtered
def replay(
    filters: Callable[[], Filters],
    rate: Rate = 100.0,
    limit: Limit = None,
    replay_id: Resume = None,
    reason: Reason = "",
    yes: Yes = False,
    output: Output = "table",
) -> None:
    """Run dead letters again, in order per key; shows what it would do until --yes."""
    operate(Request("replay", rate, limit, replay_id, reason, yes, output), filters)


@app.command()
@filtered
def discard(
    filters: Callable[[], Filters],
    limit: Limit = None,
    replay_id: Resume = None,
    reason: Reason = "",
    yes: Yes = False,
    output: Output = "table",
) -> None:
    """Give dead letters up for good and set the keys they hold free; shows what it would do until --yes."""
    operate(Request("discard", 0.0, limit, replay_id, reason, yes, output), filters)
