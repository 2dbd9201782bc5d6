"""Carries a replay or a discard out for the command line: the plan, the progress, the report, how to resume."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.cli import dlt_view as view
from streams.cli.dlt_gateway import GatewayDesk
from streams.cli.dlt_kafka import KafkaDesk
from streams.cli.mistakes import explained
from streams.cli.remote import GatewayError, connecting
from streams.deadletters.entry import Filters
from streams.deadletters.reading import DeadLetterError
from streams.dev.addresses import attach
from streams.dev.errors import StackError
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.ports import RecordRefusedError
from streams.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.cli.dlt_desk import Desk, Outcome, Request
    from streams.gateway.letterviews import OperationView

MISTAKES = (CatalogueError, DeadLetterError, GatewayError, RecordRefusedError, StackError, TransientError)
LEFT_ALONE = 2
INTERRUPTED = 130
_SHOWN = 20  # refusals


@asynccontextmanager
async def desk(url: str | None) -> AsyncIterator[Desk]:
    """The gateway's, where one is named, else Kafka's own."""
    if url is None:
        async with KafkaDesk(attach(load())) as found:
            yield found
    else:
        async with connecting(url) as client:
            yield GatewayDesk(client)


def operate(request: Request, filters: Callable[[], Filters]) -> None:
    """Plan, and with ``yes`` carry out; ends the command with its exit code."""
    with explained(*MISTAKES):
        try:
            code = asyncio.run(_operate(request, filters()))
        except KeyboardInterrupt:
            code = INTERRUPTED
    raise typer.Exit(code)


async def _operate(request: Request, filters: Filters) -> int:
    async with desk(request.url) as found:
        if request.resume is not None:
            return await _resume(found, request, filters)
        plan = await (found.begin if request.yes else found.plan)(request, filters)
        _show_plan(request, plan)
        code = LEFT_ALONE if plan.refusals else 0
        if plan.id is None:
            _answer(request, {"dry_run": not request.yes, **view.plan_json(plan)})
            return code
        outcome = await _carry_out(found, request, plan)
        _answer(request, {"id": plan.id, **view.plan_json(plan), **outcome._asdict()})
        return LEFT_ALONE if outcome.expired else code


async def _resume(desk: Desk, request: Request, filters: Filters) -> int:
    if filters != Filters():
        raise DeadLetterError(f"--replay-id {request.resume}: it has its own dead letters, leave out the other options")
    if not request.yes:
        raise DeadLetterError(f"--replay-id {request.resume}: add --yes to resume it")
    operation = await desk.resume(request)
    outcome = await _carry_out(desk, request, operation)
    _answer(request, {"id": operation.id, "entries": operation.entries, **outcome._asdict()})
    return LEFT_ALONE if outcome.expired else 0


async def _carry_out(desk: Desk, request: Request, operation: OperationView) -> Outcome:
    through = f" --url {request.url}" if request.url else ""
    command = f"keylane dlt {operation.kind} --replay-id {operation.id} --yes{through}"
    name = f"{operation.kind} {operation.id}"
    _say(f"{name}: {operation.entries} dead letters; {desk.resumable.format(command=command)}")
    columns = (TextColumn(operation.kind), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task(operation.kind, total=operation.entries)
            outcome = await desk.finish(operation, request.rate, lambda steps: progress.advance(bar, steps))
    except (DeadLetterError, RecordRefusedError, TransientError) as error:
        raise DeadLetterError(f"{error}; resume it with '{command}'") from error
    _say(f"{name} has finished{_counted(outcome)}")
    return outcome


def _counted(outcome: Outcome) -> str:
    if outcome.done is None:
        return "; another process of the gateway carried it out, and alone knows whether dead letters had expired"
    gone = f", {outcome.expired} have expired and are lost" if outcome.expired else ""
    before = f", {outcome.before} were done before" if outcome.before else ""
    return f": {outcome.done} done{before}{gone}"


def _show_plan(request: Request, plan: OperationView) -> None:
    if request.output == "json":
        return
    Console().print(view.plan_table(plan))
    for state, count in sorted((plan.passed_over or {}).items()):
        _say(f"{count} of those asked for are {state}: nothing to {request.kind}")
    named = (plan.refused or [])[:_SHOWN]
    for one in named:
        _say(f"refused: {one.ref}: {one.reason}")
    if (plan.refusals or 0) > len(named):
        _say(f"refused: {(plan.refusals or 0) - len(named)} more")
    if not plan.entries:
        _say(f"nothing to {request.kind}")
    elif not request.yes:
        _say(f"this was a dry run: add --yes to {request.kind} {plan.entries} dead letters")


def _answer(request: Request, value: dict[str, Any]) -> None:
    if request.output == "json":
        typer.echo(view.dumped({"kind": request.kind, **value}))


def _say(text: str) -> None:
    typer.echo(text, err=True)
