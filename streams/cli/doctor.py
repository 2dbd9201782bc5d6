"""``keylane doctor``: check the set-up and say how to mend what is wrong with it.

Exit codes: 0 nothing fails (there may be warnings); 1 something does.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streams.app.doctor import examine
from streams.cli.dlt_view import dumped, plain
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.doctor.finding import Finding, fail
from streams.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(invoke_without_command=True)

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.callback()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check settings, brokers, topics, registry, Redis, PostgreSQL and clocks; exit code 1 when something fails."""
    findings = _findings()
    if as_json:
        typer.echo(dumped([asdict(finding) for finding in findings]))
    else:
        Console().print(_table(findings))
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _findings() -> list[Finding]:
    try:
        settings = attach(load())
    except SettingsError as error:
        return [fail("settings", str(error), "correct the variable; nothing else can be looked at before")]
    except StackError as error:
        return [fail("embedded stack", str(error), "see `keylane dev status`")]
    return asyncio.run(examine(settings))


def _table(findings: Sequence[Finding]) -> Table:
    shown = Table("", "check", Column("found", overflow="fold"), Column("do", overflow="fold"))
    for one in findings:
        mark = Text(one.status, style=_COLOURS[one.status])
        shown.add_row(mark, plain(one.check), plain(one.found), plain(one.advice))
    return shown
