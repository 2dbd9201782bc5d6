"""``keylane topics``: what topics the declarations ask for, what the cluster lacks, and adding it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from schemas.catalogue import contracts
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin, TopicsRefusedError
from streams.catalogue import load_catalogue
from streams.cli.mistakes import explained
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.settings import load
from streams.topics import Configure, Create, Refuse, wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.topics import Action

app = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")]


@app.command("plan")
def plan_command(as_json: AsJson = False) -> None:
    """Show what 'apply' would do; exit code 1 when it would refuse."""
    _run(as_json=as_json, apply=False)


@app.command("apply")
def apply_command(as_json: AsJson = False) -> None:
    """Create missing topics and add missing settings; nothing is ever deleted."""
    _run(as_json=as_json, apply=True)


def _run(*, as_json: bool, apply: bool) -> None:
    with explained(CatalogueError, StackError, TopicsRefusedError, TransientError):
        settings = attach(load())
        topics = wanted(load_catalogue(settings), contracts(), settings.replication_factor)
        admin = TopicAdmin(client_options(settings))
        actions = asyncio.run(admin.plan(topics))
        (_print_json if as_json else _print_table)(actions, len(topics))
        refusals = [str(action) for action in actions if isinstance(action, Refuse)]
        if refusals:
            raise TopicsRefusedError("; ".join(refusals))
        if apply:
            asyncio.run(admin.apply(actions))
            Console(stderr=True).print(f"applied {len(actions)} changes")


def _print_json(actions: Sequence[Action], _: int) -> None:
    rows = [{"action": type(action).__name__.lower(), **asdict(action)} for action in actions]
    typer.echo(json.dumps(rows, indent=2))


def _print_table(actions: Sequence[Action], declared: int) -> None:
    if not actions:
        typer.echo(f"all {declared} topics stand as declared")
        return
    table = Table("action", Column("topic", overflow="fold"), "what")
    for action in actions:
        table.add_row(*_row(action))
    Console().print(table)


def _row(action: Action) -> tuple[str, str, str]:
    if isinstance(action, Create):
        settings = ", ".join(f"{key}={value}" for key, value in action.topic.configs.items())
        return "create", action.topic.name, f"{action.topic.partitions} partitions {settings}"
    if isinstance(action, Configure):
        return "configure", action.name, action.changes
    return "refuse", action.name, action.reason
