"""``keylane dlt``: look at dead letters, replay and discard them.

Exit codes: 0 done; 1 an error, in one sentence; 2 something asked for was left alone (refused or expired).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from streams.cli import dlt_view as view
from streams.cli.dlt_desk import Request
from streams.cli.dlt_operate import MISTAKES, desk, operate
from streams.cli.dlt_options import filtered
from streams.cli.mistakes import explained
from streams.cli.remote import Through  # noqa: TC001 - typer reads the annotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.deadletters.entry import Filters
    from streams.gateway.letterviews import LetterDetail
    from streams.gateway.views import DeadLetterView

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
    url: Through = None,
) -> None:
    """List dead letters with their state, the newest first."""
    with explained(*MISTAKES):
        letters = asyncio.run(_letters(url, filters(), limit))
    if output == "json":
        typer.echo(view.dumped([view.as_json(letter) for letter in letters]))
        return
    Console().print(view.table(letters))
    for name in sorted({letter.operation for letter in letters if letter.unfinished and letter.operation}):
        kind, _, operation_id = name.partition(" ")
        command = f"keylane dlt {kind} --replay-id {operation_id} --yes" + (f" --url {url}" if url else "")
        typer.echo(f"{name} has not finished: resume it with '{command}'", err=True)


async def _letters(url: str | None, filters: Filters, limit: int) -> list[DeadLetterView]:
    async with desk(url) as found:
        return await found.letters(filters, limit)


@app.command()
def show(
    ref: Annotated[str, typer.Argument(help="<topic>/<partition>/<offset>, as 'ls' prints it.")],
    output: Output = "table",
    url: Through = None,
) -> None:
    """Show one dead letter: headers, reason, stack, payload and what became of it."""
    with explained(*MISTAKES):
        letter = asyncio.run(_letter(url, ref))
    payload = view.dumped(letter.payload) if letter.raw is None else letter.raw
    history = [chapter.model_dump() for chapter in letter.story]
    if output == "json":
        details = {"headers": letter.headers, "stack": letter.stack or "", "payload": payload}
        typer.echo(view.dumped({**view.as_json(letter), **details, "history": history}))
        return
    Console().print(view.table([letter]))
    facts = Table("header", "value", show_lines=False)
    for name, value in letter.headers.items():
        facts.add_row(view.plain(name), view.plain(value))
    Console().print(facts)
    for title, text in (("stack", letter.stack), ("payload", payload)):
        Console().print(f"[bold]{title}[/bold]", view.plain(text or "none"), sep="\n")
    for step in history:
        Console().print(view.plain("  ".join(str(part) for part in step.values() if part)))


async def _letter(url: str | None, ref: str) -> LetterDetail:
    async with desk(url) as found:
        return await found.letter(ref)


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
    url: Through = None,
) -> None:
    """Run dead letters again, in order per key; shows what it would do until --yes."""
    operate(Request("replay", rate, limit, replay_id, reason, yes, output, url), filters)


@app.command()
@filtered
def discard(
    filters: Callable[[], Filters],
    limit: Limit = None,
    replay_id: Resume = None,
    reason: Reason = "",
    yes: Yes = False,
    output: Output = "table",
    url: Through = None,
) -> None:
    """Give dead letters up for good and set the keys they hold free; shows what it would do until --yes."""
    operate(Request("discard", 0.0, limit, replay_id, reason, yes, output, url), filters)
